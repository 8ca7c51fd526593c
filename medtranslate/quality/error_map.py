"""A measure of a result: a map on the scan's grid, a figure a slice, a figure for the scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from monai.data import MetaTensor

from medtranslate.device import Progress
from medtranslate.quality.pair import Indices, Pair, like_scan
from medtranslate.quality.peak_error import peaks
from medtranslate.transforms import Limits


@dataclass(frozen=True)
class SliceError:
    """The figures of one slice.

    Parameters
    ----------
    index : int
        Of the slice along `Measure.axis` of the scan, from 0.
    error : float
        Mean over the head within the network's field, in the measure's units.
    voxels : int
        Over how many voxels.
    peak : float or None
        What its worst patch deep in the head lost (`medtranslate.quality.peak_error`), in the same
        units; None where no patch has room.
    """

    index: int
    error: float
    voxels: int
    peak: float | None


@dataclass(frozen=True)
class Measure:
    """What a check found, in units, on the scan's grid.

    Parameters
    ----------
    map : MetaTensor (1, X, Y, Z)
        Float32, not below 0; 0 outside the head and outside the network's field; affine, shape
        and source of the scan.
    error : float
        Mean over the head within the network's field.
    slices : tuple of SliceError
        Those that hold some head, from inferior to superior.
    axis : int
        Axis of the scan (0 for X) along which the slices lie.
    units : str
        ``"HU"``, ``"scanner units"``, ``"arbitrary units"`` or ``"grey levels"``.
    limits : (low, high)
        The range of values that could be, in these units.
    """

    map: MetaTensor
    error: float
    slices: tuple[SliceError, ...]
    axis: int
    units: str
    limits: tuple[float, float]

    @property
    def share(self) -> float:
        """The error as a share of the range of values, 0 to 1."""
        return self.error / (self.limits[1] - self.limits[0])

    @property
    def worst(self) -> tuple[SliceError, ...]:
        """The slices, those with the largest peak first; last, by error, those that have none."""
        return tuple(
            sorted(self.slices, key=lambda one: (one.peak or 0.0, one.error), reverse=True)
        )

    @classmethod
    def take(
        cls,
        pair: Pair,
        image: MetaTensor,
        frames: Callable[[Indices], torch.Tensor],
        size: Callable[[torch.Tensor], torch.Tensor],
        *,
        limits: Limits,
        units: str,
        batch: int,
        progress: Progress,
    ) -> Self:
        """Measure slice by slice; besides the map only a batch of slices is held.

        Parameters
        ----------
        pair : Pair
            What is measured.
        image : MetaTensor (1, X, Y, Z)
            The scan, whose place the map takes.
        frames : function
            Gives what is measured in some slices (n, 1, size, size), where the range is 2.
        size : function
            Makes values that are not below 0 of it once it lies on the scan's grid.
        limits : Limits
            The range of values, in units.
        units : str
            Their name.
        batch : int
            Slices at once.
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
            in_units = frames(chosen).mul_((limits.high - limits.low) / 2)
            highest += peaks(in_units, pair.source_frames(chosen), pair.prepared.head[chosen])
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
        """Give the figures, without the map, as JSON takes them."""
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
