"""Take scans through their recipes once, and keep the slices."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset

from medtranslate.errors import (
    InputMissing,
    MedTranslateError,
    OutputFailed,
    TrainingFailed,
    Unreadable,
    WrongModality,
)
from medtranslate.files import cache_folder, remove_leftovers, shipped
from medtranslate.imaging import read
from medtranslate.imaging.base import Finding
from medtranslate.imaging.guess_modality import not_hounsfield
from medtranslate.imaging.scans import FileList, FolderScans, FoundScan, LeftOut, find_scans
from medtranslate.training.prepared import (
    SUFFIX,
    PreparedSet,
    ScanRecord,
    shows_a_head,
    to_gray,
)
from medtranslate.transforms import Recipe, load_recipe

_CACHED = 4
"""Raised with every change of what is prepared or noted, so that an old cache is not taken."""

_WORTH_WORKERS = 64  # scans from which starting worker processes pays

Progress = Callable[[int, int], None]


def default_cache() -> Path:
    """Return the folder where prepared slices are kept between runs."""
    return cache_folder("prepared")


@dataclass(frozen=True)
class Preparation:
    """How folders become prepared slices.

    Parameters
    ----------
    book : RecipeBook
    cache : path
        Folder for the prepared files; each is named by the content of its scans and recipes.
    workers : int
        Processes that prepare scans at the same time.
    trusted : bool
        Believe the user about modality and units, whatever the scans look like (``--force``).
    progress : callable
        Called with the number of scans done and the total.
    """

    book: RecipeBook
    cache: Path
    workers: int = 0
    trusted: bool = False
    progress: Progress = lambda done, total: None

    def slices(self, source: Path, modality: str, wanted: FileList | None = None) -> PreparedSet:
        """Return the slices of a folder of scans, or of a file prepared earlier.

        Parameters
        ----------
        source : path
            Folder of scans, or a prepared ``.safetensors`` file.
        modality : {"CT", "MR"}
        wanted : FileList, optional
            Only what it names, where it names anything of this source.

        Raises
        ------
        InputMissing, WrongModality, TrainingFailed
            See `scans_of_modality`; also where most scans look like the other modality, where none
            can be prepared, or where a file was prepared by other recipes.
        OutputFailed
            The cache cannot be written.
        """
        if source.suffix == SUFFIX:
            return self._from_file(source, modality, wanted)
        found = scans_of_modality(source, modality, wanted)
        digests = {scan: scan.digest() for scan in found.scans}
        path = self.cache / f"{modality.lower()}-{self._key(found, digests)}{SUFFIX}"
        prepared = cached(path, PreparedSet.load)
        if prepared is None:
            prepared = self._prepare(found, digests)
            make_folder(self.cache)
            prepared.save(path)
            # Mapped slices are shared between processes and cost no memory.
            prepared = PreparedSet.load(path)
        self._check_modality(prepared, source)
        return self._in_hounsfield(prepared, source)

    def _from_file(self, path: Path, modality: str, wanted: FileList | None) -> PreparedSet:
        prepared = PreparedSet.load(path)
        if prepared.modality != modality:
            raise WrongModality(
                f"holds {prepared.modality} slices, given as {modality}",
                path=path,
                remedy="exchange the files",
            )
        prepared = prepared.with_recipes(self.book.of(modality), path)
        prepared = self._in_hounsfield(prepared, path)
        names = (wanted or FileList()).named(record.name for record in prepared.records)
        return prepared.only(names) if names else prepared

    def _key(self, found: ModalityScans, digests: dict[FoundScan, str]) -> str:
        total = hashlib.sha256(f"{_CACHED} {self.book.digest(found.modality)}".encode())
        for scan in found.scans:
            total.update(os.fsencode(f"{scan.name}\0{digests[scan]}\0"))
        for left_out in found.left_out:
            total.update(os.fsencode(f"{left_out.name}\0{left_out.reason}\0"))
        return total.hexdigest()[:24]

    def _prepare(self, found: ModalityScans, digests: dict[FoundScan, str]) -> PreparedSet:
        left_out = list(found.left_out)
        records: list[ScanRecord] = []
        slices: list[np.ndarray] = []
        scans = found.scans
        for place, result in enumerate(self._results(found)):
            self.progress(place + 1, len(scans))
            name = scans[place].name
            if isinstance(result, LeftOut):
                left_out.append(result)
                continue
            gray, apparent, empty, not_hu = result
            if not len(gray):
                reason = f"not in HU: {not_hu}" if not_hu else "shows no head in any slice"
                left_out.append(LeftOut(name, reason))
                continue
            records.append(
                ScanRecord(name, digests[scans[place]], len(gray), empty, apparent, not_hu)
            )
            slices.append(gray)
        if not slices:
            reason = left_out[len(found.left_out)].reason
            raise TrainingFailed(
                f"none of its {len(scans)} scans can be prepared; the first: {reason}",
                path=found.folder,
            )
        counts = torch.tensor([len(each) for each in slices])
        return PreparedSet(
            found.modality,
            torch.from_numpy(np.concatenate(slices)),
            torch.arange(len(slices), dtype=torch.int32).repeat_interleave(counts),
            tuple(records),
            tuple(left_out),
            self.book.of(found.modality),
        )

    def _results(self, found: ModalityScans) -> Iterator[Any]:
        workers = self.workers if len(found.scans) >= _WORTH_WORKERS else 0
        return iter(
            DataLoader(
                _Scans(found.scans, found.modality, self.book),
                batch_size=None,
                num_workers=workers,
                collate_fn=_unchanged,
            )
        )

    def _in_hounsfield(self, prepared: PreparedSet, source: Path) -> PreparedSet:
        """Leave out CT volumes whose values cannot be HU: all black, white or gray to a network."""
        if self.trusted or not prepared.foreign_units:
            return prepared
        kept = prepared.in_hounsfield()
        if not kept.records:
            first = prepared.foreign_units[0]
            raise TrainingFailed(
                f"none of its {len(prepared.records)} CT volumes can be used; the first, "
                f"{first.name}, is {first.reason}",
                path=source,
                remedy="convert the values to HU, or --force if they are",
            )
        return kept

    def _check_modality(self, prepared: PreparedSet, source: Path) -> None:
        known = [record for record in prepared.records if record.apparent_modality]
        others = len(prepared.doubtful)
        if self.trusted or 2 * others <= len(known):
            return
        other = "MR" if prepared.modality == "CT" else "CT"
        raise WrongModality(
            f"given as {prepared.modality}, but {others} of {len(known)} scans look like {other}",
            path=source,
            remedy="exchange the folders, or --force if they are right",
        )


@dataclass(frozen=True)
class _Scans(Dataset[Any]):
    """Scans as uint8 slices, the modality they look like, the empty slices, and faults of units."""

    scans: tuple[FoundScan, ...]
    modality: str
    book: RecipeBook

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, place: int) -> tuple[np.ndarray, str, int, str] | LeftOut:
        scan = self.scans[place]
        recipe = self.book.recipe(self.modality, scan.kind)
        if recipe is None:
            return LeftOut(scan.name, f"no recipe {self.modality.lower()}-{scan.kind}.yaml")
        try:
            image = read(scan.path, series=scan.series)
            prepared = recipe.prepare(image)
        except MedTranslateError as error:
            return LeftOut(scan.name, error.fault)
        gray = to_gray(prepared.slices, prepared.head)
        full = shows_a_head(gray)
        apparent = image.meta["source"]["modality"]
        return gray[full].numpy(), apparent, int((~full).sum()), unit_fault(image, self.modality)


def _unchanged(result: Any) -> Any:
    return result


def unit_fault(image: MetaTensor, modality: str) -> str:
    """Say why the values of a CT volume cannot be HU; nothing for 2D images and MR."""
    volume = image.meta["source"]["kind"] == "volume"
    return not_hounsfield(image.as_tensor()[0].numpy()) if volume and modality == "CT" else ""


_Kept = TypeVar("_Kept")


def cached(path: Path, load: Callable[[Path], _Kept]) -> _Kept | None:
    """Load a file of a cache; None where there is none, or it is damaged and must be made anew."""
    try:
        return load(path)
    except (InputMissing, Unreadable):
        return None


def make_folder(folder: Path) -> None:
    """Make the folder of a cache, and clear it of what was left unfinished."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
    except OSError as error:
        raise OutputFailed(
            f"cannot be created: {error.strerror}", path=folder, remedy="give a folder with --cache"
        ) from error


