"""Inception features: deterministic, kept on disk; KID as a score for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from medtranslate.evaluation import KidScore, features, kid
from medtranslate.evaluation.distances import distances
from medtranslate.evaluation.features import FeatureExtractor


class MeanGray(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        assert images.shape[1] == 3
        assert images.dtype == torch.uint8
        means = images.float().mean(dim=(1, 2, 3))
        return (means[:, None].repeat(1, 2048),)


@dataclass
class MadeWeights:
    digest: str = "a" * 64
    origin: str = "made"

    def extractor(self) -> torch.nn.Module:
        return MeanGray()


SLICES = np.random.default_rng(0).integers(0, 256, (40, 256, 256), dtype=np.uint8)


def test_features_of_three_equal_channels(tmp_path: Path) -> None:
    steps: list[int] = []
    found = FeatureExtractor(MadeWeights(), cache=tmp_path).features(SLICES, done=steps.append)
    np.testing.assert_allclose(found[:, 0], SLICES.mean(axis=(1, 2)), rtol=1e-5)
    assert found.shape == (40, 2048)
    assert steps == [32, 8]
    assert list(tmp_path.iterdir()) == []  # translated images are not kept


def test_the_same_slices_are_extracted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = FeatureExtractor(MadeWeights(), cache=tmp_path)
    first = extractor.kept_features(SLICES)
    monkeypatch.setattr(MeanGray, "forward", None)  # any further extraction fails
    steps: list[int] = []
    again = FeatureExtractor(MadeWeights(), cache=tmp_path)
    torch.testing.assert_close(again.kept_features(SLICES, done=steps.append), first)
    assert steps == [40]


@pytest.mark.parametrize("change", ["slices", "weights"])
def test_a_change_is_a_new_entry(tmp_path: Path, change: str) -> None:
    FeatureExtractor(MadeWeights(), cache=tmp_path).kept_features(SLICES)
    slices = SLICES[::-1] if change == "slices" else SLICES
    weights = MadeWeights(digest="b" * 64) if change == "weights" else MadeWeights()
    FeatureExtractor(weights, cache=tmp_path).kept_features(slices)
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    extractor = FeatureExtractor(MadeWeights(), cache=tmp_path)
    first = extractor.kept_features(SLICES)
    [entry] = (tmp_path / "features").iterdir()
    entry.write_bytes(b"half of it")
    torch.testing.assert_close(extractor.kept_features(SLICES), first)
    assert entry.stat().st_size > 1000


def test_a_cache_that_cannot_be_written_costs_no_figure(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="features are not kept"):
        found = FeatureExtractor(MadeWeights(), cache=tmp_path).kept_features(SLICES)
    assert found.shape == (40, 2048)


def test_kid_is_the_one_of_the_table() -> None:
    one, other = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(0))
    mean, deviation = kid(one, other, seed=4)
    whole = distances(one, other, seed=4)
    assert (mean, deviation) == (whole.kid, whole.kid_deviation)


def test_slices_are_scored_by_their_features(
    monkeypatch: pytest.MonkeyPatch, new_extractor, ct, mri
) -> None:
    made = new_extractor()
    monkeypatch.setattr(features, "find_weights", lambda path: None)
    monkeypatch.setattr(features, "FeatureExtractor", lambda weights, device, cache: made)
    by = KidScore.find(device="cpu")
    assert made.extracted == []  # weights are found at once, the network is loaded on first use
    found = by(ct.slices, mri.slices)
    assert found == kid(made.features(ct.slices), made.features(mri.slices), seed=0)[0]
    assert by(ct.slices, ct.slices) < found


def test_missing_weights_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"gone\.pth"):
        KidScore.find(tmp_path / "gone.pth")
