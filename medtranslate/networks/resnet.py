"""ResNet-9: the generator of the CycleGAN paper (Zhu et al. 2017, section 7.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn

from medtranslate.networks.blocks import Blocks, ResidualBlock, mirrored, normalized


class ResNet9(nn.Module):
    """Two strided convolutions, residual blocks at a quarter of the size, two transposed ones.

    c7s1-64, d128, d256, R256 x 9, u128, u64, c7s1-out in the paper's notation; 11.38 M
    parameters with three channels in and out, 97 GFLOP a 256x256 slice.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image; one is gray.
    width : int
        Channels after the first convolution (64 in the paper).
    blocks : int
        Residual blocks (9 in the paper).

    contrasts : sequence of str
        MR contrasts that it takes a code for: 1 for the first, 0 for an unknown one.

    Examples
    --------
    >>> ResNet9(width=8, blocks=1)(torch.zeros(2, 1, 256, 256)).shape
    torch.Size([2, 1, 256, 256])
    """

    multiple = 4

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 9,
        contrasts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.contrasts = tuple(contrasts)
        codes = len(self.contrasts)
        self.encoder = Blocks(
            *mirrored(in_channels, width, 7),
            *normalized(width, codes),
            _halve(width, 2 * width, codes),
            _halve(2 * width, 4 * width, codes),
        )
        self.body = Blocks(*(ResidualBlock(4 * width, codes) for _ in range(blocks)))
        self.decoder = Blocks(
            _double(4 * width, 2 * width, codes),
            _double(2 * width, width, codes),
            *mirrored(width, out_channels, 7),
        )

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, in, H, W)`` in [-1, 1] to ``(N, out, H, W)`` in (-1, 1); 4 divides H, W."""
        features = self.body(self.encoder(image, code), code)
        return torch.tanh(self.decoder(features, code).float())


def _halve(in_channels: int, out_channels: int, contrasts: int) -> nn.Module:
    halve = Convolution(
        2, in_channels, out_channels, strides=2, kernel_size=3, padding=1, conv_only=True
    )
    return Blocks(halve, *normalized(out_channels, contrasts))


def _double(in_channels: int, out_channels: int, contrasts: int) -> nn.Module:
    double = Convolution(
        2, in_channels, out_channels, strides=2, kernel_size=3, padding=1, output_padding=1,
        is_transposed=True, conv_only=True,
    )  # fmt: skip
    return Blocks(double, *normalized(out_channels, contrasts))