@dataclass(frozen=True)
class RecipeBook:
    """Recipes from one folder, ``ct-volume.yaml`` and so on.

    Attributes
    ----------
    recipes : dict of str to Recipe
        By file name without suffix: modality, hyphen, kind.
    texts : dict of str to str
        The files' contents, which a bundle carries and by which a cache is known.
    """

    recipes: dict[str, Recipe]
    texts: dict[str, str]

    @classmethod
    def read(cls, folder: Path | None = None) -> RecipeBook:
        """Read a folder of recipes; those that medtranslate ships where none is given.

        Raises
        ------
        InputMissing
            The folder is not there or holds no recipe.
        ModelUnusable
            A recipe is not valid.
        """
        folder = folder or shipped("transforms")
        paths = sorted(folder.glob("*.yaml"))
        if not paths:
            raise InputMissing("no recipes (*.yaml) there", path=folder)
        return cls(
            {path.stem: load_recipe(path) for path in paths},
            {path.stem: path.read_text(encoding="utf-8") for path in paths},
        )

    def recipe(self, modality: str, kind: str) -> Recipe | None:
        """Return the recipe for a kind of input, if there is one."""
        return self.recipes.get(f"{modality.lower()}-{kind}")

    def digest(self, modality: str) -> str:
        """Return the SHA-256 over the recipes of a modality."""
        total = hashlib.sha256()
        for name, text in sorted(self.of(modality).items()):
            total.update(f"{name}\0{text}\0".encode())
        return total.hexdigest()

    def of(self, modality: str) -> dict[str, str]:
        """Return the texts of a modality's recipes."""
        return {n: text for n, text in self.texts.items() if n.startswith(f"{modality.lower()}-")}


