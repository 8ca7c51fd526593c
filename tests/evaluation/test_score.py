"""One figure for training: KID of frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medtranslate.evaluation import KidScore, kid, score
from medtranslate.evaluation.distances import distances


def test_kid_is_the_one_of_the_table() -> None:
    one, other = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(0))
    mean, deviation = kid(one, other, seed=4)
    whole = distances(one, other, seed=4)
    assert (mean, deviation) == (whole.kid, whole.kid_deviation)


def test_frames_are_scored_by_their_features(
    monkeypatch: pytest.MonkeyPatch, new_extractor, ct, mri
) -> None:
    made = new_extractor()
    monkeypatch.setattr(score, "find_weights", lambda path: None)
    monkeypatch.setattr(score, "FeatureExtractor", lambda weights, device, cache: made)
    by = KidScore.find(device="cpu")
    assert made.extracted == []  # weights are found at once, the network is loaded on first use
    found = by(ct.frames, mri.frames)
    assert found == kid(made.features(ct.frames), made.features(mri.frames), seed=0)[0]
    assert by(ct.frames, ct.frames) < found


def test_missing_weights_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"gone\.pth"):
        KidScore.find(tmp_path / "gone.pth")
