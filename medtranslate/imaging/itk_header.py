"""What MetaImage and NRRD headers say in text, looked at before ITK is let near the voxels.

ITK follows a header to whatever file it names, reads a damaged compressed MetaImage without a word,
and reports damage on stderr; so names, sizes and checksums are tested here first.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput

_LONGEST_HEADER = 2**16
_CHUNK = 2**20
_COUNTS = {
    **dict.fromkeys(("DimSize", "Offset", "Position", "Origin", "CenterOfRotation"), 1),
    **dict.fromkeys(("ElementSpacing", "ElementSize"), 1),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2),
}
"""Numbers that a MetaImage field holds, as a power of the count of axes."""

_WINDOW_BITS = {"zlib": zlib.MAX_WBITS, "gzip": 16 + zlib.MAX_WBITS}


@dataclass(frozen=True)
class TextHeader:
    """Where the voxels lie, by the header's text.

    Parameters
    ----------
    format : str
        ``"metaimage"`` or ``"nrrd"``.
    voxels : Path
        The file that holds the voxels: the header's own, or one beside it.
    offset : int
        First byte of the voxels in that file.
    packing : str
        ``"raw"``, ``"zlib"``, ``"gzip"``, or ``""`` for an encoding that only ITK knows.
    """

    format: str
    voxels: Path
    offset: int
    packing: str


def read_text_header(path: Path) -> TextHeader:
    """Read the header of a MetaImage or NRRD file.

    Raises
    ------
    Unreadable
        Empty, or neither format, or the file with the voxels is missing.
    UntrustedInput
        The header sends the reader out of its own folder.
    Unsupported
        The voxels are spread over a list of files.
    """
    with path.open("rb") as file:
        block = file.read(_LONGEST_HEADER)
    if not block:
        raise Unreadable("the file is empty", path=path)
    if block.startswith(b"NRRD"):
        return _nrrd(block, path)
    if re.match(rb"\s*(Comment|ObjectType|NDims)\s*=", block):
        return _metaimage(block, path)
    raise Unreadable("neither a MetaImage nor an NRRD file", path=path)


def companion(path: Path) -> Path | None:
    """Give the file beside a header that holds its voxels, None where the header's own does."""
    voxels = read_text_header(path).voxels
    return voxels if voxels != path else None


def check_voxels(header: TextHeader, wanted: int, path: Path) -> None:
    """Refuse voxels that are truncated or whose checksum is wrong, where ITK would not tell.

    Parameters
    ----------
    header : TextHeader
        From `read_text_header`.
    wanted : int
        Bytes of voxels that the header's sizes ask for.
    path : Path
        The file given, for the message.

    Raises
    ------
    Unreadable
        Too few bytes, or a damaged stream.
    """
    if header.packing == "raw":
        there = header.voxels.stat().st_size - header.offset
        if there < wanted:
            raise Unreadable(f"truncated: {there} of {wanted} bytes of voxels", path=path)
    elif header.packing in _WINDOW_BITS:
        _check_stream(header, wanted, path)


def _check_stream(header: TextHeader, wanted: int, path: Path) -> None:
    stream, got = zlib.decompressobj(_WINDOW_BITS[header.packing]), 0
    with header.voxels.open("rb") as file:
        file.seek(header.offset)
        try:
            while not stream.eof and got <= wanted:
                piece = stream.unconsumed_tail or file.read(_CHUNK)
                if not piece:
                    raise Unreadable("truncated: the compressed voxels end early", path=path)
                got += len(stream.decompress(piece, _CHUNK))
        except zlib.error as error:
            raise Unreadable(f"damaged voxels: {error}", path=path) from error
    if got != wanted:
        raise Unreadable(f"damaged voxels: {got} of {wanted} bytes in the stream", path=path)


