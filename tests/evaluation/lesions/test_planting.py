"""Lesions of every shape, contrast and size, and where they may lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtranslate.evaluation.lesions.planting import (
    CONTRASTS,
    DIAMETERS,
    PIXEL,
    REACH,
    SHAPES,
    Contrast,
    brain,
    depth,
    has_room,
    kinds,
    plant,
    weights,
)
from medtranslate.evaluation.slices import GRAY, ValueRange, head_masks


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
    center = len(made) // 2
    assert np.hypot(rows - center, columns - center).max() <= REACH * diameter / 2 + 2


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


def test_contrasts_in_gray_levels() -> None:
    assert Contrast(35, "HU").gray(100, GRAY) == pytest.approx(35 * 255 / 120)
    assert Contrast(12, "HU").gray(100, ValueRange("HU", -20, 100)) == pytest.approx(25.5)
    assert Contrast(12, "HU").gray(100, ValueRange("HU", -60, 180)) == pytest.approx(12.75)
    assert Contrast(-40, "%").gray(150, GRAY) == pytest.approx(-60)
    assert str(Contrast(-12, "HU")) == "-12 HU"


@pytest.fixture(scope="module")
def brains(ct, mri):
    return {
        each.modality: (
            each.slices[0],
            brain(each.slices[0], head_masks(each.slices[:1], each.modality)[0], each.modality),
        )
        for each in (ct, mri)
    }


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_the_brain_is_inside_the_skull(brains, modality: str) -> None:
    image, inside = brains[modality]
    assert inside.sum() > 10_000
    skull = {"ct": 255, "mri": 40}[modality]
    rim = depth(inside) <= 1
    assert abs(float(np.median(image[inside])) - skull) > 80
    # Two pixels farther out there is still brain, not skull: the mask keeps away from bone.
    assert abs(float(np.median(image[inside & rim])) - skull) > 50


def test_a_ct_slice_without_a_closed_ring_of_bone_has_no_brain(ct) -> None:
    image = ct.slices[0].copy()
    head = head_masks(image[None], "ct")[0]
    image[:128, 120:136] = np.minimum(image[:128, 120:136], 90)
    assert not brain(image, head, "ct").any()
    assert not has_room(image, brain(image, head, "ct"), "ct")


def test_an_mr_slice_with_a_face_has_no_brain(mri) -> None:
    image = mri.slices[0].copy()
    head = head_masks(image[None], "mri")[0]
    image[60:100, 110:146] = 3  # a sinus full of air
    assert not brain(image, head, "mri").any()


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_a_lesion_changes_its_place_by_its_contrast(brains, modality: str) -> None:
    image, inside = brains[modality]
    assert has_room(image, inside, modality)
    found = plant(image, inside, modality, GRAY, kinds(modality), (7, 0))
    assert [each.kind for each in found] == list(kinds(modality))
    for each in found:
        change = each.image.astype(float) - image
        assert inside[each.lesion].all()
        assert (change[~inside] == 0).all()
        local = float(image[each.lesion].mean())
        wanted = each.kind.contrast.gray(local, GRAY)
        got = change[each.lesion].mean()
        assert np.sign(got) == np.sign(wanted)
        # A blob's soft rim takes some of it, the more the smaller it is; white takes the rest.
        assert 0.55 * abs(wanted) <= abs(got) <= 1.1 * abs(wanted)
        equivalent = 2 * np.sqrt(each.lesion.sum() / np.pi)
        assert equivalent == pytest.approx(each.kind.pixels, rel=0.25)


def test_contrasts_of_mr_follow_the_place(brains) -> None:
    image, inside = brains["mri"]
    dimmed = (image * 0.5).astype(np.uint8)
    bright, dim = (
        plant(each, inside, "mri", GRAY, kinds("mri")[:5], (7, 0)) for each in (image, dimmed)
    )
    assert str(CONTRASTS["mri"][0]) == "+60 %"
    for one, other in zip(bright, dim, strict=True):
        first = (one.image.astype(float) - image)[one.lesion].mean()
        second = (other.image.astype(float) - dimmed)[other.lesion].mean()
        assert second == pytest.approx(first / 2, rel=0.15)


def test_places_are_drawn_by_seed(brains) -> None:
    image, inside = brains["ct"]
    drawn = [
        [(each.row, each.column) for each in plant(image, inside, "ct", GRAY, kinds("ct"), seeds)]
        for seeds in ((7, 0), (7, 0), (8, 0))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 35
