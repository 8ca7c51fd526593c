"""A colour generator on grey pictures."""

from __future__ import annotations

import torch
from torch import nn

_LUMINANCE = (0.299, 0.587, 0.114)


class GreyThroughRGB(nn.Module):
    """Grey in and grey out, through a generator that was trained on red, green and blue.

    Grey goes in as equal channels, as a grey picture opened as RGB has them. Three channels that
    come out become their luminance (ITU-R BT.601, section 2.5.1), which is what Pillow's
    ``convert("L")`` gives for them.

    Parameters
    ----------
    network : nn.Module
        A generator of one or three channels in and one or three out.
    """

    in_channels = out_channels = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for end in ("in_channels", "out_channels"):
            channels = getattr(network, end, None)
            if channels is None or not isinstance(network, nn.Module):
                raise ValueError(f"network is {network!r}, no generator")
            if channels not in (1, 3):
                raise ValueError(f"the network's {end} are {channels}, not 1 or 3")
        self.network = network
        self.multiple: int = network.multiple  # type: ignore[assignment]
        self.colours_in: int = network.in_channels  # type: ignore[assignment]
        self.colours_out: int = network.out_channels  # type: ignore[assignment]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``(N, 1, H, W)`` in [-1, 1] to ``(N, 1, H, W)`` in (-1, 1)."""
        colours: torch.Tensor = self.network(image.expand(-1, self.colours_in, -1, -1))
        if self.colours_out == 1:
            return colours
        return sum(w * c for w, c in zip(_LUMINANCE, colours.split(1, dim=1), strict=True))
