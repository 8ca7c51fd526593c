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
    """Takes every slice for the contrast that its number says, of which one is not known here."""

    def tell_each(self, slices: torch.Tensor, head: torch.Tensor) -> list[ToldContrast]:
        chances = [("flair", 0.9), ("t1", 0.5), ("pd", 0.9)]
        return [ToldContrast(*chances[number % 3]) for number in range(len(slices))]


def test_a_model_with_a_choice_tells_contrasts_and_takes_them(tmp_path) -> None:
    folder = tiny_bundle(tmp_path / "coded", contrast_networks(told=("mri", "ct")))
    plain = Translator.load(folder, device="cpu")
    candidate = Candidate.of(replace(plain, contrast_classifier=Teller()))
    slices = torch.rand(3, 1, 256, 256) * 2 - 1

    told = candidate.tell_contrasts(slices)
    assert told == ["flair", "", ""]  # unclear, and one that the model does not make
    for to in ("mri", "ct"):
        found = candidate.translated(slices, to, ["flair", "", "t1"])
        for number, contrast in enumerate(("flair", "", "t1")):
            chosen = plain.for_contrast(contrast)
            expected = chosen.translate_slices(slices[number : number + 1], to=to, in_window=True)
            torch.testing.assert_close(found[number], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        candidate.translated(slices, "ct"), candidate.translated(slices, "ct", told)
    )


def test_a_translator_that_was_told_the_contrast_tells_none(tmp_path) -> None:
    folder = tiny_bundle(tmp_path / "coded", contrast_networks(told=("mri", "ct")))
    told = Translator.load(folder, device="cpu", contrast="flair")
    candidate = Candidate.of(replace(told, contrast_classifier=Teller()))
    slices = torch.rand(2, 1, 256, 256) * 2 - 1

    assert candidate.tell_contrasts is None
    expected = told.translate_slices(slices, to="ct", in_window=True)
    torch.testing.assert_close(candidate.translated(slices, "ct"), expected)
