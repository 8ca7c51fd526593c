"""Geometry: from a scan's own grid to upright 256x256 slices for the network, and back.

A network slice is axial; its rows run from anterior to posterior and its columns from the
patient's right to left. Slices stay where they are: nothing is resampled across them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import nibabel.orientations as orientations
import numpy as np
import torch
from numpy.typing import NDArray

from medtranslate.errors import Unsupported
from medtranslate.transforms.resample import cubic, resampling, triangle

_CHUNK = 2  # slices resampled at once: more are no faster, and leave more memory behind

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """How one image lies on the network's grid.

    Parameters
    ----------
    shape : (X, Y, Z)
        The image's own grid.
    axes : (slice, row, column)
        Which image axis each network axis runs along.
    slices : int array (N,)
        Image index of each network slice, from inferior to superior.
    rows, columns : float32 arrays (size, n)
        Image to network, along the row and the column axis.
    rows_back, columns_back : float32 arrays (n, size)
        Network to image.
    """

    shape: Shape
    axes: tuple[int, int, int]
    slices: NDArray[np.int64]
    rows: torch.Tensor
    columns: torch.Tensor
    rows_back: torch.Tensor
    columns_back: torch.Tensor

    @property
    def seen(self) -> torch.Tensor:
        """Bool (rows, columns) of the image's plane: what the network's field covers."""
        rows, columns = (m.any(1) for m in (self.rows_back, self.columns_back))
        return rows[:, None] & columns[None, :]

    @property
    def covered(self) -> torch.Tensor:
        """Bool (size, size) of the network's grid: what the image covers; padding is not."""
        rows, columns = (m.any(1) for m in (self.rows, self.columns))
        return rows[:, None] & columns[None, :]

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
        frames = torch.empty(len(self.slices), size, size)
        stack = volume.permute(self.axes)
        for chunk in self._chunks():
            picked = change(stack[self.slices[chunk]].to(torch.float32))
            frames[chunk] = self.rows @ picked @ self.columns.T
        return frames

    def from_network(
        self, frames: torch.Tensor, out: torch.Tensor, change: Callable[..., torch.Tensor]
    ) -> None:
        """Resample the network's grid back into an image.

        Parameters
        ----------
        frames : float tensor (N, size, size)
            On the network's grid.
        out : tensor (X, Y, Z)
            Filled.
        change : function
            ``change(values, chunk)`` is applied to each chunk (n, rows, columns) on the image's
            plane before it is stored; ``chunk`` is the slice of ``frames`` it came from.
        """
        stack = out.permute(self.axes)
        for chunk in self._chunks():
            plane = self.rows_back @ frames[chunk].to(torch.float32) @ self.columns_back.T
            stack[self.slices[chunk]] = change(plane, chunk).to(out.dtype)

    def empty(self) -> torch.Tensor:
        """Float32 (X, Y, Z) with whole slices contiguous, so that they are written in one go."""
        blank = torch.empty([self.shape[axis] for axis in self.axes])
        return blank.permute([self.axes.index(axis) for axis in range(3)])

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.slices), _CHUNK):
            yield slice(start, start + _CHUNK)


class Geometry(Protocol):
    """What a recipe asks of its geometry half."""

    @property
    def size(self) -> int:
        """Side of the network's grid in pixels."""

    def place(self, shape: Shape, affine: Affine, centre: tuple[float, float, float]) -> Placement:
        """Place an image on the network's grid."""


