"""Geometry: from a scan's own grid to upright slices for the network, and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import nibabel.orientations as orientations
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.errors import Unsupported
from medtranslate.transforms.base import (
    HEAD,
    TISSUE,
    ImageTransform,
    KeyedTransform,
    as_image,
    head_of,
    like,
    pack_mask,
)
from medtranslate.transforms.placement import Affine, Field, Layout, Placement, Shape

Point = Sequence[float]


class SliceGeometry(ImageTransform):
    """What `AxialSlices` and `ImageFrame` share.

    Parameters
    ----------
    size : int
        Side of the network's grid in pixels; a multiple of 4.
    clip : (low, high), optional
        Values are clipped to this range before they are resampled, in the image's units.
    """

    def __init__(self, size: int, clip: Sequence[float] | None) -> None:
        if size % 4:
            raise ValueError(f"size is {size}, not a multiple of 4, which every generator needs")
        if clip is not None and (len(clip) != 2 or not clip[0] < clip[1]):
            raise ValueError(f"clip is {list(clip)}, not (low, high)")
        self.size = size
        self.clip = None if clip is None else (float(clip[0]), float(clip[1]))

    @abstractmethod
    def layout(self, shape: Shape, affine: Affine, center: Point) -> Layout:
        """Lay the network's grid over an image of this shape and affine (RAS mm)."""

    def clipped(self, values: torch.Tensor) -> torch.Tensor:
        """Return values clipped, so that what lies far outside cannot bleed in."""
        return values if self.clip is None else values.clamp(*self.clip)

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Take an image to the network's grid.

        Parameters
        ----------
        image : MetaTensor (1, X, Y, Z)
            In physical units, affine in RAS mm. ``meta["tissue"]``, where `FindTissue` wrote it,
            says what to center on, and is taken to the new grid as well.

        Returns
        -------
        MetaTensor (1, rows, columns, slices)
            Float32 on the CPU, in the image's units; 0 where the image does not reach.

        Raises
        ------
        Unsupported
            If the geometry cannot be cut into axial slices.
        """
        image = as_image(image)
        affine = np.asarray(image.affine, dtype=np.float64)
        volume = image.as_tensor()[0].detach().to("cpu", torch.float32)
        x, y, z = volume.shape
        tissue = dict(image.meta.get(TISSUE, {}))
        center = tissue.get("center") or [(n - 1) / 2 for n in volume.shape]
        layout = self.layout((x, y, z), affine, center)
        placement = layout.placement()
        slices = placement.to_network(volume, self.clipped)
        out = like(slices.permute(1, 2, 0)[None], image)
        out.affine = torch.from_numpy(layout.network_affine(affine))
        if tissue:
            found = self._tissue(volume, slices, tissue["level"], placement)
            out.meta[TISSUE] = tissue | {"mask": pack_mask(found.permute(1, 2, 0))}
        return self.note(out, image, layout=layout.as_builtins(), affine=affine.tolist())

    def inverse(self, image: torch.Tensor) -> MetaTensor:
        """Take slices back to the grid and the affine of the image that they came from.

        Parameters
        ----------
        image : MetaTensor (1, rows, columns, slices)
            On the network's grid. ``meta["head"]``, where `HeadMask` wrote it, is taken back too.

        Returns
        -------
        MetaTensor (1, X, Y, Z)
            Float32 on the CPU; the affine is the image's own to the last bit. ``meta["head"]`` is
            where the image shows the head within the network's field.
        """
        image = as_image(image)
        kept = self.noted(image)
        placement = Layout.from_builtins(kept["layout"]).placement()
        slices = image.as_tensor()[0].detach().cpu().permute(2, 0, 1)
        shape = (len(placement.slices), self.size, self.size)
        if slices.shape != shape:
            raise ValueError(f"{tuple(slices.shape)} slices for {shape}")
        voxels, inside = placement.empty(), placement.empty(torch.bool)
        placement.from_network(slices, voxels, lambda plane, chunk: plane)
        head = head_of(image)
        heads = torch.ones(()).expand(shape) if head is None else head.permute(2, 0, 1)
        placement.from_network(heads, inside, lambda plane, chunk: (plane >= 0.5) & placement.seen)
        out = like(voxels[None], image)
        out.affine = torch.tensor(kept["affine"], dtype=torch.float64)
        out.meta[HEAD] = pack_mask(inside)
        return out

    def _tissue(
        self, volume: torch.Tensor, slices: torch.Tensor, level: float, placement: Placement
    ) -> torch.Tensor:
        if self.clip is None or self.clip[0] <= level <= self.clip[1]:
            return (slices > level) & placement.covered  # scaled MR may have its air below 0
        # The level lies outside the clipped range, so the slices no longer show it.
        return placement.to_network(volume, lambda v: (v > level).float()) > 0.5


class AxialSlices(SliceGeometry):
    """Cut a volume into axial slices at a fixed spacing.

    Slices stay where they are; nothing is resampled across them, and the shear of a tilted gantry
    is kept.

    Parameters
    ----------
    pixel : float
        Spacing in the slice plane, mm.
    size : int
        Side of the network's grid in pixels; a multiple of 4.
    recut : float
        A volume acquired in another plane is cut anew into axial slices only when its slices are
        at most this far apart, mm.
    clip : (low, high), optional
        Values are clipped to this range before they are resampled: bone of 1000 HU would otherwise
        shine into the brain beside it.

    Examples
    --------
    >>> volume = MetaTensor(torch.rand(1, 64, 80, 5), affine=np.diag([2.0, 2.0, 5.0, 1.0]))
    >>> cut = AxialSlices(pixel=2.0, size=96)
    >>> slices = cut(volume)
    >>> slices.shape
    torch.Size([1, 96, 96, 5])
    >>> back = cut.inverse(slices)
    >>> back.shape, bool((back.affine == volume.affine).all())
    (torch.Size([1, 64, 80, 5]), True)
    """

    def __init__(
        self,
        pixel: float = 0.9,
        size: int = 256,
        recut: float = 1.5,
        clip: Sequence[float] | None = None,
    ) -> None:
        super().__init__(size, clip)
        if pixel <= 0:
            raise ValueError(f"pixel is {pixel} mm, not above 0")
        self.pixel, self.recut = pixel, recut

    def layout(self, shape: Shape, affine: Affine, center: Point) -> Layout:
        """Lay the network's grid over a volume.

        Parameters
        ----------
        shape : (X, Y, Z)
            The volume's grid.
        affine : float array (4, 4)
            Voxels to RAS millimeters; oblique and sheared ones too.
        center : (x, y, z)
            Voxel coordinates of the head's center: the field is centered on it along an axis that
            is longer than the field, else on the center of the grid.

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
        rows, columns = (
            self._field(shape, spacing, center, axis, bool(order[axis, 1] < 0)) for axis in axes[1:]
        )
        return Layout(shape, axes, bool(order[axes[0], 1] < 0), rows, columns)

    def _field(self, shape: Shape, spacing: Affine, center: Point, axis: int, flip: bool) -> Field:
        step = self.pixel / float(spacing[axis])
        middle = (shape[axis] - 1) / 2
        room = max(0.0, (shape[axis] - self.size * step) / 2)
        middle += float(np.clip(center[axis] - middle, -room, room))
        return Field(shape[axis], self.size, step, middle, flip)

    def _check(self, spacing: Affine, axes: tuple[int, int, int], affine: Affine) -> None:
        acquired = _through_plane(spacing)
        thickest = float(spacing[acquired])
        # In-plane pixels can be as wide as slices are apart; only a real difference is a plane.
        if thickest > self.recut and acquired != axes[0] and spacing[axes[0]] < 0.99 * thickest:
            raise Unsupported(
                f"acquired in another plane, {thickest:.2f} mm apart: axial slices cannot be cut",
                remedy=f"slices at most {self.recut} mm apart can be re-cut; resample it first",
            )
        u, v = (affine[:3, axis] / spacing[axis] for axis in axes[1:])
        skew = float(np.degrees(np.arcsin(min(1.0, abs(float(u @ v))))))
        if skew > 5.0:
            raise Unsupported(f"rows and columns are {skew:.1f} degrees from a right angle")


