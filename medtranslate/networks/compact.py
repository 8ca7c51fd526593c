"""The compact generator: what a residual generator does, at a sixth of its cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medtranslate.networks.blocks import Blocks, ResidualBlock, mirrored, normalized


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

    contrasts : sequence of str
        MR contrasts that it takes a code for: 1 for the first, 0 for an unknown one.

    Examples
    --------
    >>> Compact(width=16, blocks=1)(torch.zeros(2, 1, 256, 256)).shape
    torch.Size([2, 1, 256, 256])
    """

    multiple = 4

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 128,
        blocks: int = 6,
        contrasts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.contrasts = tuple(contrasts)
        if width % 8:
            raise ValueError(f"width is {width}, not a multiple of 8")
        half, full, codes = width // 4, width // 8, len(self.contrasts)
        self.fold = Blocks(
            nn.PixelUnshuffle(4), *mirrored(16 * in_channels, width, 3), *normalized(width, codes)
        )
        self.body = Blocks(*(ResidualBlock(width, codes) for _ in range(blocks)))
        self.unfold = Blocks(
            *mirrored(width, half, 3),
            _Double(),
            *mirrored(half, half, 3),
            *normalized(half, codes),
            _Double(),
            *mirrored(half, full, 3),
            nn.ReLU(inplace=True),
            *mirrored(full, out_channels, 3),
        )

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, in, H, W)`` in [-1, 1] to ``(N, out, H, W)`` in (-1, 1); 4 divides H, W."""
        features = self.body(self.fold(image, code), code)
        return torch.tanh(self.unfold(features, code).float())


class _Double(nn.Upsample):
    """Twice the size, bilinear."""

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="bilinear", align_corners=False)
