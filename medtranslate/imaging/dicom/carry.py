"""Attributes of a source series on their way to the derived one, byte for byte.

They travel in ``meta["source"]["header"]`` as base64 of a DICOM data set in explicit VR little
endian. Texts are never decoded on the way: a name in any character set, even a broken one, stays
the bytes that it was.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from medtranslate.errors import UntrustedInput
from medtranslate.imaging.dicom.attributes import SERIES_ATTRIBUTES
from medtranslate.imaging.dicom.limits import LIMITS

TEXT_VRS = frozenset(
    [
        "AE",
        "AS",
        "CS",
        "DA",
        "DS",
        "DT",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "ST",
        "TM",
        "UC",
        "UI",
        "UR",
        "UT",
    ]
)
"""Value representations whose bytes do not depend on byte order."""

_SERIES_TAGS = frozenset(tag_for_keyword(keyword) or 0 for keyword in SERIES_ATTRIBUTES)

Kept = dict[int, DataElement | RawDataElement]
"""Series attributes of one file as they were read, by tag."""


def kept(dataset: Dataset) -> Kept:
    """Give the series attributes of a parsed file, untouched."""
    return {tag: dataset.get_item(tag) for tag in sorted(dataset.keys() & _SERIES_TAGS)}


def differ(one: Kept, other: Kept) -> bool:
    """Say whether two files of a series disagree in a series attribute."""
    if one.keys() != other.keys():
        return True
    return any(one[tag].value != other[tag].value for tag in one)


def carried(attributes: Kept, path: Path) -> tuple[bytes, list[str]]:
    """Give series attributes as DICOM bytes, and the keywords of those too damaged to copy.

    Parameters
    ----------
    attributes : dict
        From `kept`.
    path : path
        Their file, for messages.

    Raises
    ------
    UntrustedInput
        Sequences are nested too deep.
    """
    source, whole, damaged = Dataset(), Dataset(), []
    for tag, element in attributes.items():
        source[tag] = element
    keep_bytes(source)
    for tag in attributes:
        try:
            alone = Dataset()
            alone[tag] = portable(source, tag)
            # Encoded one by one, so that one that cannot be does not take the others with it.
            pack(alone)
            whole[tag] = alone.get_item(tag)
        except (RecursionError, UntrustedInput):
            raise UntrustedInput("sequences are nested too deep", path=path) from None
        except Exception:
            # pydicom raises what it will on a damaged element; all that matters is that it did.
            damaged.append(keyword_for_tag(tag))
    return pack(whole), damaged


def portable(dataset: Dataset, tag: int) -> DataElement | RawDataElement:
    """Give an element so that it can be written in explicit VR little endian unchanged."""
    raw = dataset.get_item(tag)
    vr = dictionary_VR(tag)
    if isinstance(raw, RawDataElement) and vr in TEXT_VRS:
        return raw._replace(
            VR=vr, value=raw.value or b"", is_implicit_VR=False, is_little_endian=True
        )
    element = dataset[tag]
    if vr == "SQ":
        for item in element.value:
            _strip_private(item, 1)
    return element


def _strip_private(item: Dataset, depth: int) -> None:
    if depth > LIMITS.sequence_depth:
        raise UntrustedInput("sequences are nested too deep")
    for element in list(item):
        if element.tag.is_private:
            del item[element.tag]
        elif element.VR == "SQ":
            for inner in element.value:
                _strip_private(inner, depth + 1)


def keep_bytes(dataset: Dataset) -> Dataset:
    """Tell pydicom that raw values are encoded as the output is, so that it copies their bytes."""
    named = dataset.get("SpecificCharacterSet", None)
    charset = convert_encodings(named) if named else default_encoding
    dataset.set_original_encoding(False, True, charset)
    return dataset


def pack(dataset: Dataset) -> bytes:
    """Encode a data set in explicit VR little endian, raw values as they are."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, keep_bytes(dataset))
    return buffer.getvalue()


def to_text(packed: bytes) -> str:
    """Give packed attributes as the string that ``meta`` holds."""
    return base64.b64encode(packed).decode("ascii")


def from_text(written: str) -> Dataset:
    """Give the data set that `to_text` was given, values raw."""
    stream = io.BytesIO(base64.b64decode(written))
    return keep_bytes(read_dataset(stream, is_implicit_VR=False, is_little_endian=True))
