"""Synthetic heads, and an extractor small enough to be quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medtranslate.evaluation.slices import SliceSet

MakeSet = Callable[..., SliceSet]


def synthetic_heads(count: int, *, skull: int, brain: int, seed: int) -> np.ndarray:
    """Ellipses with a rim: white rim for CT, dark rim for MR."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256] - 128.0
    heads = []
    for _ in range(count):
        across, along = rng.uniform(75, 100, 2)
        distance = (rows / along) ** 2 + (columns / across) ** 2
        tissue = np.where(distance < 0.8, brain + rng.normal(0, 15, (256, 256)), skull)
        heads.append(np.where(distance < 1, tissue, 0).clip(0, 255).astype(np.uint8))
    return np.stack(heads)


def _synthetic_set(modality: str, count: int = 8, seed: int = 0) -> SliceSet:
    look = {"ct": {"skull": 255, "brain": 90}, "mri": {"skull": 40, "brain": 140}}[modality]
    names = tuple(f"head{number:03}.png" for number in range(count))
    return SliceSet(modality, names, synthetic_heads(count, seed=seed, **look))


@dataclass
class PooledGrays:
    """Stands in for FeatureExtractor: mean grays of 16 fields as features."""

    device: str = "cpu"
    weights: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(origin="made", digest="0" * 64)
    )
    extracted: list[int] = field(default_factory=list)

    def features(self, slices, *, done=None) -> torch.Tensor:
        self.extracted.append(len(slices))
        if done is not None:
            done(len(slices))
        pooled = np.asarray(slices, dtype=np.float32).reshape(-1, 4, 64, 4, 64).mean(axis=(2, 4))
        return torch.from_numpy(pooled.reshape(len(slices), 16) / 64)

    kept_features = features


@pytest.fixture
def synthetic_set() -> MakeSet:
    """Make a set of heads: modality, count, seed."""
    return _synthetic_set


@pytest.fixture
def extractor() -> PooledGrays:
    return PooledGrays()


@pytest.fixture(scope="session")
def new_extractor() -> type[PooledGrays]:
    return PooledGrays


@pytest.fixture(scope="session")
def ct() -> SliceSet:
    return _synthetic_set("ct", seed=1)


@pytest.fixture(scope="session")
def mri() -> SliceSet:
    return _synthetic_set("mri", seed=2)


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which torch has downloaded nothing."""
    hub = tmp_path / "hub"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    return hub
