"""How an image lies on the network's grid: two small matrices a slice plane, and back.

A network slice is axial; its rows run from anterior to posterior and its columns from the
patient's right to left. Slices stay where they are: nothing is resampled across them. MONAI's
``Spacingd`` drops the shear of a tilted CT and mixes slices; two matrices cannot, because they
never touch the third axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]
Kernel = Callable[[NDArray[np.floating]], NDArray[np.floating]]

_CHUNK = 2  # slices resampled at once: more are no faster, and leave more memory behind
_BAND = 32  # new samples that are resampled at once


@dataclass(frozen=True)
class Field:
    """One axis of the network's field laid over one axis of the image.

    Parameters
    ----------
    length : int
        Samples of the image along the axis.
    size : int
        Samples of the network's grid.
    step : float
        Distance between the grid's samples in units of the image's.
    middle : float
        Where the grid's center lies, in image samples.
    flip : bool
        The grid runs against the image's axis.
    """

    length: int
    size: int
    step: float
    middle: float
    flip: bool

    def to_network(self) -> torch.Tensor:
        """Return the weights (size, length) that take image samples to the grid."""
        return torch.from_numpy(self._to_network())

    def from_network(self) -> torch.Tensor:
        """Return the weights (length, size) that take grid samples to the image."""
        offsets = (np.arange(self.length) - self.middle) / self.step
        positions = (self.size - 1) / 2 + (-offsets if self.flip else offsets)
        weights = resampling(positions, self.size, 1 / self.step, cubic)
        # Beyond the image's end the network saw padding, which says nothing about the image.
        weights[:, ~self._to_network().any(axis=1)] = 0
        total = weights.sum(axis=1, keepdims=True)
        return torch.from_numpy((weights / np.where(total > 0, total, 1)).astype(np.float32))

    def _to_network(self) -> NDArray[np.float32]:
        offsets = (np.arange(self.size) - (self.size - 1) / 2) * self.step
        positions = self.middle + (-offsets if self.flip else offsets)
        return resampling(positions, self.length, self.step, triangle)

    def index_map(self) -> tuple[float, float]:
        """Return slope and intercept that take a grid index to an image index."""
        slope = -self.step if self.flip else self.step
        return slope, self.middle - slope * (self.size - 1) / 2


@dataclass(frozen=True)
class Layout:
    """Where the network's grid lies on an image, in a few numbers.

    Parameters
    ----------
    shape : (X, Y, Z)
        The image's own grid.
    axes : (slice, row, column)
        Which image axis each network axis runs along.
    flip : bool
        Network slices run against the image's slice axis.
    rows, columns : Field
        The network's field along the row and the column axis.
    """

    shape: Shape
    axes: tuple[int, int, int]
    flip: bool
    rows: Field
    columns: Field

    def placement(self) -> Placement:
        """Return the matrices that resample between the two grids."""
        slices = np.arange(self.shape[self.axes[0]])
        return Placement(
            self.shape,
            self.axes,
            slices[::-1].copy() if self.flip else slices,
            self.rows.to_network(),
            self.columns.to_network(),
            self.rows.from_network(),
            self.columns.from_network(),
        )

    def network_affine(self, affine: Affine) -> Affine:
        """Return the affine of network indices (row, column, slice), RAS mm."""
        count = self.shape[self.axes[0]]
        maps = (
            self.rows.index_map(),
            self.columns.index_map(),
            (-1.0, count - 1.0) if self.flip else (1.0, 0.0),
        )
        to_image = np.zeros((4, 4))
        to_image[3, 3] = 1
        slice_axis, row_axis, column_axis = self.axes
        for index, axis in enumerate((row_axis, column_axis, slice_axis)):
            to_image[axis, index], to_image[axis, 3] = maps[index]
        return affine @ to_image

    def as_builtins(self) -> dict[str, Any]:
        """Return the layout as lists and numbers, as MONAI's traces take them."""
        fields = {
            name: [one.length, one.size, one.step, one.middle, one.flip]
            for name, one in (("rows", self.rows), ("columns", self.columns))
        }
        return {"shape": list(self.shape), "axes": list(self.axes), "flip": self.flip, **fields}

    @classmethod
    def from_builtins(cls, kept: Mapping[str, Any]) -> Layout:
        """Return the layout that `as_builtins` wrote."""
        shape, axes = tuple(kept["shape"]), tuple(kept["axes"])
        return cls(shape, axes, kept["flip"], Field(*kept["rows"]), Field(*kept["columns"]))


