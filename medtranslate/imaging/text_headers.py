"""Headers of MetaImage and NRRD files, and the voxels that they describe.

Both are lines of text before, or beside, the voxels. They are read here and not by ITK: its parsers
overflow their buffers on long words, take a field that hides behind a space, follow a header to any
file, and wait on stdin for one called ``-``. What a header says is checked field by field, and what
it does not say in so many words is refused, so that a damaged line does not go unnoticed.

Voxels lie in the header's own file, or in one file beside it. Sources: MetaIO's ``metaImage.cxx``
and the NRRD format definition (teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import difflib
import io
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging.limits import (
    check_claim,
    check_memory,
    damage_named,
    fill,
    left_over,
    unpacked,
)
from medtranslate.imaging.source import LPS_TO_RAS, check_affine, check_shape

LONGEST_HEADER = 2**20
"""Bytes before the voxels; a DICOM series' attributes copied into one take some 10 kB."""

LONGEST_VALUE = 255
"""Characters of a value that MetaIO knows; its own buffers hold no more."""

LONGEST_FIELD = 2**16
"""Characters of a line of an NRRD header."""

_ALIKE = 0.8
"""How like a key must be to one that is missing to count as that key, damaged."""


@dataclass(frozen=True, eq=False)
class TextHeader:
    """What a MetaImage or NRRD file says of its voxels.

    Parameters
    ----------
    path : Path
        The header's file.
    format : str
        ``"metaimage"`` or ``"nrrd"``.
    shape : tuple of int
        (X, Y, Z).
    dtype : numpy.dtype
        Type of the stored voxels, with their byte order.
    origin, spacing : list of float
        LPS mm, of as many axes as the file has in space.
    direction : list of float
        LPS direction cosines of the axes in its columns, row by row.
    voxels : Path
        The file that holds the voxels: the header's own, or one beside it.
    offset : int
        First byte of the voxels in that file, or -1 where they end with it.
    packing : str
        ``"raw"``, ``"zlib"``, ``"gzip"``, ``"bz2"``, ``"text"`` or ``"hex"``.
    packed_bytes : int
        Bytes that the packed voxels take; 0 where that is not said.
    skipped_lines, skipped_bytes : int
        Left out before the voxels: lines as stored, then bytes once unpacked.
    texts : dict
        Everything else by its key, as text.
    faults : list of str
        What is unusual and how it is handled, a sentence each.
    """

    path: Path
    format: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    origin: list[float]
    spacing: list[float]
    direction: list[float]
    voxels: Path
    offset: int
    packing: str
    packed_bytes: int = 0
    skipped_lines: int = 0
    skipped_bytes: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def affine(self) -> np.ndarray:
        """The 4x4 affine, RAS mm."""
        return affine_ras(self.origin, self.spacing, self.direction)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the voxels, unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


def affine_ras(
    origin: Iterable[float], spacing: Iterable[float], direction: Iterable[float]
) -> np.ndarray:
    """Return the 4x4 affine (RAS mm) of a placement as ITK has it, in LPS mm and 2 to 4 axes."""
    places, sizes = list(origin), list(spacing)
    axes, known = len(places), min(len(places), 3)
    affine = np.eye(4)
    columns = np.asarray(list(direction)).reshape(axes, axes) * np.asarray(sizes)
    affine[:known, :known] = columns[:known, :known]
    affine[:known, 3] = places[:known]
    return LPS_TO_RAS @ affine


def read_text_header(path: Path) -> TextHeader:
    """Read the header of a MetaImage or NRRD file, by its content.

    Raises
    ------
    Unreadable
        Empty, neither format, damaged, or the file with the voxels is missing.
    UntrustedInput
        The header names a file outside its own folder, or claims absurd sizes.
    Unsupported
        Voxels in several files or with several components; a placement that says nothing.
    """
    block = _start(path)
    try:
        header = _nrrd(block, path) if block.startswith(b"NRRD") else _metaimage(block, path)
        check_affine(header.affine, path)
    except MedTranslateError as error:
        raise type(error)(error.fault, path=path, remedy=error.remedy) from error
    return header


def companion(path: Path) -> Path | None:
    """Return the file beside a header that holds its voxels, None where the header's own does."""
    block = _start(path)
    if block.startswith(b"NRRD"):
        name = _nrrd_lines(block)[0].get("data file", "")
    else:
        name = _metaimage_lines(block)[0].get("ElementDataFile", "LOCAL")
        name = "" if name.upper() == "LOCAL" else name
    return _beside(path, name) if name else None


