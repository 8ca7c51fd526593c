"""What a derived series takes from its source: attributes mended, private ones kept, its values."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pydicom
import pytest
from imaging.dicom.factory import save, series, translated, write
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom import repairs, write_series
from medtranslate.imaging.dicom.derive.repair import copy_series, mend_slice
from medtranslate.imaging.dicom.derive.stored_values import PixelWords
from medtranslate.imaging.source import pack_bits


def raw_source(charset: str = "ISO_IR 100", **elements: tuple[str, bytes]) -> Dataset:
    """Read a dataset of explicit VR, so that its elements are raw."""
    given = {"SpecificCharacterSet": ("CS", charset.encode()), **elements}
    content = b"".join(
        struct.pack("<HH2sH", Tag(keyword).group, Tag(keyword).element, vr.encode(), len(value))
        + value
        for keyword, (vr, value) in sorted(given.items(), key=lambda one: Tag(one[0]))
    )
    return pydicom.dcmread(io.BytesIO(content), force=True)


def notes_of(source: Dataset, keyword: str) -> list[str]:
    notes = copy_series(source, "MR", "1.2.3").notes
    return [note for note in notes if note.startswith(f"{keyword}: ")]


def test_text_is_judged_by_its_characters_and_not_by_its_bytes() -> None:
    text = "頭部" * 30
    source = raw_source("ISO_IR 192", StudyDescription=("LO", text.encode()))
    copied = copy_series(source, "MR", "1.2.3")
    assert notes_of(source, "StudyDescription") == []
    assert copied.dataset.get_item("StudyDescription").value == text.encode()


def test_what_cannot_be_decoded_is_copied_as_it_is() -> None:
    source = raw_source(PregnancyStatus=("US", b"\1\2\3"), PatientWeight=("DS", b"70.5"))
    copied = copy_series(source, "MR", "1.2.3").dataset
    assert notes_of(source, "PregnancyStatus") == [
        "PregnancyStatus: cannot be decoded: kept as it is"
    ]
    assert copied.get_item("PregnancyStatus").value == b"\1\2\3"
    assert copied.PatientWeight == 70.5 and notes_of(source, "PatientWeight") == []


def test_decimals_and_codes_are_mended_and_a_mended_code_is_one_that_is_allowed() -> None:
    source = raw_source(
        PatientSize=("DS", b"1.80000000000000000001"),
        PatientSex=("CS", b"f"),
        SmokingStatus=("CS", b"often"),
        OtherPatientNames=("PN", b"\0\0"),
    )
    copied = copy_series(source, "MR", "1.2.3").dataset
    assert float(copied.PatientSize) == 1.8
    assert notes_of(source, "PatientSize") == [
        "PatientSize: its value is no valid DS: rounded to 16 characters"
    ]
    assert copied.PatientSex == "F" and "SmokingStatus" not in copied
    assert notes_of(source, "PatientSex")[0].endswith("written in upper case")
    assert notes_of(source, "SmokingStatus")[0].endswith("allows: left out")
    assert "OtherPatientNames" not in copied and notes_of(source, "OtherPatientNames") == []


def test_sequences_are_copied_whole_or_left_out() -> None:
    whole, lacking = Dataset(), Dataset()
    whole.PatientID, whole.TypeOfPatientID = "7", "TEXT"
    source = raw_source()
    source.OtherPatientIDsSequence = [whole]
    assert copy_series(source, "MR", "1.2.3").dataset.OtherPatientIDsSequence == [whole]
    source.OtherPatientIDsSequence = []
    assert "OtherPatientIDsSequence" not in copy_series(source, "MR", "1.2.3").dataset
    assert notes_of(source, "OtherPatientIDsSequence") == []
    source.OtherPatientIDsSequence = [whole, lacking]
    assert "OtherPatientIDsSequence" not in copy_series(source, "MR", "1.2.3").dataset
    assert notes_of(source, "OtherPatientIDsSequence") == [
        "OtherPatientIDsSequence: an item lacks PatientID: left out"
    ]


def test_private_text_keeps_its_bytes_whatever_the_character_set_says(tmp_path, read) -> None:
    folder = write(tmp_path / "in", series())
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.private_block(0x0019, "MADE BY TEST", create=True).add_new(0x01, "LO", "xxxx")
        one.save_as(path)
        path.write_bytes(path.read_bytes().replace(b"xxxx", b"\xe4\x00\x81\x1b"))
    out = write_series(translated(read(folder)), tmp_path / "out", keep_private=True)
    for path in out.iterdir():
        assert b"LO\x04\x00\xe4\x00\x81\x1b" in path.read_bytes()


def test_warnings_of_broken_values_become_notes() -> None:
    source = raw_source(StudyDate=("DA", b"2024-01-02"), StudyID=("SH", b"1" * 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(notes_of(source, "StudyID")) == len(notes_of(source, "StudyDate")) == 1


@pytest.mark.parametrize(
    ("keyword", "written", "expected"),
    [
        ("PixelSpacing", "0.5\\ 0.25 ", ("0.5\\0.25", "")),
        ("SliceLocation", "1.23456789012345678", ("1.23456789012346", "written in 16 char")),
        ("SliceThickness", "thick", ("", "left out")),
        ("BurnedInAnnotation", "no", ("NO", "written in 16 char")),
        ("BurnedInAnnotation", "perhaps", ("", "left out")),
    ],
)
def test_strings_of_slices_are_mended(
    keyword: str, written: str, expected: tuple[str, str]
) -> None:
    made, note = mend_slice(keyword, written)
    assert made == expected[0]
    assert expected[1] in note and bool(note) == bool(expected[1])


def test_what_was_mended_in_slices_is_counted_by_attribute(tmp_path, read) -> None:
    made = series("MR", count=5)
    for one in made[:3]:
        one.SliceLocation = "1.23456789012345678"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one.SliceThickness = "2.50000000000000000000"
        folder = write(tmp_path / "in", made)
    told = [note for note in repairs(translated(read(folder))) if "slices" in note]
    assert told == [
        "SliceLocation: not as the standard writes it, mended in 3 slices",
        "SliceThickness: not as the standard writes it, mended in 1 slices",
    ]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_private_attributes_keep_their_values_in_any_encoding(tmp_path, read, syntax) -> None:
    made = series()
    folder = tmp_path / "in"
    folder.mkdir()
    for index, one in enumerate(made):
        block = one.private_block(0x0019, "MADE BY TEST", create=True)
        block.add_new(0x01, "LO", "secret")
        block.add_new(0x02, "OB", b"\1\2\3\4")
        block.add_new(0x03, "US", 258)
        if syntax == ExplicitVRBigEndian:
            one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
        save(one, folder / f"{index}.dcm", syntax)
    image = translated(read(folder))
    for path in write_series(image, tmp_path / "out", keep_private=True).iterdir():
        kept = pydicom.dcmread(path)
        assert kept["00190010"].value == "MADE BY TEST"
        assert {kept.get_item(f"001910{n:02}").is_little_endian for n in (1, 2, 3)} == {True}
        if syntax == ImplicitVRLittleEndian:  # their VR is not known, so their bytes are kept
            assert [kept[f"001910{n:02}"].VR for n in (1, 2, 3)] == ["UN"] * 3
            values = [kept.get_item(f"001910{n:02}").value for n in (1, 2, 3)]
            assert values == [b"secret", b"\1\2\3\4", b"\2\1"]
        else:
            assert [kept[f"001910{n:02}"].VR for n in (1, 2, 3)] == ["LO", "OB", "US"]
            values = [kept[f"001910{n:02}"].value for n in (1, 2, 3)]
            assert values == ["secret", b"\1\2\3\4", 258]


def words(voxels: np.ndarray, modality: str = "MR", masks: tuple[str, ...] = ()) -> PixelWords:
    synthesis = {"background": -1000.0 if modality == "CT" else 0.0, "modality": modality}
    return PixelWords(voxels, masks or ("",) * voxels.shape[2], synthesis)


def test_each_slice_gets_its_own_values_whatever_the_order() -> None:
    voxels = np.arange(3 * 2 * 37, dtype=np.float32).reshape(3, 2, 37)
    made = words(voxels)
    for index in (0, 36, 16, 15, 17, 31, 32, 1, 20):
        np.testing.assert_array_equal(made.of(index), voxels[:, :, index].T)
        assert made.of(index).dtype == np.dtype("<u2")


def test_values_are_rounded_and_must_fit() -> None:
    voxels = np.array([[[-0.4], [65535.4]], [[1.6], [2.4]]], dtype=np.float32)
    np.testing.assert_array_equal(words(voxels).of(0), [[0, 2], [65535, 2]])
    ct = np.array([[[-32768.0], [32767.0]]], dtype=np.float32)
    np.testing.assert_array_equal(words(ct, "CT").of(0), [[-32768], [32767]])
    for wrong in (-0.6, 65536.0, np.nan, np.inf):
        voxels[0, 0, 0] = wrong
        with pytest.raises(Unsupported, match=r"slice 0: values from .* do not fit uint16"):
            words(voxels).of(0)


def test_what_was_not_imaged_is_background() -> None:
    mask = np.zeros((3, 2), dtype=bool)
    mask[2, 0] = True
    made = words(np.full((3, 2, 1), 40.0, np.float32), "CT", (pack_bits(mask),))
    np.testing.assert_array_equal(made.of(0), [[40, 40, -1000], [40, 40, 40]])
