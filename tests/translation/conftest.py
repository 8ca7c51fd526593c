from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from head_scans import centered, head_ct, head_mr
from monai.data import MetaTensor
from tiny_bundles import tiny_bundle

from medtranslate.bundle import Bundle
from medtranslate.translation import Translator

SHAPE = (83, 97, 6)
AFFINE = centered(
    np.array([[-2.1, 0.05, 0.3], [0.04, -2.2, 0.9], [-0.1, 0.06, 25.1]], dtype=float), SHAPE
)
"""Oblique and sheared; numbers that no float32 holds."""


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def translator(bundle_folder: Path) -> Translator:
    return Translator.load(Bundle.load(bundle_folder), device="cpu", precision="float32")


@pytest.fixture
def ct() -> MetaTensor:
    return head_ct(SHAPE, AFFINE)


@pytest.fixture
def mr() -> MetaTensor:
    return head_mr(SHAPE, AFFINE)
