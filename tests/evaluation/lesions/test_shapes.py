"""The shapes of made lesions: area, softness, no more than they may reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtranslate.evaluation.lesions.kinds import (
    CONTRASTS,
    DIAMETERS,
    PIXEL,
    SHAPES,
    Contrast,
    kinds,
)
from medtranslate.evaluation.lesions.shapes import REACH, weights
from medtranslate.evaluation.scale import GREY, Scale


@settings(max_examples=30, deadline=None)
@example("blob", 10.5, 0)  # its hill has a valley: cut at one height it falls into parts
@given(
    st.sampled_from(SHAPES), st.floats(5 / PIXEL, 25 / PIXEL), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_a_lesion_has_the_area_of_its_disc(shape: str, diameter: float, seed: int) -> None:
    made = weights(shape, diameter, np.random.default_rng(seed))
    area = math.pi * (diameter / 2) ** 2
    assert made.sum() == pytest.approx(area, rel=0.3)
    assert made.shape[0] == made.shape[1] and made.shape[0] % 2 == 1
    rows, columns = np.nonzero(made > 0.5)
    centre = len(made) // 2
    assert np.hypot(rows - centre, columns - centre).max() <= REACH * diameter / 2 + 2


def test_discs_are_even_and_blobs_are_not() -> None:
    disc = weights("disc", 20, np.random.default_rng(0))
    blob = weights("blob", 20, np.random.default_rng(0))
    assert (disc[disc > 0.99] == 1).all()
    assert blob[blob > 0.8].std() > 0.05
    middle = len(blob) // 2
    assert not np.allclose(blob[middle:], blob[middle::-1], atol=0.2)


def test_a_seed_makes_one_blob() -> None:
    first, second, other = (weights("blob", 12, np.random.default_rng(n)) for n in (1, 1, 2))
    assert (first == second).all()
    assert not (first == other).all()


def test_every_kind_is_there_once() -> None:
    for modality in ("ct", "mri"):
        found = kinds(modality)
        assert len(set(found)) == len(SHAPES) * len(CONTRASTS[modality]) * len(DIAMETERS) == 40
        assert {each.contrast.amount > 0 for each in found} == {True, False}
        assert min(DIAMETERS) == 5 and max(DIAMETERS) == 25


def test_contrasts_in_grey_levels() -> None:
    assert Contrast(35, "HU").grey(100, GREY) == pytest.approx(35 * 255 / 120)
    assert Contrast(12, "HU").grey(100, Scale("HU", -20, 100)) == pytest.approx(25.5)
    assert Contrast(12, "HU").grey(100, Scale("HU", -60, 180)) == pytest.approx(12.75)
    assert Contrast(-40, "%").grey(150, GREY) == pytest.approx(-60)
    assert str(Contrast(-12, "HU")) == "-12 HU"
