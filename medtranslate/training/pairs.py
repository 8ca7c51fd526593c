"""Pairs of CT and MRI: what the supervised terms of a step learn from, and where pairs come from.

A `PairSource` gives the pairs of any step. `PreparedPairs` holds those of registered scans on disk;
`rendered` has pairs rendered from label maps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from medtranslate.errors import (
    InputMissing,
    MedTranslateError,
    TrainingFailed,
)
from medtranslate.imaging import read
from medtranslate.imaging.scans import FoundScan, LeftOut, without_suffix
from medtranslate.training.batches import Order, kept_on
from medtranslate.training.preparation import (
    RecipeBook,
    cached,
    make_folder,
    scans_of_modality,
    unit_fault,
)
from medtranslate.training.prepared import (
    SUFFIX,
    PreparedSet,
    ScanRecord,
    from_gray,
    map_slices,
    shows_a_head,
    to_gray,
    write_slices,
)
from medtranslate.transforms.recipe import prepare_pair

FORMAT = "pairs 2"
FOLDERS = {"CT": "ct", "MR": "mri"}
"""Folders of a folder of pairs, by modality; scans of equal names are a pair."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch of pairs: each CT and MRI show the same slice of the same head.

    Attributes
    ----------
    ct, mri : float32 tensor (B, 1, H, W)
        In [-1, 1]; -1 outside the head.
    head : bool tensor (B, 1, H, W)
    contrast : int64 tensor (B,)
        Code of the MRI's contrast; 0 where it is unknown.
    source_ct : float32 tensor (B, 1, H, W), optional
        The CT as it is translated, such as with noise; `ct` where there is none.
    weight : float32 tensor (B, 1, H, W), optional
        Of each pixel in the distance to the truth; 1 where there is none.
    mri_follows : bool tensor (B,), optional
        Whether the MRI can be told from the CT and the contrast. One of signals drawn at random
        cannot, and only teaches the way to CT.
    whole_ct : float32 tensor (B, 1, H, W), optional
        The CT as a generator makes it whose range goes beyond the window of `ct`
        (`transforms.CompressHU`); -1 outside the head.
    """

    ct: torch.Tensor
    mri: torch.Tensor
    head: torch.Tensor
    contrast: torch.Tensor
    source_ct: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    mri_follows: torch.Tensor | None = None
    whole_ct: torch.Tensor | None = None


class PairSource(Protocol):
    """Where pairs come from: a function of the step, so that a resumed run has the same ones."""

    def pairs(self, first: int, count: int) -> Pairs:
        """Return pairs number `first`, `first` + 1 and so on of an endless sequence."""

    def digest(self) -> str:
        """Identify the sequence."""


@dataclass(frozen=True, eq=False)
class PreparedPairs:
    """Registered scans as prepared slices, the same number and order on both sides.

    Attributes
    ----------
    ct, mri : PreparedSet
        Slice n of one and slice n of the other are a pair.
    """

    ct: PreparedSet
    mri: PreparedSet

    def __len__(self) -> int:
        return len(self.ct)

    def __repr__(self) -> str:
        return f"PreparedPairs({len(self.ct.records)} scans, {len(self)} slices)"

    @property
    def names(self) -> list[str]:
        """Names of all scans, of both sides."""
        return [record.name for side in (self.ct, self.mri) for record in side.records]

    def without(self, names: Iterable[str]) -> PreparedPairs:
        """Return the pairs of which neither side is named."""
        barred = set(names)
        kept = [
            place
            for place, (ct, mri) in enumerate(zip(self.ct.records, self.mri.records, strict=True))
            if not {ct.name, mri.name} & barred
        ]
        return PreparedPairs(
            *(side.only(side.records[place].name for place in kept) for side in (self.ct, self.mri))
        )

    def digest(self) -> str:
        """Identify the pairs: scans, their order, and recipes."""
        return hashlib.sha256(f"{self.ct.digest()} {self.mri.digest()}".encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the pairs as one file, whole or not at all, replacing an earlier one.

        Raises
        ------
        OutputFailed
            Full disk or no permission.
        """
        about = {
            "format": FORMAT,
            "records": [[asdict(r) for r in side.records] for side in (self.ct, self.mri)],
            "left_out": [asdict(each) for each in self.ct.left_out],
            "recipes": [self.ct.recipes, self.mri.recipes],
        }
        tensors = {"ct": self.ct.slices, "mri": self.mri.slices, "scans": self.ct.scans}
        write_slices(path, tensors, about)

    @classmethod
    def load(cls, path: Path) -> PreparedPairs:
        """Map a file of prepared pairs into memory.

        Raises
        ------
        InputMissing, Unreadable
            No such file, or no file of prepared pairs.
        """
        about, tensors = map_slices(path, "prepared pairs", FORMAT, {"ct", "mri", "scans"})
        left_out = tuple(LeftOut(**each) for each in about["left_out"])
        ct, mri = (
            PreparedSet(
                modality,
                tensors[name],
                tensors["scans"],
                tuple(ScanRecord(**record) for record in records),
                left_out,
                recipes,
            )
            for modality, name, records, recipes in zip(
                ("CT", "MR"), ("ct", "mri"), about["records"], about["recipes"], strict=True
            )
        )
        return cls(ct, mri)

    def source(self, seed: int, device: torch.device) -> ShuffledPairs:
        """Return the pairs as a source, reshuffled each time all have been seen."""
        return ShuffledPairs(self, seed, device)


