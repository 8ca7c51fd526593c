"""From a path to parsed data sets: reading headers within limits.

pydicom raises whatever a damaged file leads it to; here is the one place where that becomes a
named error. Beyond `LIMITS` a file from a stranger is refused by name.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medtranslate.errors import InputMissing, MedTranslateError, Unreadable, UntrustedInput
from medtranslate.files import DANGLING, check_fetched
from medtranslate.imaging.dicom.read.values import shown
from medtranslate.imaging.folder import PREFIX_AT, bare_start


@dataclass(frozen=True)
class DicomLimits:
    """Sizes beyond which input is refused rather than read.

    Parameters
    ----------
    file_bytes : int
        Bytes of one file, and of one inflated file.
    header_bytes : int
        Bytes read from one file before its pixel data.
    sequence_depth : int
        Sequences nested in one another.
    side : int
        Rows or Columns of one slice.
    frames : int
        NumberOfFrames of one file.
    voxels : int
        Voxels of one volume; 4 bytes each.
    """

    file_bytes: int = 8 * 2**30
    header_bytes: int = 256 * 2**20
    sequence_depth: int = 16
    side: int = 8192
    frames: int = 20_000
    voxels: int = 2**30


LIMITS = DicomLimits()

FREE_READS = 100_000
"""Reads of a header that a file of any size may take; each element takes two or three."""

FREE_HEADER, INFLATION = 4 * 2**20, 10
"""Bytes that a deflated header may have at any ratio, and its bytes to those stored beyond them."""

_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010


class BoundedFile(io.RawIOBase):
    """A file that never gives more bytes than it has, nor more in all than `budget`.

    A damaged length field asks for 4 GiB; a plain file object would allocate them first.

    Parameters
    ----------
    stream : binary file
        What to read from; closed with this object.
    size : int
        Bytes in the stream.
    budget : int
        Bytes that may be read in all.
    path : path
        The file, for messages.
    stored : int
        Bytes of the file as it is stored, where that is less: a small file may inflate to so many
        elements that reading them never ends.
    """

    def __init__(
        self, stream: io.BufferedIOBase, size: int, budget: int, path: Path, stored: int = 0
    ) -> None:
        super().__init__()
        self._stream, self.size, self._budget, self._path = stream, size, budget, path
        self._reads = FREE_READS + (stored // 4 if stored else size)

    def readable(self) -> bool:
        """Say that this is a file to read."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read at most what is left."""
        left = max(self.size - self._stream.tell(), 0)
        size = left if size is None or size < 0 else min(size, left)
        self._budget -= size
        self._reads -= 1
        if self._budget < 0 or self._reads < 0:
            raise UntrustedInput("the header is larger than any real one", path=self._path)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the stream."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Say where in the stream the next read begins."""
        return self._stream.tell()

    def close(self) -> None:
        """Close the stream as well."""
        self._stream.close()
        super().close()


@dataclass(frozen=True)
class PixelElement:
    """Where the pixel data of a file lie.

    Parameters
    ----------
    offset : int
        First byte of the value, in the (inflated) file.
    length : int
        Bytes of the value, or -1 where it is encapsulated.
    available : int
        Bytes from `offset` to the end of the file.
    """

    offset: int
    length: int
    available: int


@dataclass(frozen=True)
class Parsed:
    """One parsed file.

    Parameters
    ----------
    path : path
        The file.
    dataset : pydicom.Dataset
        Everything before the pixel data, values still raw.
    transfer_syntax : UID
        As the file meta information says, unless the data set is encoded otherwise.
    pixels : PixelElement or None
        None where the file has no pixel data.
    note : str
        What was unusual about the file; ``""`` for a regular one.
    """

    path: Path
    dataset: Dataset
    transfer_syntax: UID
    pixels: PixelElement | None
    note: str


