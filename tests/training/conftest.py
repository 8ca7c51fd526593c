"""Synthetic heads, as prepared files for speed and as folders of 2D images for complete runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from training.phantoms import prepared, write_phantoms


@pytest.fixture
def ct_slices(tmp_path: Path) -> Path:
    prepared("CT", 6).save(tmp_path / "ct.safetensors")
    return tmp_path / "ct.safetensors"


@pytest.fixture
def mri_slices(tmp_path: Path) -> Path:
    prepared("MR", 5).save(tmp_path / "mri.safetensors")
    return tmp_path / "mri.safetensors"


@pytest.fixture(scope="session")
def ct_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans") / "trainA", "CT", 6)


@pytest.fixture(scope="session")
def mri_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans") / "trainB", "MR", 5)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of prepared slices that all tests share, as runs do."""
    return tmp_path_factory.mktemp("cache")
