"""Fixtures that write scans to convert: a small synthetic head phantom in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from imaging.dicom import factory
from PIL import Image

from medtranslate.phantom import Phantom

__all__ = [
    "affine",
    "ct",
    "ct_series",
    "ct_voxels",
    "images",
    "listed",
    "mr",
    "mr_voxels",
    "save",
    "two_series",
    "uneven_series",
]

SHAPE, SPACING = (48, 52, 5), (4.5, 4.25, 26.0)


@pytest.fixture(scope="session")
def ct_voxels() -> np.ndarray:
    """int16 HU of shape `SHAPE`, a head."""
    return Phantom(SHAPE, SPACING).volume().as_tensor()[0].numpy().astype(np.int16)


@pytest.fixture(scope="session")
def mr_voxels(ct_voxels: np.ndarray) -> np.ndarray:
    """int16 MR-like values of the same head: nothing outside it."""
    return np.where(ct_voxels > -500, 300 + ct_voxels.clip(-200, 200), 0).astype(np.int16)


@pytest.fixture(scope="session")
def affine() -> np.ndarray:
    return np.asarray(Phantom(SHAPE, SPACING).volume().affine)


@pytest.fixture
def save(tmp_path: Path, affine: np.ndarray) -> Callable[..., Path]:
    """Write voxels as NIfTI below tmp_path."""

    def write(voxels: np.ndarray, name: str = "scan.nii.gz", at: np.ndarray = affine) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, at), path)
        return path

    return write


@pytest.fixture
def ct(save: Callable[..., Path], ct_voxels: np.ndarray) -> Path:
    return save(ct_voxels)


@pytest.fixture
def mr(save: Callable[..., Path], mr_voxels: np.ndarray) -> Path:
    return save(mr_voxels, "mr.nii.gz")


@pytest.fixture
def ct_series(tmp_path: Path, ct_voxels: np.ndarray) -> Path:
    """A CT series that shows the head."""
    return write_head(tmp_path / "series", "CT", ct_voxels)


@pytest.fixture
def two_series(tmp_path: Path, ct_voxels: np.ndarray, mr_voxels: np.ndarray) -> Path:
    """A folder with a CT series and an MR series, numbered so."""
    write_head(tmp_path / "both" / "a", "CT", ct_voxels)
    write_head(tmp_path / "both" / "b", "MR", mr_voxels, number=2)
    return tmp_path / "both"


@pytest.fixture
def uneven_series(tmp_path: Path, ct_voxels: np.ndarray) -> Path:
    """A CT series with a slice missing."""
    folder = write_head(tmp_path / "uneven", "CT", ct_voxels)
    sorted(folder.iterdir())[2].unlink()  # neither the first nor the last along the axis
    return folder


def write_head(
    folder: Path, modality: str, voxels: np.ndarray, number: int = 1, **attributes: Any
) -> Path:
    """Write a series of voxels of shape `SHAPE`, an instance a slice, and set attributes."""
    columns, rows, count = voxels.shape
    instances = factory.series(
        modality,
        count=count,
        rows=rows,
        columns=columns,
        number=number,
        step=(0.0, 0.0, SPACING[2]),
        spacing=(SPACING[1], SPACING[0]),
    )
    for index, one in enumerate(instances):
        kind = "<i2" if modality == "CT" else "<u2"
        factory.put_pixels(one, np.ascontiguousarray(voxels[..., index].T.astype(kind)))
        for keyword, value in attributes.items():
            setattr(one, keyword, value)
    return factory.write(folder, instances)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with CT slices as 2D images of two sizes, one of them a JPEG."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for name, size in (("a1.png", 96), ("a2.png", 96), ("a10.jpg", 80)):
        gray = Phantom((size, size, 1), (210 / size, 210 / size, 5.0)).image_2d()
        pixels = gray.as_tensor()[0, ..., 0].numpy().T.astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[], set[str]]:
    """Name everything below tmp_path, hidden files too."""
    return lambda: {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
