"""Scans as network-grid slices, by the paper's sizing or by a model's own recipes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.bundle import Bundle
from medtranslate.errors import (
    EvaluationFailed,
    InputMissing,
    Unreadable,
    Unsupported,
    WrongModality,
)
from medtranslate.evaluation.protocol import Protocol
from medtranslate.evaluation.slices import (
    GRAY,
    SliceSet,
    ValueRange,
    gray_levels,
    read_slices,
    to_eight_bit,
)
from medtranslate.imaging import read
from medtranslate.imaging.guess_modality import not_hounsfield
from medtranslate.imaging.scans import FileList, FoundScan, find_scans, without_suffix
from medtranslate.modality import Target
from medtranslate.transforms import ImageFrame, Prepared, Recipe
from medtranslate.transforms.recipe import prepare_pair

TAGS: dict[Target, str] = {"ct": "CT", "mri": "MR"}


@dataclass(frozen=True)
class Found:
    """A scan in a folder: its name, and what `read` needs."""

    name: str
    path: Path
    series: str = ""


def read_scans(
    folder: Path,
    modality: Target,
    recipe: Recipe,
    names: Sequence[str] | None = None,
    *,
    trusted: bool = False,
) -> SliceSet:
    """Read a folder of images or of volumes as slices, by the recipe of their kind.

    Slices without a head are left out, and so are 2D images beside volumes, CT volumes whose values
    cannot be HU (unless `trusted`), and scans that `convert` would refuse, such as images with
    colored marks (`SliceSet.left_out` names them all). Names of a volume's slices end in ``#`` and
    their number.

    Raises
    ------
    InputMissing, EvaluationFailed
        No such folder, nothing in it, or fewer than two slices.
    WrongModality
        A header says that a scan is of the other modality.
    Unreadable, UntrustedInput
        A scan that cannot be read, by name.
    """
    collected = _Collected(folder, modality, recipe)
    scans, skipped = _found(folder, modality, names)
    collected.left_out.extend(skipped)
    made = _ahead(lambda scan: recipe.prepare(_image(scan, modality, trusted=trusted)), scans)
    for scan, prepared in zip(scans, made, strict=True):
        try:
            found = prepared()
        except Unsupported as error:
            collected.left_out.append(f"{scan.path.name}: {error.fault}")
            continue
        collected.add(scan, found.slices, found.head)
    return collected.slice_set()


def _ahead(
    prepare: Callable[[Found], Prepared], scans: Sequence[Found]
) -> Iterator[Callable[[], Prepared]]:
    """Prepare scans side by side, in order; no more ahead of need than there are processors.

    Each is given as a function that returns it, or raises what preparing it raised.
    """
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Prepared]] = deque()
        for scan in scans:
            waiting.append(pool.submit(prepare, scan))
            if len(waiting) > workers:
                yield waiting.popleft().result
        while waiting:
            yield waiting.popleft().result


def read_scan_pairs(
    ct_folder: Path,
    mri_folder: Path,
    ct_recipe: Recipe,
    mri_recipe: Recipe,
    ct_names: Sequence[str] | None = None,
    mri_names: Sequence[str] | None = None,
    *,
    trusted: bool = False,
) -> tuple[SliceSet, SliceSet]:
    """Read pairs of scans as slices on one grid: the CT's place and head hold for both.

    Names are of the files to take; all where left out.

    Raises
    ------
    EvaluationFailed
        A scan has no partner of the same name, or its partner lies on another grid.
    Unsupported
        The values of a CT volume cannot be HU, and it is not `trusted`.
    """
    ct_found, ct_skipped = _found(ct_folder, "ct", ct_names)
    mri_found, mri_skipped = _found(mri_folder, "mri", mri_names)
    ct_scans = {scan.name: scan for scan in ct_found}
    mri_scans = {scan.name: scan for scan in mri_found}
    alone = sorted(set(ct_scans) ^ set(mri_scans))
    if alone:
        raise EvaluationFailed(
            f"{len(alone)} scan(s) lack a partner of the same name, '{alone[0]}' first",
            path=mri_folder if alone[0] in ct_scans else ct_folder,
            remedy="--paired needs the same names in both folders",
        )
    ct_side = _Collected(ct_folder, "ct", ct_recipe)
    mri_side = _Collected(mri_folder, "mri", mri_recipe)
    ct_side.left_out.extend(ct_skipped)
    mri_side.left_out.extend(mri_skipped)
    for name, scan in ct_scans.items():
        ct, mri = _image(scan, "ct", trusted=trusted), _image(mri_scans[name], "mri")
        try:
            prepared, mri_slices = prepare_pair(ct, mri, ct_recipe, mri_recipe)
        except Unsupported as error:
            raise EvaluationFailed(
                f"the pair '{name}' {error.fault}", path=mri_folder, remedy=error.remedy
            ) from error
        ct_side.add(scan, prepared.slices, prepared.head)
        mri_side.add(scan, mri_slices, prepared.head)
    return ct_side.slice_set(), mri_side.slice_set()


def scans_of(folder: Path, modality: Target, names: Sequence[str] | None) -> list[Found]:
    """List the scans of a folder by name, or those named (`medtranslate.find_scans`)."""
    return _found(folder, modality, names)[0]


def _found(
    folder: Path, modality: Target, names: Sequence[str] | None
) -> tuple[list[Found], tuple[str, ...]]:
    """Return the scans of a folder, and what is left out of it, each with the reason."""
    if not folder.is_dir():
        raise InputMissing("no such folder of scans", path=folder)
    if names is not None:
        return [Found(without_suffix(name), folder / name) for name in sorted(names)], ()
    found = find_scans(folder)
    for scan in found.unreadable:
        raise Unreadable(scan.error, path=scan.path)
    for scan in found.scans:
        given, finding = TAGS[modality], scan.finding
        if finding.modality not in ("", given):
            fault = f"given as {given}, but is {finding.modality} ({finding.modality_basis})"
            raise WrongModality(fault, path=scan.path)
    if not found.scans:
        raise EvaluationFailed("holds no scans", path=folder)
    scans = (Found(_case(folder, scan), scan.path, scan.series) for scan in found.scans)
    left_out = tuple(f"{each.name}: {each.reason}" for each in found.left_out)
    return sorted(scans, key=lambda scan: scan.name), left_out


def _case(folder: Path, scan: FoundScan) -> str:
    inside = "" if scan.path == folder else scan.path.relative_to(folder).as_posix()
    return without_suffix(inside) or scan.series


def _image(scan: Found, modality: Target, *, trusted: bool = False) -> MetaTensor:
    image = read(scan.path, modality=TAGS[modality], series=scan.series)
    if not trusted and modality == "ct" and image.meta["source"]["kind"] == "volume":
        fault = not_hounsfield(image.as_tensor()[0].numpy())
        if fault:
            remedy = "convert the values to HU, or --force if they are"
            raise Unsupported(f"not in HU: {fault}", path=scan.path, remedy=remedy)
    return image


@dataclass(frozen=True)
class _Collected:
    """Slices that hold a head, from one folder."""

    folder: Path
    modality: Target
    recipe: Recipe
    slices: list[NDArray[np.uint8]] = field(default_factory=list)
    heads: list[NDArray[np.bool_]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, scan: Found, slices: torch.Tensor, heads: torch.Tensor) -> None:
        holds = heads.flatten(1).any(1).nonzero().flatten().tolist()
        if not holds:
            return
        single = len(slices) == 1
        self.slices.append(to_eight_bit(gray_levels(slices[holds])))
        self.heads.append(heads[holds].numpy())
        self.names.extend(scan.name if single else f"{scan.name}#{number:03}" for number in holds)
        self.cases.extend([scan.name] * len(holds))

    def slice_set(self) -> SliceSet:
        if not self.slices:
            why = f"; left out: {self.left_out[0]}" if self.left_out else ""
            raise EvaluationFailed(f"no scan in it shows a head{why}", path=self.folder)
        shown = self.recipe.shown
        in_hounsfield = self.recipe.kind == "volume" and self.modality == "ct"
        return SliceSet(
            self.modality,
            tuple(self.names),
            np.concatenate(self.slices),
            folder=str(self.folder),
            cases=tuple(self.cases),
            scale=ValueRange("HU", shown.low, shown.high) if in_hounsfield else GRAY,
            heads=np.concatenate(self.heads),
            left_out=tuple(self.left_out),
        )


Names = Sequence[str] | None  # file names, or all


class Sizing(Interface):
    """How folders are read."""

    def read(self, folder: Path, modality: Target, names: Names) -> SliceSet:
        """Read one folder, or what is named of it."""

    def read_pairs(
        self, ct: Path, mri: Path, ct_names: Names, mri_names: Names
    ) -> tuple[SliceSet, SliceSet]:
        """Read two folders of the same names, on one grid."""

    def named(self) -> Protocol:
        """Return the protocol with the sizing that is in force."""


@dataclass(frozen=True)
class PaperSizing:
    """Whole images, longer side to 256, by the protocol's own sizing."""

    protocol: Protocol

    def read(self, folder: Path, modality: Target, names: Names) -> SliceSet:
        """Read one folder, or what is named of it."""
        return read_slices(folder, modality, names)

    def read_pairs(
        self, ct: Path, mri: Path, ct_names: Names, mri_names: Names
    ) -> tuple[SliceSet, SliceSet]:
        """Read two folders; images of the same size get the same place."""
        return self.read(ct, "ct", ct_names), self.read(mri, "mri", mri_names)

    def named(self) -> Protocol:
        """Return the protocol as it is."""
        return self.protocol


