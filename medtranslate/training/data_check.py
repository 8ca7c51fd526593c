"""What is wrong with a folder of scans, before days are spent on training with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from medtranslate.files import whole_file
from medtranslate.training.prepared import PreparedSet, from_gray


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
        """Names to train on: readable, in HU, of the right look, one of each group, not shared."""
        bad = {each.name for each in self.prepared.foreign_units}
        bad |= {*self.prepared.doubtful, *self.shared}
        for group in self.copies:
            bad.update([name for name in group if name not in bad][1:])
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
            "not_in_hu": {each.name: each.reason for each in self.prepared.foreign_units},
            "near_copies": self.copies,
            "shared_with_the_other_folder": self.shared,
            "clean": self.clean,
        }

    def write_list(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the clean names as a list for ``--include``."""
        with whole_file(path, overwrite=overwrite) as temporary:
            text = "\n".join([*self.clean, ""])
            temporary.write_bytes(text.encode("utf-8", "surrogateescape"))  # names as they are


def check(prepared: PreparedSet, others: PreparedSet | None = None) -> Findings:
    """Look for near copies in a set, and for those that another set of its modality shares."""
    return Findings(
        prepared, groups_of_copies(prepared), {} if others is None else copies_in(prepared, others)
    )


NEAR = 0.99
"""Correlation of two prepared slices, both shrunk to 32x32, above which they count as copies.

Measured on "CT and MRI brain scans": known copies of MR images from 0.9915 on (other sizes and
frames move a head by a fraction of a pixel), different ones up to 0.959; neighboring slices of one
CT, 5 mm apart, up to 0.987.
"""

_SIDE = 32
_CHUNK = 1024


def groups_of_copies(prepared: PreparedSet) -> list[list[str]]:
    """Return the names of scans that hold near copies of one another, a list for each group.

    Neighboring slices of one scan are alike by nature, so only different scans are compared.
    """
    leader = list(range(len(prepared.records)))

    def lead(scan: int) -> int:
        while leader[scan] != scan:
            leader[scan] = leader[leader[scan]]
            scan = leader[scan]
        return scan

    for one, other in _pairs(prepared, prepared):
        first, second = sorted((lead(one), lead(other)))
        leader[second] = first
    groups: dict[int, list[str]] = {}
    for scan, record in enumerate(prepared.records):
        groups.setdefault(lead(scan), []).append(record.name)
    return [names for names in groups.values() if len(names) > 1]


def copies_in(prepared: PreparedSet, others: PreparedSet) -> dict[str, str]:
    """Return the scans of which the others hold a near copy: their names, each with one copy's."""
    found: dict[str, str] = {}
    for one, other in _pairs(prepared, others):
        found.setdefault(prepared.records[one].name, others.records[other].name)
    return found


def _pairs(left: PreparedSet, right: PreparedSet) -> Iterator[tuple[int, int]]:
    """Yield places of scans with a near copy; within one set no scan beside itself."""
    shrunk, against = _thumbnails(left), _thumbnails(right)
    seen: set[tuple[int, int]] = set()
    for start in range(0, len(shrunk), _CHUNK):
        near = (shrunk[start : start + _CHUNK] @ against.T > NEAR).nonzero()
        pairs = zip(
            left.scans[near[:, 0] + start].tolist(), right.scans[near[:, 1]].tolist(), strict=True
        )
        for pair in pairs:
            if pair not in seen and not (left is right and pair[0] == pair[1]):
                seen.add(pair)
                yield pair


def _thumbnails(prepared: PreparedSet) -> torch.Tensor:
    """Return (N, 1024) of mean 0 and length 1, so that a product is a correlation."""
    small = torch.cat(
        [
            F.adaptive_avg_pool2d(from_gray(chunk)[0], _SIDE).flatten(1)
            for chunk in prepared.slices.split(_CHUNK)
        ]
    )
    return F.normalize(small - small.mean(dim=1, keepdim=True))
