"""U-Net-256: the paper's second generator (Isola et al. 2017, section 6.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn

from medtranslate.networks.blocks import Blocks, Coded, InstanceNorm


class UNet256(nn.Module):
    """Eight halvings down to one pixel and eight doublings, joined level by level.

    C64-C128-C256-C512-C512-C512-C512-C512 and back in the paper's notation, without dropout;
    54.41 M parameters with three channels in and out, 12 GFLOP a 256x256 slice.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image; one is gray.
    width : int
        Channels of the outermost level (64 in the paper).

    contrasts : sequence of str
        MR contrasts that it takes a code for: 1 for the first, 0 for an unknown one.

    Examples
    --------
    >>> UNet256(width=4)(torch.zeros(2, 1, 256, 256)).shape
    torch.Size([2, 1, 256, 256])
    """

    multiple = 256

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        contrasts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.contrasts = tuple(contrasts)
        widths = [width, 2 * width, 4 * width, *([8 * width] * 5)]
        level: _Level | None = None
        for depth in range(len(widths) - 1, 0, -1):
            level = _Level(widths[depth - 1], widths[depth], level, len(self.contrasts))
        self.encoder = _conv(in_channels, width)
        self.inner = level
        self.decoder = nn.Sequential(nn.ReLU(), _conv(2 * width, out_channels, transposed=True))

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, in, H, W)`` in [-1, 1] to ``(N, out, H, W)`` in (-1, 1); 256 divides H, W."""
        assert self.inner is not None
        return torch.tanh(self.decoder(self.inner(self.encoder(image), code)).float())


class _Level(Coded):
    """One level: half the size, what lies inside, back up; the input is joined to the result."""

    def __init__(self, outer: int, inner: int, inside: _Level | None, contrasts: int) -> None:
        super().__init__()
        innermost = inside is None
        # A single pixel has no spread to normalize by, so the innermost level goes without.
        down = [] if innermost else [InstanceNorm(inner, contrasts)]
        self.path = Blocks(
            nn.LeakyReLU(0.2),
            _conv(outer, inner),
            *down,
            *([] if inside is None else [inside]),
            nn.ReLU(),
            _conv(inner if innermost else 2 * inner, outer, transposed=True),
            InstanceNorm(outer, contrasts),
        )

    def forward(self, features: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        return torch.cat([features, self.path(features, code)], dim=1)


def _conv(in_channels: int, out_channels: int, transposed: bool = False) -> nn.Module:
    return Convolution(
        2, in_channels, out_channels, strides=2, kernel_size=4, padding=1, output_padding=0,
        is_transposed=transposed, conv_only=True,
    )  # fmt: skip
