"""ResNet-9: the generator of the CycleGAN paper (Zhu et al. 2017, section 7.2)."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import nn

from medtranslate.networks.blocks import ResidualBlock, mirrored, normalized


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

    Examples
    --------
    >>> ResNet9(width=8, blocks=1)(torch.zeros(2, 1, 256, 256)).shape
    torch.Size([2, 1, 256, 256])
    """

    multiple = 4

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, width: int = 64, blocks: int = 9
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.encoder = nn.Sequential(
            *mirrored(in_channels, width, 7),
            *normalized(width),
            _halve(width, 2 * width),
            _halve(2 * width, 4 * width),
        )
        self.body = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            _double(4 * width, 2 * width),
            _double(2 * width, width),
            *mirrored(width, out_channels, 7),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in, H, W)`` in [-1, 1] to ``(N, out, H, W)`` in (-1, 1); 4 divides H, W."""
        return torch.tanh(self.decoder(self.body(self.encoder(image))).float())


def _halve(in_channels: int, out_channels: int) -> nn.Module:
    halve = Convolution(
        2, in_channels, out_channels, strides=2, kernel_size=3, padding=1, conv_only=True
    )
    return nn.Sequential(halve, *normalized(out_channels))


def _double(in_channels: int, out_channels: int) -> nn.Module:
    double = Convolution(
        2, in_channels, out_channels, strides=2, kernel_size=3, padding=1, output_padding=1,
        is_transposed=True, conv_only=True,
    )  # fmt: skip
    return nn.Sequential(double, *normalized(out_channels))