@dataclass(frozen=True, eq=False)
class ShuffledPairs:
    """A `PairSource` over prepared pairs.

    Parameters
    ----------
    prepared : PreparedPairs
    seed : int
        Of the order.
    device : torch.device
        Where pairs are given; slices are kept there where they fit well.
    """

    prepared: PreparedPairs
    seed: int
    device: torch.device
    _order: Order = field(init=False, repr=False)
    _slices: tuple[torch.Tensor, torch.Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.prepared):
            raise TrainingFailed("no pair is left to train on")
        object.__setattr__(self, "_order", Order(len(self.prepared), self.seed, "pairs"))
        sides = (self.prepared.ct.slices, self.prepared.mri.slices)
        object.__setattr__(self, "_slices", tuple(kept_on(side, self.device) for side in sides))

    def pairs(self, first: int, count: int) -> Pairs:
        """Return pairs number `first` and so on, on the device."""
        places = self._order.places(first, count)
        ct, mri = (side[places.to(side.device)].to(self.device) for side in self._slices)
        ct_image, head = from_gray(ct)
        codes = self.prepared.mri.codes
        known = torch.zeros(count, dtype=torch.int64) if codes is None else codes[places]
        return Pairs(ct_image, from_gray(mri)[0], head, known.to(self.device))

    def digest(self) -> str:
        """Identify the sequence."""
        return self.prepared.digest()


def prepare_pairs(
    path: Path,
    book: RecipeBook,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    trusted: bool = False,
) -> PreparedPairs:
    """Return the pairs of a folder of registered scans, or of a file prepared earlier.

    Parameters
    ----------
    path : path
        A folder with ``ct`` and ``mri`` in it, where scans of equal names lie on one grid, or a
        ``.safetensors`` file.
    book : RecipeBook
        The CT's recipe gives the place and the head of both.
    cache : path, optional
        Folder to keep prepared pairs in, known by the content of scans and recipes.
    progress : callable
        Given the pairs done and the pairs in all.
    trusted : bool
        Take CT volumes whose values cannot be HU, too.

    Raises
    ------
    InputMissing, WrongModality
        See `scans_of_modality`.
    TrainingFailed
        A scan has no partner, none of the pairs can be used, or a file was prepared by other
        recipes.
    """
    if path.suffix == SUFFIX:
        pairs = PreparedPairs.load(path)
        return PreparedPairs(
            *(side.with_recipes(book.of(side.modality), path) for side in (pairs.ct, pairs.mri))
        )
    matched = list(_matched(path))
    key = _cache_key(matched, book, trusted=trusted)
    file = None if cache is None else cache / f"pairs-{key}{SUFFIX}"
    kept = None if file is None else cached(file, PreparedPairs.load)
    if kept is not None:
        return kept
    prepared = _prepare(path, matched, book, progress, trusted=trusted)
    if file is not None:
        make_folder(file.parent)
        prepared.save(file)
    return prepared


