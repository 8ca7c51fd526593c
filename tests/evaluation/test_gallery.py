"""Which images are shown."""

from __future__ import annotations

import numpy as np

from medtranslate.evaluation.gallery import choices


def test_choices_by_seed_and_by_rank() -> None:
    errors = np.array([5.0, 1.0, 9.0, 3.0, 7.0])
    found = choices(errors, count=1, seed=4)
    assert found["best cycle error"] == [1]
    assert found["median cycle error"] == [0]
    assert found["worst cycle error"] == [2]
    assert found == choices(errors, count=1, seed=4)
    drawn = {tuple(choices(errors, count=2, seed=s)[f"random (seed {s})"]) for s in range(20)}
    assert len(drawn) > 3


def test_fewer_images_than_asked_for_are_shown_once_each() -> None:
    found = choices(np.array([2.0, 1.0]), count=6, seed=0)
    assert all(sorted(indices) == [0, 1] for indices in found.values())
