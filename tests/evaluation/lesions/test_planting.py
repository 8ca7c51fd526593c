"""Where the brain is, and what planting a lesion changes: that place, by that much, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from medtranslate.evaluation.heads import head_masks
from medtranslate.evaluation.lesions.brain import brain, depth
from medtranslate.evaluation.lesions.kinds import CONTRASTS, kinds
from medtranslate.evaluation.lesions.planting import has_room, plant
from medtranslate.evaluation.scale import GREY


@pytest.fixture(scope="module")
def brains(ct, mri):
    return {
        each.modality: (
            each.frames[0],
            brain(each.frames[0], head_masks(each.frames[:1], each.modality)[0], each.modality),
        )
        for each in (ct, mri)
    }


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_the_brain_is_inside_the_skull(brains, modality: str) -> None:
    frame, inside = brains[modality]
    assert inside.sum() > 10_000
    skull = {"ct": 255, "mri": 40}[modality]
    rim = depth(inside) <= 1
    assert abs(float(np.median(frame[inside])) - skull) > 80
    # Two pixels farther out there is still brain, not skull: the mask keeps away from bone.
    assert abs(float(np.median(frame[inside & rim])) - skull) > 50


def test_a_ct_slice_without_a_closed_ring_of_bone_has_no_brain(ct) -> None:
    frame = ct.frames[0].copy()
    head = head_masks(frame[None], "ct")[0]
    frame[:128, 120:136] = np.minimum(frame[:128, 120:136], 90)
    assert not brain(frame, head, "ct").any()
    assert not has_room(frame, brain(frame, head, "ct"), "ct")


def test_an_mr_slice_with_a_face_has_no_brain(mri) -> None:
    frame = mri.frames[0].copy()
    head = head_masks(frame[None], "mri")[0]
    frame[60:100, 110:146] = 3  # a sinus full of air
    assert not brain(frame, head, "mri").any()


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_a_lesion_changes_its_place_by_its_contrast(brains, modality: str) -> None:
    frame, inside = brains[modality]
    assert has_room(frame, inside, modality)
    found = plant(frame, inside, modality, GREY, kinds(modality), (7, 0))
    assert [each.kind for each in found] == list(kinds(modality))
    for each in found:
        change = each.frame.astype(float) - frame
        assert inside[each.lesion].all()
        assert (change[~inside] == 0).all()
        local = float(frame[each.lesion].mean())
        wanted = each.kind.contrast.grey(local, GREY)
        got = change[each.lesion].mean()
        assert np.sign(got) == np.sign(wanted)
        # A blob's soft rim takes some of it, the more the smaller it is; white takes the rest.
        assert 0.55 * abs(wanted) <= abs(got) <= 1.1 * abs(wanted)
        equivalent = 2 * np.sqrt(each.lesion.sum() / np.pi)
        assert equivalent == pytest.approx(each.kind.pixels, rel=0.25)


def test_contrasts_of_mr_follow_the_place(brains) -> None:
    frame, inside = brains["mri"]
    dimmed = (frame * 0.5).astype(np.uint8)
    bright, dim = (
        plant(each, inside, "mri", GREY, kinds("mri")[:5], (7, 0)) for each in (frame, dimmed)
    )
    assert str(CONTRASTS["mri"][0]) == "+60 %"
    for one, other in zip(bright, dim, strict=True):
        first = (one.frame.astype(float) - frame)[one.lesion].mean()
        second = (other.frame.astype(float) - dimmed)[other.lesion].mean()
        assert second == pytest.approx(first / 2, rel=0.15)


def test_places_are_drawn_by_seed(brains) -> None:
    frame, inside = brains["ct"]
    drawn = [
        [(each.row, each.column) for each in plant(frame, inside, "ct", GREY, kinds("ct"), seeds)]
        for seeds in ((7, 0), (7, 0), (8, 0))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 35