def parse(path: Path) -> Parsed:
    """Read everything of one file but its pixel data.

    Raises
    ------
    InputMissing
        It does not exist or may not be read.
    Unreadable
        Zero bytes, not DICOM, or damaged before the pixel data.
    UntrustedInput
        It breaks a limit.
    """
    with open_content(path) as stream, damage_named(path):
        return _parse_start(path, stream) or _parse(path, stream, stream.size)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises on a damaged file into an error that names it.

    Raises
    ------
    Unreadable, UntrustedInput
        With the file's path, also those raised without one.
    """
    with warnings.catch_warnings():
        # pydicom warns of values that are checked here anyway, on lines of their own.
        warnings.simplefilter("ignore")
        try:
            yield
        except MedTranslateError as error:
            raise type(error)(error.fault, path=path, remedy=error.remedy) from error
        except RecursionError:
            raise UntrustedInput("sequences are nested too deep", path=path) from None
        except Exception as error:
            reason = shown(str(error) or type(error).__name__)
            raise Unreadable(f"is damaged: {reason}", path=path) from error


_START = 2**16
"""Bytes that hold all of most headers, and are read at once: element by element takes longer."""


def _parse_start(path: Path, stream: BoundedFile) -> Parsed | None:
    """Parse the first bytes of a file; None where they do not hold its whole header."""
    start = stream.read(_START)
    stream.seek(0)
    try:
        parsed = _parse(path, io.BytesIO(start), stream.size)
    except Exception:
        return None  # cut off, or damaged: the file itself tells
    return parsed if parsed.pixels else None


def _parse(path: Path, stream: Any, size: int) -> Parsed:
    dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    implicit, little = _encoding_found(dataset)
    pixels = _pixel_element(stream, size, implicit, little)
    syntax, note = _transfer_syntax(dataset, implicit, little, pixels)
    # The inflated stream of a deflated file is plain explicit VR little endian.
    return Parsed(path, dataset, UID(syntax), pixels, note)


def _encoding_found(dataset: FileDataset) -> tuple[bool, bool]:
    """Say whether elements are in implicit VR and little endian, as they were read.

    `FileDataset.original_encoding` repeats the file meta information, which may be wrong.
    """
    for tag in dataset.keys():  # noqa: SIM118
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            return element.is_implicit_VR, element.is_little_endian
    implicit, little = dataset.original_encoding
    return bool(implicit), bool(little)


def _transfer_syntax(
    dataset: FileDataset, implicit: bool, little: bool, pixels: PixelElement | None
) -> tuple[str, str]:
    """Give the transfer syntax that the file has, and a note where its meta says another."""
    named = str(dataset.file_meta.get("TransferSyntaxUID", "")).strip("\0 ")
    native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    native = ImplicitVRLittleEndian if implicit and little else native
    compressed = pixels is not None and pixels.length < 0
    if not named:
        if compressed:
            raise Unreadable("is damaged: it names no transfer syntax")
        lacks = "transfer syntax" if dataset.preamble else "file meta information"
        note = f"has no {lacks}: the transfer syntax is inferred"
        return native, note
    if named in _UNCOMPRESSED:
        if named == native:
            return named, ""
        found = "implicit" if implicit else "explicit"
        return native, f"is encoded in {found} VR, unlike its file meta information says"
    if pixels is not None and not compressed and named in AllTransferSyntaxes:
        return native, "has uncompressed pixel data, unlike its file meta information says"
    return named, ""


_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def _pixel_element(stream: Any, size: int, implicit: bool, little: bool) -> PixelElement | None:
    order = "<" if little else ">"
    start = stream.read(8)
    if len(start) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", start[:4])
    if group << 16 | element != _PIXEL_DATA:
        return None
    length_field = start[4:] if implicit else stream.read(4)
    if len(length_field) < 4:
        return None
    (length,) = struct.unpack(f"{order}I", length_field)
    offset = stream.tell()
    return PixelElement(offset, -1 if length == _UNDEFINED else length, size - offset)


def open_content(path: Path, budget: int = LIMITS.header_bytes) -> BoundedFile:
    """Open a file so that offsets in it are offsets in its (inflated) bytes.

    Parameters
    ----------
    path : path
        The file.
    budget : int
        Bytes that may be read in all.

    Raises
    ------
    InputMissing, Unreadable, UntrustedInput
        As `parse`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedInput("is no regular file", path=path)
        if status.st_size == 0:
            raise Unreadable("has zero bytes", path=path)
        if status.st_size > LIMITS.file_bytes:
            raise UntrustedInput(f"is larger than {LIMITS.file_bytes >> 30} GiB", path=path)
        stream = path.open("rb")
    except FileNotFoundError:
        fault = DANGLING if path.is_symlink() else "no such file"
        raise InputMissing(fault, path=path) from None
    except OSError as error:
        raise InputMissing(f"cannot be opened: {error.strerror}", path=path) from error
    start = stream.read(1024)
    if start[PREFIX_AT : PREFIX_AT + 4] != b"DICM" and not bare_start(start):
        stream.close()
        check_fetched(start, path)
        raise Unreadable("is not DICOM", path=path)
    if DeflatedExplicitVRLittleEndian.encode() in start:
        with stream:
            return _inflate(path, stream, budget)
    stream.seek(0)
    return BoundedFile(stream, status.st_size, budget, path)


def _inflate(path: Path, stream: io.BufferedReader, budget: int) -> BoundedFile:
    """Give a deflated file (PS3.5 A.5) as it would be without deflation."""
    stream.seek(PREFIX_AT + 4)
    meta = stream.read(12)
    size = int.from_bytes(meta[8:12], "little")
    if meta[:4] != b"\x02\x00\x00\x00" or size > 2**16:
        raise Unreadable("is damaged: file meta information has no length", path=path)
    meta += stream.read(size)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = stream.read()
    try:
        content = inflater.decompress(packed, LIMITS.header_bytes)
    except zlib.error as error:
        raise Unreadable(f"is damaged: {error}", path=path) from error
    if inflater.unconsumed_tail:
        raise UntrustedInput("inflates to more than any real image", path=path)
    if not inflater.eof:
        raise Unreadable("is truncated: its deflated data set does not end", path=path)
    if budget <= LIMITS.header_bytes:
        budget = min(budget, FREE_HEADER + INFLATION * len(packed))
    plain = meta.replace(b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\x00\x00\x00")
    whole = bytes(PREFIX_AT) + b"DICM" + plain + content
    return BoundedFile(io.BytesIO(whole), len(whole), budget, path, stored=len(packed))