@dataclass(frozen=True)
class ModalityScans:
    """The scans of one modality in a folder.

    Parameters
    ----------
    folder : Path
        As given.
    modality : {"CT", "MR"}
        What the user says that it holds.
    scans : tuple of FoundScan
        To be prepared.
    left_out : tuple of LeftOut
        All others.
    """

    folder: Path
    modality: str
    scans: tuple[FoundScan, ...]
    left_out: tuple[LeftOut, ...]


def scans_of_modality(folder: Path, modality: str, wanted: FileList | None = None) -> ModalityScans:
    """Find the scans of one modality in a folder.

    Parameters
    ----------
    folder : Path
        Searched by `find_scans`.
    modality : {"CT", "MR"}
        What the user says that it holds.
    wanted : FileList, optional
        Files to take.

    Raises
    ------
    InputMissing
        No such folder.
    WrongModality
        All that can be read is of the other modality by its headers.
    TrainingFailed
        Nothing in the folder can be used.
    """
    if not folder.is_dir():
        raise InputMissing("no such folder of scans", path=folder)
    found = find_scans(folder, wanted)
    others = [scan for scan in found.scans if scan.finding.modality not in ("", modality)]
    scans = tuple(scan for scan in found.scans if scan not in others)
    if not scans:
        raise _nothing_left(folder, modality, found)
    reasons = (LeftOut(scan.name, _is_another(scan.finding, modality)) for scan in others)
    return ModalityScans(folder, modality, scans, (*found.left_out, *reasons))


def _is_another(finding: Finding, modality: str) -> str:
    return f"is {finding.modality} by {finding.modality_basis}, not {modality}"


def _nothing_left(folder: Path, modality: str, found: FolderScans) -> Exception:
    if found.scans:
        return WrongModality(
            f"given as {modality}, but its scans are {found.scans[0].finding.modality} "
            "by their headers",
            path=folder,
            remedy="exchange the folders",
        )
    if found.unlisted:
        return TrainingFailed("none of its scans can be used", path=folder)
    return TrainingFailed("holds no scan that can be read", path=folder)
