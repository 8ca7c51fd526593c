"""Damaged copies of a file, each from a seed, and what a volume read from them must be."""

from __future__ import annotations

import io
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian

Damage = Callable[[bytes, random.Random], bytes]

ODD_VALUES = {
    "DS": ["", "nan", "1e400", "-1", "0", "1,5", "1_0", "99999999", "abc", "1\\2\\3\\4\\5\\6\\7"],
    "IS": ["", "-1", "x", "99999999999", "0"],
    "US": [0, 1, 8, 13, 32, 65535, 255],
    "SS": [0, -1, 32767, -32768],
    "UI": ["", "1.2.3", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.4.70", "x" * 80],
    "CS": ["", "MR", "CT", "RGB", "MONOCHROME1", "HFS", "LOCALIZER", "ISO_IR 999", "lower case"],
}
GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "SOPClassUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "SamplesPerPixel",
    "ImageType",
    "Modality",
)


def flip_bytes(content: bytes, chance: random.Random) -> bytes:
    """Change one to eight bytes, more often before the pixels than in them."""
    changed = bytearray(content)
    end = len(content) if chance.random() < 0.3 else max(len(content) - 520, 200)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(end)] = chance.randrange(256)
    return bytes(changed)


def flip_pixels(content: bytes, chance: random.Random) -> bytes:
    """Change one to four bytes near the end, where pixel data are."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(max(len(content) - 220, 0), len(content))] = chance.randrange(256)
    return bytes(changed)


def truncate(content: bytes, chance: random.Random) -> bytes:
    """Cut the file off."""
    return content[: chance.randrange(len(content))]


def shift_bytes(content: bytes, chance: random.Random) -> bytes:
    """Take out or put in a few bytes, so that lengths and tags no longer fit."""
    at = chance.randrange(128, len(content))
    if chance.random() < 0.5:
        return content[:at] + content[at + chance.randint(1, 16) :]
    return content[:at] + chance.randbytes(chance.randint(1, 16)) + content[at:]


def drop_element(content: bytes, chance: random.Random) -> bytes:
    """Leave out one element, perhaps of an item of a sequence."""
    dataset = read(content)
    place = a_place(dataset, chance)
    del place[chance.choice(list(place.keys()))]
    return bytes_of(dataset)


def exchange_value(content: bytes, chance: random.Random) -> bytes:
    """Give one element a value of another, or an odd one."""
    dataset = read(content)
    place = a_place(dataset, chance)
    known = [word for word in GEOMETRY if word in place]
    if known and chance.random() < 0.7:
        element = place[chance.choice(known)]
    else:
        element = place[chance.choice(list(place.keys()))]
    odd = ODD_VALUES.get(element.VR)
    if odd is None:
        return flip_bytes(content, chance)
    same = [other.value for other in place if other.VR == element.VR]
    raw = encode(chance.choice(odd + same))
    # Raw, because pydicom refuses to hold what a damaged file may hold.
    place[element.tag] = RawDataElement(element.tag, element.VR, len(raw), raw, 0, False, True)
    return bytes_of(dataset)


def encode(value: object) -> bytes:
    """Give a value as bytes of an element, of even length."""
    if isinstance(value, int):
        return struct.pack("<h" if value < 0 else "<H", value)
    many = value if isinstance(value, (list, MultiValue)) else [value]
    raw = "\\".join(str(one) for one in many).encode("latin-1", "replace")
    return raw + b" " * (len(raw) % 2)


DAMAGES: tuple[Damage, ...] = (
    flip_bytes,
    flip_pixels,
    truncate,
    shift_bytes,
    drop_element,
    exchange_value,
)


def a_place(dataset: Dataset, chance: random.Random) -> Dataset:
    """Give the data set, or an item somewhere in its sequences."""
    place = dataset
    while chance.random() < 0.6:
        inner = [item for element in place if element.VR == "SQ" for item in element.value]
        inner = [item for item in inner if len(item)]
        if not inner:
            return place
        place = chance.choice(inner)
    return place


def read(content: bytes | Path) -> Dataset:
    """Parse with pydicom alone, forgiving what it forgives."""
    return pydicom.dcmread(
        io.BytesIO(content) if isinstance(content, bytes) else content, force=True
    )


def bytes_of(dataset: Dataset) -> bytes:
    """Write with pydicom alone, whatever it holds."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


def check_right(image, folder: Path) -> None:
    """Hold a volume to what pydicom alone reads from each of its files."""
    source = image.meta["source"]
    used = {Path(name).name for name in source["files"]}
    told = "\n".join(source["faults"])
    for path in folder.iterdir():
        assert path.name in used or path.name in told or "more" in told, path.name
    affine, before = np.asarray(image.affine), None
    for index, (name, record) in enumerate(
        zip(source["files"], source["header"]["slices"], strict=True)
    ):
        frame = record["frame"]
        place, pixels = expected(read(Path(name)), frame)
        orientation, spacing = place["orientation"], place["spacing"]
        np.testing.assert_allclose(
            affine[:3, 0] * [-1, -1, 1], orientation[:3] * spacing[1], atol=2e-4
        )
        np.testing.assert_allclose(
            affine[:3, 1] * [-1, -1, 1], orientation[3:] * spacing[0], atol=2e-4
        )
        np.testing.assert_allclose(record["position"], place["position"])
        if source["even"]:
            ras = (affine @ [0, 0, index, 1])[:3]
            np.testing.assert_allclose(ras * [-1, -1, 1], place["position"], atol=2e-2)
        height = np.dot(place["position"], np.cross(orientation[:3], orientation[3:]))
        assert before is None or height > before
        before = height
        values = np.asarray(image.as_tensor()[0, :, :, index]).T
        assert values.shape == pixels.shape
        air = -1000 if source["modality"] == "CT" else 0
        np.testing.assert_array_equal(values[values != air], pixels[values != air])


def expected(dataset: Dataset, frame: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Give geometry and physical values of a slice, by pydicom alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dataset.get("SamplesPerPixel") is None:
            dataset.SamplesPerPixel = 1
        if not dataset["PixelData"].is_undefined_length:
            # Not compressed, whatever the file meta information says or leaves out.
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            # Where its VR is damaged, pydicom takes the length field for pixels.
            frames = int(dataset.get("NumberOfFrames") or 1)
            size = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8 * frames
            dataset["PixelData"].value = bytes(dataset.PixelData)[-size:]
        pixels = dataset.pixel_array
        if frame:
            pixels = pixels[frame - 1] if pixels.ndim == 3 else pixels
        groups = [dataset]
        if frame:
            shared = dataset.SharedFunctionalGroupsSequence[0]
            own = dataset.PerFrameFunctionalGroupsSequence[frame - 1]
            groups = [item[0].value[0] for item in ([e] for g in (own, shared) for e in g)]

        def find(keyword, fallback=None):
            for group in groups:
                if group.get(keyword) not in (None, ""):
                    return np.asarray(group.get(keyword), dtype=np.float64)
            return fallback

        slope, offset = find("RescaleSlope", 1.0), find("RescaleIntercept", 0.0)
        place = {
            "position": find("ImagePositionPatient"),
            "orientation": find("ImageOrientationPatient"),
            "spacing": find("PixelSpacing"),
        }
        return place, (pixels * slope + offset).astype(np.float32)
