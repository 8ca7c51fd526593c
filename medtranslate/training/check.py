"""What is wrong with a folder of scans, before days are spent on training with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtranslate.files import whole_file
from medtranslate.training.copies import copies_in, groups_of_copies
from medtranslate.training.prepared import PreparedSet


@dataclass(frozen=True)
class Findings:
    """What a check found.

    Attributes
    ----------
    prepared : PreparedSet
    copies : list of list of str
        Names of scans that hold near copies of one another, a list for each group.
    shared : dict of str to str
        Scans of which the other folder holds a near copy: their names, each with one copy's.
    """

    prepared: PreparedSet
    copies: list[list[str]]
    shared: dict[str, str]

    @property
    def reasons(self) -> Counter[str]:
        """How many scans were left out for each reason."""
        return Counter(each.reason for each in self.prepared.left_out)

    @property
    def clean(self) -> list[str]:
        """Names to train on: readable, of the right look, one of each group, not shared."""
        repeats = {name for group in self.copies for name in group[1:]}
        bad = repeats | set(self.prepared.doubtful) | set(self.shared)
        return [r.name for r in self.prepared.records if r.name not in bad]

    def as_dict(self) -> dict[str, Any]:
        """Give everything as builtins, for JSON."""
        return {
            "modality": self.prepared.modality,
            "scans": len(self.prepared.records),
            "slices": len(self.prepared),
            "empty_slices_left_out": sum(r.empty for r in self.prepared.records),
            "left_out": {each.name: each.reason for each in self.prepared.left_out},
            "look_like_the_other_modality": list(self.prepared.doubtful),
            "near_copies": self.copies,
            "shared_with_the_other_folder": self.shared,
            "clean": self.clean,
        }

    def write_list(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the clean names as a list for ``--include``."""
        with whole_file(path, overwrite=overwrite) as temporary:
            temporary.write_text("\n".join([*self.clean, ""]), encoding="utf-8")


def check(prepared: PreparedSet, others: PreparedSet | None = None) -> Findings:
    """Look for near copies in a set, and for those that another set of its modality shares."""
    return Findings(
        prepared, groups_of_copies(prepared), {} if others is None else copies_in(prepared, others)
    )