@dataclass(frozen=True)
class RecipeSizing:
    """2D images or volumes, prepared by the recipes of a model."""

    protocol: Protocol
    ct: Recipe
    mri: Recipe
    trusted: bool = False

    def read(self, folder: Path, modality: Target, names: Names) -> SliceSet:
        """Read one folder, or what is named of it."""
        recipe = self.ct if modality == "ct" else self.mri
        return read_scans(folder, modality, recipe, names, trusted=self.trusted)

    def read_pairs(
        self, ct: Path, mri: Path, ct_names: Names, mri_names: Names
    ) -> tuple[SliceSet, SliceSet]:
        """Read two folders; the CT's place holds for both."""
        return read_scan_pairs(
            ct, mri, self.ct, self.mri, ct_names, mri_names, trusted=self.trusted
        )

    def named(self) -> Protocol:
        """Return the protocol with the recipes as its sizing."""
        sizing = f"8-bit gray, by the model's recipes: {self.ct}; {self.mri}"
        return replace(self.protocol, sizing=sizing)


_PLURAL = {"image": "2D images", "volume": "volumes"}


def kind_of(folders: Mapping[Path, Names]) -> str:
    """Return ``"image"`` or ``"volume"``: what all of the folders hold, or what is named of them.

    Raises
    ------
    EvaluationFailed
        One folder holds 2D images and another one volumes: their values do not compare.
    """
    kinds: dict[str, Path] = {}
    for folder, names in folders.items():
        if not folder.is_dir():
            continue  # whoever reads it says so
        inside = () if names is None else (f"{folder.resolve().name}/{name}" for name in names)
        if kind := find_scans(folder, FileList(tuple(inside))).kind:
            kinds.setdefault(kind, folder)
    if len(kinds) > 1:
        raise EvaluationFailed(
            f"holds 2D images, but {kinds['volume']} holds volumes",
            path=kinds["image"],
            remedy="evaluate 2D images and volumes apart",
        )
    return next(iter(kinds), "image")


