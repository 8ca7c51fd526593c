"""What the generators share: blocks around MONAI's ``Convolution``, and initial weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn


class InstanceNorm(nn.Module):
    """Instance normalization without affine parameters, by what is fastest where it runs.

    On a CPU the group kernel is about four times faster forward and the instance kernel two to
    three times faster backward; with one group a channel both compute the same. Compiled, it is
    written out (`standardized`).

    Parameters
    ----------
    channels : int
        Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``(N, channels, H, W)`` to zero mean and unit variance per channel and image."""
        if torch.compiler.is_compiling():
            return standardized(features)
        if torch.is_grad_enabled():
            return F.instance_norm(features)
        return F.group_norm(features, self.channels)

    def extra_repr(self) -> str:
        """Show the channels."""
        return str(self.channels)


def standardized(features: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """Return ``(N, C, H, W)`` at zero mean and unit variance over H and W, in its memory layout.

    What a compiler fuses with the layers around it. ``F.instance_norm`` is batch normalization of a
    view, before and after which a compiled network copies channels-last features.
    """
    exact = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(exact, dim=(2, 3), correction=0, keepdim=True)
    return ((exact - mean) * torch.rsqrt(variance + epsilon)).to(features.dtype)


def mirrored(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
    """A stride-1 convolution over a mirrored border, which MONAI's block cannot pad itself."""
    return [
        nn.ReflectionPad2d(kernel // 2),
        Convolution(2, in_channels, out_channels, kernel_size=kernel, padding=0, conv_only=True),
    ]


def normalized(channels: int) -> list[nn.Module]:
    """Instance normalization and ReLU."""
    return [InstanceNorm(channels), nn.ReLU(inplace=True)]


class ResidualBlock(nn.Module):
    """Two mirrored 3x3 convolutions with instance normalization, added to their input.

    No activation after the sum (He et al. 2016, identity mappings; as in CycleGAN).

    Parameters
    ----------
    channels : int
        Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *mirrored(channels, channels, 3),
            *normalized(channels),
            *mirrored(channels, channels, 3),
            InstanceNorm(channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        out: torch.Tensor = features + self.residual(features)
        return out


def draw_weights(network: nn.Module, std: float = 0.02) -> nn.Module:
    """Draw every convolution's weights from N(0, std), biases zero (Zhu et al. 2017, section 7.1).

    Returns the same network. The draw follows torch's current random state.

    Examples
    --------
    >>> network = draw_weights(nn.Conv2d(1, 8, 3))
    >>> bool((network.bias == 0).all())
    True
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
