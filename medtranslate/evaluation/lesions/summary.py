"""Single lesions to figures by shape, contrast and size, with intervals over scans."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

from medtranslate.evaluation.lesions.kinds import DIAMETERS, SHAPES, Contrast
from medtranslate.evaluation.lesions.results import SEEN, LesionGroup, LesionResult
from medtranslate.evaluation.paired import Interval, bootstrap, mean_by_case


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
        turned=mean(lambda each: each.survival < 0, seen),
        seen_in_source=mean(lambda each: each.seen_in_source >= SEEN),
        seen=mean(lambda each: each.seen >= SEEN),
        echoed=mean(lambda each: each.echoes > 0),
        way_back=mean(lambda each: each.way_back),
    )
