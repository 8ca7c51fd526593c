"""A model's way through the slices: rounding, cycle error, cost, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_bundles import all_hu_bundle, contrast_networks, tiny_bundle

from medtranslate.bundle.save import Networks, save_bundle
from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.evaluated_model import Candidate, Translated, cost, translate
from medtranslate.evaluation.results import paper_fid
from medtranslate.files import shipped
from medtranslate.networks import Compact, ResNet9, UNet256
from medtranslate.translation import Translator
from medtranslate.translation.contrast import ToldContrast

HEADS = np.zeros((20, 256, 256), dtype=bool)
HEADS[:, 50:200, 60:190] = True


def run(translate_slices, slices: np.ndarray, masked: bool = False) -> Translated:
    steps: list[int] = []
    found = translate(
        Candidate("made", translate_slices),
        slices,
        HEADS,
        masked=masked,
        source="ct",
        target="mri",
        done=steps.append,
    )
    assert sum(steps) == len(slices)
    return found


def test_a_translation_and_its_reconstruction() -> None:
    slices = np.random.default_rng(0).integers(0, 256, (20, 256, 256), dtype=np.uint8)
    asked: list[str] = []

    def invert(given: torch.Tensor, to: str) -> torch.Tensor:
        asked.append(to)
        assert given.dtype == torch.float32
        assert given.shape[1:] == (1, 256, 256)
        return -given

    found = run(invert, slices)
    np.testing.assert_array_equal(found.slices, 255 - slices)
    np.testing.assert_array_equal(found.cycled, slices)
    np.testing.assert_allclose(found.cycle_errors, 0, atol=1e-4)
    assert asked == ["mri", "ct"] * 2
    assert found.seconds > 0


def test_the_cycle_error_is_inside_the_head_and_not_rounded() -> None:
    slices = np.full((20, 256, 256), 100, dtype=np.uint8)

    def drift(given: torch.Tensor, to: str) -> torch.Tensor:
        moved = given + 0.1 / 127.5  # a tenth of a gray level each way
        moved[:, :, :40] = -1  # and a loss outside the head
        return moved

    np.testing.assert_allclose(run(drift, slices).cycle_errors, 0.2, atol=1e-3)


def test_outside_the_head_a_masked_translation_is_background() -> None:
    slices = np.full((20, 256, 256), 100, dtype=np.uint8)
    found = run(lambda x, to: -x, slices, masked=True).slices
    assert (found[HEADS] == 155).all()
    assert (found[~HEADS] == 0).all()


def test_another_shape_is_refused() -> None:
    with pytest.raises(EvaluationFailed, match=r"model 'made' turns slices .* into \(16, 1, 128"):
        run(lambda x, to: x[..., ::2, :], np.zeros((20, 256, 256), np.uint8))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(EvaluationFailed, match="model 'made' gives values that are not finite"):
        run(lambda x, to: x / 0 * 0, np.zeros((20, 256, 256), np.uint8))


def test_cost_of_a_convolution_by_hand() -> None:
    found = cost(torch.nn.Conv2d(1, 8, 3, padding=1))
    assert found.parameters == 8 * 9 + 8
    assert found.gflop == pytest.approx(2 * 256 * 256 * 8 * 9 / 1e9)


def test_a_translator_becomes_a_candidate() -> None:
    class Generator:
        network = torch.nn.Conv2d(1, 1, 3, padding=1)
        sha256 = "c" * 64

    class Bundle:
        name, version = "brain", "1.2.0"

        def generator(self, to: str) -> Generator:
            return Generator()

    class Made:
        contrast = ""
        contrast_classifier = None
        bundle = Bundle()

        def translate_slices(
            self, slices: torch.Tensor, *, to: str, in_window: bool
        ) -> torch.Tensor:
            assert in_window
            return slices if to == "mri" else -slices

    candidate = Candidate.of(Made())
    assert (candidate.name, candidate.version) == ("brain", "1.2.0")
    assert paper_fid(cost(ResNet9()).parameters, "mri") == 58.32
    assert paper_fid(cost(UNet256()).parameters, "ct") == 90.47
    assert candidate.costs["mri"].parameters == 10
    assert candidate.weights_sha256 == {"ct": "c" * 64, "mri": "c" * 64}
    assert candidate.translate_slices(torch.ones(1), "ct") == -1


def test_a_loaded_bundle_translates_slices(tmp_path) -> None:
    networks = {to: Compact().eval() for to in ("mri", "ct")}
    spec = {"_target_": "medtranslate.networks.Compact"}
    recipes = sorted(shipped("transforms").glob("*.yaml"))
    save_bundle(
        tmp_path / "b", Networks(dict.fromkeys(networks, spec), networks), recipes,
        name="made", version="3",
    )  # fmt: skip
    candidate = Candidate.of(Translator.load(tmp_path / "b", device="cpu"))
    assert (candidate.name, candidate.version) == ("made", "3")
    given = torch.rand(3, 1, 256, 256) * 2 - 1
    found = candidate.translate_slices(given, "mri")
    with torch.inference_mode():
        expected = networks["mri"](given)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert len(candidate.weights_sha256["ct"]) == 64


def test_a_ct_of_all_hu_is_judged_in_its_window(tmp_path) -> None:
    translator = Translator.load(all_hu_bundle(tmp_path / "wide"), device="cpu")
    slices = torch.rand(2, 1, 256, 256) * 2 - 1

    raw = translator.translate_slices(slices, to="ct")
    judged = Candidate.of(translator).translated(slices, "ct")

    assert raw.std() > 0.05
    torch.testing.assert_close(judged, (raw / 0.6).clamp(-1, 1))
    made = translator.translate_slices(slices, to="mri").clamp(-1, 1)
    assert torch.equal(Candidate.of(translator).translated(slices, "mri"), made)
    without = replace(translator, bundle=replace(translator.bundle, recipes={}))
    assert torch.equal(without.translate_slices(slices, to="mri", in_window=True), made)


class Teller:
    """Takes an MRI for what the mean of its slices says: above 0 clear, below -0.5 not known."""

    def tell(self, slices: torch.Tensor, head: torch.Tensor) -> ToldContrast | None:
        assert head.shape == (len(slices), 256, 256)
        if not head.any():
            return None
        mean = float(slices.mean())
        if mean < -0.5:
            return ToldContrast("pd", 0.9)
        return ToldContrast("flair", 0.9 if mean > 0 else 0.5)


def test_a_model_with_a_choice_tells_contrasts_and_takes_them(tmp_path) -> None:
    folder = tiny_bundle(tmp_path / "coded", contrast_networks(told=("mri", "ct")))
    plain = Translator.load(folder, device="cpu")
    candidate = Candidate.of(replace(plain, contrast_classifier=Teller()))
    slices = torch.rand(3, 1, 256, 256) * 0.2 + torch.tensor([0.5, -0.4, -0.9])[:, None, None, None]

    told = [candidate.tell_contrast(one, one[:, 0] > -1) for one in slices.split(1)]
    assert told == ["flair", "", ""]  # unclear, and one that the model does not make
    assert candidate.tell_contrast(slices, slices[:, 0] > 2) == ""  # no head
    for to in ("mri", "ct"):
        found = candidate.translated(slices, to, ["flair", "", "t1"])
        for number, contrast in enumerate(("flair", "", "t1")):
            chosen = plain.for_contrast(contrast)
            expected = chosen.translate_slices(slices[number : number + 1], to=to, in_window=True)
            torch.testing.assert_close(found[number], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        candidate.translated(slices, "ct"), candidate.translated(slices, "ct", told)
    )


def test_a_contrast_that_is_fixed_is_what_every_mri_is_taken_for(tmp_path) -> None:
    folder = tiny_bundle(tmp_path / "coded", contrast_networks(told=("mri", "ct")))
    fixed = Translator.load(folder, device="cpu", contrast="flair")
    candidate = Candidate.of(replace(fixed, contrast_classifier=Teller()))
    slices = torch.rand(2, 1, 256, 256) - 1

    assert candidate.tell_contrast(slices, slices[:, 0] > -1) == "flair"
    expected = fixed.translate_slices(slices, to="ct", in_window=True)
    torch.testing.assert_close(candidate.translated(slices, "ct"), expected)


def test_a_classifier_beside_a_model_without_a_choice_is_not_asked(tmp_path) -> None:
    model = Translator.load(tiny_bundle(tmp_path / "plain"), device="cpu")
    assert Candidate.of(replace(model, contrast_classifier=Teller())).tell_contrast is None


def test_slices_of_one_contrast_go_together_and_come_back_in_their_order() -> None:
    slices = np.stack([np.full((256, 256), number, np.uint8) for number in range(20)])
    contrasts = ["t1" if number % 3 else "flair" for number in range(20)]
    batches: list[tuple[str, ...]] = []

    def same(given: torch.Tensor, to: str, asked: list[str]) -> torch.Tensor:
        batches.append(tuple(asked))
        return given

    found = translate(
        Candidate("made", same), slices, HEADS, masked=False, source="ct", target="mri",
        done=lambda count: None, contrasts=contrasts,
    )  # fmt: skip

    assert np.array_equal(found.slices, slices) and np.array_equal(found.cycled, slices)
    assert found.cycle_errors == pytest.approx(0, abs=1e-4)
    assert [len(set(batch)) for batch in batches[::2]] == [2, 1]
