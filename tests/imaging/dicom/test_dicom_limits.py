"""Files from strangers: limits with clear errors, and no way out of the folder."""

from __future__ import annotations

import os
import re
import struct
import time
import zlib

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

import medtranslate
from medtranslate.errors import InputMissing, MedTranslateError, Unreadable, UntrustedInput
from medtranslate.imaging import folder as folder_module
from medtranslate.imaging import limits as limits_module
from medtranslate.imaging import survey
from medtranslate.imaging.dicom import find_series, is_dicom
from medtranslate.imaging.dicom.read import encoding as encoding_module
from medtranslate.imaging.dicom.read import files as files_module
from medtranslate.imaging.dicom.read import grouping as grouping_module
from medtranslate.imaging.dicom.read.files import DicomLimits

from .compress import compress
from .factory import dose_report, enhanced, save, series, write


def test_links_to_files_are_followed_as_annexes_keep_every_file_behind_one(tmp_path, read):
    objects = write(tmp_path / ".git" / "annex", series())
    (tmp_path / "in").mkdir()
    for path in objects.iterdir():
        (tmp_path / "in" / path.name).symlink_to(f"../.git/annex/{path.name}")
    assert read(tmp_path / "in").shape[3] == 4
    assert [found.shape for found in survey(tmp_path)] == [(12, 16, 4)]
    assert read(tmp_path).meta["source"]["files"][0].startswith(str(tmp_path / "in"))


def test_a_link_to_a_file_that_is_not_there_is_reported(tmp_path, read):
    folder = write(tmp_path / "in", series())
    (folder / "gone.dcm").symlink_to(tmp_path / "objects" / "gone")
    assert (
        "gone.dcm: left out because it is a link to a file that is not there"
        in (read(folder).meta["source"]["faults"])
    )
    errors = [found.error for found in survey(folder) if found.error]
    assert errors == ["is a link to a file that is not there"]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "scan.nii.gz").symlink_to("nowhere")
    with pytest.raises(InputMissing, match=r"scan\.nii\.gz: is a link to a file that is not there"):
        medtranslate.read(tmp_path / "none")


def test_a_link_within_the_folder_is_a_copy(tmp_path, read):
    folder = write(tmp_path / "in", series())
    (folder / "link.dcm").symlink_to(next(iter(sorted(folder.iterdir()))))
    assert "left out as a copy of another file" in "".join(read(folder).meta["source"]["faults"])


def test_a_linked_folder_elsewhere_is_refused(tmp_path, read):
    folder = write(tmp_path / "in", series())
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(UntrustedInput, match="up: a link leads to a folder elsewhere"):
        read(folder)


@pytest.mark.parametrize("hidden", [".Trashes", "__MACOSX", ".git/annex"])
def test_hidden_folders_are_left_out(tmp_path, read, hidden):
    folder = write(tmp_path / "in", series())
    for path in write(folder / hidden, series()).iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    (folder / "._00013.dcm").write_bytes(b"x")
    image = read(folder)
    assert image.shape[3] == 4 and image.meta["source"]["faults"] == []


@pytest.mark.parametrize(
    ("module", "limits", "told"),
    [
        (folder_module, 3, "more than 3 files"),
        (folder_module, 0, "nested too deep"),
        (files_module, DicomLimits(file_bytes=100), "larger than 0 GiB"),
        (grouping_module, DicomLimits(voxels=100), "more than 100 voxels"),
    ],
)
def test_each_limit_is_told(tmp_path, read, monkeypatch, module, limits, told):
    folder = tmp_path / "in"
    write(folder / "deeper", series())
    name = {3: "MOST_FILES", 0: "DEEPEST"}.get(limits, "LIMITS")
    monkeypatch.setattr(module, name, limits)
    with pytest.raises(MedTranslateError, match=told):
        read(folder)


@pytest.mark.parametrize(("keyword", "value"), [("Rows", 60000), ("NumberOfFrames", 2**31 - 1)])
def test_absurd_sizes_of_a_compressed_image_are_refused(tmp_path, read, keyword, value):
    one = series(count=1)[0]
    path = save(one, tmp_path / "one.dcm")
    compress(path, "rle")
    import pydicom

    absurd = pydicom.dcmread(path)
    assert absurd.file_meta.TransferSyntaxUID == RLELossless
    setattr(absurd, keyword, value)
    absurd.save_as(path)
    with pytest.raises(UntrustedInput, match="absurd"):
        read(path)


def test_absurd_count_of_frames_is_refused(tmp_path, read, monkeypatch):
    monkeypatch.setattr(encoding_module, "LIMITS", DicomLimits(frames=3))
    with pytest.raises(UntrustedInput, match="4 frames are absurd"):
        read(save(enhanced(), tmp_path / "e.dcm"))