@dataclass(frozen=True, eq=False)
class Placement:
    """The matrices that resample between an image and the network's grid.

    Parameters
    ----------
    shape : (X, Y, Z)
        The image's own grid.
    axes : (slice, row, column)
        Which image axis each network axis runs along.
    slices : int array (N,)
        Image index of each network slice, from inferior to superior.
    rows, columns : float32 tensors (size, n)
        Image to network, along the row and the column axis.
    rows_back, columns_back : float32 tensors (n, size)
        Network to image.

    Examples
    --------
    >>> from medtranslate.transforms import AxialSlices
    >>> affine, center = np.diag([2.0, 2.0, 5.0, 1.0]), (24.5, 29.5, 1.0)
    >>> layout = AxialSlices(pixel=2.0, size=64).layout((50, 60, 3), affine, center)
    >>> placement = layout.placement()
    >>> placement.to_network(torch.ones(50, 60, 3), lambda slices: slices).shape
    torch.Size([3, 64, 64])
    """

    shape: Shape
    axes: tuple[int, int, int]
    slices: NDArray[np.int64]
    rows: torch.Tensor
    columns: torch.Tensor
    rows_back: torch.Tensor
    columns_back: torch.Tensor

    def __repr__(self) -> str:
        return f"Placement(shape={self.shape}, axes={self.axes}, size={len(self.rows)})"

    @cached_property
    def seen(self) -> torch.Tensor:
        """Bool (rows, columns) of the image's plane: what the network's field covers."""
        rows, columns = (m.any(1) for m in (self.rows_back, self.columns_back))
        return rows[:, None] & columns[None, :]

    @property
    def covered(self) -> torch.Tensor:
        """Bool (size, size) of the network's grid: what the image covers; padding is not."""
        rows, columns = (m.any(1) for m in (self.rows, self.columns))
        return rows[:, None] & columns[None, :]

    @cached_property
    def _there(self) -> tuple[_Bands, _Bands]:
        return _Bands.of(self.rows), _Bands.of(self.columns)

    @cached_property
    def _back(self) -> tuple[_Bands, _Bands]:
        return _Bands.of(self.rows_back), _Bands.of(self.columns_back)

    def to_network(
        self, volume: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Resample an image to the network's grid.

        Parameters
        ----------
        volume : tensor (X, Y, Z)
            The image.
        change : function
            Applied to each chunk of slices before it is resampled.

        Returns
        -------
        float32 tensor (N, size, size)
            0 where the image does not reach (`covered`).
        """
        size = len(self.rows)
        slices = torch.empty(len(self.slices), size, size)
        stack = volume.permute(self.axes)
        for chunk in self._chunks():
            picked = change(stack[self.slices[chunk]].to(torch.float32))
            slices[chunk] = _resampled(picked, *self._there)
        return slices

    def from_network(
        self, slices: torch.Tensor, out: torch.Tensor | None, change: Callable[..., torch.Tensor]
    ) -> None:
        """Resample the network's grid back into an image.

        Parameters
        ----------
        slices : float tensor (N, size, size)
            On the network's grid.
        out : tensor (X, Y, Z) or None
            Filled; None where what `change` is given is enough.
        change : function
            ``change(values, chunk)`` is applied to each chunk (n, rows, columns) on the image's
            plane before it is stored; ``chunk`` is the part of ``slices`` that it came from.
        """
        for chunk in self._chunks():
            picked = slices[chunk].to(torch.float32)
            plane = _resampled(picked, *self._back)
            changed = change(plane, chunk)
            if out is not None:
                out.permute(self.axes)[self.slices[chunk]] = changed.to(out.dtype)

    def inside(self, head: torch.Tensor) -> torch.Tensor:
        """Return where heads (n, size, size) lie on the image's plane, within the field."""
        covered = _resampled(head.float(), *self._back)
        return (covered >= 0.5) & self.seen

    def empty(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return (X, Y, Z) with whole slices contiguous, so that they are written in one go."""
        blank = torch.empty([self.shape[axis] for axis in self.axes], dtype=dtype)
        return blank.permute([self.axes.index(axis) for axis in range(3)])

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.slices), _CHUNK):
            yield slice(start, start + _CHUNK)


@dataclass(frozen=True, eq=False)
class _Bands:
    """Weights (length, n) of new samples, which depend on a few old samples near them.

    Most weights are 0: bands of new samples are multiplied by the old samples that they depend on
    alone, in half the time.

    Parameters
    ----------
    length : int
        Number of new samples.
    parts : tuple of (slice, slice, tensor)
        New samples, the old samples that they depend on, and the weights of these.
    """

    length: int
    parts: tuple[tuple[slice, slice, torch.Tensor], ...]

    @classmethod
    def of(cls, weights: torch.Tensor) -> _Bands:
        parts = []
        for start in range(0, len(weights), _BAND):
            band = weights[start : start + _BAND]
            used = band.any(0).nonzero()
            if len(used):
                old = slice(int(used[0]), int(used[-1]) + 1)
                parts.append((slice(start, start + _BAND), old, band[:, old].contiguous()))
        return cls(len(weights), tuple(parts))


def _resampled(planes: torch.Tensor, rows: _Bands, columns: _Bands) -> torch.Tensor:
    """Return ``rows @ planes @ columns.T`` for planes (n, height, width)."""
    between = planes.new_zeros(len(planes), rows.length, planes.shape[2])
    for new, old, weights in rows.parts:
        between[:, new] = weights @ planes[:, old]
    result = planes.new_zeros(len(planes), rows.length, columns.length)
    for new, old, weights in columns.parts:
        result[:, :, new] = between[:, :, old] @ weights.T
    return result


def triangle(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear interpolation; never overshoots."""
    weights: NDArray[np.floating] = np.maximum(1 - np.abs(x), 0)
    return weights


def cubic(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Keys' cubic convolution with a = -1/2 (IEEE Trans. ASSP 29, 1981, equation 15)."""
    x = np.abs(x)
    near = 1 + x * x * (1.5 * x - 2.5)
    far = 2 + x * (-4 + x * (2.5 - 0.5 * x))
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resampling(
    positions: NDArray[np.floating], length: int, step: float, kernel: Kernel
) -> NDArray[np.float32]:
    """Return the weights that take samples 0..length-1 of an axis to new positions on it.

    Parameters
    ----------
    positions : float array (M,)
        New samples' centers, in units of the old samples.
    length : int
        Number of old samples.
    step : float
        Distance between new samples in units of old ones; above 1 the kernel is widened by it, so
        that what is too fine for the new grid is averaged away and not aliased.
    kernel : function
        ``triangle`` or ``cubic``.

    Returns
    -------
    float32 array (M, length)
        Rows add up to 1; a row is zero where its position lies outside the old samples' extent.
    """
    scale = max(step, 1.0)
    weights = kernel((positions[:, None] - np.arange(length)) / scale)
    inside = (positions >= -0.5) & (positions <= length - 0.5)
    total = weights.sum(axis=1)
    weights = np.where(inside[:, None], weights, 0) / np.where(inside, total, 1)[:, None]
    return weights.astype(np.float32)
