"""Prepared slices: 8-bit, in one file that can be carried to another machine.

The file is safetensors: ``slices`` uint8 (N, 256, 256), ``scans`` int32 (N,), and JSON under the
metadata key ``medtranslate``. Gray 0 is outside the head; 1 to 255 are -1 to 1 inside it. The file
is mapped into memory, not read, so what is not needed stays on the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from medtranslate.errors import InputMissing, OutputFailed, TrainingFailed, Unreadable
from medtranslate.files import whole_file
from medtranslate.imaging.scans import LeftOut
from medtranslate.transforms.load import prepares_alike

FORMAT = 2
SUFFIX = ".safetensors"
_KEY = "medtranslate"
FEWEST_HEAD = 0.02
"""A slice of which less than this share shows something brighter than the background is empty."""

_BRIGHT = 13  # gray of 255: 5 % above the background
_LEVELS = 127.0  # gray 1 to 255 are 254 equal steps from -1 to 1


def to_gray(slices: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Return float (N, 1, H, W) in [-1, 1] and bool heads (N, H, W) as uint8 (N, H, W)."""
    gray = ((slices[:, 0].clamp(-1, 1) + 1) * _LEVELS).round() + 1
    return torch.where(head, gray, 0).to(torch.uint8)


def from_gray(gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 (N, H, W) as float32 (N, 1, H, W) in [-1, 1] and bool heads (N, 1, H, W)."""
    gray = gray[:, None]
    return ((gray.float() - 1) / _LEVELS - 1).clamp_(min=-1), gray > 0


def shows_a_head(gray: torch.Tensor) -> torch.Tensor:
    """Return whether slices uint8 (N, H, W) show enough of a head to learn from: bool (N,)."""
    return (gray > _BRIGHT).float().mean(dim=(1, 2)) >= FEWEST_HEAD


@dataclass(frozen=True)
class ScanRecord:
    """What became of one scan.

    Attributes
    ----------
    name : str
    digest : str
        SHA-256 of its files.
    used, empty : int
        Slices kept, and slices left out because they show no head.
    apparent_modality : str
        The modality as guessed from the voxels or given by the header, empty where unknown.
    not_hu : str
        Why the values of a CT volume cannot be HU; empty where they may be, and for all else.
    """

    name: str
    digest: str
    used: int
    empty: int
    apparent_modality: str = ""
    not_hu: str = ""


@dataclass(frozen=True)
class PreparedSet:
    """The slices of one modality.

    Attributes
    ----------
    modality : {"CT", "MR"}
    slices : uint8 tensor (N, 256, 256)
        Axial; rows from anterior to posterior, columns from the patient's right to left.
    scans : int32 tensor (N,)
        Place in `records` of the scan that each slice belongs to.
    records : tuple of ScanRecord
        The scans that were prepared.
    left_out : tuple of LeftOut
        The scans that were not.
    recipes : dict of str to str
        The recipes' texts, by name.
    codes : int64 tensor (N,), optional
        Code of each slice's contrast, 0 where it is unknown; not kept in files.
    """

    modality: str
    slices: torch.Tensor
    scans: torch.Tensor
    records: tuple[ScanRecord, ...]
    left_out: tuple[LeftOut, ...] = ()
    recipes: dict[str, str] = field(default_factory=dict)
    codes: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def names(self) -> list[str]:
        """Names of all scans, those that were left out last."""
        return [each.name for each in self.records] + [each.name for each in self.left_out]

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Names of scans that look like the other modality."""
        plausible = ("", self.modality)
        return tuple(r.name for r in self.records if r.apparent_modality not in plausible)

    @property
    def foreign_units(self) -> tuple[LeftOut, ...]:
        """CT volumes whose values cannot be HU, each with the reason."""
        return tuple(LeftOut(r.name, f"not in HU: {r.not_hu}") for r in self.records if r.not_hu)

    def in_hounsfield(self) -> PreparedSet:
        """Return the set without CT volumes whose values cannot be HU, which are left out."""
        foreign = self.foreign_units
        if not foreign:
            return self
        kept = self.only({r.name for r in self.records} - {each.name for each in foreign})
        return replace(kept, left_out=(*self.left_out, *foreign))

    def coded(self, codes: Mapping[str, int]) -> PreparedSet:
        """Return the set with the contrast codes of scans by name; 0 for all others."""
        of_scans = torch.tensor([codes.get(record.name, 0) for record in self.records])
        return replace(self, codes=of_scans[self.scans.long()])

    def only(self, names: Iterable[str]) -> PreparedSet:
        """Return the slices of the named scans."""
        wanted = set(names)
        places = [place for place, record in enumerate(self.records) if record.name in wanted]
        kept = torch.isin(self.scans, torch.tensor(places, dtype=self.scans.dtype))
        renumbered = torch.zeros(len(self.records), dtype=torch.int32)
        renumbered[places] = torch.arange(len(places), dtype=torch.int32)
        return PreparedSet(
            self.modality,
            self.slices if bool(kept.all()) else self.slices[kept],
            renumbered[self.scans[kept].long()],
            tuple(self.records[place] for place in places),
            self.left_out,
            self.recipes,
            None if self.codes is None else self.codes[kept],
        )

    def digest(self) -> str:
        """Identify what is trained on: scans, their order, and recipes."""
        records = [{k: v for k, v in asdict(r).items() if k != "not_hu"} for r in self.records]
        known = [] if self.codes is None else [self.codes.tolist()]
        text = json.dumps([records, sorted(self.recipes.items()), *known])
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the set, whole or not at all, replacing an earlier one.

        Raises
        ------
        OutputFailed
            Full disk or no permission.
        """
        about = {
            "format": FORMAT,
            "modality": self.modality,
            "records": [asdict(record) for record in self.records],
            "left_out": [asdict(each) for each in self.left_out],
            "recipes": self.recipes,
        }
        write_slices(path, {"slices": self.slices, "scans": self.scans}, about)

    @classmethod
    def load(cls, path: Path) -> PreparedSet:
        """Map a prepared file into memory.

        Raises
        ------
        InputMissing, Unreadable
            No such file, or no file of prepared slices.
        """
        about, tensors = map_slices(path, "prepared slices", FORMAT, {"slices", "scans"})
        return cls(
            about["modality"],
            tensors["slices"],
            tensors["scans"],
            tuple(ScanRecord(**record) for record in about["records"]),
            tuple(LeftOut(**each) for each in about["left_out"]),
            about["recipes"],
        )

    def with_recipes(self, recipes: Mapping[str, str], path: Path) -> PreparedSet:
        """Return the set with these recipes, which must prepare as those that it was made by.

        What results are written as may differ.

        Raises
        ------
        TrainingFailed
            The message names the recipes that differ.
        """
        different = sorted(
            name
            for name, text in self.recipes.items()
            if name not in recipes or not prepares_alike(text, recipes[name])
        )
        if different:
            raise TrainingFailed(
                f"prepared by other recipes: {', '.join(different)} differ",
                path=path,
                remedy="prepare the scans again, or give the recipes with --recipes",
            )
        return replace(self, recipes={name: recipes[name] for name in self.recipes})


def write_slices(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write slices with their metadata, whole or not at all, replacing an earlier file.

    Raises
    ------
    OutputFailed
        Full disk or no permission.
    """
    with whole_file(path, overwrite=True) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: json.dumps(about)})
        except SafetensorError as error:
            raise OutputFailed(f"cannot be written: {error}", path=path) from error


def map_slices(
    path: Path, what: str, version: int | str, names: set[str]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the metadata of a file that `write_slices` wrote, and its tensors, mapped into memory.

    Parameters
    ----------
    path : path
        The file.
    what : str
        What it holds, for messages.
    version : int or str
        The ``format`` that its metadata must name.
    names : set of str
        Of the tensors that it must hold.

    Raises
    ------
    InputMissing, Unreadable
        No such file, another file, or one of another version.
    """
    if not path.is_file():
        raise InputMissing(f"no such file of {what}", path=path)
    try:
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {})[_KEY]
            found = set(opened.keys())
        about = dict(json.loads(text))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise Unreadable(f"not a file of {what}", path=path) from error
    if found != names:
        raise Unreadable(f"not a file of {what}", path=path)
    if about.get("format") != version:
        raise Unreadable(f"{what} of another version of medtranslate", path=path)
    return about, load_file(path)