def sizing_of(
    protocol: Protocol, bundles: Sequence[Bundle], *, kind: str, trusted: bool = False
) -> Sizing:
    """Choose how to read for these models.

    Raises
    ------
    EvaluationFailed
        The models prepare scans of this kind differently, so no real set suits them all.
    ModelUnusable
        A model has no recipe for this kind.
    """
    recipes = {modality: [b.recipe(TAGS[modality], kind) for b in bundles] for modality in TAGS}
    for modality, each in recipes.items():
        other = next((n for n, recipe in enumerate(each) if recipe != each[0]), None)
        if other is not None:
            raise EvaluationFailed(
                f"'{bundles[0].name}' and '{bundles[other].name}' prepare "
                f"{TAGS[modality]} {_PLURAL[kind]} differently",
                remedy="evaluate them apart: their figures do not compare",
            )
    ct, mri = recipes["ct"][0], recipes["mri"][0]
    if kind == "image" and takes_whole_images(ct) and takes_whole_images(mri):
        return PaperSizing(protocol)
    return RecipeSizing(protocol, ct, mri, trusted)


def takes_whole_images(recipe: Recipe) -> bool:
    """Say whether a recipe is the paper's: no head, longer side to the whole grid."""
    grid = recipe.grid
    return recipe.tissue is None and isinstance(grid, ImageFrame) and grid.fill == 1
