"""Synthetic scans, small enough to read at a glance."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor

OBLIQUE = np.array(
    [
        [-0.9, 0.05, 0.1, 80.5],
        [0.04, 0.88, -0.7, -99.25],
        [-0.1, 0.3, 4.9, 12.125],
        [0.0, 0.0, 0.0, 1.0],
    ],
    dtype=np.float32,
).astype(np.float64)


@pytest.fixture
def oblique() -> np.ndarray:
    """An affine with rotation and shear whose numbers float32 holds exactly."""
    return OBLIQUE.copy()


@pytest.fixture
def voxels() -> np.ndarray:
    """HU-like int16 of shape (8, 9, 5): air, tissue, bone."""
    rng = np.random.default_rng(0)
    made = rng.integers(-1000, 1500, size=(8, 9, 5), dtype=np.int16)
    made[:4] = -1000
    return made


@pytest.fixture
def nifti_file(tmp_path: Path) -> Callable[..., Path]:
    """Write an array with nibabel, unscaled, then set header fields, and give the path."""

    def make(
        array: np.ndarray, affine: np.ndarray = OBLIQUE, name: str = "scan.nii.gz", **fields: Any
    ) -> Path:
        content = nib.Nifti1Image(array, affine, dtype=array.dtype).to_bytes()
        header = nib.Nifti1Header(content[:348], check=False)
        for field, value in fields.items():
            header[field] = value
        content = header.binaryblock + content[348:]
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return make


@pytest.fixture
def synthesis() -> dict[str, Any]:
    return {
        "modality": "MR",
        "model": "resnet9",
        "version": "0.1",
        "weights_sha256": "ab" * 32,
        "label": "SYNTHETIC MR from CT, resnet9 0.1, NOT FOR DIAGNOSIS",
        "dtype": "int16",
        "background": 0,
        "window": [],
    }


@pytest.fixture
def translated(synthesis: dict[str, Any]) -> Callable[..., MetaTensor]:
    """Give an image as the translator would return it."""

    def make(image: MetaTensor, **changes: Any) -> MetaTensor:
        made = image.clone()
        made.meta["synthesis"] = {**synthesis, **changes}
        return made

    return make


@pytest.fixture
def left_over(tmp_path: Path) -> Callable[..., list[str]]:
    """Name what lies in the folder of the test beside the files expected."""

    def look(*expected: str) -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir() if path.name not in expected)

    return look
