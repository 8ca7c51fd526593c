"""From models and two sets to every figure, with a made extractor."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from medtranslate.errors import EvaluationFailed, InvalidOption
from medtranslate.evaluation.evaluated_model import Candidate, Cost
from medtranslate.evaluation.evaluator import Evaluator
from medtranslate.evaluation.lesions import lesion_test
from medtranslate.evaluation.results import RealData, paper_fid
from medtranslate.evaluation.slices import head_masks
from medtranslate.evaluation.table import grids


def oracle(ct, mri) -> Candidate:
    """Knows the pairs: a perfect translation, and a perfect way back."""
    known = {
        "mri": {a.tobytes(): b for a, b in zip(ct.slices, mri.slices, strict=True)},
        "ct": {b.tobytes(): a for a, b in zip(ct.slices, mri.slices, strict=True)},
    }

    def translate(slices: torch.Tensor, to: str) -> torch.Tensor:
        grays = ((slices[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
        answers = np.stack([known[to][gray.tobytes()] for gray in grays])
        return torch.from_numpy(answers.astype(np.float32) / 127.5 - 1)[:, None]

    costs = {"mri": Cost(11_370_000, 97.5), "ct": Cost(11_370_000, 97.5)}
    return Candidate("oracle", translate, version="1", costs=costs)


NONE = Candidate("none", lambda slices, to: slices)


@pytest.fixture(scope="module")
def evaluation(ct, mri, new_extractor):
    data = RealData(ct, mri, paired=True)
    return Evaluator([oracle(ct, mri), NONE], data, new_extractor(), images=3).run()


def row(evaluation, model: str, target: str):
    [found] = [r for r in evaluation.directions if (r.model, r.target) == (model, target)]
    return found


def test_a_perfect_translation_has_perfect_figures(evaluation) -> None:
    for target in ("mri", "ct"):
        found = row(evaluation, "oracle", target)
        assert found.distances.fid == pytest.approx(0, abs=1e-3)
        assert (found.distances.precision, found.distances.recall) == (1, 1)
        assert found.cycle_error.mean == pytest.approx(0, abs=1e-4)
        assert found.paired is not None
        assert found.paired.mae.mean == 0
        assert found.paired.ssim.mean == pytest.approx(1, abs=1e-5)
        assert (found.parameters, found.gflop) == (11_370_000, 97.5)


def test_no_translation_is_the_ceiling(evaluation) -> None:
    for target in ("mri", "ct"):
        ceiling = evaluation.baselines[target].ceiling
        found = row(evaluation, "none", target).distances
        assert found.fid == pytest.approx(ceiling.fid, abs=1e-3)
        assert found.precision == ceiling.precision
        assert found.sizes == ceiling.sizes
        assert found.fid > evaluation.baselines[target].floor.fid


def test_every_floor_has_a_figure_of_its_size(evaluation) -> None:
    for found in evaluation.directions:
        beside = evaluation.baselines[found.target]
        assert beside.floor_kind == "halves"
        assert found.at_floor_size.sizes == beside.floor.sizes == (4, 4)


def test_the_papers_figure_goes_with_the_generator(evaluation) -> None:
    assert row(evaluation, "oracle", "mri").paper_fid == 58.32
    assert row(evaluation, "oracle", "ct").paper_fid == 71.41
    assert row(evaluation, "none", "ct").paper_fid is None
    assert paper_fid(54_413_000, "mri") == 95.19
    assert paper_fid(2_000_000, "mri") is None


def test_what_went_in_is_recorded(evaluation, ct, mri) -> None:
    assert [(s.role, s.modality, s.images, s.sha256) for s in evaluation.sets] == [
        ("test", "ct", 8, ct.digest),
        ("test", "mri", 8, mri.digest),
    ]
    assert evaluation.protocol["name"] == "published"
    assert evaluation.extractor["sha256"] == "0" * 64
    assert evaluation.machine["torch"] == torch.__version__ or evaluation.machine["torch"]
    assert [case.name for case in evaluation.directions[0].cases] == list(ct.names)
    assert len(evaluation.warnings) == 2
    assert "8 CT images: under 500" in evaluation.warnings[0]


def test_galleries_are_by_seed_and_by_cycle_error(evaluation) -> None:
    shown = [g for g in evaluation.galleries if (g.model, g.target) == ("none", "mri")]
    assert [g.choice for g in shown] == [
        "random (seed 2020)", "best cycle error", "median cycle error", "worst cycle error",
    ]  # fmt: skip
    assert all(g.rows.shape == (3, 4, 256, 256) for g in shown)


def test_real_features_are_extracted_once_for_several_models(ct, mri, extractor) -> None:
    again = dataclasses.replace(NONE, version="2")
    Evaluator([NONE, again], RealData(ct, mri), extractor, images=0).run()
    assert extractor.extracted == [8, 8] + 2 * [8, 8]  # real sets, then each model's own


def test_progress_ends_at_the_total(ct, mri, extractor) -> None:
    seen: dict[str, tuple[int, int]] = {}
    plan = Evaluator(
        [NONE], RealData(ct, mri), extractor, progress=lambda s, n, m: seen.update({s: (n, m)})
    )
    plan.run()
    assert set(seen.values()) == {(8, 8)}
    assert "none: CT to MRI" in seen


def test_the_same_seed_gives_the_same_figures(ct, mri, extractor, evaluation) -> None:
    data = RealData(ct, mri, paired=True)
    again = Evaluator([oracle(ct, mri), NONE], data, extractor, images=3).run()
    timeless = [dataclasses.replace(r, seconds_per_slice=0) for r in again.directions]
    assert timeless == [dataclasses.replace(r, seconds_per_slice=0) for r in evaluation.directions]


def test_the_same_images_on_both_sides_are_refused(ct) -> None:
    same = dataclasses.replace(ct, modality="mri", folder="testA")
    with pytest.raises(EvaluationFailed, match="testA: the CT and the MRI set hold the same"):
        RealData(ct, same)


def test_a_reference_that_is_the_test_set_is_refused(ct, mri) -> None:
    with pytest.raises(EvaluationFailed, match="the CT reference is the test set itself"):
        RealData(ct, mri, ct_reference=ct)


def test_a_model_given_twice_is_refused(ct, mri, extractor) -> None:
    with pytest.raises(EvaluationFailed, match="given twice: none"):
        Evaluator([NONE, NONE], RealData(ct, mri), extractor)
    with pytest.raises(EvaluationFailed, match="no model"):
        Evaluator([], RealData(ct, mri), extractor)


def corner(slices: torch.Tensor, head: torch.Tensor) -> str:
    """Tell the contrast of a made MRI: by a corner of its first slice, which is background."""
    return {-1: "", 0: "t1", 1: "flair"}[round(float(slices[0, 0, 0, 0]))]


def marked(mri, contrasts: tuple[str, ...]):
    """MR slices of which a corner says the contrast."""
    grays = {"": 0, "t1": 128, "flair": 255}
    slices = mri.slices.copy()
    slices[:, 0, 0] = [grays[each] for each in contrasts]
    return dataclasses.replace(mri, slices=slices)


class Asked:
    """Leaves slices as they are, and keeps what contrasts it was asked for, by what it made."""

    def __init__(self) -> None:
        self.contrasts: dict[str, list[tuple[bytes, str]]] = {"mri": [], "ct": []}

    def __call__(self, slices: torch.Tensor, to: str, contrasts=()) -> torch.Tensor:
        grays = ((slices[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
        names = list(contrasts) or [None] * len(slices)
        self.contrasts[to] += [(g.tobytes(), n) for g, n in zip(grays, names, strict=True)]
        return slices

    def of(self, to: str, images) -> list[str]:
        """Contrasts asked for, of these images in their order."""
        asked = dict(self.contrasts[to])
        return [asked[each.tobytes()] for each in images.slices]


TOLD = ("t1", "", "flair", "", "flair", "t1", "", "t1")


def contrasts_asked_of(ct, mri, new_extractor, told=TOLD, *, paired: bool):
    asked, mri = Asked(), marked(mri, told)
    candidate = Candidate("coded", asked, tell_contrast=corner)
    found = Evaluator([candidate], RealData(ct, mri, paired=paired), new_extractor(), images=0)
    counted = {each.target: each.mr_contrasts for each in found.run().directions}
    by_source = {
        "ct": (asked.of("mri", ct), asked.of("ct", ct)),
        "mri": (asked.of("ct", mri), asked.of("mri", mri)),
    }
    return by_source, counted


def test_made_mri_have_the_contrasts_of_the_real_ones(ct, mri, new_extractor) -> None:
    asked, counted = contrasts_asked_of(ct, mri, new_extractor, paired=False)

    made, back = asked["ct"]
    assert made == back
    assert set(made) == {"t1", "flair"}  # an unclear one says nothing of what is to be made
    assert asked["mri"] == (list(TOLD), list(TOLD))
    assert sum(counted["mri"].values()) == 8
    assert counted["ct"] == {"": 3, "flair": 2, "t1": 3}


def test_made_mri_have_them_as_often_as_the_real_ones(synthetic_set, mri, new_extractor) -> None:
    many, told = synthetic_set("ct", count=120), ("t1",) * 6 + ("flair", "")
    _, counted = contrasts_asked_of(many, mri, new_extractor, told, paired=False)
    assert counted["mri"]["t1"] == pytest.approx(120 * 6 / 7, abs=12)
    assert counted["mri"]["flair"] == pytest.approx(120 / 7, abs=12)


def test_without_any_clear_contrast_the_model_makes_its_own(ct, mri, new_extractor) -> None:
    asked, counted = contrasts_asked_of(ct, mri, new_extractor, ("",) * 8, paired=False)
    assert asked["ct"] == ([""] * 8, [""] * 8)
    assert counted["mri"] == {"": 8}


def test_a_volume_has_one_contrast(ct, mri, new_extractor) -> None:
    scans = ("a", "a", "a", "b", "b", "c", "c", "c")
    images = dataclasses.replace(mri, cases=scans), dataclasses.replace(ct, cases=scans)
    told = ("flair", "t1", "t1", "t1", "flair", "", "flair", "flair")  # the first slice is asked
    asked, _ = contrasts_asked_of(images[1], images[0], new_extractor, told, paired=False)

    assert asked["mri"][0] == ["flair"] * 3 + ["t1"] * 2 + [""] * 3
    made = asked["ct"][0]
    assert all(len(set(made[part])) == 1 for part in (slice(0, 3), slice(3, 5), slice(5, 8)))


def test_the_mri_of_a_pair_has_its_partners_contrast(ct, mri, new_extractor) -> None:
    asked, counted = contrasts_asked_of(ct, mri, new_extractor, paired=True)
    assert asked["ct"] == (list(TOLD), list(TOLD))
    assert counted["mri"] == {"": 3, "flair": 2, "t1": 3}


def test_a_model_without_a_choice_is_asked_for_no_contrast(evaluation) -> None:
    assert all(each.mr_contrasts == {} for each in evaluation.directions)


def test_contrasts_are_named_below_the_table(ct, mri, new_extractor) -> None:
    candidate = Candidate("coded", Asked(), tell_contrast=corner)
    data = RealData(ct, marked(mri, TOLD), paired=True)
    found = Evaluator([candidate], data, new_extractor(), images=0).run()
    caption = grids(found)[0].caption
    assert caption.endswith("MRI of coded, MRI to CT: 3 not told, 2 flair, 3 t1.")


@pytest.mark.parametrize(("source", "expected"), [("mri", "flair"), ("ct", "")])
def test_no_lesion_changes_the_contrast_of_its_slice(ct, mri, source: str, expected: str) -> None:
    asked, images = Asked(), {"mri": mri, "ct": ct}[source]
    plain = {each.tobytes() for each in images.slices}

    def tell(slices: torch.Tensor, head: torch.Tensor) -> str:
        [gray] = ((slices[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
        return "flair" if gray.tobytes() in plain else "t1"

    candidate = Candidate("coded", asked, tell_contrast=tell)
    heads = head_masks(images.slices, source)
    target = "ct" if source == "mri" else "mri"
    lesion_test(candidate, images, heads, target=target, slices=1, seed=0)
    for to in ("mri", "ct"):
        assert {contrast for _, contrast in asked.contrasts[to]} == {expected}
    assert len(asked.contrasts[target]) > 1


def test_distances_are_of_ct_with_grain_and_nothing_else_is(ct, mri, new_extractor) -> None:
    judged = []

    class Recorder(new_extractor):
        def features(self, slices, **more):
            judged.append(slices)
            return super().features(slices, **more)

    data = RealData(ct, mri, paired=True)
    grainy = Evaluator([oracle(ct, mri)], data, Recorder(), images=0, grain=8.0).run()

    made, other = row(grainy, "oracle", "ct"), row(grainy, "oracle", "mri")
    assert (made.grain, other.grain) == (8.0, 0.0)
    for each in (made, other):  # the oracle would not know a CT with grain
        assert each.paired.mae.mean == 0 and each.cycle_error.mean == pytest.approx(0, abs=1e-4)
    [as_mri, as_ct] = judged[-2:]
    assert np.array_equal(as_mri, mri.slices) and as_ct.dtype == np.uint8
    between = (ct.slices > 40) & (ct.slices < 215)
    noise = as_ct.astype(float) - ct.slices
    assert noise[between].std() == pytest.approx(8 * 255 / 120, rel=0.1)
    assert not noise[ct.slices == 0].any()
    caption = next(grid.caption for grid in grids(grainy) if "n: translated" in grid.caption)
    assert "Noise of 8 HU was added to synthetic CT." in caption
    with pytest.raises(InvalidOption, match="grain must be"):
        Evaluator([oracle(ct, mri)], data, new_extractor(), grain=-1.0)
