"""The generators: ResNet-9, U-Net-256 and the compact one, and the blocks that they share.

The blocks stand around MONAI's ``Convolution``. A contrast code (N,) can go through them beside the
features: each normalization then scales and shifts by the code. Code planes beside the image would
have no effect: a convolution makes them a constant, which the next normalization removes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from medtranslate.networks.kernels import instance_norm

_Norm = nn.InstanceNorm2d | nn.BatchNorm2d | nn.GroupNorm


class Coded(nn.Module):
    """A block whose `forward` takes features (N, C, H, W) and a contrast code (N,) or None."""


class Blocks(nn.Sequential):
    """Blocks in a row, of which the coded ones get the contrast code."""

    def forward(self, features: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, C, H, W)`` through all blocks."""
        # A scripted network takes images alone.
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            for block in self:
                features = block(features)
            return features
        return self._coded(features, code)

    @torch.jit.unused
    def _coded(self, features: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        for block in self:
            takes_code = isinstance(block, Coded | Blocks)
            features = block(features, code) if takes_code else block(features)
        return features


class InstanceNorm(Coded):
    """Instance normalization without affine parameters, by what is fastest where it runs.

    With contrasts it is conditional: each code has a scale and a shift for each channel, which
    start at 1 and 0. Code 0, an unknown contrast, keeps them: the unconditional path.

    Without gradients that is the group kernel, with one group a channel; for training see
    `kernels.instance_norm`. Compiled, it is written out (`standardized`).

    Parameters
    ----------
    channels : int
        Channels in and out.
    contrasts : int
        Codes beside 0; without any, a code changes nothing.
    """

    def __init__(self, channels: int, contrasts: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.contrast: nn.Module | None = _Modulation(channels, contrasts) if contrasts else None

    def forward(self, features: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, channels, H, W)`` to zero mean and unit variance per channel and image.

        Then they are scaled and shifted by the code (N,), int64, where there is one.
        """
        normalized = self._normalized(features)
        return normalized if self.contrast is None else self.contrast(normalized, code)

    def _normalized(self, features: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return standardized(features)
        if not torch.jit.is_scripting() and torch.is_grad_enabled():  # type: ignore[attr-defined]
            return instance_norm(features)
        return F.group_norm(features, self.channels)

    def extra_repr(self) -> str:
        """Show the channels."""
        return str(self.channels)


class ByCode(nn.Module):
    """A vector for each contrast code, zero at first; always zero for code 0.

    What `torch.nn.Embedding` with a padding index does, by sums alone: its gradient is the same in
    every run on a GPU, and a CUDA graph can hold it.

    Parameters
    ----------
    contrasts : int
        Codes beside 0.
    length : int
        Of a vector.
    """

    def __init__(self, contrasts: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(contrasts, length))

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        """Map codes (N,), int64, to vectors (N, length)."""
        known = torch.arange(1, len(self.weight) + 1, device=code.device)
        chosen = (code[:, None] == known).to(self.weight.dtype)
        return (chosen[:, :, None] * self.weight).sum(1)


class _Modulation(nn.Module):
    """Scale and shift of each channel by code, as differences from 1 and 0."""

    def __init__(self, channels: int, contrasts: int) -> None:
        super().__init__()
        self.differences = ByCode(contrasts, 2 * channels)

    def forward(self, features: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        if code is None:
            return features
        return _modulated(features, self.differences(code))


class _Fixed(nn.Module):
    """Scale and shift of one code."""

    def __init__(self, differences: torch.Tensor) -> None:
        super().__init__()
        self.differences: torch.Tensor
        self.register_buffer("differences", differences.detach())

    def forward(self, features: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        return _modulated(features, self.differences)


def condition(network: nn.Module, contrasts: int) -> nn.Module:
    """Let each normalization of a network scale and shift by a contrast code, as `InstanceNorm`.

    Its weights keep their names. The code does not go through the network: `coded` holds it.

    Raises
    ------
    ValueError
        It has no normalization over images.
    """
    norms = _norms(network)
    if not norms:
        raise ValueError("it has no normalization that a contrast could scale and shift")
    for norm in norms:
        channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
        norm.contrast = _Modulation(int(channels), contrasts)
        norm.code = None
        norm.register_forward_hook(_by_code)
    return network


@contextmanager
def coded(network: nn.Module, code: torch.Tensor) -> Iterator[None]:
    """Hold a contrast code (N,) for the conditioned network that runs inside."""
    norms = _norms(network)
    for norm in norms:
        norm.code = code
    try:
        yield
    finally:
        for norm in norms:
            norm.code = None


def _norms(network: nn.Module) -> list[Any]:
    return [each for each in network.modules() if isinstance(each, _Norm)]


def _by_code(self, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    out: torch.Tensor = self.contrast(output, self.code)
    return out


def _modulated(features: torch.Tensor, differences: torch.Tensor) -> torch.Tensor:
    """Scale and shift (N, C, H, W) by differences (N or 1, 2 C) from 1 and 0."""
    scale, shift = differences.to(features.dtype)[:, :, None, None].chunk(2, 1)
    return features * (1 + scale) + shift


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


def normalized(channels: int, contrasts: int = 0) -> list[nn.Module]:
    """Instance normalization and ReLU."""
    return [InstanceNorm(channels, contrasts), nn.ReLU(inplace=True)]


class ResidualBlock(Coded):
    """Two mirrored 3x3 convolutions with instance normalization, added to their input.

    No activation after the sum (He et al. 2016, identity mappings; as in CycleGAN).

    Parameters
    ----------
    channels : int
        Channels in and out.
    contrasts : int
        Contrast codes beside 0.
    """

    def __init__(self, channels: int, contrasts: int = 0) -> None:
        super().__init__()
        self.residual = Blocks(
            *mirrored(channels, channels, 3),
            *normalized(channels, contrasts),
            *mirrored(channels, channels, 3),
            InstanceNorm(channels, contrasts),
        )

    def forward(self, features: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        out: torch.Tensor = self.residual(features, code) + features
        return out


class ResNet9(nn.Module):
    """ResNet-9, the generator of the CycleGAN paper (Zhu et al. 2017, section 7.2).

    Two strided convolutions, residual blocks at a quarter of the size, two transposed ones:
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


class UNet256(nn.Module):
    """U-Net-256, the paper's second generator (Isola et al. 2017, section 6.1.1).

    Eight halvings down to one pixel and eight doublings, joined level by level:
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


class Compact(nn.Module):
    """What a residual generator does, at a sixth of its cost.

    Fold 4x4 pixels into channels, work at a quarter of the size, unfold smoothly. Folding
    (pixel-unshuffle, Shi et al. 2016 reversed) loses nothing and costs nothing, so all residual
    blocks see 64x64. Unfolding is bilinear doubling with a convolution after each, not a
    pixel-shuffle or transposed convolution: those write a grid into the image (Odena et al. 2016,
    "Deconvolution and checkerboard artifacts") in which a cycle can hide its source.

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
            _Bilinear(),
            *mirrored(half, half, 3),
            *normalized(half, codes),
            _Bilinear(),
            *mirrored(half, full, 3),
            nn.ReLU(inplace=True),
            *mirrored(full, out_channels, 3),
        )

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, in, H, W)`` in [-1, 1] to ``(N, out, H, W)`` in (-1, 1); 4 divides H, W."""
        features = self.body(self.fold(image, code), code)
        return torch.tanh(self.unfold(features, code).float())


class _Bilinear(nn.Upsample):
    """Twice the size, bilinear."""

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="bilinear", align_corners=False)


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


def fix_contrast(network: nn.Module, code: int) -> nn.Module:
    """Return a copy of a generator that makes one contrast and takes images alone.

    Examples
    --------
    >>> from medtranslate.networks import Compact
    >>> network = Compact(width=16, blocks=1, contrasts=("t1", "t2")).eval()
    >>> slices = torch.zeros(1, 1, 32, 32)
    >>> t2 = fix_contrast(network, 2)
    >>> bool(torch.equal(t2(slices), network(slices, torch.tensor([2]))))
    True
    """
    fixed = copy.deepcopy(network)
    for module in fixed.modules():
        if isinstance(chosen := getattr(module, "contrast", None), _Modulation):
            module.contrast = _Fixed(chosen.differences(torch.tensor([code])))
    return fixed
