"""A scan and its translation, slice by slice on the network's grid: the start of every check.

The translation is taken as it is written, rounded and on the scan's own grid, not as the generator
gave it: what the file cannot hold must not help the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.imaging.source import SourceRecord
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
    result : float tensor (X, Y, Z)
        The translation, in the target's units.
    placement : Placement
        Takes `result` to the network's grid: the least-squares inverse of the way on which it was
        written, so that it adds no blur of its own.
    written : Limits
        The target's units that are -1 and 1.
    to, back : str
        ``"mri"`` or ``"ct"``: what the translation is, and what leads back from it.
    source : mapping
        The scan's source record.
    """

    prepared: Prepared
    result: torch.Tensor
    placement: Placement
    written: Limits
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
        to, back = _targets(source)
        if prepared is None:
            _, prepared = translator.prepare(image, source, to)
        target: Recipe = translator.bundle.recipe(Modality.parse(to), source["kind"])
        return cls(
            prepared,
            result.as_tensor()[0].detach().to("cpu", torch.float32),
            _inverted(prepared.placement),
            target.written,
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
        slices = part.to_network(self.result, self.written.to_unit).clamp_(-1, 1)
        slices[~self.prepared.head[chosen]] = -1
        return slices[:, None]

    def lay_on_scan(
        self,
        slices: torch.Tensor,
        chosen: Indices,
        out: torch.Tensor,
        change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        """Resample slices to the scan's grid.

        Parameters
        ----------
        slices : float tensor (n, 1, size, size)
        chosen : int array (n,)
            Which network slices they are.
        out : tensor (X, Y, Z)
            These slices of it are filled.
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


def like_scan(voxels: torch.Tensor, image: MetaTensor, source: Mapping[str, Any]) -> MetaTensor:
    """Return voxels (X, Y, Z) as an image with the affine, metadata and source of a scan."""
    made = MetaTensor(voxels[None])
    made.copy_meta_from(image)
    made.affine = image.affine.clone()
    made.meta["source"] = SourceRecord.of(source)
    return made


def units_of(source: Mapping[str, Any]) -> str:
    """Return the units of a scan, from its source record."""
    if source["kind"] == "image":
        return "gray levels"
    return "HU" if source["modality"] == "CT" else "scanner units"


def _targets(source: Mapping[str, Any]) -> tuple[str, str]:
    """Return the target of a scan's translation, and that of its reconstruction."""
    modality = Modality(source["modality"])
    return modality.other.target, modality.target


def _inverted(placement: Placement) -> Placement:
    """Invert a placement: undo its inverse resampling by least squares."""
    rows, columns = (
        torch.linalg.pinv(each, rtol=_FAINTEST)
        for each in (placement.rows_back, placement.columns_back)
    )
    return replace(placement, rows=rows, columns=columns)
