"""Even grids for formats that cannot say more: slices untilted, or laid at even steps.

Nothing here is used for DICOM output, where every slice keeps its own place. What is resampled
is said in ``meta["source"]["faults"]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medtranslate.errors import Unsupported
from medtranslate.imaging.source import LPS_TO_RAS, TILTED, SourceRecord, check_source, first_file

_LEAVE_OUT = "leave out --untilt"


def untilt(image: MetaTensor) -> MetaTensor:
    """Undo the shear of a tilted gantry: each slice is shifted within its own plane.

    No slice is mixed with another; between pixels the shift interpolates linearly (SimpleITK),
    and the field of view grows so that nothing is cut off. Spacing between slices is as it was,
    so a series that is tilted and uneven needs `regrid` as well.

    Parameters
    ----------
    image : MetaTensor
        Float32 (1, X, Y, Z) from a DICOM series.

    Returns
    -------
    MetaTensor
        Float32 (1, X', Y', Z); its slice axis is the normal of the slices.

    Raises
    ------
    Unsupported
        The image is no DICOM series, or no longer agrees with it, or is upright already.
    """
    source, positions = _placed(image)
    angle = source["header"]["tilt"]
    shifts, shape, placed = _upright(source, positions)
    untilted = shift_slices(image, shifts, shape)
    affine = np.asarray(source["affine"])
    return _remade(
        image, source, untilted, affine[:3, :2], placed, f"untilted by {angle:.1f} degrees"
    )


def tilt_shifts(image: MetaTensor) -> tuple[np.ndarray, list[int]]:
    """Return by how many pixels `untilt` shifts each slice, (Z, 2), and its canvas, (X', Y')."""
    source, positions = _placed(image)
    shifts, shape, _ = _upright(source, positions)
    return shifts, shape


def shift_slices(image: MetaTensor, shifts: np.ndarray, shape: list[int]) -> np.ndarray:
    """Return each slice (X, Y, Z) shifted by so many pixels on a canvas; air where nothing was."""
    fill, voxels = _fill(image), _voxels(image)
    shifted = np.empty((*shape, voxels.shape[2]), dtype=np.float32)
    for index, shift in enumerate(shifts):
        shifted[:, :, index] = _shifted(voxels[:, :, index], shift, shape, fill)
    return shifted


def regrid(image: MetaTensor) -> MetaTensor:
    """Lay slices at even steps, the median gap apart, interpolating linearly between neighbors.

    The slice axis keeps its direction, a tilt with it.

    Parameters
    ----------
    image : MetaTensor
        Float32 (1, X, Y, Z) from a DICOM series.

    Returns
    -------
    MetaTensor
        Float32 (1, X, Y, Z').

    Raises
    ------
    Unsupported
        The image is no DICOM series, no longer agrees with it, has one slice, its slices lie at
        even steps already, or do not lie on one line.
    """
    source, positions = _placed(image)
    if len(positions) < 2:
        raise Unsupported("there is one slice, no grid to make even", path=first_file(source))
    if source["even"]:
        fault, remedy = "its slices lie at even steps already", "leave out --regrid"
        raise Unsupported(fault, path=first_file(source), remedy=remedy)
    axis = positions[-1] - positions[0]
    axis /= np.linalg.norm(axis)
    along = (positions - positions[0]) @ axis
    aside = np.abs(positions - positions[0] - along[:, None] * axis).max()
    if aside > 0.5:
        raise Unsupported(
            f"slices are up to {aside:.3g} mm off one line",
            path=first_file(source),
            remedy="make it upright with --untilt",
        )
    step = float(np.median(np.diff(along)))
    even = np.arange(int(np.floor(along[-1] / step + 1e-6)) + 1) * step
    after = np.clip(np.searchsorted(along, even, side="right"), 1, len(along) - 1)
    weight = np.clip((even - along[after - 1]) / (along[after] - along[after - 1]), 0.0, 1.0)
    voxels = _voxels(image)
    laid = np.empty((*voxels.shape[:2], len(even)), dtype=np.float32)
    for index, (upper, share) in enumerate(zip(after, weight, strict=True)):
        laid[:, :, index] = (1 - share) * voxels[:, :, upper - 1] + share * voxels[:, :, upper]
    placed = positions[0] + even[:, None] * axis
    note = f"resampled to an even grid: {len(along)} slices to {len(even)}, {step:.3g} mm apart"
    return _remade(image, source, laid, np.asarray(source["affine"])[:3, :2], placed, note)


def _placed(image: MetaTensor) -> tuple[dict[str, Any], np.ndarray]:
    """Give the source, and the position of each slice's first voxel, RAS mm (Z, 3)."""
    source = check_source(image)
    slices = source["header"].get("slices")
    if source["format"] != "dicom" or not slices:
        fault = "only a DICOM series tells where each of its slices is"
        raise Unsupported(fault, path=first_file(source))
    positions = np.array([one["position"] for one in slices], dtype=np.float64)
    return source, positions @ LPS_TO_RAS[:3, :3]


def _upright(
    source: dict[str, Any], positions: np.ndarray
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Return the shift of each slice in pixels, the canvas, and where slices lie on it."""
    if source["header"]["tilt"] < TILTED:
        raise Unsupported("is upright, no tilt to undo", path=first_file(source), remedy=_LEAVE_OUT)
    affine = np.asarray(source["affine"])
    axes = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    normal = _normal(axes)
    offsets = positions - positions[0]
    along = offsets @ normal
    # In-plane offset of each slice from the normal through the first one, in pixels.
    shifts = (offsets - along[:, None] * normal) @ axes / spacing
    low, high = np.floor(shifts.min(axis=0)), np.ceil(shifts.max(axis=0))
    shape = [int(source["shape"][axis] + high[axis] - low[axis]) for axis in range(2)]
    start = positions[0] + axes @ (low * spacing)
    return shifts - low, shape, start + along[:, None] * normal


def _normal(axes: np.ndarray) -> np.ndarray:
    normal = np.cross(axes[:, 0], axes[:, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def _voxels(image: MetaTensor) -> np.ndarray:
    return np.asarray(torch.as_tensor(image.detach().cpu()).as_subclass(torch.Tensor)[0])


def _fill(image: MetaTensor) -> float:
    """Give the value of what was not imaged."""
    synthesis = image.meta.get("synthesis")
    if synthesis:
        return float(synthesis["background"])
    return -1000.0 if image.meta["source"]["modality"] == "CT" else 0.0


def _shifted(plane: np.ndarray, shift: np.ndarray, shape: list[int], fill: float) -> np.ndarray:
    """Give an (X, Y) slice moved by `shift` pixels on a canvas of `shape`."""
    moving = sitk.GetImageFromArray(plane.T)
    back = sitk.TranslationTransform(2, [-float(shift[0]), -float(shift[1])])
    canvas = sitk.Image(shape, sitk.sitkFloat32)
    moved = sitk.Resample(moving, canvas, back, sitk.sitkLinear, fill)
    return sitk.GetArrayFromImage(moved).T


def _remade(
    image: MetaTensor,
    source: dict[str, Any],
    voxels: np.ndarray,
    plane: np.ndarray,
    positions: np.ndarray,
    note: str,
) -> MetaTensor:
    """Give the image on its new grid, its source telling where each slice now is."""
    count = len(positions)
    affine = np.eye(4)
    affine[:3, :2] = plane
    step = (positions[-1] - positions[0]) / (count - 1)  # a single slice is refused before
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    expected = positions[0] + np.arange(count)[:, None] * step
    lps = positions @ LPS_TO_RAS[:3, :3]
    tilt = np.degrees(np.arccos(min(1.0, abs(_unit(affine[:3, 2]) @ _normal(_unit(plane))))))
    # Without the slices' instances, so that no derived series is made of what was resampled.
    header = {"tilt": float(tilt), "slices": [{"position": one.tolist()} for one in lps]}
    remade = {
        **source,
        "shape": list(voxels.shape),
        "affine": affine.tolist(),
        "even": bool(np.abs(positions - expected).max() <= 1e-2),
        "faults": [*source["faults"], note],
        "header": header,
    }
    meta = {**image.meta, "source": SourceRecord.of(remade), "affine": torch.as_tensor(affine)}
    return MetaTensor(torch.from_numpy(voxels)[None], meta=meta)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=0))
