"""Lesions to look at: drawn by seed, never by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtranslate.evaluation.evaluated_model import Candidate
from medtranslate.evaluation.frames import FrameSet
from medtranslate.evaluation.lesions.kinds import kinds
from medtranslate.evaluation.lesions.results import LesionResult, LesionTest
from medtranslate.evaluation.lesions.trial import Trial
from medtranslate.evaluation.protocol import Modality
from medtranslate.evaluation.results import Gallery

COLUMNS = (
    "source",
    "source with a lesion",
    "translation",
    "translation with the lesion",
    "with the lesion and back again",
)


def lesion_gallery(
    candidate: Candidate,
    pictures: FrameSet,
    heads: NDArray[np.bool_],
    test: LesionTest,
    *,
    target: Modality,
    count: int,
    seed: int,
) -> Gallery:
    """Return so many of a test's lesions as pictures; other parameters as `lesion_test`.

    They are made and translated again: a test would hold thousands.
    """
    trial = Trial(candidate, pictures, heads, target, seed)
    count = min(count, len(test.lesions))
    drawn = np.random.default_rng(seed).choice(len(test.lesions), size=count, replace=False)
    lesions = [test.lesions[number] for number in sorted(drawn)]
    return Gallery(
        model=candidate.name,
        source=pictures.modality,
        target=target,
        choice=f"lesions, random (seed {seed})",
        columns=COLUMNS,
        names=tuple(each.name for each in lesions),
        captions=tuple(_caption(each) for each in lesions),
        rows=np.stack([_row(trial, each) for each in lesions]),
    )


def _row(trial: Trial, lesion: LesionResult) -> NDArray[np.uint8]:
    number = trial.pictures.names.index(lesion.name)
    kind = next(
        position
        for position, each in enumerate(kinds(trial.pictures.modality))
        if (each.shape, str(each.contrast), each.diameter)
        == (lesion.shape, lesion.contrast, lesion.diameter)
    )
    frame = trial.pictures.frames[number]
    planted = trial.planted(number)[kind].frame
    translated, returned = trial.there_and_back(np.stack([frame, planted]), number)
    return np.stack([frame, planted, *translated, returned[1]])


def _caption(lesion: LesionResult) -> str:
    return (
        f"{lesion.shape} {lesion.diameter:g} mm, {lesion.contrast}, "
        f"survival {lesion.survival:.2f}, way back {lesion.way_back:.2f}"
    )
