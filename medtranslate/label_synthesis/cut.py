"""Label maps of whole heads, and oblique slices cut out of them, each with a thickness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.files import check_present
from medtranslate.imaging import read
from medtranslate.label_synthesis.draw import Draw, per_slice
from medtranslate.label_synthesis.tissues import TissueTable

BRAIN = ("white_matter", "cortex", "deep_gray")
_OPENING = 2  # voxels; tears specks and thin streaks off the head
_COARSEST = 4.0  # mm; sulci are lost above
_PLANES = {
    "coronal": (0, 2, 1),
    "sagittal": (1, 2, 0),
}  # axes of the map, by axis of the turned one


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A whole head as classes of tissues.

    Parameters
    ----------
    classes : uint8 tensor (X, Y, Z)
        Places in a `TissueTable`; axes from left to right, posterior to
        anterior, inferior to superior (RAS).
    spacing : (float, float, float)
        In mm.
    brain : (float, float)
        Lowest and highest place of the brain above the map's middle, in mm.
    name : str
        Where it comes from.

    Examples
    --------
    >>> axis = torch.linspace(-30, 30, 21)
    >>> ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt() < 24
    >>> white_matter, affine = 2.0, torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0]))
    >>> image = MetaTensor(white_matter * ball[None], affine=affine)
    >>> LabelMap.of(image, TissueTable.read()).brain
    (-21.0, 21.0)
    """

    classes: torch.Tensor
    spacing: tuple[float, float, float]
    brain: tuple[float, float]
    name: str = ""

    @classmethod
    def read(cls, path: Path, table: TissueTable) -> LabelMap:
        """Read a label map from any volume that `medtranslate.read` reads.

        Raises
        ------
        InputMissing, Unreadable, Unsupported
            No such file; damaged, or labels that the table does not know; no volume, too coarse,
            or no brain in it.
        """
        check_present(path)
        image = read(path, modality="MR")
        return cls.of(image, table, name=str(path))

    @classmethod
    def of(cls, image: MetaTensor, table: TissueTable, name: str = "") -> LabelMap:
        """Take a label map (1, X, Y, Z) with an affine in RAS mm.

        Raises
        ------
        Unreadable, Unsupported
            As `read`.
        """
        upright = cast(MetaTensor, Orientation(axcodes="RAS", labels=None)(image))
        affine = np.asarray(upright.affine, dtype=np.float64)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if upright.ndim != 4 or min(upright.shape) < 1 or upright.shape[-1] == 1:
            raise Unsupported("a label map is a volume", path=name or None)
        if spacing.max() > _COARSEST:
            text = f"voxels of {spacing.max():.1f} mm are too coarse for a label map"
            raise Unsupported(text, path=name or None)
        labels = upright.as_tensor()[0].detach().cpu()
        if not torch.equal(labels, labels.round()):
            raise Unreadable("no label map: its values are no whole numbers", path=name or None)
        try:
            classes = table.classes(labels)
        except ValueError as error:
            hint = "give a table that has them"
            raise Unreadable(str(error), path=name or None, remedy=hint) from error
        classes = _without_specks(classes)
        if not table.is_any(classes, *BRAIN).any():
            raise Unsupported("there is no brain in this label map", path=name or None)
        brain = _brain(classes, float(spacing[2]), table)
        return cls(classes, (float(spacing[0]), float(spacing[1]), float(spacing[2])), brain, name)

    def in_plane(self, plane: Literal["coronal", "sagittal"], table: TissueTable) -> LabelMap:
        """Return the map turned so that `cut` takes coronal or sagittal slices of the head.

        Rows run from superior to inferior, columns from right to left or from anterior to
        posterior (or mirrored); `brain` is the extent along the third axis.

        Examples
        --------
        >>> white = TissueTable.read().index("white_matter")
        >>> block = torch.full((20, 30, 40), white, dtype=torch.uint8)
        >>> head = LabelMap(block, spacing=(3.0, 3.0, 3.0), brain=(-58.5, 58.5))
        >>> coronal = head.in_plane("coronal", TissueTable.read())
        >>> coronal.classes.shape, coronal.brain
        (torch.Size([20, 40, 30]), (-43.5, 43.5))
        """
        x, y, z = _PLANES[plane]
        classes = self.classes.permute(x, y, z).contiguous()
        spacing = (self.spacing[x], self.spacing[y], self.spacing[z])
        return replace(
            self, classes=classes, spacing=spacing, brain=_brain(classes, spacing[2], table)
        )

    def to(self, device: torch.device) -> LabelMap:
        """Return the map on a device."""
        return replace(self, classes=self.classes.to(device))


