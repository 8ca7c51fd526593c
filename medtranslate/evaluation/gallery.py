"""Images to look at, chosen by seed and by cycle error, never by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medtranslate.evaluation.evaluated_model import Candidate, Translated
from medtranslate.evaluation.lesions.planting import kinds
from medtranslate.evaluation.lesions.results import LesionResult, LesionTest
from medtranslate.evaluation.lesions.trial import Trial
from medtranslate.evaluation.results import DirectionResult, Gallery
from medtranslate.evaluation.slices import SliceSet
from medtranslate.modality import Target


def galleries(
    row: DirectionResult,
    images: SliceSet,
    translated: Translated,
    truth: SliceSet | None,
    *,
    count: int,
    seed: int,
) -> list[Gallery]:
    """Return the random, best, median and worst images of a direction; none for a count of 0."""
    if count == 0:
        return []
    chosen = choices(translated.cycle_errors, count=count, seed=seed)
    return [
        Gallery(
            model=row.model,
            source=row.source,
            target=row.target,
            choice=choice,
            columns=("source", "translation", "reconstruction", "truth")[
                : 3 if truth is None else 4
            ],
            names=tuple(images.names[i] for i in indices),
            captions=tuple(f"cycle error {translated.cycle_errors[i]:.1f}" for i in indices),
            rows=_rows(indices, images, translated, truth),
        )
        for choice, indices in chosen.items()
    ]


def choices(cycle_errors: np.ndarray, *, count: int, seed: int) -> dict[str, list[int]]:
    """Choose slices: `count` by seed, and as many with the best, median and worst cycle error."""
    total = len(cycle_errors)
    count = min(count, total)
    order = np.argsort(cycle_errors, kind="stable")
    middle = (total - count) // 2
    drawn = np.random.default_rng(seed).choice(total, size=count, replace=False)
    return {
        f"random (seed {seed})": sorted(drawn.tolist()),
        "best cycle error": order[:count].tolist(),
        "median cycle error": order[middle : middle + count].tolist(),
        "worst cycle error": order[::-1][:count].tolist(),
    }


def _rows(
    indices: Sequence[int], images: SliceSet, translated: Translated, truth: SliceSet | None
) -> np.ndarray:
    columns = [images.slices, translated.slices, translated.cycled]
    if truth is not None:
        columns.append(truth.slices)
    return np.stack([[column[i] for column in columns] for i in indices])


COLUMNS = (
    "source",
    "source with a lesion",
    "translation",
    "translation with the lesion",
    "reconstruction with the lesion",
)


def lesion_gallery(
    candidate: Candidate,
    images: SliceSet,
    heads: NDArray[np.bool_],
    test: LesionTest,
    *,
    target: Target,
    count: int,
    seed: int,
) -> Gallery:
    """Return so many of a test's lesions as images; other parameters as `lesion_test`.

    They are made and translated again: a test would hold thousands.
    """
    trial = Trial(candidate, images, heads, target, seed)
    count = min(count, len(test.lesions))
    drawn = np.random.default_rng(seed).choice(len(test.lesions), size=count, replace=False)
    lesions = [test.lesions[number] for number in sorted(drawn)]
    return Gallery(
        model=candidate.name,
        source=images.modality,
        target=target,
        choice=f"lesions, random (seed {seed})",
        columns=COLUMNS,
        names=tuple(each.name for each in lesions),
        captions=tuple(_caption(each) for each in lesions),
        rows=np.stack([_row(trial, each) for each in lesions]),
    )


def _row(trial: Trial, lesion: LesionResult) -> NDArray[np.uint8]:
    number = trial.images.names.index(lesion.name)
    kind = next(
        position
        for position, each in enumerate(kinds(trial.images.modality))
        if (each.shape, str(each.contrast), each.diameter)
        == (lesion.shape, lesion.contrast, lesion.diameter)
    )
    image = trial.images.slices[number]
    planted = trial.planted(number)[kind].image
    translated, returned = trial.there_and_back(np.stack([image, planted]), number)
    return np.stack([image, planted, *translated, returned[1]])


def _caption(lesion: LesionResult) -> str:
    return (
        f"{lesion.shape} {lesion.diameter:g} mm, {lesion.contrast}, "
        f"survival {lesion.survival:.2f}, reconstruction {lesion.reconstruction:.2f}"
    )