def read_stored(header: TextHeader) -> tuple[np.ndarray, list[str]]:
    """Read the voxels of a header, shape (X, Y, Z), as stored, and what is unusual about them.

    Raises
    ------
    Unreadable
        Truncated, damaged, or more voxels than the header describes.
    UntrustedInput
        The voxels would unpack like a bomb, or do not fit into memory.
    """
    path = header.path
    with damage_named(path), header.voxels.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = header.offset
        if offset < 0:
            offset = size - header.stored_bytes
            if offset < 0:
                raise Unreadable(f"truncated: {size} of {header.stored_bytes} bytes", path=path)
        file.seek(offset)
        for _ in range(header.skipped_lines):
            file.readline(LONGEST_FIELD)
        there = max(size - file.tell(), 0)
        check_memory(header.stored_bytes + 4 * math.prod(header.shape), path)
        if header.packing in ("text", "hex"):
            return _from_text(header, file, there), []
        return _from_bytes(header, file, there)


def _from_bytes(header: TextHeader, file: BinaryIO, there: int) -> tuple[np.ndarray, list[str]]:
    path, source = header.path, file
    if header.packed_bytes:
        if header.packed_bytes > there:
            fault = f"truncated: {there} of {header.packed_bytes} bytes of packed voxels"
            raise Unreadable(fault, path=path)
        there = header.packed_bytes
        source = io.BytesIO(file.read(there))
    check_claim(header.stored_bytes + header.skipped_bytes, there, path, packing=header.packing)
    flat = np.empty(math.prod(header.shape), dtype=header.dtype)
    target = memoryview(cast(Any, flat.view(np.uint8)))
    got, extra = fill(target, unpacked(source, header.packing), header.skipped_bytes)
    if got < header.stored_bytes:
        raise Unreadable(f"truncated: {got} of {header.stored_bytes} bytes of voxels", path=path)
    slice_bytes = header.stored_bytes // header.shape[2]
    return flat.reshape(header.shape, order="F"), left_over(extra, slice_bytes, path)


def _from_text(header: TextHeader, file: BinaryIO, there: int) -> np.ndarray:
    """Read voxels that are written as numbers, or as the digits of their bytes."""
    path, count = header.path, math.prod(header.shape)
    digits = 2 * header.stored_bytes if header.packing == "hex" else 2 * count - 1
    check_claim(digits, there, path, packing="raw")
    if there > 64 * count + LONGEST_HEADER:
        raise Unreadable(f"damaged: {there} bytes of text for {count} numbers", path=path)
    file.seek(header.skipped_bytes, io.SEEK_CUR)
    text = file.read()
    try:
        if header.packing == "hex":
            flat = np.frombuffer(bytes.fromhex(text.decode("ascii")), dtype=header.dtype)
        else:
            flat = _numbers(text.replace(b",", b" ").split(), header.dtype)
    except (ValueError, OverflowError) as error:
        raise Unreadable("damaged: voxels that are no numbers of their type", path=path) from error
    if len(flat) != count:
        raise Unreadable(f"damaged: {len(flat)} of {count} voxels are there", path=path)
    return flat.reshape(header.shape, order="F")


def _numbers(words: list[bytes], dtype: np.dtype) -> np.ndarray:
    """Return numbers in a type, each of which must fit it."""
    if any(len(word) > 64 for word in words):
        raise ValueError
    if dtype.kind == "f":
        return np.array([float(word) for word in words], dtype=dtype)
    limits = np.iinfo(dtype)
    numbers = [int(word) for word in words]
    if numbers and not limits.min <= min(numbers) <= max(numbers) <= limits.max:
        raise OverflowError
    return np.array(numbers, dtype=dtype)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        block = file.read(LONGEST_HEADER)
    if not block:
        raise Unreadable("the file is empty", path=path)
    known = block.startswith(b"NRRD") or re.match(rb"\s*(Comment|ObjectType|NDims)\s*[=:]", block)
    if not known:
        raise Unreadable("neither a MetaImage nor an NRRD file", path=path)
    return block


