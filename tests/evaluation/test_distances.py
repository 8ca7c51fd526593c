"""Distances of features against torch-fidelity's, the floor of real slices, and its import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medtranslate.evaluation.distances as module
from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.distances import (
    RealSet,
    at_floor_size,
    distances,
    fidelity,
    floor,
    frechet,
    kid,
    kid_subset_size,
)


def with_moments(count: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> torch.Tensor:
    """Samples whose sample mean and covariance are exactly the given ones."""
    drawn = np.random.default_rng(seed).normal(size=(count, len(mean)))
    drawn -= drawn.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(drawn, rowvar=False)), drawn.T).T
    return torch.from_numpy(white @ np.linalg.cholesky(covariance).T + mean)


def root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values.clip(min=0))) @ vectors.T


def test_fid_of_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(3)
    means = rng.normal(size=(2, 6))
    mixing = rng.normal(size=(2, 6, 6))
    first, second = (m @ m.T + np.eye(6) for m in mixing)
    expected = (
        np.sum((means[0] - means[1]) ** 2)
        + np.trace(first)
        + np.trace(second)
        - 2 * np.trace(root(root(first) @ second @ root(first)))
    )
    found = frechet(with_moments(200, means[0], first, 4), with_moments(300, means[1], second, 5))
    assert found == pytest.approx(expected, abs=1e-6)


def features_of(count: int, dimensions: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions)) * np.geomspace(1, 1e-3, dimensions)
    drawn = rng.normal(size=(count, dimensions)) @ mixing + rng.normal(size=dimensions)
    return torch.from_numpy(drawn.astype(np.float32))


@pytest.mark.parametrize(("first", "second"), [(30, 30), (30, 90), (90, 30), (70, 300), (300, 400)])
def test_fewer_images_than_features_give_torch_fidelitys_fid(first: int, second: int) -> None:
    one, other = features_of(first, 80, 1), features_of(second, 80, 2)
    fid = fidelity("metric_fid")
    statistics = [fid.fid_features_to_statistics(x.double()) for x in (one, other)]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)[fid.KEY_METRIC_FID]
    assert frechet(one, other) == pytest.approx(expected, rel=1e-5)


def test_kid_is_torch_fidelitys_for_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = features_of(60, 20, 1), features_of(50, 20, 2)
    at_once = kid(one, other, seed=9)
    monkeypatch.setattr(module, "KID_LARGEST_KERNEL", 100)
    assert at_once == pytest.approx(kid(one, other, seed=9), rel=1e-4)


@given(shift=st.lists(st.floats(-3, 3), min_size=4, max_size=4))
@settings(max_examples=20, deadline=None)
def test_fid_of_a_shifted_set_is_the_shift_squared(shift: list[float]) -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4)))
    moved = features + torch.tensor(shift, dtype=torch.float64)
    assert frechet(moved, features) == pytest.approx(np.sum(np.square(shift)), abs=1e-6)


def test_a_set_with_itself() -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 32)).astype(np.float32))
    found = distances(features, features, seed=1)
    assert abs(found.fid) < 0.01
    assert found.kid < 0.1
    assert (found.precision, found.recall) == (1.0, 1.0)
    assert (found.sizes, found.kid_subset) == ((60, 60), 30)


def test_kid_is_the_unbiased_estimate_of_the_cubic_kernel() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(4, 3)), rng.normal(1, 1, size=(4, 3))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / 3 + 1) ** 3

    estimates = []
    # Subsets of two, as half of four: the mean over all of them is the estimate over four.
    for pair in [(i, j) for i in range(4) for j in range(i)]:
        for other in [(i, j) for i in range(4) for j in range(i)]:
            x, y = first[list(pair)], second[list(other)]
            estimates.append(kernel(x, x)[0, 1] + kernel(y, y)[0, 1] - 2 * kernel(x, y).mean())
    found = distances(torch.from_numpy(first), torch.from_numpy(second), seed=0)
    standard_error = np.std(estimates) / np.sqrt(100)
    assert found.kid == pytest.approx(np.mean(estimates), abs=4 * standard_error)
    assert found.kid_deviation == pytest.approx(np.std(estimates), rel=0.5)


def test_the_same_seed_gives_the_same_figures() -> None:
    rng = np.random.default_rng(1)
    first, second = (torch.from_numpy(rng.normal(size=(20, 5))) for _ in range(2))
    assert distances(first, second, seed=7) == distances(first, second, seed=7)
    assert distances(first, second, seed=7).kid != distances(first, second, seed=8).kid


def test_swapping_exchanges_precision_and_recall() -> None:
    rng = np.random.default_rng(1)
    wide = torch.from_numpy(rng.normal(0, 2, size=(30, 3)))
    narrow = torch.from_numpy(rng.normal(0, 0.5, size=(20, 3)))
    there, back = distances(narrow, wide, seed=0), distances(wide, narrow, seed=0)
    assert there.precision is not None and there.recall is not None
    assert there.precision > there.recall
    swapped = there.swapped()
    assert swapped.fid == pytest.approx(back.fid, abs=1e-9)
    assert (swapped.precision, swapped.recall) == (back.precision, back.recall)
    assert swapped.sizes == back.sizes == (30, 20)


@pytest.mark.parametrize(
    ("judged", "real", "subset"), [(744, 744, 372), (744, 274, 137), (9000, 9000, 1000), (2, 2, 2)]
)
def test_kid_subsets_are_half_the_smaller_set(judged: int, real: int, subset: int) -> None:
    assert kid_subset_size(judged, real) == subset


def test_precision_needs_a_third_neighbor() -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4)))
    found = distances(features, features + 1, seed=0)
    assert found.precision is None and found.recall is None


def test_one_image_has_no_distance() -> None:
    with pytest.raises(EvaluationFailed, match=r"1 judged image\(s\): two are the fewest"):
        distances(torch.zeros(1, 4), torch.zeros(5, 4), seed=0)


def test_features_that_are_not_finite_are_refused() -> None:
    real = torch.zeros(5, 4)
    real[2, 1] = torch.nan
    with pytest.raises(EvaluationFailed, match="features of the real images are not finite"):
        distances(torch.zeros(5, 4), real, seed=0)


def features(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + shift


def test_a_large_reference_gives_a_floor_of_the_models_size() -> None:
    real = RealSet(features(30, 0), reference=features(200, 1))
    found = floor(real, judged=50, seed=3)
    assert found is not None
    assert (found.kind, found.distances.sizes) == ("reference", (50, 30))
    translated = features(50, 2, shift=3)
    whole = distances(translated, real.test, seed=3)
    assert at_floor_size(translated, real, found, whole=whole, seed=3) is whole
    assert whole.fid > found.distances.fid + 20


def test_beside_a_small_reference_the_model_is_cut() -> None:
    real = RealSet(features(30, 0), reference=features(20, 1))
    found = floor(real, judged=50, seed=3)
    assert found is not None and found.distances.sizes == (20, 30)
    translated = features(50, 2)
    whole = distances(translated, real.test, seed=3)
    cut = at_floor_size(translated, real, found, whole=whole, seed=3)
    assert cut.sizes == (20, 30)


def test_without_a_reference_the_test_set_is_halved() -> None:
    real = RealSet(features(31, 0))
    found = floor(real, judged=50, seed=3)
    assert found is not None
    assert (found.kind, found.distances.sizes) == ("halves", (15, 16))
    assert len(found.against) == 16
    translated = features(50, 2)
    whole = distances(translated, real.test, seed=3)
    cut = at_floor_size(translated, real, found, whole=whole, seed=3)
    assert cut.sizes == (15, 16)
    assert cut == at_floor_size(translated, real, found, whole=whole, seed=3)


@pytest.mark.parametrize("count", [2, 3])
def test_halves_of_one_image_are_no_floor(count: int) -> None:
    assert floor(RealSet(features(count, 0)), judged=50, seed=3) is None


BROKEN_TORCHVISION = """
import torch
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""

CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
from medtranslate.evaluation.distances import fidelity
assert fidelity("metric_fid").MADE == 1
assert "torchvision" not in sys.modules
import torch
assert not hasattr(torch.ops.torchvision, "nms")
assert fidelity("metric_fid") is sys.modules["torch_fidelity.metric_fid"]
"""


def test_a_broken_torchvision_is_worked_around_and_not_left_behind(tmp_path: Path) -> None:
    for package, content in {
        "torchvision": BROKEN_TORCHVISION,
        "torch_fidelity": "import torchvision",
    }.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(content)
    (tmp_path / "torch_fidelity" / "metric_fid.py").write_text("MADE = 1")
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch_fidelity", "torch_fidelity.metric_fid"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EvaluationFailed, match=r"not installed.*medtranslate\[evaluate\]"):
        fidelity("metric_fid")
