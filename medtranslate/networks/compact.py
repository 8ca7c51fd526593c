"""The compact generator: what a residual generator does, at a sixth of its cost."""

from __future__ import annotations

import torch
from torch import nn

from medtranslate.networks.blocks import ResidualBlock, mirrored, normalized


class Compact(nn.Module):
    """Fold 4x4 pixels into channels, work at a quarter of the size, unfold smoothly.

    Folding (pixel-unshuffle, Shi et al. 2016 reversed) loses nothing and costs nothing, so all
    residual blocks see 64x64. Unfolding is bilinear doubling with a convolution after each, not a
    pixel-shuffle or transposed convolution: those write a grid into the image (Odena et al.
    2016, "Deconvolution and checkerboard artifacts") in which a cycle can hide its source.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image; one is gray.
    width : int
        Channels at a quarter of the size; a multiple of 8.
    blocks : int
        Residual blocks there.

    Examples
    --------
    >>> Compact(width=16, blocks=1)(torch.zeros(2, 1, 256, 256)).shape
    torch.Size([2, 1, 256, 256])
    """

    multiple = 4

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, width: int = 128, blocks: int = 6
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        if width % 8:
            raise ValueError(f"width is {width}, not a multiple of 8")
        half, full = width // 4, width // 8
        self.fold = nn.Sequential(
            nn.PixelUnshuffle(4), *mirrored(16 * in_channels, width, 3), *normalized(width)
        )
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.unfold = nn.Sequential(
            *mirrored(width, half, 3),
            _Double(),
            *mirrored(half, half, 3),
            *normalized(half),
            _Double(),
            *mirrored(half, full, 3),
            nn.ReLU(inplace=True),
            *mirrored(full, out_channels, 3),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in, H, W)`` in [-1, 1] to ``(N, out, H, W)`` in (-1, 1); 4 divides H, W."""
        return torch.tanh(self.unfold(self.body(self.fold(image))).float())


class _Double(nn.Upsample):
    """Twice the size, bilinear."""

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="bilinear", align_corners=False)
