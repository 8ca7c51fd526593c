"""Error maps: voxel by voxel on the scan's grid, with figures per slice and for the scan.

The mean of a slice is dominated by skull and skin, and hardly responds to an error the size of a
lesion, a hundredth of the slice. The worst patch deep in the head does (`peaks`).

Coverage is what the cycle error says nothing about, because the network never saw it: beyond the
model's field of view, its window, its training data. These places are counted, and marked in error
maps by values below zero (`mark_unseen`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.device import Progress
from medtranslate.imaging import write
from medtranslate.imaging.image2d import write_stack
from medtranslate.quality.pair import Indices, Pair, like_scan
from medtranslate.transforms import Limits, Placement, Prepared, Recipe

PATCH = 9
"""Side of a patch in network pixels, 8 mm of a volume: of 5, 9, 13 and 17 the one that finds most
planted errors in validation images (``benchmarks/planted_errors.py``)."""

RIM = 10
"""Least distance of a patch's center from the head's outline, in network pixels: 9 mm are skin and
skull, which no reconstruction restores."""

_PLAIN = 1 - 1e-6  # the end of a window after resampling, whose weights sum to 1 within rounding


@dataclass(frozen=True)
class SliceError:
    """The error of one slice.

    Parameters
    ----------
    index : int
        Index along `ErrorMap.axis` of the scan, from 0.
    error : float
        Mean over the head within the network's field of view, in the map's units.
    voxels : int
        Number of voxels that the mean is over.
    peak : float or None
        Error of the worst patch deep in the head (`peaks`), in the same units; None where no patch
        fits.

    Examples
    --------
    >>> quiet, loud = SliceError(3, 9.0, 500, peak=11.0), SliceError(4, 6.0, 500, peak=40.0)
    >>> max((quiet, loud), key=lambda one: one.peak).index
    4
    """

    index: int
    error: float
    voxels: int
    peak: float | None


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """An error of a result, in units, on the scan's grid.

    Parameters
    ----------
    map : MetaTensor (1, X, Y, Z)
        Float32, not below 0; 0 outside the head and outside the network's field of view; affine,
        shape and source of the scan.
    error : float
        Mean over the head within the network's field of view.
    slices : tuple of SliceError
        Those that show some head, inferior to superior.
    axis : int
        Axis of the scan (0 for X) along which the slices are numbered.
    units : str
        ``"HU"``, ``"scanner units"``, ``"arbitrary units"`` or ``"gray levels"``.
    limits : (low, high)
        The range of possible values, in these units.

    Examples
    --------
    >>> slices = (SliceError(3, 9.0, 500, peak=11.0), SliceError(4, 3.0, 500, peak=40.0))
    >>> image = MetaTensor(torch.zeros(1, 8, 8, 6))
    >>> found = ErrorMap(image, 6.0, slices, axis=2, units="HU", limits=(-20.0, 100.0))
    >>> found.share, [one.index for one in found.worst]
    (0.05, [4, 3])
    """

    name: ClassVar[str] = "error"
    """What is measured, for labels."""

    map: MetaTensor
    error: float
    slices: tuple[SliceError, ...]
    axis: int
    units: str
    limits: tuple[float, float]

    @property
    def share(self) -> float:
        """The error as a fraction of the range of values, 0 to 1."""
        return self.error / (self.limits[1] - self.limits[0])

    @property
    def worst(self) -> tuple[SliceError, ...]:
        """The slices by peak, the largest first; those without a peak come last, by error."""
        return tuple(
            sorted(self.slices, key=lambda one: (one.peak or 0.0, one.error), reverse=True)
        )

    @classmethod
    def measure(
        cls,
        pair: Pair,
        image: MetaTensor,
        slices: Callable[[Indices], torch.Tensor],
        size: Callable[[torch.Tensor], torch.Tensor],
        *,
        limits: Limits,
        units: str,
        batch: int,
        progress: Progress,
    ) -> Self:
        """Measure slice by slice; only the map and a batch of slices are held in memory.

        Parameters
        ----------
        pair : Pair
            Scan and result.
        image : MetaTensor (1, X, Y, Z)
            The scan, whose grid and metadata the map takes.
        slices : function
            Returns the error of some slices (n, 1, size, size), for a range of values of 2.
        size : function
            Makes the error, resampled to the scan's grid, non-negative.
        limits : Limits
            The range of values, in units.
        units : str
            Name of the units.
        batch : int
            Slices per batch.
        progress : function
            Called with the slices done and the slices in all.
        """
        placement, held = pair.prepared.placement, pair.holds
        out = placement.empty().zero_()
        sums: list[torch.Tensor] = []
        highest: list[float | None] = []

        def laid(planes: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
            planes = size(planes).mul_(inside)
            total, count = planes.double().sum((1, 2)), inside.double().sum((1, 2))
            sums.append(torch.stack([total, count], dim=1))
            return planes

        done = 0
        for chosen in pair.batches(batch):
            in_units = slices(chosen).mul_((limits.high - limits.low) / 2)
            highest += peaks(in_units, pair.source_slices(chosen), pair.prepared.head[chosen])
            pair.lay_on_scan(in_units, chosen, out, laid)
            done += len(chosen)
            progress(done, len(held))
        totals = torch.cat(sums)
        figures = zip(placement.slices[held].tolist(), totals.tolist(), highest, strict=True)
        return cls(
            like_scan(out, image, pair.source),
            float(totals[:, 0].sum() / totals[:, 1].sum().clamp(min=1)),
            tuple(
                SliceError(at, total / max(1.0, count), int(count), peak)
                for at, (total, count), peak in figures
            ),
            placement.axes[0],
            units,
            (limits.low, limits.high),
        )

    def as_builtins(self) -> dict[str, Any]:
        """Return the figures, without the map, as builtins."""
        return {
            "error": round(self.error, 4),
            "units": self.units,
            "share_of_range": round(self.share, 5),
            "range": list(self.limits),
            "slice_axis": "XYZ"[self.axis],
            "slices": [
                {
                    "index": one.index,
                    "error": round(one.error, 4),
                    "voxels": one.voxels,
                    "peak": None if one.peak is None else round(one.peak, 4),
                }
                for one in self.slices
            ],
            "worst_slices": [one.index for one in self.worst[:10]],
        }


def write_map(
    measure: ErrorMap,
    synthesis: Mapping[str, Any],
    path: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write an error map, complete or not at all.

    Parameters
    ----------
    measure : ErrorMap
        Its map is rounded in place, so that it compresses as well as a scan: in volumes to about a
        4096th of the range, in 2D images, which hold nothing below 0 and no marks, to gray levels.
    synthesis : mapping
        ``meta["synthesis"]`` of the result.
    path : Path
        ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd``; for 2D images ``.png``, ``.tif`` or, without
        a suffix, a folder of PNGs.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    Unsupported
        The slices are not evenly spaced, which the format cannot say.
    OutputExists, OutputFailed
        It exists, or cannot be written.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> import tempfile
    >>> from medtranslate.imaging import read
    >>> head = Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume()
    >>> five = like_scan(torch.full((32, 40, 3), 5.0), head, head.meta["source"])
    >>> found = ErrorMap(five, 5.0, (), axis=2, units="HU", limits=(-20.0, 100.0))
    >>> synthesis = {"modality": "MR", "model": "brain_ct_mri", "version": "0.4"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_map(found, synthesis, Path(folder, "error.nii.gz"))
    ...     float(read(Path(folder, "error.nii.gz")).mean())
    5.0
    """
    image = rounded(measure)
    is_2d = image.meta["source"]["kind"] == "image"
    dtype = image.meta["source"]["dtype"] if is_2d else "float32"
    image.meta["synthesis"] = {**synthesis, **_labels(measure, synthesis), "dtype": dtype}
    if is_2d and not path.suffix:
        write_stack(image, path, overwrite=overwrite)
    else:
        write(image, path, overwrite=overwrite)