def _beside(path: Path, name: str) -> Path:
    """Return the file with the voxels that a header names, which must lie beside it.

    A link counts as lying where it leads to, but for git-annex (DataLad), which keeps the content
    of every file below ``.git/annex/objects`` of the repository.

    Raises
    ------
    UntrustedInput
        It lies anywhere else.
    Unreadable
        It is missing.
    """
    name = name.removeprefix("./")
    if len(os.fsencode(name)) > LONGEST_VALUE:
        raise Unreadable("damaged header: the name of the file with its voxels is too long")
    if name in ("", ".", "..", "-") or Path(name).name != name or "\\" in name or "\0" in name:
        raise UntrustedInput(f"its voxels are said to lie outside its folder: {name}", path=path)
    voxels = path.with_name(name)
    folder, place = path.absolute().parent.resolve(), voxels.resolve()
    if place.parent != folder and not _is_annexed(place, folder):
        raise UntrustedInput(f"its voxels lie behind a link out of its folder: {name}", path=path)
    if not voxels.is_file():
        raise Unreadable(f"the file with its voxels is missing: {name}", path=path)
    return voxels


def _is_annexed(place: Path, folder: Path) -> bool:
    objects = (above / ".git" / "annex" / "objects" for above in (folder, *folder.parents))
    return any(place.is_relative_to(one) for one in objects)


def _check_alike(missing: Iterable[str], others: Iterable[str]) -> None:
    """Refuse a header in which a key that is missing stands with a few other characters.

    Raises
    ------
    Unreadable
        A damaged key would else count as unknown, and what it says be lost without a word.
    """
    names = list(missing)
    for other in others:
        alike = difflib.get_close_matches(other[:64], names, 1, _ALIKE)
        alike = alike or [name for name in names if _is_torn(name, other)]
        if alike:
            raise Unreadable(f"damaged header: {other[:64]!r} looks like {alike[0]!r}")


def _is_torn(name: str, other: str) -> bool:
    """Say whether a key is a name with other characters put into it, or after it."""
    return len(other) > len(name) and any(
        other.startswith(name[:cut]) and other.endswith(name[cut:])
        for cut in range(1, len(name) + 1)
    )


_ORIGINS = ("Offset", "Position", "Origin")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SCALINGS = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
_PLACING = (
    *(_ORIGINS, _MATRICES, _ORDERS, ("ElementSpacing", "ElementSize")),
    *(("ElementNumberOfChannels",), ("HeaderSize",), ("BinaryData",)),
    *(("CompressedData",), ("CompressedDataSize",), *((key,) for key in _SCALINGS)),
)
"""Keys of a MetaImage that may be missing, each with those that say the same."""

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


def _metaimage_lines(block: bytes) -> tuple[dict[str, str], int]:
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


def _metaimage(block: bytes, path: Path) -> TextHeader:
    fields, end = _metaimage_lines(block)
    unknown = [key for key in fields if key not in _METAIMAGE_KEYS]
    absent = [keys for keys in _PLACING if not any(key in fields for key in keys)]
    _check_alike([key for keys in absent for key in keys], unknown)
    axes = _integer(fields, "NDims")
    if axes not in (2, 3, 4):
        raise Unreadable(f"damaged MetaImage header: NDims is {fields.get('NDims', '')!r}")
    sizes = _metaimage_numbers(fields, ("DimSize",), axes)
    if sizes is None or not all(size.is_integer() for size in sizes):
        raise Unreadable(f"damaged MetaImage header: DimSize is {fields.get('DimSize', '')!r}")
    if _integer(fields, "ElementNumberOfChannels", 1) != 1:
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
        packed_bytes=max(_integer(fields, "CompressedDataSize", 0), 0) if compressed else 0,
        texts=fields,
    )


def _metaimage_place(fields: dict[str, str], end: int, path: Path) -> tuple[Path, int]:
    """Return the file with the voxels, and their first byte; -1 where they end with the file."""
    name, skipped = fields["ElementDataFile"], _integer(fields, "HeaderSize", 0)
    if re.match(r"list\b", name, re.I) or "%" in name:
        raise Unsupported("the voxels are spread over a list of files")
    if skipped < -1:
        raise Unreadable(f"damaged MetaImage header: HeaderSize is {skipped}")
    if name.upper() == "LOCAL":
        if skipped not in (-1, 0, end):
            raise Unreadable(f"damaged MetaImage header: HeaderSize is {skipped}, not {end}")
        return path, -1 if skipped == -1 else end
    # A header size of -1 means: whatever precedes the voxels at the end of the file.
    return _beside(path, name), skipped


