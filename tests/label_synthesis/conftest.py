"""The small label map, as image, map and file."""

from __future__ import annotations

import pytest
import torch
from label_maps import AFFINE, label_volume, write_labels
from monai.data import MetaTensor

from medtranslate.label_synthesis import CutSettings, LabelMap, PairSettings, TissueTable


@pytest.fixture(scope="session")
def table() -> TissueTable:
    return TissueTable.read()


@pytest.fixture
def image() -> MetaTensor:
    return MetaTensor(torch.from_numpy(label_volume()[None]).float(), affine=AFFINE)


@pytest.fixture(scope="session")
def label_map(table: TissueTable) -> LabelMap:
    voxels = torch.from_numpy(label_volume()[None]).float()
    return LabelMap.of(MetaTensor(voxels, affine=AFFINE), table)


@pytest.fixture(scope="session")
def small() -> PairSettings:
    """Settings for slices of 64 x 64 pixels of 3.6 mm."""
    return PairSettings(cut=CutSettings(size=64, pixel=3.6))


@pytest.fixture
def file(tmp_path):
    return write_labels(tmp_path / "labels.nii.gz")
