"""Faster kernels for training on a CPU in float32; elsewhere networks are as they were built.

Convolutions of stride 1 are computed with a third of the multiplications, by Winograd's minimal
filtering (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks") on tiles of
6x6 pixels: where a direct 3x3 convolution multiplies 9 times for each pixel and pair of channels,
tiles of 4x4 results take 2.25; a 4x4 convolution takes 4 instead of 16. Results differ from a
direct convolution's by rounding alone, some 1e-5 of the largest. Features between two of them are
channels-last, which tiles are cut from and put together in fastest.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

TILE = 6
"""Rows and columns of a tile of the padded input; TILE + 1 - kernel of its results."""

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)  # where polynomials are evaluated, beside infinity
_WEIGHTS = (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)  # 1 / product of distances to other points
_INPUT = (  # coefficients of the polynomials that are zero at all other points
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
_KERNELS = (3, 4)
_FEWEST = 64  # channels, from which transforming costs less than it saves


class WinogradConv2d(nn.Conv2d):
    """A convolution of stride 1 that is computed in tiles where that is faster.

    It is where a gradient is wanted, on a CPU, in float32; elsewhere this is a `torch.nn.Conv2d`.

    Attributes
    ----------
    mirrored : int
        Rows and columns that are mirrored at each border first, instead of zeros (`padding`).
    """

    mirrored = 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        padding = self.mirrored or int(self.padding[0])
        if _quick(features):
            out: torch.Tensor = _Winograd.apply(
                features, self.weight, self.bias, padding, bool(self.mirrored)
            )
            return out
        if self.mirrored:
            features = F.pad(features, [padding] * 4, mode="reflect")
        return super().forward(features)


def quicken(network: nn.Module) -> nn.Module:
    """Give a network these kernels, in place; names and parameters stay as they are.

    Returns the same network.

    Examples
    --------
    >>> network = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(64, 64, 3))
    >>> slices = torch.rand(1, 64, 16, 16)
    >>> before = network(slices)
    >>> bool((quicken(network)(slices) - before).abs().max() < 1e-5)
    True
    """
    # A module of another class with the same state: its hooks and what else it holds stay.
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _suits(module):
            module.__class__ = WinogradConv2d
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_pre_hook(_contiguous)
        elif type(module) is nn.InstanceNorm2d and not module.affine:
            module.__class__ = _InstanceNorm2d
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            _join_borders(module)
    return network


def _join_borders(row: nn.Sequential) -> None:
    """Let convolutions mirror the borders that a module before them did."""
    for place, (border, block) in enumerate(itertools.pairwise(row)):
        conv = getattr(block, "conv", block)
        if isinstance(border, nn.ReflectionPad2d) and isinstance(conv, WinogradConv2d):
            conv.mirrored = border.padding[0]
            row[place] = nn.Identity()


def _suits(conv: nn.Conv2d) -> bool:
    side = conv.kernel_size[0]
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (side, side)
        and side in _KERNELS
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding in ((0, 0), (1, 1))
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= _FEWEST
    )


def _quick(features: torch.Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and features.device.type == "cpu"
        and features.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _Winograd(torch.autograd.Function):
    """The convolution and its gradients. Tiles are built again for these: that is less memory."""

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        padding: int,
        mirrored: bool,
    ) -> torch.Tensor:
        tiling = _Tiling.of(features, weight, padding, mirrored)
        ctx.save_for_backward(features, weight)
        ctx.tiling = tiling
        products = torch.bmm(
            tiling.from_input(features), tiling.from_weight(weight).transpose(1, 2)
        )
        return tiling.to_output(products, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        tiling, wanted = ctx.tiling, ctx.needs_input_grad
        of_features = of_weight = of_bias = None
        gradient = _first(_last(gradient))
        products = tiling.from_output(gradient)
        if wanted[0]:
            kernels = tiling.from_weight(weight)
            of_features = tiling.to_input(torch.bmm(products, kernels))
        if wanted[1]:
            tiles = tiling.from_input(features)
            of_weight = tiling.to_weight(torch.bmm(products.transpose(1, 2), tiles))
        if wanted[2]:
            of_bias = _last(gradient).flatten(0, 2).sum(0)
        return of_features, of_weight, of_bias, None, None


@dataclass(frozen=True)
class _Tiling:
    """How images are cut into tiles, and the transforms there and back.

    Tiles are (36, T, channels): each of the 36 points of all T tiles, by image and row.

    Attributes
    ----------
    images, rows, columns : int
        Of the features, without padding.
    kernel : int
    padding : int
    mirrored : bool
        The padding is mirrored, not zero.
    """

    images: int
    rows: int
    columns: int
    kernel: int
    padding: int
    mirrored: bool

    @classmethod
    def of(
        cls, features: torch.Tensor, weight: torch.Tensor, padding: int, mirrored: bool
    ) -> _Tiling:
        images, _, rows, columns = features.shape
        return cls(images, rows, columns, weight.shape[-1], padding, mirrored)

    @property
    def step(self) -> int:
        """Results a side of a tile, and so pixels from one tile to the next."""
        return TILE + 1 - self.kernel

    @property
    def results(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        lost = self.kernel - 1 - 2 * self.padding
        return self.rows - lost, self.columns - lost

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles, the last of which may reach beyond the image."""
        rows, columns = self.results
        return -(-rows // self.step), -(-columns // self.step)

    def from_input(self, features: torch.Tensor) -> torch.Tensor:
        """Cut features (N, C, H, W) into tiles and transform them."""
        to_points, step = _transforms(self.kernel).input, self.step
        channels = features.shape[1]
        padded = self._padded(_last(features))
        rows = padded.unfold(1, TILE, step).permute(4, 0, 1, 2, 3)
        done = (to_points @ rows.reshape(TILE, -1)).view(rows.shape)
        columns = done.unfold(3, TILE, step).permute(0, 5, 1, 2, 3, 4)
        tiles = torch.bmm(to_points.expand(TILE, -1, -1), columns.reshape(TILE, TILE, -1))
        return tiles.view(TILE * TILE, -1, channels)

    def to_input(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the gradient of features from that of their tiles."""
        from_points, step = _transforms(self.kernel).input.t(), self.step
        high, wide = self.tiles
        channels = tiles.shape[-1]
        done = torch.bmm(from_points.expand(TILE, -1, -1), tiles.view(TILE, TILE, -1))
        rows = _added(done.view(TILE, TILE, self.images * high, wide, channels), step)
        done = from_points @ rows.view(TILE, -1)
        whole = _added(done.view(1, TILE, self.images, high, -1), step)
        return self._unpadded(whole.view(self.images, (high + 1) * step, -1, channels))

    def from_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Transform kernels (O, C, k, k) to (36, O, C)."""
        flat = weight.reshape(-1, self.kernel**2)
        return (_transforms(self.kernel).kernel @ flat.t()).view(-1, *weight.shape[:2])

    def to_weight(self, kernels: torch.Tensor) -> torch.Tensor:
        """Return the gradient of kernels from that of the transformed ones."""
        flat = _transforms(self.kernel).kernel.t() @ kernels.flatten(1)
        return flat.t().reshape(*kernels.shape[1:], self.kernel, self.kernel)

    def to_output(self, products: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return (N, O, H, W), channels-last, from products (36, T, O)."""
        to_pixels, step = _transforms(self.kernel).output, self.step
        (high, wide), (rows, columns) = self.tiles, self.results
        half = (to_pixels @ products.view(TILE, -1)).view(step, TILE, -1)
        both = torch.bmm(to_pixels.expand(step, -1, -1), half)
        placed = both.view(step, step, self.images, high, wide, -1).permute(2, 3, 0, 4, 1, 5)
        out = placed.reshape(self.images, step * high, step * wide, -1)[:, :rows, :columns]
        out = out.contiguous()
        if bias is not None:
            out += bias
        return _first(out)

    def from_output(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of products (36, T, O) from that of the output (N, O, H, W)."""
        from_pixels, step = _transforms(self.kernel).output.t(), self.step
        (high, wide), (rows, columns) = self.tiles, self.results
        there = _last(gradient)
        below, beyond = high * step - rows, wide * step - columns
        if below or beyond:
            there = F.pad(there, [0, 0, 0, beyond, 0, below])
        cut = there.reshape(self.images, high, step, wide, step, -1).permute(2, 4, 0, 1, 3, 5)
        half = (from_pixels @ cut.reshape(step, -1)).view(TILE, step, -1)
        both = torch.bmm(from_pixels.expand(TILE, -1, -1), half)
        return both.view(TILE * TILE, self.images * high * wide, -1)

    def _padded(self, there: torch.Tensor) -> torch.Tensor:
        """Return (N, H, W, C) with borders, as large as all tiles together."""
        border, (high, wide) = self.padding, self.tiles
        reach = self.kernel - 1
        out = there.new_zeros(
            self.images, high * self.step + reach, wide * self.step + reach, there.shape[-1]
        )
        inside = out[:, border : border + self.rows, border : border + self.columns]
        inside.copy_(there)
        if self.mirrored:
            for to, of in _mirrors(border, self.rows):
                out[:, to] = out[:, of]
            for to, of in _mirrors(border, self.columns):
                out[:, :, to] = out[:, :, of]
        return out

    def _unpadded(self, padded: torch.Tensor) -> torch.Tensor:
        """Return the gradient (N, C, H, W) from that of what `_padded` gave."""
        border = self.padding
        if self.mirrored:
            for to, of in _mirrors(border, self.columns):
                padded[:, :, of] += padded[:, :, to]
            for to, of in _mirrors(border, self.rows):
                padded[:, of] += padded[:, to]
        inside = padded[:, border : border + self.rows, border : border + self.columns]
        return _first(inside.contiguous())


def _added(parts: torch.Tensor, step: int) -> torch.Tensor:
    """Put the pixels of overlapping tiles in a row and add what falls together.

    From (L, TILE, K, tiles, C) to (L, K, (tiles + 1) * step, C).
    """
    leading, _, many, tiles, channels = parts.shape
    out = parts.new_zeros(leading, many, tiles + 1, step, channels)
    parts = parts.permute(0, 2, 3, 1, 4)
    out[:, :, :tiles] = parts[:, :, :, :step]
    out[:, :, 1:, : TILE - step] += parts[:, :, :, step:]
    return out.view(leading, many, -1, channels)


def _last(features: torch.Tensor) -> torch.Tensor:
    """Return (N, C, H, W) as (N, H, W, C): a view where they are channels-last."""
    if features.is_contiguous(memory_format=torch.channels_last):
        return features.permute(0, 2, 3, 1)
    images, channels, rows, columns = features.shape
    out = features.new_empty(images, rows * columns, channels)
    for to, of in zip(out, features, strict=True):  # image by image torch transposes faster
        to.copy_(of.reshape(channels, -1).t())
    return out.view(images, rows, columns, channels)


def _first(there: torch.Tensor) -> torch.Tensor:
    """Return (N, H, W, C) as (N, C, H, W) in the same memory.

    To autograd it is no view, so that what follows may change it in place.
    """
    turned = there.permute(0, 3, 1, 2)
    return there.new_empty(0).set_(
        there.untyped_storage(), there.storage_offset(), turned.shape, turned.stride()
    )


class _Contiguous(torch.autograd.Function):
    """The boundary behind channels-last features: their gradient is channels-last, too."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        return features.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _first(_last(gradient))


def _contiguous(conv: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
    """Let a direct convolution compute in the layout that it is trained faster in."""
    (features,) = given
    if not _quick(features) or features.is_contiguous():
        return None
    return (_Contiguous.apply(features),)


def _mirrors(border: int, side: int) -> list[tuple[int, int]]:
    """Return which line of a padded side is a copy of which."""
    before = [(border - n, border + n) for n in range(1, border + 1)]
    return before + [(border + side - 1 + n, border + side - 1 - n) for n in range(1, border + 1)]


@dataclass(frozen=True, eq=False)
class _Transforms:
    """Matrices to and from a tile's points along one axis (Lavin and Gray 2016, section 4)."""

    input: torch.Tensor
    kernel: torch.Tensor
    output: torch.Tensor


@functools.cache
def _transforms(kernel: int) -> _Transforms:
    powers = torch.tensor(_POINTS)[:, None] ** torch.arange(TILE)

    def evaluated(length: int) -> torch.Tensor:
        """Return the matrix that evaluates a polynomial at the points and at infinity."""
        return torch.cat([powers[:, :length], torch.eye(length)[-1:]])

    to_points = torch.tensor([*_WEIGHTS, 1.0])[:, None] * evaluated(kernel)
    return _Transforms(
        torch.tensor(_INPUT),
        torch.kron(to_points, to_points),
        evaluated(TILE + 1 - kernel).t().contiguous(),
    )


def instance_norm(features: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """Normalize (N, C, H, W) over H and W, for training, by what is fastest where it runs.

    On a CPU the group kernel with one group a channel is four to seven times faster forward and up
    to twice backward. Over channels-last features it loses the digits of a variance that is small
    beside the mean, so these are normalized by sums here.
    """
    if features.device.type != "cpu":
        return F.instance_norm(features, eps=epsilon)
    if features.is_contiguous():
        return F.group_norm(features, features.shape[1], eps=epsilon)
    if _quick(features) and features.is_contiguous(memory_format=torch.channels_last):
        out: torch.Tensor = _Standardized.apply(features, epsilon)
        return out
    return F.instance_norm(features, eps=epsilon)


class _InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalization by `instance_norm` where gradients are wanted."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if _quick(features) and not self.track_running_stats:
            return instance_norm(features, self.eps)
        return super().forward(features)


class _Standardized(torch.autograd.Function):
    """Instance normalization of channels-last features, which stay so."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, epsilon: float) -> torch.Tensor:
        pixels = _last(features).flatten(1, 2)  # (N, H W, C)
        mean = pixels.mean(1, keepdim=True)
        out = pixels - mean
        scale = torch.rsqrt(out.square().mean(1, keepdim=True) + epsilon)
        out *= scale
        # Not the output, which the activation behind it changes in place.
        ctx.save_for_backward(features, mean, scale)
        return _first(out.unflatten(1, features.shape[2:]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        features, mean, scale = ctx.saved_tensors
        out = (_last(features).flatten(1, 2) - mean) * scale
        given = _last(gradient).flatten(1, 2)
        change = given - given.mean(1, keepdim=True)
        change -= out * (given * out).mean(1, keepdim=True)
        change *= scale
        return _first(change.unflatten(1, gradient.shape[2:])), None
