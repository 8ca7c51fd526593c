"""Every bad input of the list: one line that names file and fault, a code, nothing written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


def missing(folder: Path) -> Path:
    return folder / "gone.nii.gz"


def empty(folder: Path) -> Path:
    path = folder / "empty.nii.gz"
    path.touch()
    return path


def truncated(folder: Path) -> Path:
    path = _head(folder, "whole.nii.gz")
    short = folder / "short.nii.gz"
    short.write_bytes(path.read_bytes()[:-2000])
    path.unlink()
    return short


def text(folder: Path) -> Path:
    path = folder / "text.nii"
    path.write_text("This is no scan, but a letter of some length.\n" * 20)
    return path


def four_dimensions(folder: Path) -> Path:
    path = folder / "series.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 4, 3), np.int16), np.eye(4)), path)
    return path


def two_voxels(folder: Path) -> Path:
    path = folder / "two.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((2, 1, 1), np.int16), np.eye(4)), path)
    return path


def _with(value: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _head(folder, "values.nii", np.float32)
        image = nib.load(path)
        voxels = np.asarray(image.dataobj).copy()
        voxels[3, 4, 1] = value
        nib.save(nib.Nifti1Image(voxels, image.affine), path)
        return path

    return make


def _affine(row: list[float]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _head(folder, "placed.nii")
        content = bytearray(path.read_bytes())
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        header["sform_code"], header["srow_x"] = 1, row
        content[:348] = header.binaryblock
        path.write_bytes(content)
        return path

    return make


def colored(folder: Path) -> Path:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[10:50, 10:50] = 120
    pixels[20:24, 12:40] = (255, 255, 0)  # yellow text
    Image.fromarray(pixels).save(folder / "text.png")
    return folder / "text.png"


def transparent(folder: Path) -> Path:
    pixels = np.full((64, 64, 4), 120, np.uint8)
    Image.fromarray(pixels).save(folder / "alpha.png")
    return folder / "alpha.png"


def magnetic(folder: Path) -> Path:
    path = _head(folder, "mr.nii")
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    made = np.where(voxels > -500, 300 + voxels.clip(-200, 200), 0).astype(np.int16)
    nib.save(nib.Nifti1Image(made, image.affine), path)
    return path


def headless(folder: Path) -> Path:
    path = folder / "air.nii.gz"
    nib.save(nib.Nifti1Image(np.full((32, 32, 4), -1000, np.int16), np.diag([5, 5, 9, 1])), path)
    return path


def _head(folder: Path, name: str, dtype: type = np.int16) -> Path:
    from medtranslate.phantom import Phantom

    image = Phantom((48, 52, 5), (4.5, 4.25, 26.0)).volume()
    voxels = image.as_tensor()[0].numpy().astype(dtype)
    nib.save(nib.Nifti1Image(voxels, np.asarray(image.affine)), folder / name)
    return folder / name


CASES = {
    "missing": (missing, 3, "no such file"),
    "empty": (empty, 4, "empty"),
    "truncated": (truncated, 4, "truncated"),
    "text": (text, 4, ""),
    "4D": (four_dimensions, 5, "3 volumes"),
    "two voxels": (two_voxels, 5, "is no image"),
    "NaN": (_with(np.nan), 5, "NaN or infinite"),
    "infinite": (_with(np.inf), 5, "NaN or infinite"),
    "zero affine": (_affine([0.0, 0.0, 0.0, 0.0]), 5, "affine"),
    "non-finite affine": (_affine([np.nan, 0.0, 0.0, 0.0]), 5, "affine"),
    "colored text": (colored, 5, "color"),
    "alpha": (transparent, 5, "alpha"),
    "target already": (magnetic, 6, "is MR already"),
    "no head": (headless, 7, "no head"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_and_nothing_is_written(convert, tmp_path, case, listed) -> None:
    make, code, fault = CASES[case]
    path = make(tmp_path)
    before = listed()

    done = convert(path, "--to", "mri")

    assert done.code == code, done.err
    assert done.err.startswith("medtranslate: error: ") and done.err.count("\n") == 1
    assert str(path) in done.err and fault in done.err
    assert done.out == "" and listed() == before


def test_an_output_in_a_missing_folder_is_refused_at_once(convert, ct, tmp_path, listed) -> None:
    done = convert(ct, "--to", "mri", "-o", tmp_path / "no" / "where.nii.gz")

    assert done.code == 9 and "its folder does not exist" in done.err
    assert listed() == {"scan.nii.gz"}


def test_an_output_that_is_a_folder_or_under_a_file_is_refused(convert, ct, tmp_path) -> None:
    (tmp_path / "taken.nii.gz").mkdir()

    done = convert(ct, "--to", "mri", "-o", f"{ct}/")

    assert done.code == 9 and "is a file, a folder was to be written" in done.err


def test_an_unknown_suffix_is_refused(convert, ct, tmp_path) -> None:
    done = convert(ct, "--to", "mri", "-o", tmp_path / "scan.xyz")

    assert done.code == 5 and "no file is written as .xyz" in done.err and ".nii.gz" in done.err


def test_a_volume_does_not_become_a_2d_image_nor_a_2d_image_dicom(convert, ct, images) -> None:
    done = convert(ct, "--to", "mri", "--format", "png")
    assert done.code == 5 and "would lose its spacing" in done.err

    done = convert(images / "a1.png", "--to", "mri", "--from", "ct", "--format", "dicom")
    assert done.code == 5 and "no position in space" in done.err


@pytest.mark.parametrize("arguments", [("convert", "--to", "mri", ""), ("inspect", "")])
def test_an_empty_name_is_not_the_current_folder(command, arguments) -> None:
    done = command(*arguments)

    assert done.code == 2 and "is empty; is a variable unset?" in done.err


def test_only_dicom_has_series_to_choose_from(convert, ct, images, tmp_path) -> None:
    for scan in (ct, images):
        done = convert(scan, "--to", "mri", "--from", "ct", "--series", "2")
        assert done.code == 5 and "holds no DICOM, so no series '2'" in done.err

    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"nothing")
    done = convert(damaged, "--to", "mri", "--series", "2")
    assert done.code == 4 and "not a NIfTI file" in done.err


def test_a_nifti_has_no_headers_for_dicom(convert, ct) -> None:
    done = convert(ct, "--to", "mri", "--format", "dicom")

    assert done.code == 5 and "--template" in done.err


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user for a while, because root may write anywhere."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


def test_a_folder_without_permission_is_named(convert) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        scan = _head(folder, "scan.nii.gz")
        secret = _head(folder, "secret.nii.gz")
        secret.chmod(0o000)
        folder.chmod(0o555)
        convert(scan, "--to", "mri", "-o", folder / "gone" / "x.nii")  # loads what is imported late

        with as_nobody():
            unwritable = convert(scan, "--to", "mri")
            unreadable = convert(secret, "--to", "mri")
        folder.chmod(0o755)

        assert unwritable.code == 9
        assert f"{folder}: cannot be written: no permission in this folder" in unwritable.err
        assert unreadable.code == 3
        assert f"{secret}: no permission to read" in unreadable.err
        assert {path.name for path in folder.iterdir()} == {"scan.nii.gz", "secret.nii.gz"}