def _metaimage_numbers(
    fields: dict[str, str], keys: Iterable[str], count: int
) -> list[float] | None:
    """Return the numbers of a field, which several keys may give alike; None where none does."""
    found: list[float] | None = None
    for key in keys:
        if key not in fields:
            continue
        numbers = _parsed(fields[key].split())
        if numbers is None or len(numbers) != count:
            raise Unreadable(f"damaged MetaImage header: {key} is {fields[key]!r}")
        if found not in (None, numbers):
            raise Unreadable(f"damaged MetaImage header: {key} contradicts another key")
        found = numbers
    return found


def _parsed(words: Iterable[str]) -> list[float] | None:
    """Return words as numbers, None where one is none."""
    numbers = []
    for word in words:
        if not re.fullmatch(r"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf)", word):
            return None
        numbers.append(float(word))
    return numbers


def _integer(fields: dict[str, str], key: str, default: int | None = None) -> int:
    text = fields.get(key, "" if default is None else str(default))
    if not re.fullmatch(r"[-+]?\d{1,18}", text):
        raise Unreadable(f"damaged header: {key} is {text!r}")
    return int(text)


def _flag(fields: dict[str, str], key: str, default: bool = False) -> bool:
    value = _BOOLEANS.get(fields.get(key, str(default)).lower())
    if value is None:
        raise Unreadable(f"damaged MetaImage header: {key} is {fields[key]!r}")
    return value


_NRRD_FIELDS = (
    *("dimension", "type", "encoding", "endian", "sizes", "space", "space dimension"),
    *("space directions", "space origin", "space units", "spacings", "axis mins", "axis maxs"),
    *("centerings", "kinds", "units", "data file", "line skip", "byte skip", "block size"),
    *("content", "labels", "thicknesses", "sample units", "measurement frame", "number"),
    *("min", "max", "old min", "old max"),
)
_NRRD_NAMES = {
    **{name: name for name in _NRRD_FIELDS},
    **{name.replace(" ", ""): name for name in _NRRD_FIELDS},
    "centers": "centerings",
}
"""Names of fields, in lower case, and what we call them; some may be written without spaces."""

_ORIENTED = ("space", "space origin", "kinds", "data file", "line skip", "byte skip")
_UNORIENTED = (*_ORIENTED, "space directions", "spacings", "axis mins", "centerings")
"""Fields that may be missing where there are, and where there are no, space directions."""

