"""Series as archives, browsers and de-identification leave them: read exactly where others do."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging.dicom import find_series, repairs, write_series
from medtranslate.imaging.dicom.read.files import parse

from .compress import compress
from .damage import read as read_raw
from .factory import (
    enhanced,
    put_pixels,
    save,
    series,
    stored_values,
    translated,
    values_of,
    write,
)


def voxels(image):
    return np.asarray(image.as_tensor()[0])


def told(image):
    return "\n".join(image.meta["source"]["faults"])


def without(keyword, empty):
    """Take an attribute out of a data set, or its value."""

    def change(one):
        if empty:
            setattr(one, keyword, None)
        else:
            delattr(one, keyword)

    return change


def code(value, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


# What geometry and values do not depend on


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_patient_position_is_not_needed_and_its_absence_is_reported(
    tmp_path, read, modality, empty
):
    made = series(modality)
    image = read(write(tmp_path / "s", made, without("PatientPosition", empty)))
    np.testing.assert_array_equal(voxels(image), values_of(made))
    assert "PatientPosition is missing" in told(image)
    derived = write_series(translated(image), tmp_path / "out")
    one = read_raw(derived / "0001.dcm")
    assert "PatientPosition" in one and not one.PatientPosition
    notes = [note for note in repairs(translated(image)) if "PatientPosition" in note]
    assert bool(notes) is not empty


@pytest.mark.parametrize("kind", ["single-frame", "enhanced"])
def test_code_sequences_stand_for_patient_position_and_are_copied(tmp_path, read, kind):
    made = series("MR") if kind == "single-frame" else [enhanced("MR")]
    for one in made:
        del one.PatientPosition
        recumbent = code("102538003", "recumbent")
        recumbent.PatientOrientationModifierCodeSequence = Items([code("40199007", "supine")])
        one.PatientOrientationCodeSequence = Items([recumbent])
        one.PatientGantryRelationshipCodeSequence = Items([code("102540008", "headfirst")])
    image = read(write(tmp_path / "s", made))
    assert "PatientPosition" not in told(image)
    one = read_raw(write_series(translated(image), tmp_path / "out") / "0001.dcm")
    assert "PatientPosition" not in one
    supine = one.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence[0]
    assert supine.CodeMeaning == "supine"
    assert one.PatientGantryRelationshipCodeSequence[0].CodeMeaning == "headfirst"


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("keyword", ["Modality", "SamplesPerPixel", "HighBit", "PatientID"])
def test_what_other_attributes_settle_may_be_missing(tmp_path, read, keyword, empty):
    made = series("MR")
    image = read(write(tmp_path / "s", made, without(keyword, empty)))
    np.testing.assert_array_equal(voxels(image), values_of(made))
    assert image.meta["source"]["modality"] == "MR"
    assert ("Modality is missing" in told(image)) is (keyword == "Modality")
    assert find_series(tmp_path / "s")[0].modality == "MR"


# Encoded otherwise than the file meta information says


def rename_syntax(path, name):
    """Replace the transfer syntax that the file meta information names."""
    content = path.read_bytes()
    at = content.index(b"\x02\x00\x10\x00UI")
    (old,) = struct.unpack("<H", content[at + 6 : at + 8])
    new = name.encode() + b"\0" * (len(name) % 2)
    (group,) = struct.unpack("<I", content[140:144])
    changed = content[:at] + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(new)) + new
    changed += content[at + 8 + old :]
    path.write_bytes(changed[:140] + struct.pack("<I", group + len(new) - old) + changed[144:])


@pytest.mark.parametrize(
    ("syntax", "named", "note"),
    [
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian, "is encoded in implicit VR"),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, "is encoded in explicit VR"),
        (ExplicitVRLittleEndian, JPEGLSLossless, "has uncompressed pixel data"),
        (ImplicitVRLittleEndian, JPEGLSLossless, "has uncompressed pixel data"),
        (ExplicitVRLittleEndian, "", "has no transfer syntax"),
        (ImplicitVRLittleEndian, "", "has no transfer syntax"),
    ],
)
def test_the_encoding_found_counts_not_the_one_named(tmp_path, read, syntax, named, note):
    made = series()
    folder = tmp_path / "s"
    folder.mkdir()
    for index, one in enumerate(made):
        rename_syntax(save(one, folder / f"{index}.dcm", syntax), named)
    image = read(folder)
    np.testing.assert_array_equal(voxels(image), values_of(made))
    assert note in told(image)
    assert parse(folder / "0.dcm").transfer_syntax == syntax
    assert note in "\n".join(find_series(folder)[0].faults)


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path, read):
    folder = write(tmp_path / "s", series(count=1))
    (path,) = folder.iterdir()
    compress(path, "rle")
    rename_syntax(path, "")
    with pytest.raises(Unreadable, match="names no transfer syntax"):
        read(folder)


def test_uncompressed_pixels_of_another_length_are_refused(tmp_path, read):
    made = series(count=1)
    made[0].PixelData = made[0].PixelData[:-2]
    folder = write(tmp_path / "s", made)
    rename_syntax(next(folder.iterdir()), JPEGLSLossless)
    with pytest.raises(Unreadable, match="PixelData has 382 bytes"):
        read(folder)


# One file twice


def test_equal_files_are_taken_once_and_reported(tmp_path, read):
    made = series()
    folder = write(tmp_path / "s", made)
    save(made[1], folder / "IM (1).dcm")
    (folder / "again").mkdir()
    write(folder / "again", made)
    image = read(folder)
    np.testing.assert_array_equal(voxels(image), values_of(made))
    assert "left out as a copy of another file" in told(image)
    assert any("copy of another file" in fault for fault in find_series(folder)[0].faults)


def test_equal_multi_frame_files_are_taken_once(tmp_path, read):
    folder = write(tmp_path / "s", [enhanced("MR")])
    save(enhanced("MR"), folder / "copy.dcm")
    assert read(folder).shape[3] == 4


def test_different_files_of_one_instance_stay_refused(tmp_path, read):
    made = series()
    folder = write(tmp_path / "s", made)
    made[1].PixelData = bytes(len(made[1].PixelData))
    save(made[1], folder / "copy.dcm")
    with pytest.raises(Unsupported, match="the same instance"):
        read(folder)


# Sheets of tiled slices


def tiled_by_image_type(one):
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


def tiled_by_private_count(one):
    one.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    one.add_new(0x0019100A, "US", 16)


def tiled_by_csa_header(one):
    one.add_new(0x00290011, "LO", "SIEMENS CSA HEADER")
    one.add_new(0x00291110, "OB", csa(b"16"))


def tiled_by_grid(one):
    one.add_new(0x00650010, "LO", "Image Private Header")
    one.add_new(0x00651050, "DS", "16")


def csa(count):
    """Give an element of a CSA header, as between others."""
    name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
    kind = struct.pack("<i4sii", 1, b"US\0\0", 12, 6) + struct.pack("<i", 77)
    value = struct.pack("<4i", len(count), len(count), 77, len(count))
    return b"SV10" + bytes(80) + name + kind + value + count.ljust(8, b"\0") + bytes(40)


@pytest.mark.parametrize(
    "change", [tiled_by_image_type, tiled_by_private_count, tiled_by_csa_header, tiled_by_grid]
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_mosaic_is_refused_by_name_and_left_out_beside_a_series(tmp_path, read, change, syntax):
    made = series("MR", count=2, number=2)
    for index, one in enumerate(made):
        change(one)
        (tmp_path / "s").mkdir(exist_ok=True)
        save(one, tmp_path / "s" / f"mosaic{index}.dcm", UID(syntax))
    with pytest.raises(Unsupported, match="a mosaic: slices tiled on one sheet"):
        read(tmp_path / "s")
    assert "a mosaic" in find_series(tmp_path / "s")[0].error
    write(tmp_path / "s", series("MR"))
    image = read(tmp_path / "s")
    assert image.shape == (1, 12, 16, 4)
    assert "left out as a mosaic" in told(image)


@pytest.mark.parametrize("count", [b"", b"1", b"0"])
def test_a_header_that_counts_one_tile_is_no_mosaic(tmp_path, read, count):
    def change(one):
        one.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
        one.add_new(0x00291010, "OB", csa(count))

    assert read(write(tmp_path / "s", series("MR"), change)).shape[3] == 4


def test_an_enhanced_image_that_is_called_mosaic_is_read(tmp_path, read):
    one = enhanced("MR")
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    assert read(write(tmp_path / "s", [one])).shape[3] == 4


def test_an_mr_wider_than_any_scanner_is_refused(tmp_path, read):
    made = series("MR", count=2, spacing=(3.5, 3.5))
    for one, stored in zip(made, stored_values("MR", 2, 256, 256), strict=True):
        put_pixels(one, stored)
    with pytest.raises(Unsupported, match="covers 896 x 896 mm"):
        read(write(tmp_path / "s", made))