class AxialSlicesd(KeyedTransform):
    """Dictionary form of `AxialSlices`.

    Examples
    --------
    >>> import torch
    >>> from monai.data import MetaTensor
    >>> from monai.transforms import Compose, Invertd
    >>> cut = Compose([AxialSlicesd("image", pixel=2.0, size=64)])
    >>> data = cut({"image": MetaTensor(torch.rand(1, 50, 60, 3))})
    >>> data["pred"] = torch.tanh(data["image"])
    >>> Invertd("pred", cut, orig_keys="image")(data)["pred"].shape
    torch.Size([1, 50, 60, 3])
    """

    def __init__(
        self,
        keys: KeysCollection,
        pixel: float = 0.9,
        size: int = 256,
        recut: float = 1.5,
        clip: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, AxialSlices(pixel, size, recut, clip), allow_missing_keys)


def _through_plane(spacing: Affine) -> int:
    """Return the axis along which slices follow one another.

    Pixels are nearly always square, so it is the axis whose spacing differs from two equal ones,
    even where slices lie closer than pixels; else the axis of the largest spacing.
    """
    for axis in range(3):
        one, other = (spacing[another] for another in range(3) if another != axis)
        if abs(one - other) < 0.01 * one and abs(spacing[axis] - one) > 0.05 * one:
            return axis
    return int(np.argmax(spacing))