_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), "i8"),
    **dict.fromkeys(("signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), "u8"),
    **dict.fromkeys(("uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
_NRRD_PACKINGS = {
    **{"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bz2", "bz2": "bz2", "hex": "hex"},
    **dict.fromkeys(("text", "txt", "ascii"), "text"),
}
_NRRD_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
"""Anatomical spaces, and the signs by which they become LPS."""

_NRRD_SPACE_NAMES = re.compile(r"[a-z]+(-[a-z]+)*")
_NRRD_DOMAIN_KINDS = frozenset({"domain", "space", "time", "", "???", "none"})
_NRRD_RANGE_KINDS = re.compile(
    r"list|point|vector|covariant-vector|normal|stub|scalar|complex|quaternion|[23]-(vector|color)"
    r"|2-vector|3-(vector|gradient|normal|color)|4-(vector|color)|(rgb|hsv|xyz)-color|rgba-color"
    r"|[23]d-(masked-)?(symmetric-)?matrix"
)


def _nrrd_lines(block: bytes) -> tuple[dict[str, str], dict[str, str], int]:
    """Split an NRRD header into its fields and its keys, and say where the voxels begin.

    Returns
    -------
    fields, pairs : dict of str
        By name, in lower case; by key.
    end : int
        First byte after the empty line; -1 where the header goes to the end.
    """
    if not re.match(rb"NRRD000\d\r?\n", block):
        raise Unreadable("damaged NRRD header: no version of the format")
    found = re.search(rb"\r?\n\r?\n", block)
    text = block[: found.start()] if found else block
    if found is None and len(block) == LONGEST_HEADER:
        raise Unreadable("damaged NRRD header: it has no end")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    comments = []
    for raw in text.split(b"\n")[1:]:
        line = raw.decode("utf-8", "surrogateescape").rstrip("\r")
        if len(line) > LONGEST_FIELD:
            raise Unreadable(f"damaged NRRD header: a line of {len(line)} characters")
        name, colon, value = line.partition(":")
        if line.startswith("#"):
            comments.append(name)
        elif colon and value.startswith("="):
            pairs[name] = value[1:]
        elif line.strip():
            _add_nrrd_field(fields, name, value.strip(), line)
    placing = _ORIENTED if "space directions" in fields else _UNORIENTED
    absent = [name for name in placing if name not in fields]
    _check_alike(absent, (*pairs, *comments))
    return fields, pairs, found.end() if found else -1


def _add_nrrd_field(fields: dict[str, str], name: str, value: str, line: str) -> None:
    known = _NRRD_NAMES.get(name.strip().lower())
    if known is None or not value.replace("\t", " ").isprintable():
        raise Unreadable(f"damaged NRRD header: {line[:40]!r}")
    if known in fields:
        raise Unreadable(f"damaged NRRD header: {known} is given twice")
    fields[known] = value


def _nrrd(block: bytes, path: Path) -> TextHeader:
    fields, pairs, end = _nrrd_lines(block)
    axes = _integer(fields, "dimension")
    if not 1 <= axes <= 16:
        raise Unreadable(f"damaged NRRD header: dimension is {axes}")
    kinds = _per_axis(fields, "kinds", axes) or ["domain"] * axes
    _check_kinds(kinds)
    sizes = [_integer({"sizes": size}, "sizes") for size in _per_axis(fields, "sizes", axes) or []]
    if not sizes:
        raise Unreadable("damaged NRRD header: no sizes")
    domain = [axis for axis in range(axes) if kinds[axis].lower() in _NRRD_DOMAIN_KINDS]
    if any(size != 1 for axis, size in enumerate(sizes) if axis not in domain):
        raise Unsupported("voxels with several or complex components are no scan")
    kind, packing = fields.get("type", "").lower(), fields.get("encoding", "").lower()
    if kind == "block":
        raise Unsupported("voxels of type block are no scan")
    if kind not in _NRRD_TYPES or packing not in _NRRD_PACKINGS:
        raise Unreadable(f"damaged NRRD header: type {kind[:40]!r}, encoding {packing[:40]!r}")
    shape = check_shape(tuple(sizes[axis] for axis in domain))
    faults: list[str] = []
    origin, spacing, direction = _nrrd_placement(fields, domain, axes, faults)
    dtype = np.dtype(_nrrd_order(fields, kind, packing) + _NRRD_TYPES[kind])
    name = fields.get("data file")
    if name is not None and (re.match(r"list\b", name, re.I) or "%" in name):
        raise Unsupported("the voxels are spread over a list of files")
    if name is None and end < 0:
        raise Unreadable("truncated or damaged NRRD header")
    skipped = _integer(fields, "byte skip", 0)
    if skipped < -1 or (skipped == -1 and packing != "raw"):
        raise Unreadable(f"damaged NRRD header: byte skip is {skipped}")
    return TextHeader(
        path=path,
        format="nrrd",
        shape=shape,
        dtype=dtype,
        origin=origin,
        spacing=spacing,
        direction=direction,
        voxels=path if name is None else _beside(path, name),
        offset=-1 if skipped == -1 else 0 if name is not None else end,
        packing=_NRRD_PACKINGS[packing],
        skipped_lines=_skipped_lines(fields),
        skipped_bytes=max(skipped, 0),
        texts=pairs,
        faults=faults,
    )


def _skipped_lines(fields: dict[str, str]) -> int:
    lines = _integer(fields, "line skip", 0)
    if not 0 <= lines <= 1000:
        raise Unreadable(f"damaged NRRD header: line skip is {lines}")
    return lines


def _per_axis(fields: dict[str, str], name: str, axes: int) -> list[str] | None:
    """Return the words of a field, one an axis; None where it is absent."""
    if name not in fields:
        return None
    words = fields[name].split()
    if len(words) != axes:
        raise Unreadable(f"damaged NRRD header: {len(words)} {name} for {axes} axes")
    return words


def _check_kinds(kinds: list[str]) -> None:
    for kind in kinds:
        known = kind.lower() in _NRRD_DOMAIN_KINDS or _NRRD_RANGE_KINDS.fullmatch(kind.lower())
        if not known:
            raise Unreadable(f"damaged NRRD header: an axis of kind {kind[:40]!r}")


def _nrrd_order(fields: dict[str, str], kind: str, packing: str) -> str:
    order = fields.get("endian", "").lower()
    single = _NRRD_TYPES[kind].endswith("1") or _NRRD_PACKINGS[packing] == "text"
    if order not in ("little", "big") and not (single and not order):
        raise Unreadable(f"damaged NRRD header: endian is {order!r}")
    return ">" if order == "big" else "<"


def _nrrd_placement(
    fields: dict[str, str], domain: list[int], axes: int, faults: list[str]
) -> tuple[list[float], list[float], list[float]]:
    """Return origin, spacing and direction as ITK has them, LPS mm, of the domain axes."""
    space = fields.get("space", "").lower()
    if not space and "space directions" not in fields:
        faults.append("The header names no space; left-posterior-superior is assumed.")
        return _unoriented(fields, domain, axes)
    if not space:
        faults.append("The header names no space; left-posterior-superior is assumed.")
    elif space not in _NRRD_SPACES:
        if not _NRRD_SPACE_NAMES.fullmatch(space):
            raise Unreadable(f"damaged NRRD header: space is {space[:40]!r}")
        raise Unsupported(f"the space {space[:60]} does not say where left is")
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if units - {"mm", "millimeter", "millimeters", "", "???"}:
        raise Unsupported(f"its unit of space is {sorted(units)}, not mm")
    words = re.findall(r"none|\([^()]*\)", fields.get("space directions", ""), re.I)
    if len(words) != axes:
        raise Unreadable(f"damaged NRRD header: {len(words)} space directions for {axes} axes")
    vectors = [_vector(words[axis]) for axis in domain if words[axis].lower() != "none"]
    if not vectors or any(len(vector) != len(vectors) for vector in vectors):
        raise Unsupported(f"{len(vectors)} axes with a direction do not fill their space")
    if any(words[axis].lower() == "none" for axis in domain[: len(vectors)]):
        raise Unsupported("an axis before the last has no direction in space")
    if "space origin" not in fields:
        faults.append("The header gives no space origin; (0, 0, 0) is assumed.")
    origin = _vector(fields["space origin"]) if "space origin" in fields else [0.0] * len(vectors)
    if len(origin) != len(vectors):
        raise Unreadable(f"damaged NRRD header: space origin is {fields['space origin'][:60]!r}")
    signs = np.ones(len(vectors))
    signs[:3] = _NRRD_SPACES.get(space, (1.0, 1.0, 1.0))[: len(vectors)]
    columns = signs[:, None] * np.array(vectors).T
    spacing = np.linalg.norm(columns, axis=0)
    if not np.all(spacing > 0):
        axis_name = "XYZT"[int(np.argmin(spacing))]
        raise Unsupported(f"the affine is zero or not finite along axis {axis_name}")
    direction = columns / spacing
    return (signs * np.array(origin)).tolist(), spacing.tolist(), direction.ravel().tolist()


def _vector(word: str) -> list[float]:
    numbers = _parsed(part.strip() for part in word.strip("() ").split(","))
    if numbers is None or not 1 <= len(numbers) <= 4 or not word.startswith("("):
        raise Unreadable(f"damaged NRRD header: {word[:60]!r} is no vector")
    return numbers


def _unoriented(
    fields: dict[str, str], domain: list[int], axes: int
) -> tuple[list[float], list[float], list[float]]:
    """Return a placement along the axes: spacings, and the centers of the first samples."""
    values = {}
    for name in ("spacings", "axis mins"):
        words = _per_axis(fields, name, axes)
        numbers = _parsed(words[axis] for axis in domain) if words else None
        if words and numbers is None:
            raise Unreadable(f"damaged NRRD header: {name} are {fields[name][:60]!r}")
        values[name] = numbers
    if "axis maxs" in fields and "spacings" not in fields:
        raise Unsupported("its axes are given by their ends, not by spacings")
    spacing = values["spacings"] or [1.0] * len(domain)
    spacing = [1.0 if math.isnan(size) else size for size in spacing]
    centers = _per_axis(fields, "centerings", axes) or ["cell"] * axes
    origin = [0.0] * len(domain)
    if values["axis mins"]:
        half = [0.0 if centers[axis].lower() == "node" else 0.5 for axis in domain]
        starts = [0.0 if math.isnan(low) else low for low in values["axis mins"]]
        origin = [low + h * size for low, h, size in zip(starts, half, spacing, strict=True)]
    return origin, spacing, np.eye(len(domain)).ravel().tolist()
