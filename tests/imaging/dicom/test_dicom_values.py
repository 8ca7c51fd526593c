"""Values out of headers and codestreams: the true value, or a named refusal."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from imaging.dicom.factory import series, stored_of, values_of, write
from monai.data import MetaTensor
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging import read_scan
from medtranslate.imaging.dicom.read import files, values
from medtranslate.imaging.dicom.read.encoding import Encoding, padding, stored_value
from medtranslate.imaging.dicom.read.pixels import codestream_size, significant


def voxels(image: MetaTensor) -> np.ndarray:
    return image.as_tensor()[0].numpy()


def raw(keyword: str, vr: str | None, content: bytes, little: bool = True) -> Dataset:
    """Give a dataset with one element as it lies in a file."""
    dataset = Dataset()
    tag = Tag(keyword)
    element = RawDataElement(tag, vr, len(content), content, 0, vr is None, little)
    dataset.__setitem__(tag, element)
    return dataset


def encoding(allocated: int = 16, stored: int = 16, signed: bool = False) -> Encoding:
    element = files.PixelElement(0, 0, 0)
    return Encoding(
        str(ExplicitVRLittleEndian), element, 2, 2, 1, allocated, stored, signed, "MONOCHROME2"
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [(b"AX 1 ", "AX 1"), (b"ORIGINAL\\PRIMARY\\AXIAL\0", "ORIGINAL\\PRIMARY\\AXIAL"), (b"", "")],
)
def test_text_is_the_bytes_without_padding(written: bytes, expected: str) -> None:
    assert values.text(raw("ImageType", "CS", written), "ImageType") == expected
    assert values.first(raw("ImageType", "CS", written), "ImageType") == expected.split("\\")[0]


def test_text_of_decoded_values_joins_them_by_backslashes() -> None:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientID = None
    assert values.text(dataset, "ImageType") == "ORIGINAL\\PRIMARY"
    assert values.text(dataset, "PatientID") == values.text(dataset, "PatientName") == ""
    with pytest.raises(KeyError, match="NoSuchKeyword"):
        values.text(dataset, "NoSuchKeyword")


@pytest.mark.parametrize(
    ("written", "count", "expected"),
    [
        ("1.5\\-2e1", 2, (1.5, -20.0)),
        (" +3 ", 1, (3.0,)),
        ("", 3, ()),
        ("1\\2", 3, "does not hold 3 finite"),
        ("1\\2\\3", 2, "does not hold 2 finite"),
        ("1e999", 1, "does not hold 1 finite"),
        ("1_0", 1, "is no number"),
        ("nan", 1, "is no number"),
        ("1\\", 2, "is no number"),
    ],
)
def test_decimals_are_so_many_finite_numbers(
    written: str, count: int, expected: str | tuple[float, ...]
) -> None:
    dataset = raw("PixelSpacing", "DS", written.encode())
    if isinstance(expected, tuple):
        assert values.decimals(dataset, "PixelSpacing", count) == expected
    else:
        with pytest.raises(Unreadable, match=f"PixelSpacing {expected}"):
            values.decimals(dataset, "PixelSpacing", count)


def test_decimals_that_geometry_needs_are_missing_or_given() -> None:
    with pytest.raises(Unsupported, match="PixelSpacing is missing"):
        values.required_decimals(Dataset(), "PixelSpacing", 2)
    dataset = raw("PixelSpacing", "DS", b"0.5\\0.4")
    assert values.required_decimals(dataset, "PixelSpacing", 2) == (0.5, 0.4)


@pytest.mark.parametrize(
    ("vr", "content", "little", "expected"),
    [
        ("US", b"\xfe\xff", True, 0xFFFE),
        ("SS", b"\xfe\xff", True, -2),
        ("SS", b"\xff\xfe", False, -2),
        ("US", b"\x01\x00", False, 256),
        ("UL", b"\x01\x02\x00\x80", True, 0x80000201),
        ("SL", b"\xfe\xff\xff\xff", True, -2),
        (None, b"\xfe\xff", True, 0xFFFE),
        ("US", b"", True, None),
        ("US", b"\x00\x01\x02\x03\x04", True, "no integer"),
    ],
)
def test_binary_integers_have_the_sign_and_order_of_their_element(
    vr: str | None, content: bytes, little: bool, expected: int | str | None
) -> None:
    dataset = raw("PixelPaddingValue", vr, content, little)
    if expected == "no integer":
        with pytest.raises(Unreadable, match="PixelPaddingValue is no integer"):
            values.whole(dataset, "PixelPaddingValue")
    else:
        assert values.whole(dataset, "PixelPaddingValue") == expected


def test_integers_written_as_text_are_read_as_text_whatever_their_length() -> None:
    for keyword, vr in (("NumberOfFrames", "IS"), ("NumberOfFrames", None), ("Rows", "IS")):
        assert values.whole(raw(keyword, vr, b"12"), keyword) == 12
        assert values.whole(raw(keyword, vr, b"1234"), keyword) == 1234
        assert values.whole(raw(keyword, vr, b"-7 "), keyword) == -7


def test_items_are_those_of_a_sequence_or_a_refusal() -> None:
    dataset = Dataset()
    assert values.items(dataset, "ReferencedImageSequence") == []
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2"
    dataset.ReferencedImageSequence = [item]
    assert values.items(dataset, "ReferencedImageSequence") == [item]
    broken = raw("ReferencedImageSequence", "SQ", b"\xfe\xff")
    with pytest.raises(Unreadable, match="ReferencedImageSequence is damaged"):
        values.items(broken, "ReferencedImageSequence")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("CT", "2", "-1024", "HU"), (2.0, -1024.0)),
        (("CT", "1", "0", ""), (1.0, 0.0)),
        (("MR", "", "", ""), (1.0, 0.0)),
        (("MR", "0.5", "", "US"), (0.5, 0.0)),
        (("CT", "1e9", "-1e9", "HU"), (1e9, -1e9)),
        (("CT", "1", "0", "OD"), "RescaleType is OD, not HU"),
        (("CT", "", "0", "HU"), "RescaleSlope is missing"),
        (("CT", "1", "", "HU"), "RescaleIntercept is missing"),
        (("MR", "0", "0", ""), "RescaleSlope is 0"),
        (("CT", "1", "2e9", "HU"), "is absurd"),
        (("CT", "-2e9", "1", "HU"), "is absurd"),
    ],
)
def test_the_rescale_is_what_the_header_says_or_refused(
    given: tuple[str, str, str, str], expected: str | tuple[float, float]
) -> None:
    if isinstance(expected, tuple):
        assert values.rescale(*given) == expected
    else:
        with pytest.raises(Unsupported, match=expected):
            values.rescale(*given)


@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize(
    ("word", "signed", "expected"),
    [
        (0x0000, True, 0),
        (0x0001, True, 1),
        (0x7FFF, True, 32767),
        (0x8000, True, -32768),
        (0xF830, True, -2000),
        (0x7FFF, False, 32767),
        (0x8000, False, 32768),
        (0xFFFF, False, 65535),
    ],
)
def test_padding_has_the_sign_of_the_pixels_whatever_its_vr(
    vr: str, word: int, signed: bool, expected: int
) -> None:
    dataset = raw("PixelPaddingValue", vr, struct.pack("<H", word))
    kind = encoding(signed=signed)
    assert stored_value(dataset, "PixelPaddingValue", kind) == expected
    assert padding(dataset, kind) == (expected, expected)
    assert padding(Dataset(), kind) is None


def test_padding_of_bytes_has_eight_bits() -> None:
    dataset = raw("PixelPaddingValue", "SS", struct.pack("<h", -1))
    assert stored_value(dataset, "PixelPaddingValue", encoding(8, 8)) == 255
    assert stored_value(dataset, "PixelPaddingValue", encoding(8, 8, True)) == -1


def test_a_range_of_padding_goes_from_the_lower_to_the_higher_value() -> None:
    for one, other in ((-5, -2000), (-2000, -5)):
        dataset = raw("PixelPaddingValue", "SS", struct.pack("<h", one))
        limit = raw("PixelPaddingRangeLimit", "SS", struct.pack("<h", other))
        dataset.update(limit)
        assert padding(dataset, encoding(signed=True)) == (-2000, -5)


def test_every_value_of_a_range_of_padding_is_air(tmp_path, read) -> None:
    made = series()
    for one in made:
        stored = stored_of(one).copy()
        stored[0, :4] = -2000, -1999, -1900, -1899
        one.PixelData = stored.tobytes()
        one.PixelPaddingValue, one.PixelPaddingRangeLimit = -2000, -1900
        one.RescaleIntercept, one.RescaleSlope = 1000, 1
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            one[keyword].VR = "SS"
    expected = values_of(made) + 1000
    expected[:4, 0] = np.array([-1000, -1000, -1000, -899])[:, None]
    np.testing.assert_array_equal(voxels(read(write(tmp_path / "s", made))), expected)


def test_mr_far_below_zero_is_kept(tmp_path, read) -> None:
    made = series("MR")
    for one in made:
        stored = (stored_of(one).astype("<i2") - 3000).astype("<i2")
        one.PixelData, one.PixelRepresentation = stored.tobytes(), 1
    expected = values_of(series("MR")).astype(int) - 3000
    assert expected.min() < -2000
    np.testing.assert_array_equal(voxels(read(write(tmp_path / "s", made))), expected)


@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 12), (16, 16), (16, 10)])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_that_are_not_stored_count_for_nothing(
    allocated: int, stored: int, signed: bool
) -> None:
    low = -(1 << (stored - 1)) if signed else 0
    numbers = np.array([[low, low + 1], [low + (1 << stored) - 1, 5]])
    rubbish = np.array([[0, -1], [-1, 0b0101 << stored]]) << stored
    words = ((numbers & ((1 << stored) - 1)) | rubbish).astype(
        f"<u{allocated // 8}", casting="unsafe"
    )
    found = significant(words, encoding(allocated, stored, signed))
    np.testing.assert_array_equal(found, numbers)
    assert found.dtype == np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def frame(marker: int, rows: int, columns: int) -> bytes:
    return segment(marker, struct.pack(">BHHB", 12, rows, columns, 1) + b"\1\x11\0")


def streams() -> Iterator[tuple[str, bytes]]:
    tables = segment(0xC4, bytes(20)) + segment(0xDB, bytes(65))
    for marker in (0xC0, 0xC1, 0xC3, 0xCE, 0xCF, 0xF7):
        yield f"{marker:X}", b"\xff\xd8" + tables + frame(marker, 300, 513) + b"\xff\xd9"
    # Tables and reserved markers lie among those of frames: ISO/IEC 10918-1 B.1.
    for marker in (0xC4, 0xC8, 0xCC):
        yield f"{marker:X}", b"\xff\xd8" + frame(marker, 1, 2) + frame(0xC0, 300, 513)
    beyond = frame(0xBF, 1, 2) + frame(0xD0, 3, 4)
    yield "beyond", b"\xff\xd8" + beyond + frame(0xC0, 300, 513)
    yield "at the end", b"\xff\xd8" + segment(0xC0, struct.pack(">BHH", 12, 300, 513))
    sizes = struct.pack(">4I", 520, 302, 7, 2)
    yield "jpeg 2000", b"\xff\x4f\xff\x51" + b"\0\x29\0\0" + sizes


@pytest.mark.parametrize(("name", "content"), list(streams()))
def test_the_size_that_a_compressed_frame_states_is_found(name: str, content: bytes) -> None:
    assert codestream_size(content) == (300, 513)


def test_frames_that_state_no_size() -> None:
    assert codestream_size(bytes(64)) is None  # RLE
    for content in (b"\xff\xd8", b"\xff\xd8" + segment(0xC4, bytes(20)) + b"\xff\xd9"):
        with pytest.raises(Unreadable, match="have no frame header"):
            codestream_size(content)


def test_a_volume_is_decoded_as_float32(tmp_path) -> None:
    assert read_scan(write(tmp_path / "s", series())).voxels.dtype == np.float32
