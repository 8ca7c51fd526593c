"""A color generator on gray images."""

from __future__ import annotations

import torch
from torch import nn


class GrayThroughRGB(nn.Module):
    """Run a generator that was trained on red, green and blue on gray images.

    Gray goes in as equal channels, as a gray image opened as RGB has them. Three channels that
    come out become their luminance (ITU-R BT.601, section 2.5.1), which is what Pillow's
    ``convert("L")`` gives for them.

    Parameters
    ----------
    network : nn.Module
        A generator of one or three channels in and one or three out.

    Raises
    ------
    ValueError
        The network is no generator, or has another number of channels.

    Examples
    --------
    >>> from medtranslate.networks import GrayThroughRGB, ResNet9
    >>> network = GrayThroughRGB(ResNet9(3, 3, width=8, blocks=1))
    >>> network(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 1, 64, 64])
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
        self.colors_in: int = network.in_channels  # type: ignore[assignment]
        self.colors_out: int = network.out_channels  # type: ignore[assignment]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``(N, 1, H, W)`` in [-1, 1] to ``(N, 1, H, W)`` in (-1, 1)."""
        colors: torch.Tensor = self.network(image.expand(-1, self.colors_in, -1, -1))
        if self.colors_out == 1:
            return colors
        red, green, blue = colors[:, :1], colors[:, 1:2], colors[:, 2:]
        return 0.299 * red + 0.587 * green + 0.114 * blue
