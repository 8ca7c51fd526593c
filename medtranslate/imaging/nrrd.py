"""The header of an NRRD file.

Source: the format definition, teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging.source import check_shape
from medtranslate.imaging.text_fields import (
    LONGEST_FIELD,
    LONGEST_HEADER,
    TextHeader,
    beside,
    check_alike,
    parse_integer,
    parse_numbers,
)

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

_MILLIMETERS = frozenset({"mm", "millimeter", "millimeters", "", "???", "none"})
_OTHER_LENGTHS = frozenset(
    {"m", "cm", "um", "µm", "micron", "microns", "nm", "meter", "meters", "in", "inch", "inches"}
)
_NRRD_SPACE_NAMES = re.compile(r"(3d-)?[a-z]+(-[a-z]+)*")
_NRRD_DOMAIN_KINDS = frozenset({"domain", "space", "time", "", "???", "none"})
_NRRD_RANGE_KINDS = re.compile(
    r"list|point|vector|covariant-vector|normal|stub|scalar|complex|quaternion|[23]-(vector|color)"
    r"|2-vector|3-(vector|gradient|normal|color)|4-(vector|color)|(rgb|hsv|xyz)-color|rgba-color"
    r"|[23]d-(masked-)?(symmetric-)?matrix"
)


def nrrd_lines(block: bytes) -> tuple[dict[str, str], dict[str, str], int]:
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
            if _is_list(fields.get("data file", "")):
                break  # names of files follow
    placing = _ORIENTED if "space directions" in fields else _UNORIENTED
    absent = [name for name in placing if name not in fields]
    check_alike(absent, (*pairs, *comments))
    return fields, pairs, found.end() if found else -1


def _is_list(name: str) -> bool:
    """Say whether a data file stands for several: a list of names, or a pattern of numbers."""
    return bool(re.match(r"list\b", name, re.I)) or "%" in name


def _add_nrrd_field(fields: dict[str, str], name: str, value: str, line: str) -> None:
    known = _NRRD_NAMES.get(name.strip().lower())
    if known is None or not value.replace("\t", " ").isprintable():
        raise Unreadable(f"damaged NRRD header: {line[:40]!r}")
    if known in fields:
        raise Unreadable(f"damaged NRRD header: {known} is given twice")
    fields[known] = value


def parse_nrrd(block: bytes, path: Path) -> TextHeader:
    """Return what an NRRD header says of its voxels; errors as of `read_text_header`."""
    fields, pairs, end = nrrd_lines(block)
    axes = parse_integer(fields, "dimension")
    if not 1 <= axes <= 16:
        raise Unreadable(f"damaged NRRD header: dimension is {axes}")
    kinds = _per_axis(fields, "kinds", axes) or ["domain"] * axes
    _check_kinds(kinds)
    words = _per_axis(fields, "sizes", axes) or []
    sizes = [parse_integer({"sizes": word}, "sizes") for word in words]
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
    if name is not None and _is_list(name):
        raise Unsupported("the voxels are spread over a list of files")
    if name is None and end < 0:
        raise Unreadable("truncated or damaged NRRD header")
    skipped = parse_integer(fields, "byte skip", 0)
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
        voxels=path if name is None else beside(path, name),
        offset=-1 if skipped == -1 else 0 if name is not None else end,
        packing=_NRRD_PACKINGS[packing],
        skipped_lines=_skipped_lines(fields),
        skipped_bytes=max(skipped, 0),
        texts=pairs,
        faults=faults,
    )


def _skipped_lines(fields: dict[str, str]) -> int:
    lines = parse_integer(fields, "line skip", 0)
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
    _check_units(fields)
    if not space and "space directions" not in fields:
        faults.append("The header names no space; left-posterior-superior is assumed.")
        return _unoriented(fields, domain, axes)
    if not space:
        faults.append("The header names no space; left-posterior-superior is assumed.")
    elif space not in _NRRD_SPACES:
        if not _NRRD_SPACE_NAMES.fullmatch(space):
            raise Unreadable(f"damaged NRRD header: space is {space[:40]!r}")
        raise Unsupported(f"the space {space[:60]} does not say where left is")
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


def _check_units(fields: dict[str, str]) -> None:
    """Refuse lengths that are not mm: units of the space, one a dimension, or of the axes."""
    space, axes = (
        set(re.findall(r'"([^"]*)"', fields.get(name, "")) or fields.get(name, "").split())
        for name in ("space units", "units")
    )
    strange = {unit for unit in space if unit.lower() not in _MILLIMETERS}
    strange |= {unit for unit in axes if unit.lower() in _OTHER_LENGTHS}
    if strange:
        raise Unsupported(f"its unit of space is {sorted(space or axes)}, not mm")


def _vector(word: str) -> list[float]:
    numbers = parse_numbers(part.strip() for part in word.strip("() ").split(","))
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
        numbers = parse_numbers(words[axis] for axis in domain) if words else None
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