def rounded(measure: ErrorMap) -> MetaTensor:
    """Round the map of an error map in place, as `write_map` does, and return it."""
    image = measure.map
    _round(image, 1.0 if image.meta["source"]["kind"] == "image" else _step(measure))
    return image


def _labels(measure: ErrorMap, synthesis: Mapping[str, Any]) -> dict[str, Any]:
    what = f"{measure.name} in {measure.units}"
    model = f"{synthesis['model']} {synthesis['version']}"
    return {
        "modality": what,
        "label": f"SYNTHETIC {what} of synthetic {synthesis['modality']}, {model}, "
        "NOT FOR DIAGNOSIS",
        "background": 0.0,
        "window": [],
    }


def _step(measure: ErrorMap) -> float:
    """Return a power of two, which float32 sums exactly, and of which 1 is a multiple."""
    low, high = measure.limits
    return float(2.0 ** min(0, math.floor(math.log2((high - low) / 4096))))


def _round(image: MetaTensor, step: float) -> None:
    volume = image.as_tensor()
    torch.round(volume.div_(step), out=volume)
    volume.mul_(step)


def peaks(error: torch.Tensor, source: torch.Tensor, head: torch.Tensor) -> list[float | None]:
    """Return the error of the worst patch of each slice.

    The signed error is averaged over a patch: noise and slightly softer edges cancel out; a
    structure that is missing, added or moved does not. The median of the slice's patches is
    subtracted, because a slice that is a little brighter or darker as a whole lacks no structure.

    Parameters
    ----------
    error : float tensor (n, 1, size, size)
        Signed differences, in any units.
    source : float tensor (n, 1, size, size)
        The scan, in [-1, 1]. A patch with a pixel that is plain black or white to the network
        (bone, air) is ignored: the network could not see any structure there.
    head : bool tensor (n, size, size)
        Where the head is.

    Returns
    -------
    list of (float or None)
        For each slice, the largest deviation of a patch's mean from the median of the patches, not
        below 0; None where no patch fits.
    """
    deep = _surrounded(head[:, None], 2 * RIM + 1)
    shown = _surrounded(source.abs() < _PLAIN, PATCH)
    means = _sums(error, PATCH).div_(PATCH**2)
    return [
        float((each[fits] - each[fits].median()).abs().max()) if fits.any() else None
        for each, fits in zip(means, deep & shown, strict=True)
    ]


