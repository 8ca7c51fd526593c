"""The slices of a run, and the report on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medtranslate.training.prepared import PreparedSet


@dataclass(frozen=True)
class Data:
    """What a run learns from, and what it is judged by.

    Attributes
    ----------
    ct, mri : PreparedSet
        To train on.
    ct_held_out, mri_held_out : PreparedSet or None
        To validate on.
    """

    ct: PreparedSet
    mri: PreparedSet
    ct_held_out: PreparedSet | None = None
    mri_held_out: PreparedSet | None = None

    def report(self) -> dict[str, Any]:
        """Say what was used, what was skipped and why, as builtins."""
        sets = {"ct": self.ct, "mri": self.mri}
        sets |= {"ct_held_out": self.ct_held_out, "mri_held_out": self.mri_held_out}  # type: ignore[dict-item]
        return {
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

    def digest(self) -> str:
        """Identify what is trained on."""
        return f"{self.ct.digest()[:32]}{self.mri.digest()[:32]}"
