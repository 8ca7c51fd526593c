"""Damaged copies: each is read, or refused by name; none crashes, hangs or yields NaN."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medtranslate.errors import MedTranslateError, Unreadable
from medtranslate.imaging import read, survey

COPIES = 60
NAMES = (
    *("a.nii", "b.nii", "c.nii.gz", "d.mha", "e.nrrd", "f.mha", "g.nrrd"),
    *("h.png", "i.jpg", "j.tif", "k.png", "l.zip"),
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    numbers = np.random.default_rng(0).integers(0, 1000, (6, 7, 5), dtype=np.int16)
    nib.Nifti1Image(numbers, np.diag([1.0, 2.0, 3.0, 1.0])).to_filename(folder / "a.nii")
    nib.Nifti2Image(numbers, np.eye(4)).to_filename(folder / "b.nii")
    nib.Nifti1Image(numbers, np.eye(4)).to_filename(folder / "c.nii.gz")
    volume = sitk.GetImageFromArray(numbers)
    for name, compressed in (("d.mha", 0), ("e.nrrd", 0), ("f.mha", 1), ("g.nrrd", 1)):
        sitk.WriteImage(volume, str(folder / name), bool(compressed))
    image = (numbers[..., 0] % 255).astype(np.uint8)
    for name in ("h.png", "i.jpg", "j.tif"):
        Image.fromarray(image).save(folder / name)
    Image.fromarray(numbers[..., 0].astype(np.uint16)).save(folder / "k.png")
    with zipfile.ZipFile(folder / "l.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "a.nii", "a.nii")
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_copies(originals, tmp_path, name):
    original, chance = (originals / name).read_bytes(), random.Random(name)
    path = tmp_path / name
    for _ in range(COPIES):
        path.write_bytes(damaged(original, chance))
        try:
            assert np.isfinite(read(path).numpy()).all()
        except MedTranslateError as error:
            assert "\n" not in str(error)
            assert str(error).startswith(str(path))
        try:
            assert survey(path)
        except MedTranslateError as error:
            assert str(error).startswith(str(path))


def damaged(original: bytes, chance: random.Random) -> bytes:
    """Cut the file short, or put other bytes in a few places, mostly in the header."""
    if chance.random() < 0.15:
        return original[: chance.randrange(len(original))]
    copy = bytearray(original)
    for _ in range(chance.choice((1, 1, 2, 5))):
        end = len(copy) if chance.random() < 0.4 else min(len(copy), 600)
        copy[chance.randrange(end)] = chance.randrange(256)
    return bytes(copy)


@pytest.mark.parametrize(
    "line", [b"NDims = -3", b"NDims = 99", b"DimSiz\n = 5 7 6", b"ElementType = ", b"nonsense"]
)
def test_a_metaimage_header_on_which_itk_crashes(originals, tmp_path, line):
    """ITK 5.4 dies of a negative NDims; a crash is no refusal."""
    content = (originals / "d.mha").read_bytes()
    key = line.split()[0][:8]
    lines = content.split(b"\n")
    index = next((i for i, text in enumerate(lines) if text.startswith(key)), 2)
    lines[index] = line
    (tmp_path / "scan.mha").write_bytes(b"\n".join(lines))
    with pytest.raises(Unreadable, match="damaged MetaImage header"):
        read(tmp_path / "scan.mha")