@dataclass(frozen=True)
class AxialSlices:
    """Volumes: axial slices at a fixed spacing.

    Parameters
    ----------
    pixel : float
        Spacing in the slice plane, mm.
    size : int
        Side of the network's grid in pixels.
    recut : float
        A volume acquired in another plane is cut anew into axial slices only when its slices are
        at most this far apart, mm.
    """

    pixel: float = 0.9
    size: int = 256
    recut: float = 1.5

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.pixel <= 0:
            raise ValueError(f"pixel is {self.pixel} mm, not above 0")

    def place(self, shape: Shape, affine: Affine, centre: tuple[float, float, float]) -> Placement:
        """Place a volume on the network's grid.

        Parameters
        ----------
        shape : (X, Y, Z)
            The volume's grid.
        affine : float array (4, 4)
            Voxels to RAS millimetres; oblique and sheared ones too.
        centre : (x, y, z)
            Voxel coordinates of the head's middle: the field is centred on it along an axis that
            is longer than the field, else on the middle of the grid.

        Raises
        ------
        Unsupported
            If the volume was acquired in another plane with slices too far apart to be re-cut, or
            its slice plane is sheared.
        """
        order = _upright(affine)
        axes = (_axis(order, 2), _axis(order, 1), _axis(order, 0))
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        self._check(spacing, axes, affine)
        return Placement(
            shape,
            axes,
            _indices(shape[axes[0]], order[axes[0], 1] < 0),
            *_both_ways(
                self._field(shape, spacing, centre, axes[1], order[axes[1], 1] < 0),
                self._field(shape, spacing, centre, axes[2], order[axes[2], 1] < 0),
            ),
        )

    def _field(
        self, shape: Shape, spacing: Affine, centre: tuple[float, ...], axis: int, flip: bool
    ) -> _Field:
        step = self.pixel / float(spacing[axis])
        middle = (shape[axis] - 1) / 2
        room = max(0.0, (shape[axis] - self.size * step) / 2)
        middle += float(np.clip(centre[axis] - middle, -room, room))
        return _Field(shape[axis], self.size, step, middle, flip)

    def _check(self, spacing: Affine, axes: tuple[int, int, int], affine: Affine) -> None:
        acquired = int(np.argmax(spacing))
        thickest = float(spacing[acquired])
        # In-plane pixels can be as wide as slices are apart; only a real difference is a plane.
        if thickest > self.recut and spacing[axes[0]] < 0.99 * thickest:
            raise Unsupported(
                f"acquired in another plane, {thickest:.2f} mm apart: axial slices cannot be cut",
                remedy=f"slices at most {self.recut} mm apart can be re-cut; resample it first",
            )
        u, v = (affine[:3, axis] / spacing[axis] for axis in axes[1:])
        skew = float(np.degrees(np.arcsin(min(1.0, abs(float(u @ v))))))
        if skew > 5.0:
            raise Unsupported(f"rows and columns are {skew:.1f} degrees from a right angle")


@dataclass(frozen=True)
class PictureFrame:
    """Pictures, which have no spacing: the longer side fills a share of the grid.

    Parameters
    ----------
    fill : float
        Share of the grid that the longer side fills: 1 for CT; 0.92 for MR, whose heads fill more
        of their pictures than those of CT do.
    size : int
        Side of the network's grid in pixels.
    """

    fill: float = 1.0
    size: int = 256

    def __post_init__(self) -> None:
        _check_size(self.size)
        if not 0 < self.fill <= 1:
            raise ValueError(f"fill is {self.fill}, not a share")

    def place(self, shape: Shape, affine: Affine, centre: tuple[float, float, float]) -> Placement:
        """Place a picture or a stack of pictures (X columns, Y rows, Z) on the network's grid.

        Centre and affine are not asked: a picture is shown as a radiologist looks at it.
        """
        step = max(shape[:2]) / (self.size * self.fill)
        return Placement(
            shape,
            (2, 1, 0),
            np.arange(shape[2]),
            *_both_ways(
                *(_Field(n, self.size, step, (n - 1) / 2, False) for n in (shape[1], shape[0]))
            ),
        )


@dataclass(frozen=True)
class _Field:
    """One axis of the network's field laid over one axis of the image."""

    length: int
    size: int
    step: float
    middle: float
    flip: bool

    def to_network(self) -> NDArray[np.float32]:
        offsets = (np.arange(self.size) - (self.size - 1) / 2) * self.step
        positions = self.middle + (-offsets if self.flip else offsets)
        return resampling(positions, self.length, self.step, triangle)

    def from_network(self) -> NDArray[np.float32]:
        offsets = (np.arange(self.length) - self.middle) / self.step
        positions = (self.size - 1) / 2 + (-offsets if self.flip else offsets)
        weights = resampling(positions, self.size, 1 / self.step, cubic)
        # Beyond the image's end the network saw padding, which says nothing about the image.
        weights[:, ~self.to_network().any(axis=1)] = 0
        total = weights.sum(axis=1, keepdims=True)
        return (weights / np.where(total > 0, total, 1)).astype(np.float32)


def _both_ways(
    rows: _Field, columns: _Field
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    there = (rows.to_network(), columns.to_network())
    back = (rows.from_network(), columns.from_network())
    return tuple(torch.from_numpy(m) for m in (*there, *back))  # type: ignore[return-value]


def _check_size(size: int) -> None:
    if size % 4:
        raise ValueError(f"size is {size}, not a multiple of 4, which every generator needs")


def _upright(affine: Affine) -> NDArray[np.float64]:
    """Orientation of each image axis against (left, posterior, superior): axis and sign."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) == 0:
        raise Unsupported("the affine is not finite or an axis of it is zero: it places no voxels")
    labels = orientations.axcodes2ornt(("L", "P", "S"))
    order = orientations.ornt_transform(orientations.io_orientation(affine), labels)
    return np.asarray(order)


def _axis(order: NDArray[np.float64], network_axis: int) -> int:
    return int(np.flatnonzero(order[:, 0] == network_axis)[0])


def _indices(length: int, flip: bool) -> NDArray[np.int64]:
    indices = np.arange(length)
    return indices[::-1].copy() if flip else indices
