"""Headers of MetaImage and NRRD files, and the voxels that they describe.

Both are lines of text before, or beside, the voxels. They are read here and not by ITK: its parsers
overflow their buffers on long words, take a field that hides behind a space, follow a header to any
file, and wait on stdin for one called ``-``. What a header says is checked field by field, and what
it does not say in so many words is refused, so that a damaged line does not go unnoticed.

Voxels lie in the header's own file, or in one file beside it. `metaimage` and `nrrd` parse.
"""

from __future__ import annotations

import io
import math
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medtranslate.errors import MedTranslateError, Unreadable
from medtranslate.imaging.limits import (
    check_claim,
    check_memory,
    damage_named,
    fill,
    left_over,
    unpacked,
)
from medtranslate.imaging.metaimage import metaimage_lines, parse_metaimage
from medtranslate.imaging.nrrd import nrrd_lines, parse_nrrd
from medtranslate.imaging.source import check_affine
from medtranslate.imaging.text_fields import LONGEST_FIELD, LONGEST_HEADER, TextHeader, beside


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
        parse = parse_nrrd if block.startswith(b"NRRD") else parse_metaimage
        header = parse(block, path)
        check_affine(header.affine, path)
    except MedTranslateError as error:
        raise type(error)(error.fault, path=path, remedy=error.remedy) from error
    return header


def companion(path: Path) -> Path | None:
    """Return the file beside a header that holds its voxels, None where the header's own does."""
    block = _start(path)
    if block.startswith(b"NRRD"):
        name = nrrd_lines(block)[0].get("data file", "")
    else:
        name = metaimage_lines(block)[0].get("ElementDataFile", "LOCAL")
        name = "" if name.upper() == "LOCAL" else name
    return beside(path, name) if name else None


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
            digits_alone = b"".join(text.split()).decode("ascii")
            flat = np.frombuffer(bytes.fromhex(digits_alone), dtype=header.dtype)
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
