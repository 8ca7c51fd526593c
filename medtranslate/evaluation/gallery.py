"""Pictures to look at, chosen by seed and by cycle error, never by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medtranslate.evaluation.evaluated_model import Translated
from medtranslate.evaluation.frames import FrameSet
from medtranslate.evaluation.results import DirectionResult, Gallery


def galleries(
    row: DirectionResult,
    pictures: FrameSet,
    translated: Translated,
    truth: FrameSet | None,
    *,
    count: int,
    seed: int,
) -> list[Gallery]:
    """Return the random, best, median and worst pictures of a direction; none for a count of 0."""
    if count == 0:
        return []
    chosen = choices(translated.cycle_errors, count=count, seed=seed)
    return [
        Gallery(
            model=row.model,
            source=row.source,
            target=row.target,
            choice=choice,
            columns=("source", "translation", "back again", "truth")[: 3 if truth is None else 4],
            names=tuple(pictures.names[i] for i in indices),
            captions=tuple(f"cycle error {translated.cycle_errors[i]:.1f}" for i in indices),
            rows=_rows(indices, pictures, translated, truth),
        )
        for choice, indices in chosen.items()
    ]


def choices(cycle_errors: np.ndarray, *, count: int, seed: int) -> dict[str, list[int]]:
    """Choose frames: `count` by seed, and as many with the best, median and worst cycle error."""
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
    indices: Sequence[int], pictures: FrameSet, translated: Translated, truth: FrameSet | None
) -> np.ndarray:
    columns = [pictures.frames, translated.frames, translated.cycled]
    if truth is not None:
        columns.append(truth.frames)
    return np.stack([[column[i] for column in columns] for i in indices])
