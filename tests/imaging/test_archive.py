from __future__ import annotations

import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtranslate.errors import (
    AmbiguousInput,
    InputMissing,
    OutputFailed,
    Unreadable,
    UntrustedInput,
)
from medtranslate.imaging import read, survey
from medtranslate.imaging.archive import ArchiveLimits, unpacked


@pytest.fixture
def temporaries(tmp_path, monkeypatch) -> Path:
    """The folder in which temporary folders are made, so that left-overs show."""
    folder = tmp_path / "temporaries"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def make_zip(tmp_path):
    def make(members, method=zipfile.ZIP_DEFLATED):
        path = tmp_path / "scan.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return make


def refused(path, temporaries, kind, fault, limits=None):
    with pytest.raises(kind, match=fault) as caught, unpacked(path, limits or ArchiveLimits()):
        pass
    assert str(caught.value).startswith(str(path))
    assert list(temporaries.iterdir()) == []


def test_a_volume_in_a_zip(make_zip, nifti_file, voxels, temporaries):
    path = make_zip({"case/scan.nii.gz": nifti_file(voxels).read_bytes()})

    image = read(path)

    assert np.array_equal(image.numpy()[0], voxels)
    assert image.meta["source"]["files"] == [f"{path}!/case/scan.nii.gz"]
    assert list(temporaries.iterdir()) == []


def test_2d_images_in_a_zip(make_zip, tmp_path, temporaries):
    Image.fromarray(np.full((5, 6), 9, np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    path = make_zip({"x/2.png": content, "x/10.png": content, "__MACOSX/x/._2.png": b"junk"})

    assert read(path).shape == (1, 6, 5, 2)
    assert [one.path for one in survey(path)] == [f"{path}!/x/2.png", f"{path}!/x/10.png"]


def test_a_fault_inside_names_zip_and_member(make_zip, temporaries):
    path = make_zip({"x/scan.nii": b"Dear colleague"})
    with pytest.raises(Unreadable) as caught:
        read(path)
    assert str(caught.value) == f"{path}!/x/scan.nii: not a NIfTI file"
    assert survey(path)[0].error == "not a NIfTI file"


def test_several_scans_in_a_zip(make_zip, nifti_file, voxels, temporaries):
    content = nifti_file(voxels).read_bytes()
    path = make_zip({"a.nii.gz": content, "b.nii.gz": content})
    with pytest.raises(AmbiguousInput, match="2 volume files") as caught:
        read(path)
    assert str(caught.value).startswith(str(path) + ": ")
    assert len(survey(path)) == 2


@pytest.mark.parametrize(
    "name", ["../out.nii", "a/../../out.nii", "/etc/out.nii", "a\\..\\out.nii", "C:/out.nii"]
)
def test_members_that_leave_the_folder(make_zip, temporaries, name):
    refused(make_zip({name: b"x"}), temporaries, UntrustedInput, "leaves the folder")


def test_links(tmp_path, temporaries):
    link = zipfile.ZipInfo("link.nii")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "scan.zip", temporaries, UntrustedInput, "link or a device")


def test_a_zip_in_a_zip(make_zip, temporaries):
    inner = make_zip({"a.txt": b"x"}).read_bytes()
    refused(make_zip({"in.zip": inner}), temporaries, UntrustedInput, "a zip in a zip")
    refused(make_zip({"in.nii": inner}), temporaries, UntrustedInput, "'in.nii' is a zip")


def test_too_many_members_and_too_deep(make_zip, temporaries):
    path = make_zip({f"{number}.nii": b"" for number in range(4)})
    refused(path, temporaries, UntrustedInput, "holds 4 members, over 3", ArchiveLimits(members=3))
    path = make_zip({"a/b/c.nii": b""})
    refused(path, temporaries, UntrustedInput, "nested too deep", ArchiveLimits(depth=2))


def test_a_bomb_by_its_claims_and_by_its_deeds(make_zip, temporaries):
    path = make_zip({"a.nii": bytes(2**20)})
    limits = ArchiveLimits(total_bytes=2**19)
    refused(path, temporaries, UntrustedInput, "claims to unpack to 1048576 bytes", limits)
    limits = ArchiveLimits(ratio=100.0, free_bytes=1000)
    refused(path, temporaries, UntrustedInput, "a bomb", limits)
    with unpacked(path, ArchiveLimits(ratio=100.0)) as folder:
        assert (folder / "a.nii").stat().st_size == 2**20


def test_a_member_that_lies_about_its_size(make_zip, temporaries):
    path = make_zip({"a.nii": bytes(2**20)})
    content = path.read_bytes().replace((2**20).to_bytes(4, "little"), (99).to_bytes(4, "little"))
    path.write_bytes(content)
    refused(path, temporaries, (Unreadable, UntrustedInput), "damaged|bomb")


def test_one_name_twice(tmp_path, temporaries):
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.writestr("a.nii", b"1")
        with pytest.warns(UserWarning):
            archive.writestr("a.nii", b"2")
    refused(tmp_path / "scan.zip", temporaries, UntrustedInput, "'a.nii' twice")


def test_damage(make_zip, temporaries):
    path = make_zip({"a.nii": b"content" * 99}, zipfile.ZIP_STORED)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"content", b"CONTENT", 1))
    refused(path, temporaries, Unreadable, "damaged or no zip: Bad CRC-32")
    path.write_bytes(content[:-30])
    refused(path, temporaries, Unreadable, "damaged or no zip")
    path.write_text("Dear colleague")
    refused(path, temporaries, Unreadable, "damaged or no zip")
    path.unlink()
    refused(path, temporaries, InputMissing, "cannot be opened")


def test_encryption(make_zip, temporaries):
    path = make_zip({"a.nii": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, temporaries, Unreadable, "encrypted")


def test_a_full_temporary_folder(make_zip, temporaries, monkeypatch):
    path = make_zip({"a.nii": b"x"})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", full)
    refused(path, temporaries, OutputFailed, "cannot be unpacked: No space left")


def test_an_interrupt_leaves_nothing(make_zip, temporaries):
    with pytest.raises(KeyboardInterrupt), unpacked(make_zip({"a.nii": b"x"})):
        raise KeyboardInterrupt
    assert list(temporaries.iterdir()) == []


@pytest.mark.parametrize("name", ["DICOM\\PA20\\ST{}.nii", "10:31:{}.nii", "a..b\\c..{}.nii"])
def test_names_that_stay_in_the_folder_are_names(tmp_path, nifti_file, voxels, temporaries, name):
    content = nifti_file(voxels).read_bytes()
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        folder = zipfile.ZipInfo("x")
        folder.filename = folder.orig_filename = "DICOM\\"
        archive.writestr(folder, b"")
        for number in range(2):
            member = zipfile.ZipInfo("x")
            member.filename = member.orig_filename = name.format(number)
            archive.writestr(member, content)

    places = [one.path.split("!/")[1] for one in survey(tmp_path / "scan.zip")]

    assert sorted(places) == [name.format(n).replace("\\", "/") for n in range(2)]


@pytest.mark.parametrize("name", ["C:\\out.nii", "\\etc\\out.nii", "a\\..\\..\\out.nii", "\\\\h"])
def test_backslashes_leave_the_folder_no_more_than_slashes(make_zip, temporaries, name):
    refused(make_zip({name: b"x"}), temporaries, UntrustedInput, "leaves the folder")


def test_one_name_in_two_spellings(make_zip, temporaries):
    path = make_zip({"a/b.nii": b"1", "a\\b.nii": b"2"})
    refused(path, temporaries, UntrustedInput, "'a/b.nii' twice")
