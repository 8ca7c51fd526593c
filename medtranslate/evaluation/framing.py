"""From folders to frames: by the paper's sizing, or by a model's own recipes.

Frames must be what a model's networks were trained on. Models made for the paper's table take whole
pictures, longer side to 256: for them frames are sized as the published floors were. Any other
model has recipes of its own (scale, head, window), and both translated and real pictures then go
through those, so that a distance is about translation and not about sizing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol as Interface

from medtranslate.bundle import Bundle
from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.frames import FrameSet, read_frames
from medtranslate.evaluation.protocol import Modality, Protocol
from medtranslate.evaluation.scans import TAGS, read_scan_pairs, read_scans
from medtranslate.transforms import ImageFrame, Recipe

Names = Sequence[str] | None  # file names, or all


class Framing(Interface):
    """How folders are read."""

    def read(self, folder: Path, modality: Modality, names: Names) -> FrameSet:
        """Read one folder, or what is named of it."""

    def read_pairs(
        self, ct: Path, mri: Path, ct_names: Names, mri_names: Names
    ) -> tuple[FrameSet, FrameSet]:
        """Read two folders of the same names, on one grid."""

    def named(self) -> Protocol:
        """Return the protocol with the sizing that is in force."""


@dataclass(frozen=True)
class PaperFraming:
    """Whole pictures, longer side to 256, by the protocol's own sizing."""

    protocol: Protocol

    def read(self, folder: Path, modality: Modality, names: Names) -> FrameSet:
        """Read one folder, or what is named of it."""
        return read_frames(folder, modality, names)

    def read_pairs(
        self, ct: Path, mri: Path, ct_names: Names, mri_names: Names
    ) -> tuple[FrameSet, FrameSet]:
        """Read two folders; pictures of the same size get the same place."""
        return self.read(ct, "ct", ct_names), self.read(mri, "mri", mri_names)

    def named(self) -> Protocol:
        """Return the protocol as it is."""
        return self.protocol


@dataclass(frozen=True)
class RecipeFraming:
    """Pictures or volumes, prepared by the recipes of a model."""

    protocol: Protocol
    ct: Recipe
    mri: Recipe

    def read(self, folder: Path, modality: Modality, names: Names) -> FrameSet:
        """Read one folder, or what is named of it."""
        recipe = self.ct if modality == "ct" else self.mri
        return read_scans(folder, modality, recipe, names)

    def read_pairs(
        self, ct: Path, mri: Path, ct_names: Names, mri_names: Names
    ) -> tuple[FrameSet, FrameSet]:
        """Read two folders; the CT's place holds for both."""
        return read_scan_pairs(ct, mri, self.ct, self.mri, ct_names, mri_names)

    def named(self) -> Protocol:
        """Return the protocol with the recipes as its sizing."""
        sizing = f"8-bit grey, by the model's recipes: {self.ct}; {self.mri}"
        return replace(self.protocol, sizing=sizing)


def framing_of(protocol: Protocol, bundles: Sequence[Bundle], *, kind: str) -> Framing:
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
                f"{TAGS[modality]} {kind}s differently",
                remedy="evaluate them apart: their figures do not compare",
            )
    ct, mri = recipes["ct"][0], recipes["mri"][0]
    if kind == "picture" and takes_whole_pictures(ct) and takes_whole_pictures(mri):
        return PaperFraming(protocol)
    return RecipeFraming(protocol, ct, mri)


def takes_whole_pictures(recipe: Recipe) -> bool:
    """Say whether a recipe is the paper's: no head, longer side to the whole frame."""
    grid = recipe.grid
    return recipe.tissue is None and isinstance(grid, ImageFrame) and grid.fill == 1
