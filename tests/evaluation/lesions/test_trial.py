"""Known generators give the known figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.evaluated_model import Candidate
from medtranslate.evaluation.lesions import LesionTest, lesion_test
from medtranslate.evaluation.lesions.planting import CONTRASTS, DIAMETERS, SHAPES
from medtranslate.evaluation.slices import head_masks

Generator = Callable[[torch.Tensor, str], torch.Tensor]


@pytest.fixture(scope="module")
def tested(ct, mri):
    """Test a generator on synthetic heads, CT to MRI or the other way."""
    sets = {"mri": ct, "ct": mri}
    heads = {to: head_masks(each.slices, each.modality) for to, each in sets.items()}

    def run(generator: Generator, target: str = "mri", slices: int = 1) -> LesionTest:
        made = Candidate("made", generator)
        return lesion_test(
            made, sets[target], heads[target], target=target, slices=slices, seed=3
        )  # fmt: skip

    return run


@pytest.mark.parametrize("target", ["mri", "ct"])
def test_nothing_is_lost_where_nothing_is_changed(tested, target: str) -> None:
    found = tested(lambda slices, to: slices, target, slices=2)
    everything = found.groups[0]
    assert everything.lesions == 80 and found.slices == found.cases == 2
    assert {each.survival for each in found.lesions} == {1.0}
    assert everything.seen == everything.seen_in_source
    assert everything.inverted.mean == everything.echoed.mean == found.invented.mean == 0
    assert everything.reconstruction.mean == pytest.approx(1, abs=0.03)
    assert found.spread_source == found.spread_target


def test_a_blank_image_shows_no_lesion(tested) -> None:
    found = tested(lambda slices, to: torch.zeros_like(slices))
    everything = found.groups[0]
    assert {each.translated for each in found.lesions} == {0.0}
    assert everything.survival.mean == everything.seen.mean == everything.reconstruction.mean == 0
    assert everything.echoed.mean == 0
    assert np.isnan(everything.inverted.mean)


def blur(side: int) -> Generator:
    def blurred(slices: torch.Tensor, to: str) -> torch.Tensor:
        along = avg_pool2d(slices, (1, side), 1, (0, side // 2))
        return avg_pool2d(along, (side, 1), 1, (side // 2, 0))

    return blurred


def test_a_strong_blur_leaves_nothing(tested) -> None:
    found = tested(blur(41))
    assert found.groups[0].survival.mean < 0.1
    by_size = {g.diameter: g.survival.mean for g in found.groups if g.sorts == 1 and g.diameter}
    assert by_size[5] < 0.02


def test_a_blur_takes_small_lesions_first(tested) -> None:
    found = tested(blur(15))
    left = [
        np.mean([x.translated / x.planted for x in found.lesions if x.diameter == diameter])
        for diameter in DIAMETERS
    ]
    assert left == sorted(left)
    assert left[0] < 0.1 and left[-1] > 0.5


def test_a_negative_keeps_lesions_and_turns_them(tested) -> None:
    found = tested(lambda slices, to: -slices)
    assert {round(each.survival, 6) for each in found.lesions} == {-1.0}
    assert found.groups[0].survival.mean == pytest.approx(1)
    assert found.groups[0].inverted.mean == 1
    assert found.groups[0].reconstruction.mean == pytest.approx(1, abs=0.03)


def test_a_source_hidden_in_gray_levels_that_nobody_sees_is_no_survival(tested) -> None:
    """The reconstruction would bring all of it: CycleGAN's own trick."""

    def hidden(slices: torch.Tensor, to: str) -> torch.Tensor:
        return 0.03 * slices if to == "mri" else (slices / 0.03).clamp(-1, 1)

    found = tested(hidden)
    assert found.groups[0].survival.mean < 0.2
    assert found.groups[0].reconstruction.mean > 0.3


def test_what_fades_with_everything_else_is_kept(tested) -> None:
    found = tested(lambda slices, to: slices * 0.5)
    assert found.spread_target == pytest.approx(found.spread_source / 2, abs=1)
    assert found.groups[0].survival.mean == pytest.approx(1, abs=0.05)


def test_a_lesion_that_appears_elsewhere_is_counted(tested) -> None:
    def mirrored(slices: torch.Tensor, to: str) -> torch.Tensor:
        return (slices + slices.flip(-1)) / 2 if to == "mri" else slices

    found = tested(mirrored, slices=2)
    away = [each for each in found.lesions if abs(each.column - 128) > 30 and each.diameter > 5]
    assert len(away) > 20
    assert np.mean([each.echoes for each in away]) == pytest.approx(1, abs=0.2)


def test_a_spot_that_no_source_explains_is_counted(tested) -> None:
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    spot = torch.hypot(rows - 128.0, columns - 150.0) < 7

    def adds(slices: torch.Tensor, to: str) -> torch.Tensor:
        return slices.where(~spot, 0.7) if to == "mri" else slices

    found = tested(adds)
    assert found.invented.mean == 1


def test_groups_are_of_every_sort(tested) -> None:
    found = tested(lambda slices, to: slices)
    contrasts = [str(each) for each in CONTRASTS["ct"]]
    assert [(g.shape, g.contrast, g.diameter) for g in found.groups[:12]] == [
        ("", "", None),
        *((shape, "", None) for shape in SHAPES),
        *(("", contrast, None) for contrast in contrasts),
        *(("", "", diameter) for diameter in DIAMETERS),
    ]
    assert [g.sorts for g in found.groups] == [0] + [1] * 11 + [2] * 20 + [3] * 40
    assert {g.lesions for g in found.groups if g.sorts == 3} == {1}
    assert all(g.lesions == 2 for g in found.groups if g.sorts == 2)


def test_a_seed_gives_one_result(tested) -> None:
    first, second = (tested(lambda slices, to: slices) for _ in range(2))
    assert first == second


def test_the_models_word_counts_inside_the_head_only(ct) -> None:
    heads = head_masks(ct.slices, "ct")
    limited = dataclasses.replace(ct, heads=heads)
    seen: list[torch.Tensor] = []

    def watch(slices: torch.Tensor, to: str) -> torch.Tensor:
        seen.append(slices)
        return torch.ones_like(slices)

    lesion_test(Candidate("made", watch), limited, heads, target="mri", slices=1, seed=3)
    second_input = seen[1][0, 0]
    assert (second_input < -0.7).any() and (second_input > 0.7).any()


def test_slices_without_enough_brain_are_named(ct) -> None:
    small = dataclasses.replace(ct, slices=np.zeros_like(ct.slices))
    heads = np.ones_like(ct.slices, dtype=bool)
    with pytest.raises(EvaluationFailed, match="no CT slice has enough brain for a lesion"):
        lesion_test(
            Candidate("made", lambda x, to: x), small, heads, target="mri", slices=1, seed=3
        )