def _brain(classes: torch.Tensor, spacing: float, table: TissueTable) -> tuple[float, float]:
    """Return where the brain begins and ends along the third axis, in mm from the middle."""
    layers = table.is_any(classes, *BRAIN).any(0).any(0).nonzero()[:, 0]
    heights = (layers.double() - (classes.shape[2] - 1) / 2) * spacing
    return float(heights[0]), float(heights[-1])


def _without_specks(classes: torch.Tensor) -> torch.Tensor:
    """Keep the largest part of the head, cut to its box."""
    head = sitk.GetImageFromArray((classes > 0).numpy().astype(np.uint8))
    parts = sitk.RelabelComponent(
        sitk.ConnectedComponent(sitk.BinaryMorphologicalOpening(head, [_OPENING] * 3))
    )
    largest = sitk.BinaryDilate(parts == 1, [_OPENING + 1] * 3)
    kept = torch.from_numpy(sitk.GetArrayFromImage(largest).astype(bool))
    if not kept.any():  # thinner than the opening: a map of few voxels
        kept = classes > 0
    cleaned = torch.where(kept, classes, 0).to(torch.uint8)
    places = cleaned.nonzero()
    if not len(places):
        return cleaned
    low, high = places.min(0).values, places.max(0).values + 1
    return cleaned[low[0] : high[0], low[1] : high[1], low[2] : high[2]].contiguous()


@dataclass(frozen=True)
class CutSettings:
    """How slices lie in the head; each a range to draw from, lengths in mm, angles in degrees.

    Parameters
    ----------
    size : int
        Rows and columns.
    pixel : float
        Side of a pixel; `zoom` varies it.
    zoom, aspect : (low, high)
        Factors for the pixel, and for its height alone.
    thickness : tuple of float
        Slice thicknesses to choose from.
    sublayers : int
        Cuts across the thickness, whose signals are averaged: partial volume.
    pitch, roll, yaw : float
        Standard deviations of the tilt; the pitch is around -4 degrees, as slices are planned.
    below, above : float
        How far slices reach below and above the brain.
    face_share, face : float
        Share of slices that are cut lower, through face and neck, and how far below the brain.
    shift, far_shift : float
        How far the head may lie from the middle, and how far in `far_share` of the slices: up to
        the border and beyond.
    far_share : float
        Share of slices with a far shift.
    warp : float
        Largest standard deviation of the warps.
    mirrored : float
        Share of slices whose columns run from the patient's left to right.

    Examples
    --------
    >>> CutSettings(size=64) == CutSettings(), CutSettings(size=64).pixel == CutSettings().pixel
    (False, True)
    """

    size: int = 256
    pixel: float = 0.9
    zoom: tuple[float, float] = (0.78, 1.2)
    aspect: tuple[float, float] = (0.92, 1.08)
    thickness: tuple[float, ...] = (1.5, 3.0, 5.0, 6.0)
    sublayers: int = 3
    pitch: float = 11.0
    roll: float = 3.0
    yaw: float = 5.0
    below: float = 12.0
    above: float = 8.0
    face_share: float = 0.08
    face: float = 45.0
    shift: float = 8.0
    far_shift: float = 45.0
    far_share: float = 0.25
    warp: float = 4.5
    mirrored: float = 0.5


PLAIN_CUT = CutSettings(
    zoom=(1.0, 1.0), aspect=(1.0, 1.0), thickness=(1.5,), pitch=0.0, roll=0.0, yaw=0.0,
    shift=0.0, far_share=0.0, warp=0.0, below=0.0, above=0.0, face_share=0.0, mirrored=0.0,
)  # fmt: skip
"""Axial slices through the brain as they lie: nothing drawn but the height."""


