"""Expected errors come from the networks of the bundle, in the target's units, or not at all."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import stub_translator
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from stub_translator import same, translator
from tiny_bundles import with_constant_error

from medtranslate.bundle import Bundle, attach
from medtranslate.errors import ModelUnusable
from medtranslate.quality import ErrorPredictors, expected_error, load_error_predictors
from medtranslate.quality.expected_error import FORMAT, ErrorPredictor, Ranking, rank

ERROR = 0.125
"""What the networks here predict everywhere, for values in [-1, 1]."""


@pytest.fixture(scope="module")
def predicting(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with networks that predict one error everywhere."""
    folder = tmp_path_factory.mktemp("predicting") / "tiny"
    return with_constant_error(tiny_bundle, folder, ERROR)


@pytest.fixture
def bundle(predicting: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(predicting, tmp_path / "tiny"))


@pytest.mark.parametrize(
    ("scan", "to", "units", "limits"),
    [
        (stub_translator.ct, "mri", "arbitrary units", (0.0, 4095.0)),
        (stub_translator.mr, "ct", "HU", (-20.0, 100.0)),
    ],
)
def test_the_error_has_the_units_of_the_result(predicting, scan, to, units, limits) -> None:
    model, image = translator(predicting, {"mri": same, "ct": same}), scan()

    found = expected_error(model, image, model.translate(image, to=to))

    half = (found.limits[1] - found.limits[0]) / 2
    assert (found.name, found.units, found.limits) == ("expected error", units, limits)
    assert found.error == pytest.approx(ERROR * half, rel=0.02)  # less beside the outline
    assert found.map.shape == image.shape and torch.equal(found.map.affine, image.affine)
    values = found.map.as_tensor()
    assert float(values.max()) == pytest.approx(ERROR * half, rel=0.03)
    assert (values[0, :5] == 0).all()  # outside the head
    assert [one.index for one in found.slices] == [0, 1, 2, 3]


def test_no_network_is_run_but_the_small_ones(predicting) -> None:
    def forbidden(slices: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a reconstruction was made")

    scan = stub_translator.ct()
    result = translator(predicting, {"mri": same}).translate(scan, to="mri")

    found = expected_error(
        translator(predicting, dict.fromkeys(("mri", "ct"), forbidden)), scan, result
    )

    assert found.error > 0


def test_networks_are_stored_and_loaded_in_16_bit(bundle: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ErrorPredictor().eval()
        shown = torch.rand(2, 2, 1, 64, 64) * 2 - 1
    attach(bundle, "expected_error", ErrorPredictors({"ct": network}, {"slices": 7}).to_bytes())

    loaded = load_error_predictors(Bundle.load(bundle))

    head = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    assert repr(loaded) == "ErrorPredictors(to ct)" and loaded.fitted == {"slices": 7}
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded.networks["ct"](*shown, head), network(*shown, head), rtol=0.02, atol=1e-3
        )


def test_what_the_network_sees_tells_edges_of_the_result_from_even_gray() -> None:
    """Spread is 0 where a window holds one gray, and known where it holds -1 and 1."""
    step = torch.full((1, 1, 32, 32), -1.0)
    step[..., 16:] = 1.0
    head = torch.ones(1, 1, 32, 32, dtype=torch.bool)

    seen = ErrorPredictor.inputs(torch.zeros_like(step), step, head)

    assert seen.shape == (1, 7, 16, 16)
    shown, scan, result, of_scan, near, _, far = seen[0, :, 8]
    assert (shown == 1).all() and (scan == 0).all() and (of_scan == 0).all()
    assert result.tolist() == [-1.0] * 8 + [1.0] * 8
    # windows of 5 pixels around the two on each side of the edge hold 2 or 1 of the other side
    at_edge = (math.sqrt(1 - (1 / 5) ** 2) + math.sqrt(1 - (3 / 5) ** 2)) / 2
    assert near[7] == near[8] == pytest.approx(at_edge, abs=1e-4)
    assert (near[:7] == 0).all() and (near[9:] == 0).all()
    assert (far[3:13] > 0.2).all()


def test_a_bundle_without_networks_predicts_nothing_and_says_how_to_fit_them(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()

    assert load_error_predictors(model.bundle) is None
    with pytest.raises(ModelUnusable, match=r"synthetic MRI.*bundle fit-expected-error"):
        expected_error(model, scan, model.translate(scan, to="mri"))


@pytest.mark.parametrize("content", [b"", b"no safetensors"])
def test_what_is_no_expected_error_is_refused(bundle: Path, content: bytes) -> None:
    attach(bundle, "expected_error", content)

    with pytest.raises(ModelUnusable, match=r"expected_error.safetensors.*not the numbers"):
        load_error_predictors(Bundle.load(bundle))


@pytest.mark.parametrize("fault", ["missing", "not finite", "another shape"])
def test_damaged_networks_are_refused(bundle: Path, fault: str) -> None:
    tensors = load(Bundle.load(bundle).expected_error.read_bytes())
    name = "ct.network.4.bias"
    if fault == "missing":
        del tensors[name]
    else:
        tensors[name] = torch.tensor([math.inf]) if fault == "not finite" else torch.zeros(2)
    about = {"format": FORMAT, "targets": ["mri", "ct"], "fitted": {}}
    attach(bundle, "expected_error", save(tensors, metadata={"medtranslate": json.dumps(about)}))

    with pytest.raises(ModelUnusable, match="not the numbers of an expected error"):
        load_error_predictors(Bundle.load(bundle))


def test_networks_of_another_format_are_refused_with_what_to_do(bundle: Path) -> None:
    about = {"format": FORMAT + 1, "targets": [], "fitted": {}}
    attach(bundle, "expected_error", save({}, metadata={"medtranslate": json.dumps(about)}))

    with pytest.raises(ModelUnusable, match=r"format 3, but this version reads 2 .*fit-expected"):
        load_error_predictors(Bundle.load(bundle))


def test_a_changed_or_missing_file_is_refused_when_the_bundle_is_loaded(bundle: Path) -> None:
    file = Bundle.load(bundle).expected_error
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelUnusable, match="SHA-256"):
        Bundle.load(bundle)

    file.unlink()
    with pytest.raises(ModelUnusable, match="numbers of its expected error are missing"):
        Bundle.load(bundle)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=20, max_size=60), st.integers(0, 2**16))
def test_only_the_order_of_predictions_counts(values: list[int], seed: int) -> None:
    predicted = np.array(values, dtype=np.float64)
    true = np.random.default_rng(seed).permutation(len(predicted)).astype(np.float64)

    found = rank(predicted, true)

    assert rank(np.exp(predicted / 50), 3 * true) == found
    assert -1 <= found.spearman <= 1 and 0 <= found.auroc <= 1


def test_equal_predictions_rank_nothing() -> None:
    assert rank(np.ones(40), np.arange(40.0)) == Ranking(0.0, 0.5)
