"""The header of a MetaImage file. Source: MetaIO's ``metaImage.cxx``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging.source import check_shape
from medtranslate.imaging.text_fields import (
    LONGEST_VALUE,
    TextHeader,
    beside,
    check_alike,
    parse_integer,
    parse_numbers,
)

_ORIGINS = ("Offset", "Position", "Origin")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_SPACINGS = ("ElementSpacing", "ElementSize")
_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SCALINGS = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
_PLACING = (
    *(_ORIGINS, _MATRICES, _ORDERS, _SPACINGS),
    *(("ElementNumberOfChannels",), ("HeaderSize",), ("BinaryData",)),
    *(("CompressedData",), ("CompressedDataSize",), *((key,) for key in _SCALINGS)),
)
"""Keys of a MetaImage that may be missing, each with those that say the same."""

_ASSUMED = (
    (_SPACINGS, "no spacing; voxels of 1 mm are assumed"),
    (_MATRICES, "no orientation; left-posterior-superior is assumed"),
    (_ORIGINS, "no position; (0, 0, 0) is assumed"),
)
"""What is assumed, as MetaIO does, where a header has none of some keys."""

_FREE_TEXTS = ("Comment", "Name")
_METAIMAGE_KEYS = frozenset(
    {
        *(key for keys in _PLACING for key in keys),
        *("NDims", "DimSize", "ElementType", "ObjectType", "ElementDataFile", "Modality"),
        *(
            "CenterOfRotation",
            "AnatomicalOrientation",
            "Comment",
            "Name",
            "ID",
            "ParentID",
            "ObjectSubType",
            "Color",
        ),
        *("TransformType", "DistanceUnits", "AcquisitionDate", "ElementMin", "ElementMax"),
        *("SequenceID", "ElementOrigin", "ElementDirection", "ElementNBits"),
    }
)
_METAIMAGE_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def metaimage_lines(block: bytes) -> tuple[dict[str, str], int]:
    """Split a MetaImage header into its fields, and say where it ends.

    Lines of unknown keys, whatever characters they hold, are passed over as MetaIO does it: ITK
    writes all of a DICOM file's attributes into them, some with line breaks.
    """
    fields: dict[str, str] = {}
    at, last_known = 0, True
    while "ElementDataFile" not in fields:
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        if at >= len(block):
            raise Unreadable("truncated or damaged MetaImage header")
        line = block[at:end].decode("utf-8", "surrogateescape").strip(" \t\r\v\f")
        at = end + 1
        found = re.match(r"\s*([^=:]*?)\s*[=:]\s*(.*)", line, re.S)
        key = found[1] if found else ""
        if found and key not in _METAIMAGE_KEYS and "=" in line:
            key = line.partition("=")[0].strip()
        if not found and line and last_known:
            raise Unreadable(f"damaged MetaImage header: {line[:40]!r}")
        if not found or not key:
            continue
        last_known = key in _METAIMAGE_KEYS
        value = found[2] if last_known else line.partition("=")[2].strip()
        if last_known:
            _check_metaimage_value(key, value, fields)
        fields.setdefault(key, value)
    return fields, at


def _check_metaimage_value(key: str, value: str, fields: dict[str, str]) -> None:
    if key not in _FREE_TEXTS and not value.replace("\t", " ").isprintable():
        raise Unreadable(f"damaged MetaImage header: {key} is {value[:40]!r}")
    if len(value) > LONGEST_VALUE:
        raise Unreadable(f"damaged MetaImage header: {key} has {len(value)} characters")
    if fields.get(key, value) != value:
        raise Unreadable(f"damaged MetaImage header: {key} is given twice")


def parse_metaimage(block: bytes, path: Path) -> TextHeader:
    """Return what a MetaImage header says of its voxels; errors as of `read_text_header`."""
    fields, end = metaimage_lines(block)
    unknown = [key for key in fields if key not in _METAIMAGE_KEYS]
    absent = [keys for keys in _PLACING if not any(key in fields for key in keys)]
    check_alike([key for keys in absent for key in keys], unknown)
    axes = parse_integer(fields, "NDims")
    if axes not in (2, 3, 4):
        raise Unreadable(f"damaged MetaImage header: NDims is {fields.get('NDims', '')!r}")
    sizes = _metaimage_numbers(fields, ("DimSize",), axes)
    if sizes is None or not all(size.is_integer() for size in sizes):
        raise Unreadable(f"damaged MetaImage header: DimSize is {fields.get('DimSize', '')!r}")
    if parse_integer(fields, "ElementNumberOfChannels", 1) != 1:
        raise Unsupported("voxels with several or complex components are no scan")
    for key, plain in zip(_SCALINGS, (1.0, 0.0), strict=True):
        if (_metaimage_numbers(fields, (key,), 1) or [plain]) != [plain]:
            raise Unsupported(f"{key} is {fields[key]}: readers differ on whether to apply it")
    kind = fields.get("ElementType", "")
    if kind.endswith("_ARRAY") or kind in ("MET_ASCII_CHAR", "MET_STRING", "MET_OTHER"):
        raise Unsupported("voxels with several or complex components are no scan")
    if kind not in _METAIMAGE_TYPES:
        raise Unreadable(f"damaged MetaImage header: ElementType is {kind!r}")
    msb = {_flag(fields, key) for key in _ORDERS if key in fields}
    if len(msb) > 1:
        raise Unreadable("damaged MetaImage header: it gives two byte orders")
    if (unit := fields.get("DistanceUnits", "mm")) not in ("mm", "?", ""):
        raise Unsupported(f"DistanceUnits is {unit}: readers differ on whether to apply it")
    spacing = _metaimage_numbers(fields, ("ElementSpacing",), axes)
    spacing = spacing or _metaimage_numbers(fields, ("ElementSize",), axes) or [1.0] * axes
    matrix = _metaimage_numbers(fields, _MATRICES, axes * axes) or np.eye(axes).ravel().tolist()
    shape = check_shape(tuple(int(size) for size in sizes))
    voxels, offset = _metaimage_place(fields, end, path)
    binary, compressed = _flag(fields, "BinaryData", True), _flag(fields, "CompressedData", False)
    if compressed and not binary:
        raise Unsupported("compressed text is not read")
    return TextHeader(
        path=path,
        format="metaimage",
        shape=shape,
        dtype=np.dtype((">" if True in msb else "<") + _METAIMAGE_TYPES[kind]),
        origin=_metaimage_numbers(fields, _ORIGINS, axes) or [0.0] * axes,
        spacing=spacing,
        # A row of the file is the direction of an axis.
        direction=np.reshape(matrix, (axes, axes)).T.ravel().tolist(),
        voxels=voxels,
        offset=offset,
        packing="zlib" if compressed else "raw" if binary else "text",
        packed_bytes=max(parse_integer(fields, "CompressedDataSize", 0), 0) if compressed else 0,
        texts=fields,
        faults=[f"The header gives {said}." for keys, said in _ASSUMED if keys in absent],
    )


def _metaimage_place(fields: dict[str, str], end: int, path: Path) -> tuple[Path, int]:
    """Return the file with the voxels, and their first byte; -1 where they end with the file."""
    name, skipped = fields["ElementDataFile"], parse_integer(fields, "HeaderSize", 0)
    if re.match(r"list\b", name, re.I) or "%" in name:
        raise Unsupported("the voxels are spread over a list of files")
    if skipped < -1:
        raise Unreadable(f"damaged MetaImage header: HeaderSize is {skipped}")
    if name.upper() == "LOCAL":
        if skipped not in (-1, 0, end):
            raise Unreadable(f"damaged MetaImage header: HeaderSize is {skipped}, not {end}")
        return path, -1 if skipped == -1 else end
    # A header size of -1 means: whatever precedes the voxels at the end of the file.
    return beside(path, name), skipped


def _metaimage_numbers(
    fields: dict[str, str], keys: Iterable[str], count: int
) -> list[float] | None:
    """Return the numbers of a field, which several keys may give alike; None where none does."""
    found: list[float] | None = None
    for key in keys:
        if key not in fields:
            continue
        numbers = parse_numbers(fields[key].split())
        if numbers is None or len(numbers) != count:
            raise Unreadable(f"damaged MetaImage header: {key} is {fields[key]!r}")
        if found not in (None, numbers):
            raise Unreadable(f"damaged MetaImage header: {key} contradicts another key")
        found = numbers
    return found


def _flag(fields: dict[str, str], key: str, default: bool = False) -> bool:
    value = _BOOLEANS.get(fields.get(key, str(default)).lower())
    if value is None:
        raise Unreadable(f"damaged MetaImage header: {key} is {fields[key]!r}")
    return value