def _surrounded(where: torch.Tensor, side: int) -> torch.Tensor:
    """Return for each pixel (n, 1, H, W) whether the mask holds the square around it."""
    return _sums(where.float(), side) > side**2 - 0.5


def _sums(values: torch.Tensor, side: int) -> torch.Tensor:
    """Sum the square around each pixel (n, 1, H, W), with zeros outside the image.

    Running sums cost the same for any square; pooling takes several times as long.
    """
    reach = side // 2
    for axis, border in ((2, (0, 0, reach + 1, reach)), (3, (reach + 1, reach, 0, 0))):
        length = values.shape[axis]
        running = F.pad(values, border).cumsum(axis)
        values = running.narrow(axis, side, length) - running.narrow(axis, 0, length)
    return values


_SATURATED = 1 - 1e-6

_BRAIN = 0.07
"""Share of the head that soft tissue enclosed by bone takes in a slice of the brain. In the slices
of a real head CT it is at most 0.04 up to the foramen magnum and 0.09 to 0.68 above it."""


@dataclass(frozen=True)
class Coverage:
    """What of a scan the model could not see, or was not trained on.

    Parameters
    ----------
    outside_field : int
        Voxels outside the network's field of view, background in the result, that are not air:
        tissue, or a head rest.
    below_window, above_window : float
        Fraction of the head, 0 to 1, that is plain black or plain white to the network, so that no
        structure is visible in it: air and fat, bone in a CT in the brain window.
    below_skull_base : tuple of int, or None
        Slices, by their index in the scan, that lie below the brain; None where it is unknown:
        every MR and every 2D image.
    unlike : tuple of int
        Slices whose anomaly score alone would refuse a scan.

    Examples
    --------
    >>> Coverage(0, 0.02, 0.21, below_skull_base=(0, 1)).as_builtins()["below_skull_base_slices"]
    [0, 1]
    """

    outside_field: int
    below_window: float
    above_window: float
    below_skull_base: tuple[int, ...] | None
    unlike: tuple[int, ...] = ()

    def as_builtins(self) -> dict[str, Any]:
        """Return the figures as builtins."""
        base = self.below_skull_base
        return {
            "outside_field_voxels": self.outside_field,
            "below_window_share": round(self.below_window, 5),
            "above_window_share": round(self.above_window, 5),
            "below_skull_base_slices": None if base is None else list(base),
            "unlike_training_slices": list(self.unlike),
        }


def measure_coverage(
    prepared: Prepared, image: MetaTensor, recipe: Recipe, unlike: Sequence[int] = ()
) -> Coverage:
    """Measure what of a scan the model could not see.

    Parameters
    ----------
    prepared : Prepared
        From `Translator.prepare`, with the slices of the scan still in it.
    image : MetaTensor (1, X, Y, Z)
        The scan, in physical units.
    recipe : Recipe
        The recipe that prepared it.
    unlike : sequence of int
        Network slices whose anomaly score alone would refuse a scan.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> from medtranslate.files import shipped
    >>> from medtranslate.transforms import load_recipe
    >>> recipe = load_recipe(shipped("transforms/ct-volume.yaml"))
    >>> scan = Phantom((64, 64, 4), (3.0, 3.0, 40.0)).volume()
    >>> prepared = recipe.prepare(scan)
    >>> seen = measure_coverage(prepared, scan, recipe)
    >>> seen.outside_field, 0.1 < seen.above_window < 0.5
    (0, True)
    """
    slices, head = prepared.slices[:, 0], prepared.head
    size = max(1, int(head.sum()))
    black, white = ((slices <= -_SATURATED) & head, (slices >= _SATURATED) & head)
    at = prepared.placement.slices
    shows_bone = recipe.modality == "CT" and recipe.kind == "volume"
    base = _below_skull_base(slices, head) if shows_bone else None
    return Coverage(
        _outside_field(prepared.placement, image, recipe),
        int(black.sum()) / size,
        int(white.sum()) / size,
        None if base is None else tuple(int(one) for one in at[base]),
        tuple(int(at[one]) for one in unlike),
    )