def cut(maps: Sequence[LabelMap], draw: Draw, settings: CutSettings) -> torch.Tensor:
    """Cut one slice out of each map.

    Parameters
    ----------
    maps : sequence of LabelMap
        As many as `draw.count`, on its device.
    draw : Draw
    settings : CutSettings

    Returns
    -------
    uint8 tensor (N, sublayers, size, size)
        Classes; rows from anterior to posterior, columns from the patient's right to left (or
        mirrored).
    """
    points = _points(maps, draw, settings)
    return torch.stack([_at(one, points[place]) for place, one in enumerate(maps)])


def _points(maps: Sequence[LabelMap], draw: Draw, settings: CutSettings) -> torch.Tensor:
    """Return where each pixel lies: (N, sublayers, size, size, 3) in mm from the map's middle."""
    size = settings.size
    pixel = settings.pixel * draw.uniform(*settings.zoom)
    along = torch.arange(size, device=draw.device) - (size - 1) / 2
    mirrored = torch.where(draw.chance(settings.mirrored), -1.0, 1.0)
    # Columns run to the patient's left, which is -R; rows to the back, which is -A.
    right = (-mirrored * pixel)[:, None, None] * along[None, None, :]
    front = -(pixel / draw.uniform(*settings.aspect))[:, None, None] * along[None, :, None]
    warp = draw.uniform(0, settings.warp)
    warps = [per_slice(warp) * draw.field(draw.size / 4) for _ in range(3)]
    far = draw.chance(settings.far_share)[:, None]
    reach = torch.where(far, settings.far_shift, settings.shift)
    shift = reach * draw.uniform(-1, 1, 2)
    x = right + warps[0] + per_slice(shift[:, 0])
    y = front + warps[1] + per_slice(shift[:, 1])
    thickness, layers = draw.choice(settings.thickness), settings.sublayers
    offsets = (torch.arange(layers, device=draw.device) + 0.5) / layers - 0.5
    z = warps[2][:, None] + (thickness[:, None] * offsets)[:, :, None, None]
    plane = torch.stack([x[:, None].expand_as(z), y[:, None].expand_as(z), z], -1)
    turned = torch.einsum("nij,nkhwj->nkhwi", _rotations(draw, settings), plane)
    bottom, top = torch.tensor([one.brain for one in maps], device=draw.device).unbind(1)
    face = draw.chance(settings.face_share)
    low = bottom - torch.where(face, settings.face, settings.below)
    high = torch.where(face, bottom, top + settings.above)
    turned[..., 2] += (low + (high - low) * draw.uniform(0, 1))[:, None, None, None]
    return turned


def _rotations(draw: Draw, settings: CutSettings) -> torch.Tensor:
    """Return rotations (N, 3, 3): yaw, then pitch, then roll."""
    planned = -4.0 if settings.pitch else 0.0
    pitch = draw.normal(settings.pitch) + planned
    angles = (pitch, draw.normal(settings.roll), draw.normal(settings.yaw))
    pitch, roll, yaw = (each * math.pi / 180 for each in angles)
    return _about(roll, 0, 2) @ _about(pitch, 1, 2) @ _about(yaw, 0, 1)


def _about(angle: torch.Tensor, first: int, second: int) -> torch.Tensor:
    turn = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    turn[:, first, first] = turn[:, second, second] = angle.cos()
    turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
    return turn


def _at(one: LabelMap, points: torch.Tensor) -> torch.Tensor:
    """Return the classes at points (..., 3) in mm from the map's middle; air outside the map."""
    shape = torch.tensor(one.classes.shape, device=points.device)
    spacing = torch.tensor(one.spacing, device=points.device)
    index = (points / spacing + (shape - 1) / 2).round().long()
    inside = ((index >= 0) & (index < shape)).all(-1)
    x, y, z = torch.where(inside[..., None], index, 0).unbind(-1)
    return torch.where(inside, one.classes[x, y, z], 0).to(torch.uint8)


def mid_layer(classes: torch.Tensor) -> torch.Tensor:
    """Return the middle of (N, sublayers, H, W)."""
    return classes[:, classes.shape[1] // 2]
