from __future__ import annotations

import bz2
import json
import lzma

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medtranslate.errors import InputMissing, Unreadable
from medtranslate.imaging import nifti, read, survey
from medtranslate.imaging.base import Finding


@pytest.fixture
def mixed(tmp_path, nifti_file, voxels):
    """A nested folder of everything but DICOM."""
    nifti_file(voxels, descrip=b"a head")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(voxels.T.copy()), str(tmp_path / "deep" / "v.mhd"))
    for name in ("p10.png", "p9.png"):
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "deep" / "er" / name)
    (tmp_path / "deep" / "bad.nii").write_text("Dear colleague")
    (tmp_path / "deep" / "stranger.bin").write_bytes(b"\1\2\3" * 99)
    (tmp_path / "deep" / "empty.bin").touch()
    for name in ("notes.txt", "job.sh", "decide.py"):
        (tmp_path / "deep" / name).write_text("Dear colleague")
    return tmp_path


def test_one_finding_a_scan(mixed):
    found = {one.path.removeprefix(f"{mixed}/"): one for one in survey(mixed)}

    assert list(found) == [
        "scan.nii.gz",
        *("deep/bad.nii", "deep/empty.bin", "deep/stranger.bin", "deep/v.mhd"),
        *("deep/er/p9.png", "deep/er/p10.png"),
    ]
    volume = found["scan.nii.gz"]
    assert (volume.format, volume.kind, volume.description) == ("nifti", "volume", "a head")
    assert volume.shape == (8, 9, 5)
    assert volume.spacing == pytest.approx((0.9069, 0.9314, 4.9508), abs=1e-3)
    assert found["deep/v.mhd"].format == "metaimage"
    assert found["deep/v.mhd"].spacing == (1.0, 1.0, 1.0)
    image = found["deep/er/p9.png"]
    assert (image.kind, image.shape, image.spacing) == ("image", (6, 5, 1), ())
    assert found["deep/bad.nii"].error == "not a NIfTI file"
    assert found["deep/stranger.bin"].error == "of no known format"
    assert found["deep/empty.bin"].error == "the file is empty"


def test_no_voxels_are_read(mixed, monkeypatch):
    def never(*_):
        raise AssertionError("voxels were read")

    monkeypatch.setattr(nifti, "_read_stored", never)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", never)
    monkeypatch.setattr(Image.Image, "load", never)
    assert len(survey(mixed)) == 7


def test_a_single_file_and_nothing(mixed):
    (one,) = survey(mixed / "scan.nii.gz")
    assert one.shape == (8, 9, 5)
    with pytest.raises(InputMissing, match="no such file"):
        survey(mixed / "none")


def test_a_finding_is_json(mixed):
    for one in survey(mixed):
        assert json.loads(json.dumps(one.as_dict()))["path"] == one.path
    assert Finding("a").error == ""


@pytest.mark.data
def test_a_large_folder_of_real_images(shared_data):
    found = survey(shared_data / "brain-ct-mri" / "trainB")
    assert len(found) == 1744
    assert not any(one.error for one in found)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.nii.bz2", bz2.compress(b"voxels"), "packed by bzip2, which is not read"),
        ("a.nii.xz", lzma.compress(b"voxels"), "packed by xz, which is not read"),
        ("a.nii.zst", b"\x28\xb5\x2f\xfd" + bytes(20), "packed by Zstandard, which is not read"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7z archive, which is not read"),
        ("a.rar", b"Rar!\x1a\x07\0" + bytes(20), "a RAR archive, which is not read"),
        ("a.tar", b"a".ljust(257, b"\0") + b"ustar\0", "a tar archive, which is not read"),
        ("a.mgh", b"\0\0\0\1\0\0\0\10" + bytes(600), "a volume of FreeSurfer (MGH), which"),
        ("a.mnc", b"\x89HDF\r\n\x1a\n", "an HDF5 file (MINC 2 is one), which is not read"),
        ("a.gif", b"GIF89a" + bytes(20), "a GIF image, which is not read"),
        ("a.pdf", b"%PDF-1.7", "a PDF document, which is not read"),
        ("pair.img", bytes(20), "the voxels of a pair of files"),
        ("alone.img", bytes(20), "of no known format"),
        ("a.bin", b"", "the file is empty"),
    ],
)
def test_what_is_no_scan_is_named_by_what_it_is(tmp_path, name, content, fault):
    (tmp_path / "pair.hdr").write_bytes(b"header")
    (tmp_path / name).write_bytes(content)
    (found,) = survey(tmp_path / name)
    assert found.error.startswith(fault)
    with pytest.raises(Unreadable) as caught:
        read(tmp_path / name)
    assert caught.value.fault == found.error
    assert caught.value.path == tmp_path / name
