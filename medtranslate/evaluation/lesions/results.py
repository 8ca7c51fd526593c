"""What the lesion test finds: single lesions, and figures by shape, contrast and size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from medtranslate.evaluation.lesions.planting import DIAMETERS, SHAPES, Contrast, Shape
from medtranslate.evaluation.paired import Interval, bootstrap, mean_by_case

SEEN = 2.0  # deviations of an image's own contrasts


@dataclass(frozen=True)
class LesionResult:
    """One lesion, put into one slice.

    Attributes
    ----------
    name, case : str
        The slice, and the scan that it belongs to.
    shape : {"disc", "blob"}
    contrast : str
        What it was made with, such as "+35 HU".
    diameter : float
        mm.
    row, column : int
        Its center in the slice.
    planted, translated, returned : float
        Its contrast in gray levels of 255: in the source, in the translation, in the
        reconstruction.
    survival : float
        `translated` in spreads of the translations' brain over `planted` in spreads of the
        sources'; below 0 where dark became bright or bright dark.
    seen_in_source, seen : float
        Contrast over what the image without it shows by itself, source and translation.
    echoes : int
        Changes elsewhere in the translation.
    """

    name: str
    case: str
    shape: Shape
    contrast: str
    diameter: float
    row: int
    column: int
    planted: float
    translated: float
    returned: float
    survival: float
    seen_in_source: float
    seen: float
    echoes: int

    @property
    def reconstruction(self) -> float:
        """Share of the planted contrast in the reconstruction, in the source's own terms."""
        return self.returned / self.planted


@dataclass(frozen=True)
class LesionGroup:
    """Lesions of one sort, together.

    Attributes
    ----------
    shape, contrast : str
        "" where the group holds all.
    diameter : float or None
        mm; None where the group holds all.
    lesions : int
    planted : float
        Mean contrast that was put in, gray levels of 255, without its sign.
    survival : Interval
        Mean size of `LesionResult.survival`, without its sign.
    inverted : Interval
        Share whose contrast changed its sign, among those seen in the translation; NaN where none
        is.
    seen_in_source, seen : Interval
        Shares that stand out `SEEN` times over what the image shows by itself.
    echoed : Interval
        Share that changed something elsewhere.
    reconstruction : Interval
        Mean share of the contrast after both translations.
    """

    shape: str
    contrast: str
    diameter: float | None
    lesions: int
    planted: float
    survival: Interval
    inverted: Interval
    seen_in_source: Interval
    seen: Interval
    echoed: Interval
    reconstruction: Interval

    @property
    def sorts(self) -> int:
        """By how many of shape, contrast and diameter the group is distinguished."""
        return sum(map(bool, (self.shape, self.contrast, self.diameter)))


@dataclass(frozen=True)
class LesionTest:
    """Everything that the lesion test found for one model in one direction.

    Attributes
    ----------
    slices : int
        How many slices each kind of lesion was put into.
    cases : int
        Scans that they come from; intervals are over these.
    contrasts : tuple of Contrast
    diameters : tuple of float
        mm.
    spread_source, spread_target : float
        Medians over slices of what contrasts are measured against, gray levels of 255.
    invented : Interval
        Spots a slice that stand out where no lesion is and the source shows none.
    groups : tuple of LesionGroup
        All together first; then by shape, contrast, diameter, contrast with diameter, and by all
        three.
    lesions : tuple of LesionResult
    """

    slices: int
    cases: int
    contrasts: tuple[Contrast, ...]
    diameters: tuple[float, ...]
    spread_source: float
    spread_target: float
    invented: Interval
    groups: tuple[LesionGroup, ...]
    lesions: tuple[LesionResult, ...]


def groups(
    lesions: Sequence[LesionResult], contrasts: Sequence[Contrast], *, seed: int
) -> tuple[LesionGroup, ...]:
    """Return figures of all lesions, and of each sort (`LesionTest.groups` has the order)."""
    named = [str(contrast) for contrast in contrasts]
    sorts: list[tuple[str, str, float | None]] = [
        ("", "", None),
        *((shape, "", None) for shape in SHAPES),
        *(("", contrast, None) for contrast in named),
        *(("", "", diameter) for diameter in DIAMETERS),
        *(("", *each) for each in product(named, DIAMETERS)),
        *product(SHAPES, named, DIAMETERS),
    ]
    return tuple(_group(lesions, *sort, seed=seed) for sort in sorts)


def _group(
    everything: Sequence[LesionResult],
    shape: str,
    contrast: str,
    diameter: float | None,
    *,
    seed: int,
) -> LesionGroup:
    lesions = [
        each
        for each in everything
        if shape in ("", each.shape)
        and contrast in ("", each.contrast)
        and diameter in (None, each.diameter)
    ]

    def mean(
        figure: Callable[[LesionResult], float], of: Sequence[LesionResult] = lesions
    ) -> Interval:
        if not of:
            return Interval(math.nan, math.nan, math.nan)
        by_case = mean_by_case([figure(each) for each in of], [each.case for each in of])
        return bootstrap(by_case, seed=seed)

    seen = [each for each in lesions if each.seen >= SEEN]
    return LesionGroup(
        shape=shape,
        contrast=contrast,
        diameter=diameter,
        lesions=len(lesions),
        planted=sum(abs(each.planted) for each in lesions) / len(lesions),
        survival=mean(lambda each: abs(each.survival)),
        inverted=mean(lambda each: each.survival < 0, seen),
        seen_in_source=mean(lambda each: each.seen_in_source >= SEEN),
        seen=mean(lambda each: each.seen >= SEEN),
        echoed=mean(lambda each: each.echoes > 0),
        reconstruction=mean(lambda each: each.reconstruction),
    )
