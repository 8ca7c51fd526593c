"""What a run learns from, and the record of what was used: slices, pairs and label maps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medtranslate.label_synthesis import LabelMaps
from medtranslate.training.pairs import PreparedPairs
from medtranslate.training.prepared import PreparedSet


@dataclass(frozen=True)
class Data:
    """The slices of a run: for training and for validation.

    Attributes
    ----------
    ct, mri : PreparedSet
        To train on.
    ct_held_out, mri_held_out : PreparedSet or None
        To validate on.
    pairs : PreparedPairs or None
        Registered scans, for the supervised terms.
    labels : LabelMaps or None
        Label maps, of which pairs for the supervised terms are rendered.
    """

    ct: PreparedSet
    mri: PreparedSet
    ct_held_out: PreparedSet | None = None
    mri_held_out: PreparedSet | None = None
    pairs: PreparedPairs | None = None
    labels: LabelMaps | None = None

    def report(self) -> dict[str, Any]:
        """Say what was used, what was skipped and why, as builtins."""
        sets: dict[str, PreparedSet | None] = {"ct": self.ct, "mri": self.mri}
        sets |= {"ct_held_out": self.ct_held_out, "mri_held_out": self.mri_held_out}
        if self.pairs is not None:
            sets |= {"ct_paired": self.pairs.ct, "mri_paired": self.pairs.mri}
        report: dict[str, Any] = {
            name: {
                "scans": len(prepared.records),
                "slices": len(prepared),
                "empty_slices_left_out": sum(record.empty for record in prepared.records),
                "look_like_the_other_modality": list(prepared.doubtful),
                "left_out": [asdict(each) for each in prepared.left_out],
                "used": [record.name for record in prepared.records],
            }
            for name, prepared in sets.items()
            if prepared is not None
        }
        if self.labels is not None:
            report["labels"] = {"label_maps": len(self.labels), "used": list(self.labels.names)}
        return report

    def digest(self) -> str:
        """Identify what is trained on."""
        pairs = "" if self.pairs is None else self.pairs.digest()[:32]
        labels = "" if self.labels is None else self.labels.digest()[:32]
        return f"{self.ct.digest()[:32]}{self.mri.digest()[:32]}{pairs}{labels}"