class ImageFrame(SliceGeometry):
    """Frame a 2D image, which has no spacing: its longer side fills a share of the grid.

    Parameters
    ----------
    fill : float
        Share of the grid that the longer side fills: 1 for CT; 0.92 for MR, whose heads fill more
        of their images than those of CT do.
    size : int
        Side of the network's grid in pixels; a multiple of 4.
    clip : (low, high), optional
        Values are clipped to this range before they are resampled.

    Examples
    --------
    >>> ImageFrame(size=64)(MetaTensor(torch.rand(1, 100, 80, 1))).shape
    torch.Size([1, 64, 64, 1])
    """

    def __init__(
        self, fill: float = 1.0, size: int = 256, clip: Sequence[float] | None = None
    ) -> None:
        super().__init__(size, clip)
        if not 0 < fill <= 1:
            raise ValueError(f"fill is {fill}, not a share")
        self.fill = fill

    def layout(self, shape: Shape, affine: Affine, center: Point) -> Layout:
        """Lay the network's grid over an image or a stack of images (X columns, Y rows, Z).

        Center and affine are not asked: an image is shown as a radiologist looks at it.
        """
        step = max(shape[:2]) / (self.size * self.fill)
        rows, columns = (
            Field(n, self.size, step, (n - 1) / 2, False) for n in (shape[1], shape[0])
        )
        return Layout(shape, (2, 1, 0), False, rows, columns)


class ImageFramed(KeyedTransform):
    """Dictionary form of `ImageFrame`.

    Examples
    --------
    >>> framed = ImageFramed("image", size=64)({"image": MetaTensor(torch.rand(1, 50, 60, 1))})
    >>> framed["image"].shape
    torch.Size([1, 64, 64, 1])
    """

    def __init__(
        self,
        keys: KeysCollection,
        fill: float = 1.0,
        size: int = 256,
        clip: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, ImageFrame(fill, size, clip), allow_missing_keys)


def _upright(affine: Affine) -> NDArray[np.float64]:
    """Return the orientation of each image axis against (left, posterior, superior)."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) == 0:
        raise Unsupported("the affine is not finite or an axis of it is zero: it places no voxels")
    labels = orientations.axcodes2ornt(("L", "P", "S"))
    order = orientations.ornt_transform(orientations.io_orientation(affine), labels)
    return np.asarray(order)


def _axis(order: NDArray[np.float64], network_axis: int) -> int:
    return int(np.flatnonzero(order[:, 0] == network_axis)[0])
