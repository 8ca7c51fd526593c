"""Which lesions are put in: shapes, contrasts and sizes.

The contrasts of CT are those of what a brain window is read for: acute blood 60 to 80 HU against
25 to 40 HU of brain, oedema and early ischaemia 10 to 15 HU below it, an old infarct near water.
MR has no scale of its own: there a contrast is a share of the local brightness.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

from medtranslate.evaluation.protocol import Modality
from medtranslate.evaluation.scale import Scale

Shape = Literal["disc", "blob"]

SHAPES: tuple[Shape, Shape] = ("disc", "blob")
DIAMETERS = (5.0, 8.0, 12.0, 18.0, 25.0)
PIXEL = 0.9  # mm; what recipes bring scans and pictures to
PICTURE_WINDOW = 120.0  # HU from black to white in a CT picture: level 40, width 120


@dataclass(frozen=True)
class Contrast:
    """How much brighter (or darker, below 0) than its place a lesion is made.

    Attributes
    ----------
    amount : float
    unit : {"HU", "%"}
        "%" is of the local brightness.
    """

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:+g} {self.unit}"

    def grey(self, local: float, scale: Scale) -> float:
        """Return the contrast in grey levels of 255, at a place of this mean grey level."""
        if self.unit == "%":
            return local * self.amount / 100
        width = scale.range if scale.unit == "HU" else PICTURE_WINDOW
        return self.amount * 255 / width


CONTRASTS: dict[Modality, tuple[Contrast, ...]] = {
    "ct": (Contrast(35, "HU"), Contrast(15, "HU"), Contrast(-12, "HU"), Contrast(-22, "HU")),
    "mri": (Contrast(60, "%"), Contrast(30, "%"), Contrast(-20, "%"), Contrast(-40, "%")),
}


@dataclass(frozen=True)
class Kind:
    """One kind of lesion; the diameter in mm is that of a disc of the same area."""

    shape: Shape
    contrast: Contrast
    diameter: float

    @property
    def pixels(self) -> float:
        """The diameter in pixels."""
        return self.diameter / PIXEL


def kinds(source: Modality) -> tuple[Kind, ...]:
    """Return every kind that is put into slices of a modality."""
    return tuple(Kind(*each) for each in product(SHAPES, CONTRASTS[source], DIAMETERS))