def mark_unseen(measure: ErrorMap, prepared: Prepared, coverage: Coverage) -> MetaTensor:
    """Mark in an error map, in place, where the model could not see.

    A value ``v`` below 0 is such a place, and ``-1 - v`` is what was measured there; outside the
    network's field of view it is -1.

    Parameters
    ----------
    measure : ErrorMap
        Its map is changed, because a second one would not fit in memory beside a long series.
    prepared : Prepared
        From `Translator.prepare`, with the slices of the scan still in it.
    coverage : Coverage
        From `measure_coverage`.

    Returns
    -------
    MetaTensor (1, X, Y, Z)
        The map of `measure`.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> from medtranslate.files import shipped
    >>> from medtranslate.transforms import load_recipe
    >>> recipe = load_recipe(shipped("transforms/ct-volume.yaml"))
    >>> scan = Phantom((64, 64, 4), (3.0, 3.0, 40.0)).volume()
    >>> prepared = recipe.prepare(scan)
    >>> plain = like_scan(torch.full((64, 64, 4), 5.0), scan, scan.meta["source"])
    >>> found = ErrorMap(plain, 5.0, (), axis=2, units="HU", limits=(-20.0, 100.0))
    >>> marked = mark_unseen(found, prepared, measure_coverage(prepared, scan, recipe))
    >>> marked.unique().tolist()  # -6: 5 HU, where skull is plain white to the network
    [-6.0, 5.0]
    """
    volume = measure.map.as_tensor()[0]
    whole = {*(coverage.below_skull_base or ()), *coverage.unlike}
    place = prepared.placement
    stack = volume.permute(place.axes)
    for number, at in enumerate(place.slices.tolist()):
        plane = stack[at]
        saturated = (prepared.slices[number, 0].abs() >= _SATURATED) & prepared.head[number]
        if at in whole:
            saturated = prepared.head[number]
        laid = place.rows_back @ saturated.float() @ place.columns_back.T >= 0.5
        plane[:] = torch.where(laid | ~place.seen, -1 - plane, plane)
    return measure.map


def _outside_field(place: Placement, image: MetaTensor, recipe: Recipe) -> int:
    """Count voxels outside the network's field of view, above the level of tissue."""
    volume = image.as_tensor()[0].detach().cpu()
    beyond = ~place.seen
    if recipe.tissue is None or recipe.kind == "image" or not beyond.any():
        return 0
    coarse = volume[tuple(slice(None, None, max(1, n // 64)) for n in volume.shape)]
    level = recipe.tissue.threshold.level(coarse.float().numpy())
    stack = volume.permute(place.axes)
    return sum(int((stack[at][beyond] > level).sum()) for at in place.slices.tolist())


def _below_skull_base(slices: torch.Tensor, head: torch.Tensor) -> NDArray[np.int64] | None:
    """Return the network slices below the first that shows brain; None where none does.

    Brain is soft tissue that bone encloses. Where a large part of the skull is missing it is not
    enclosed, and the slices are unknown.
    """
    for number in np.flatnonzero(head.flatten(1).any(1).numpy()):
        bone = (slices[number] >= _SATURATED).numpy()
        soft = (slices[number].abs() < _SATURATED).numpy()
        if (_enclosed(bone) & soft).sum() >= _BRAIN * int(head[number].sum()):
            return np.arange(number)
    return None


def _enclosed(bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what lies within bone: not connected to the outside by more than gaps of some mm."""
    rows, columns = bone.shape
    # At a quarter of the size, where a pixel is bone if any of its sixteen is, sutures are closed.
    coarse = bone.reshape(rows // 4, 4, columns // 4, 4).any(axis=(1, 3))
    free = sitk.GetImageFromArray(np.pad(~coarse, 1, constant_values=True).view(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(free))
    inside = (parts != parts[0, 0])[1:-1, 1:-1] & ~coarse
    enclosed: NDArray[np.bool_] = inside.repeat(4, axis=0).repeat(4, axis=1)
    return enclosed
