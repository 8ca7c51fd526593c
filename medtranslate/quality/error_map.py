"""A scan and its translation compared on the network's grid, and error maps of that.

The translation is taken as it is written, rounded and on the scan's own grid, not as the generator
gave it: what the file cannot hold must not help the figures.

An error map is voxel by voxel on the scan's grid, with figures per slice and for the scan. The mean
of a slice is dominated by skull and skin, and hardly responds to an error the size of a lesion, a
hundredth of the slice. The worst patch deep in the head does (`peaks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.device import Progress
from medtranslate.imaging import write
from medtranslate.imaging.image2d import write_stack
from medtranslate.imaging.source import like_scan, units_of
from medtranslate.modality import Modality
from medtranslate.transforms import Limits, Placement, Prepared, Recipe
from medtranslate.translation import Translator
from medtranslate.translation.translator import source_of

Indices = NDArray[np.int64]
"""Which of the N network slices are meant."""

_FAINTEST = 0.3
"""Share of a detail's contrast that writing must have left of it for the reconstruction to undo it;
what is fainter was not written, and would come back as amplified rounding."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A scan and its translation, compared on the network's grid.

    Parameters
    ----------
    prepared : Prepared
        The scan, with its own slices still in it.
    result : tensor (X, Y, Z)
        The translation, in the target's units.
    placement : Placement
        Takes `result` to the network's grid: the least-squares inverse of the way on which it was
        written, so that it adds no blur of its own.
    shown : Limits
        The target's units that are -1 and 1; for CT of all HU those of the window, which is what
        the network back takes.
    to, back : str
        ``"mri"`` or ``"ct"``: what the translation is, and what leads back from it.
    source : mapping
        The scan's source record.
    """

    prepared: Prepared
    result: torch.Tensor
    placement: Placement
    shown: Limits
    to: str
    back: str
    source: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        translator: Translator,
        image: MetaTensor,
        result: MetaTensor,
        prepared: Prepared | None = None,
    ) -> Pair:
        """Pair a translation with its scan.

        Parameters
        ----------
        translator : Translator
            The model that made it.
        image : MetaTensor (1, X, Y, Z)
            The scan, in physical units.
        result : MetaTensor (1, X, Y, Z)
            Its translation, or an altered one, on the same grid.
        prepared : Prepared, optional
            From `Translator.prepare`, where it is still at hand.

        Raises
        ------
        ValueError
            If the two do not lie on one grid.
        MedTranslateError
            As `Translator.translate`, if the scan cannot be prepared.
        """
        if image.shape != result.shape:
            raise ValueError(f"a result {tuple(result.shape)} for a scan {tuple(image.shape)}")
        source = source_of(result if result.meta.get("source") else image)
        modality = Modality(source["modality"])
        to, back = modality.other.target, modality.target
        if prepared is None:
            _, prepared = translator.prepare(image, source, to)
        target: Recipe = translator.bundle.recipe(Modality.parse(to), source["kind"])
        return cls(
            prepared,
            result.as_tensor()[0].detach().cpu(),
            _inverted(prepared.placement),
            target.shown,
            to,
            back,
            source,
        )

    @property
    def units(self) -> str:
        """The scan's: ``"HU"``, ``"scanner units"`` or ``"gray levels"``."""
        return units_of(self.source)

    @property
    def written_units(self) -> str:
        """The translation's: ``"HU"``, ``"arbitrary units"`` or ``"gray levels"``."""
        if self.source["kind"] == "image":
            return "gray levels"
        return Modality.parse(self.to).unit

    @property
    def holds(self) -> Indices:
        """The network slices that show some head, inferior to superior."""
        return np.flatnonzero(self.prepared.holds.numpy())

    def batches(self, size: int) -> Iterator[Indices]:
        """Yield the slices that show some head in batches of a size."""
        held = self.holds
        for start in range(0, len(held), size):
            yield held[start : start + size]

    def source_slices(self, chosen: Indices) -> torch.Tensor:
        """Return the scan's slices (n, 1, size, size) in [-1, 1], as the network saw them."""
        return self.prepared.slices[chosen]

    def result_slices(self, chosen: Indices) -> torch.Tensor:
        """Return the translation's slices (n, 1, size, size) in [-1, 1], -1 outside the head."""
        part = replace(self.placement, slices=self.placement.slices[chosen])
        slices = part.to_network(self.result, self.shown.to_unit).clamp_(-1, 1)
        slices[~self.prepared.head[chosen]] = -1
        return slices[:, None]

    def lay_on_scan(
        self,
        slices: torch.Tensor,
        chosen: Indices,
        out: torch.Tensor | None,
        change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        """Resample slices to the scan's grid.

        Parameters
        ----------
        slices : float tensor (n, 1, size, size)
        chosen : int array (n,)
            Which network slices they are.
        out : tensor (X, Y, Z) or None
            These slices of it are filled; None where what `change` is given is enough.
        change : function
            ``change(planes, inside)`` is given (k, rows, columns) on the scan's grid, some slices
            at a time and in order, and where they show the head within the network's field; what
            it returns is stored.
        """
        whole, heads = self.prepared.placement, self.prepared.head[chosen]
        part = replace(whole, slices=whole.slices[chosen])

        def laid(planes: torch.Tensor, chunk: slice) -> torch.Tensor:
            return change(planes, whole.inside(heads[chunk]))

        part.from_network(slices[:, 0], out, laid)


def _inverted(placement: Placement) -> Placement:
    """Invert a placement: undo its inverse resampling by least squares."""
    rows, columns = (
        torch.linalg.pinv(each, rtol=_FAINTEST)
        for each in (placement.rows_back, placement.columns_back)
    )
    return replace(placement, rows=rows, columns=columns)


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
        shape and source of the scan. Of shape (1, 0, 0, 0) where only figures were asked for.
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
        with_map: bool,
        progress: Progress,
    ) -> Self:
        """Measure slice by slice; only the map, if any, and a batch of slices are held in memory.

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
        limits, units
            The range of values, and the name of their unit.
        batch : int
            Slices per batch.
        with_map : bool
            Whether the map is made.
        progress : function
            Called with the slices done and the slices in all.
        """
        placement, held = pair.prepared.placement, pair.holds
        out = placement.empty().zero_() if with_map else None
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
            like_scan(torch.empty(0, 0, 0) if out is None else out, image, pair.source),
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
        "range": [],
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