def _metaimage(block: bytes, path: Path) -> TextHeader:
    place = re.search(rb"^ElementDataFile\s*=[ \t]*([^\r\n]*?)[ \t]*\r?\n", block + b"\n", re.M)
    if place is None:
        raise Unreadable("truncated or damaged MetaImage header", path=path)
    name = place[1].decode("utf-8", "replace")
    if name.upper() == "LIST" or "%" in name:
        raise Unsupported("the voxels are spread over a list of files", path=path)
    text = block[: place.end()]
    _check_fields(text, path)
    packed = re.search(rb"^CompressedData\s*=\s*True", text, re.M | re.I)
    skipped = re.search(rb"^HeaderSize\s*=\s*(-?\d+)", text, re.M)
    local = name.upper() == "LOCAL"
    voxels = path if local else _beside(path, name)
    offset = place.end() if local else int(skipped[1]) if skipped else 0
    # A header size of -1 means: whatever precedes the voxels at the end of the file.
    return TextHeader("metaimage", voxels, max(offset, 0), "zlib" if packed else "raw")


def _check_fields(text: bytes, path: Path) -> None:
    """Refuse a MetaImage header on which ITK would crash or speak for itself.

    Raises
    ------
    Unreadable
        A line is no ``Key = value``, a field that ITK needs is missing, or has a wrong count of
        numbers.
    """
    fields: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").strip().split("\n"):
        key, equals, value = line.strip(" \t\r").partition("=")
        if not equals or not key.strip().isidentifier() or not value.strip("\t").isprintable():
            raise Unreadable(f"damaged MetaImage header: {line.strip()[:40]!r}", path=path)
        fields[key.strip()] = value.strip()
    axes = fields.get("NDims", "")
    if axes not in ("2", "3", "4"):
        raise Unreadable(f"damaged MetaImage header: NDims is {axes!r}", path=path)
    if not re.fullmatch(r"MET_[A-Z_]+", fields.get("ElementType", "")):
        raise Unreadable("damaged MetaImage header: no ElementType", path=path)
    first = next(iter(key for key in fields if key in ("NDims", *_COUNTS)))
    if first != "NDims" or "DimSize" not in fields:
        raise Unreadable("damaged MetaImage header: NDims or DimSize out of place", path=path)
    for key, power in _COUNTS.items():
        if key in fields and not _are_numbers(fields[key], int(axes) ** power):
            raise Unreadable(f"damaged MetaImage header: {key} is {fields[key]!r}", path=path)


def _are_numbers(text: str, count: int) -> bool:
    try:
        return len([float(word) for word in text.split()]) == count
    except ValueError:
        return False


def _nrrd(block: bytes, path: Path) -> TextHeader:
    end = re.search(rb"\r?\n\r?\n", block)
    text = block[: end.start()] if end else block
    named = re.search(rb"^data ?file:[ \t]*([^\r\n]*?)[ \t]*\r?$", text, re.M | re.I)
    if named is None and end is None:
        raise Unreadable("truncated or damaged NRRD header", path=path)
    name = named[1].decode("utf-8", "replace") if named else ""
    if name.upper().startswith("LIST") or "%" in name:
        raise Unsupported("the voxels are spread over a list of files", path=path)
    encoding = re.search(rb"^encoding:[ \t]*(\w+)", text, re.M | re.I)
    packings = {b"raw": "raw", b"gzip": "gzip", b"gz": "gzip"}
    packing = packings.get(encoding[1].lower(), "") if encoding else ""
    skips = re.search(rb"^(line|byte) ?skip:", text, re.M | re.I)
    voxels = _beside(path, name) if named else path
    offset = 0 if named or end is None else end.end()
    return TextHeader("nrrd", voxels, offset, "" if skips else packing)


def _beside(path: Path, name: str) -> Path:
    name = name.removeprefix("./")
    if not name or Path(name).name != name or "\\" in name or name == "..":
        raise UntrustedInput(f"its voxels are said to lie outside its folder: {name}", path=path)
    voxels = path.with_name(name)
    if voxels.is_symlink() and voxels.resolve().parent != path.resolve().parent:
        raise UntrustedInput(f"its voxels lie behind a link out of its folder: {name}", path=path)
    if not voxels.is_file():
        raise Unreadable(f"the file with its voxels is missing: {name}", path=path)
    return voxels
