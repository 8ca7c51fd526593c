"""A floor stands only beside figures from as many pictures."""

from __future__ import annotations

import pytest
import torch

from medtranslate.evaluation.baselines import RealSet, at_floor_size, floor
from medtranslate.evaluation.distances import distances


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
def test_halves_of_one_picture_are_no_floor(count: int) -> None:
    assert floor(RealSet(features(count, 0)), judged=50, seed=3) is None