def item(content):
    """Wrap bytes in an item and a sequence of undefined length."""
    undefined = b"\xff\xff\xff\xff"
    return (
        b"\x08\x00\x40\x11SQ\x00\x00" + undefined
        + b"\xfe\xff\x00\xe0" + undefined + content
        + b"\xfe\xff\x0d\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )  # fmt: skip


def test_deep_sequences_are_refused(tmp_path, read):
    nested = b""
    for _ in range(3000):
        nested = item(nested)
    path = save(dose_report(), tmp_path / "deep.dcm")
    path.write_bytes(path.read_bytes() + nested)
    with pytest.raises(UntrustedInput, match="sequences are nested too deep"):
        read(path)


def test_an_element_that_claims_four_gigabytes_allocates_none(tmp_path, read):
    path = save(series(count=1)[0], tmp_path / "one.dcm")
    content = path.read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN")
    huge = content[: at + 4] + b"UT\x00\x00\xf0\xff\xff\xff" + content[at + 8 :]
    path.write_bytes(huge)
    with pytest.raises(Unreadable):
        read(path)


def test_a_deflated_bomb_is_refused(tmp_path, read, monkeypatch):
    path = save(series(count=1)[0], tmp_path / "one.dcm", DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    start = 132 + 12 + int.from_bytes(whole[140:144], "little")
    body = inflater.decompress(whole[start:])
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(body + bytes(2**22)) + deflater.flush()
    path.write_bytes(whole[:start] + bomb)
    monkeypatch.setattr(files_module, "LIMITS", DicomLimits(header_bytes=2**20))
    with pytest.raises(UntrustedInput, match="inflates to more"):
        read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_never_waited_for(tmp_path, read):
    folder = write(tmp_path / "in", series())
    os.mkfifo(folder / "pipe.dcm")
    assert read(folder).shape[3] == 4
    with pytest.raises(MedTranslateError, match="no regular file"):
        read(folder / "pipe.dcm")


def test_missing_folder_is_told(tmp_path, read):
    with pytest.raises(InputMissing, match="no such file or folder"):
        read(tmp_path / "absent")


def test_is_dicom_looks_at_content(tmp_path):
    folder = write(tmp_path / "in", series())
    assert is_dicom(folder) and is_dicom(next(folder.iterdir()))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.dcm").write_text("no DICOM, whatever the name says" * 9)
    assert not is_dicom(tmp_path / "plain") and not is_dicom(tmp_path / "plain" / "a.dcm")
    assert not is_dicom(tmp_path / "absent")


def test_damaged_dicom_is_a_finding_and_other_files_are_none(tmp_path):
    folder = write(tmp_path / "in", series())
    whole = save(series(count=1)[0], folder / "cut.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:-20])
    (folder / "readme.txt").write_text("hello " * 50)
    found = find_series(folder)
    assert [one.error for one in found] == ["", "is truncated: 20 bytes of pixel data are missing"]
    assert found[1].path.endswith("cut.dcm")


def deflated(path, body):
    """Replace the data set of a deflated file."""
    whole = path.read_bytes()
    start = 132 + 12 + int.from_bytes(whole[140:144], "little")
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(whole[:start] + deflater.compress(body) + deflater.flush())


def test_a_small_file_of_very_many_elements_is_refused_soon(tmp_path, read):
    path = save(series(count=1)[0], tmp_path / "one.dcm", DeflatedExplicitVRLittleEndian)
    elements = struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 0) * 400_000
    deflated(path, b"\x08\x00\x16\x00UI\x02\x001." + elements)
    assert path.stat().st_size < 20_000
    begin = time.monotonic()
    with pytest.raises(UntrustedInput, match="larger than any real one"):
        read(path)
    assert time.monotonic() - begin < 30


def test_a_deflated_file_without_its_end_is_truncated(tmp_path, read):
    path = save(series(count=1)[0], tmp_path / "one.dcm", DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Unreadable, match="truncated"):
        read(path)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        (b"LO", b"L\x89"),  # a series attribute of a value representation that is none
        (b"US\x02\x00", b"US\x01\x00"),
    ],
)
def test_what_pydicom_raises_on_damaged_elements_names_the_file(tmp_path, read, pattern, damage):
    path = save(enhanced(), tmp_path / "e.dcm")
    content = path.read_bytes()
    for found in re.finditer(re.escape(pattern), content):
        path.write_bytes(content[: found.start()] + damage + content[found.end() :])
        try:
            read(path)
        except MedTranslateError as error:
            assert str(error).startswith(str(tmp_path)) and "\n" not in str(error)


def test_pixels_that_unpack_like_a_bomb_or_do_not_fit_into_memory(tmp_path, read, monkeypatch):
    path = save(enhanced(), tmp_path / "e.dcm")
    compress(path, "rle")
    monkeypatch.setattr(limits_module, "LEAST_CHECKED", 0)
    monkeypatch.setattr(limits_module, "free_memory", lambda: 100)
    with pytest.raises(UntrustedInput, match="GiB of memory"):
        read(path)
    monkeypatch.setattr(limits_module, "FREE_BYTES", 10)
    monkeypatch.setattr(limits_module, "LARGEST_RATIO", 0)
    with pytest.raises(UntrustedInput, match="like a bomb"):
        read(path)