def _cache_key(
    matched: list[tuple[FoundScan, FoundScan]], book: RecipeBook, *, trusted: bool
) -> str:
    made_by = f"{FORMAT} {trusted} {book.digest('CT')} {book.digest('MR')}"
    total = hashlib.sha256(made_by.encode())
    for scan in (scan for pair in matched for scan in pair):
        total.update(os.fsencode(f"{scan.name}\0{scan.digest()}\0"))
    return total.hexdigest()[:24]


def _prepare(
    path: Path,
    matched: list[tuple[FoundScan, FoundScan]],
    book: RecipeBook,
    progress: Callable[[int, int], None],
    *,
    trusted: bool,
) -> PreparedPairs:
    left_out: list[LeftOut] = []
    records: tuple[list[ScanRecord], list[ScanRecord]] = ([], [])
    slices: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for place, (ct, mri) in enumerate(matched):
        result = _gray_pair(ct, mri, book, trusted=trusted)
        progress(place + 1, len(matched))
        if isinstance(result, LeftOut):
            left_out.append(result)
            continue
        both, empty = result
        for side, (scan, gray) in enumerate(zip((ct, mri), both, strict=True)):
            records[side].append(ScanRecord(scan.name, scan.digest(), len(gray), empty))
            slices[side].append(gray)
    if not slices[0]:
        raise TrainingFailed(
            f"none of its {len(matched)} pairs can be used; the first: {left_out[0].reason}",
            path=path,
        )
    counts = torch.tensor([len(each) for each in slices[0]])
    scans = torch.arange(len(counts), dtype=torch.int32).repeat_interleave(counts)
    ct_set, mri_set = (
        PreparedSet(
            modality,
            torch.from_numpy(np.concatenate(of_side)),
            scans,
            tuple(of_scans),
            tuple(left_out),
            book.of(modality),
        )
        for modality, of_side, of_scans in zip(FOLDERS, slices, records, strict=True)
    )
    return PreparedPairs(ct_set, mri_set)


def _matched(folder: Path) -> Iterator[tuple[FoundScan, FoundScan]]:
    """Yield the scans of equal names in both folders."""
    sides = []
    for modality, name in FOLDERS.items():
        if not (folder / name).is_dir():
            raise InputMissing(
                f"has no folder {name}", path=folder, remedy="pairs lie in its folders ct and mri"
            )
        scans = scans_of_modality(folder / name, modality).scans
        sides.append({without_suffix(scan.name.partition("/")[2]): scan for scan in scans})
    ct, mri = sides
    alone = sorted(set(ct) ^ set(mri))
    if alone:
        raise TrainingFailed(
            f"{len(alone)} scan(s) have no partner of the same name, the first: {alone[0]}",
            path=folder,
        )
    for name in sorted(ct):
        yield ct[name], mri[name]


def _gray_pair(
    ct: FoundScan, mri: FoundScan, book: RecipeBook, *, trusted: bool
) -> tuple[tuple[np.ndarray, np.ndarray], int] | LeftOut:
    """Return the slices that show a head, of both sides, and the number of those that do not."""
    ct_recipe, mri_recipe = book.recipe("CT", ct.kind), book.recipe("MR", mri.kind)
    if ct_recipe is None or mri_recipe is None:
        return LeftOut(ct.name, f"no recipe for a {ct.kind} and a {mri.kind}")
    try:
        images = (
            read(ct.path, modality="CT", series=ct.series),
            read(mri.path, modality="MR", series=mri.series),
        )
        if not trusted and (fault := unit_fault(images[0], "CT")):
            return LeftOut(ct.name, f"not in HU: {fault}")
        prepared, mri_slices = prepare_pair(*images, ct_recipe, mri_recipe)
    except MedTranslateError as error:
        return LeftOut(ct.name, error.fault)
    gray = [to_gray(slices, prepared.head) for slices in (prepared.slices, mri_slices)]
    full = shows_a_head(gray[0]) & shows_a_head(gray[1])
    if not bool(full.any()):
        return LeftOut(ct.name, "shows no head in any slice")
    return (gray[0][full].numpy(), gray[1][full].numpy()), int((~full).sum())
