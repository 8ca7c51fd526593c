"""How the pixels of a file are stored, whether that can be decoded exactly, and decompression.

Decompression runs in processes of its own (`Codec`). The decoders that pydicom's plugins bring are
C and C++; on damaged frames some of them end the process they run in (GDCM on JPEG lossless and
JPEG-LS does). Here that ends a child, and becomes an error that names the file. Children also
decode in parallel, and what they print stays theirs.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging.dicom.read.files import (
    LIMITS,
    BoundedFile,
    Parsed,
    PixelElement,
    open_content,
)
from medtranslate.imaging.dicom.read.values import first, shown, whole


@dataclass(frozen=True)
class Encoding:
    """How the pixels of a file are stored: Image Pixel module, PS3.3 C.7.6.3.

    Parameters
    ----------
    transfer_syntax : str
        UID.
    element : PixelElement
        Where the pixel data lie.
    rows, columns : int
        Of one frame.
    frames : int
        In the file.
    allocated, stored : int
        Bits.
    signed : bool
        PixelRepresentation 1.
    photometric : str
        ``MONOCHROME1`` or ``MONOCHROME2``.
    """

    transfer_syntax: str
    element: PixelElement
    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    signed: bool
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame that is not compressed."""
        return self.rows * self.columns * self.allocated // 8

    @property
    def ratio(self) -> float:
        """Bytes of the pixels over bytes that they take in the file."""
        return max(1.0, self.frame_bytes * self.frames / max(self.element.available, 1))


def check_whole(parsed: Parsed) -> None:
    """Refuse an image file that ends before its pixel data do.

    Raises
    ------
    Unreadable
        There are no pixel data, or fewer bytes than they should have.
    """
    element, path = parsed.pixels, parsed.path
    if element is None:
        raise Unreadable("is truncated or has no pixel data", path=path)
    if element.length > element.available:
        missing = element.length - element.available
        raise Unreadable(f"is truncated: {missing} bytes of pixel data are missing", path=path)
    if element.length < 0:
        with open_content(path) as stream:
            if not _fragments_end(stream, element.offset):
                raise Unreadable("is truncated: its compressed pixel data do not end", path=path)


def _fragments_end(stream: BoundedFile, offset: int) -> bool:
    """Walk the fragments of encapsulated pixel data (PS3.5 A.4) to their delimiter."""
    while True:
        stream.seek(offset)
        head = stream.read(8)
        if len(head) < 8:
            return False
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) != (0xFFFE, 0xE000):
            return (group, element) == (0xFFFE, 0xE0DD)
        offset += 8 + length


def read_encoding(parsed: Parsed) -> Encoding:
    """Read the Image Pixel module and hold it to what can be decoded exactly.

    Raises
    ------
    Unsupported
        Color, floats, palettes, or bits that leave no exact reading.
    UntrustedInput
        Absurd sizes.
    Unreadable
        An attribute is missing, or there are fewer pixels than it says.
    """
    dataset, element = parsed.dataset, parsed.pixels
    if element is None:
        raise Unreadable("has no pixel data")
    sizes = {}
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored"):
        value = whole(dataset, keyword)
        if value is None:
            raise Unreadable(f"{keyword} is missing")
        sizes[keyword] = value
    sign, samples = whole(dataset, "PixelRepresentation"), whole(dataset, "SamplesPerPixel")
    if sign not in (0, 1):
        raise Unreadable(f"PixelRepresentation is {'missing' if sign is None else sign}")
    # Absent, it is 1: the bytes of the pixel data are counted below.
    if samples not in (None, 1):
        raise Unsupported(f"SamplesPerPixel is {samples}: a color image has no physical unit")
    high, stored = whole(dataset, "HighBit"), sizes["BitsStored"]
    if high not in (None, stored - 1):
        raise Unsupported(f"HighBit {high} does not fit BitsStored {stored}")
    count = whole(dataset, "NumberOfFrames")
    encoding = Encoding(
        transfer_syntax=str(parsed.transfer_syntax),
        element=element,
        rows=sizes["Rows"],
        columns=sizes["Columns"],
        frames=1 if count is None else count,
        allocated=sizes["BitsAllocated"],
        stored=sizes["BitsStored"],
        signed=sign == 1,
        photometric=first(dataset, "PhotometricInterpretation"),
    )
    check_encoding(encoding)
    return encoding


def check_encoding(encoding: Encoding) -> None:
    """Refuse an encoding that cannot be decoded exactly; see `read_encoding`."""
    rows, columns, frames = encoding.rows, encoding.columns, encoding.frames
    if rows < 1 or columns < 1 or frames < 1:
        raise Unreadable(f"{rows} rows, {columns} columns, {frames} frames make no image")
    if max(rows, columns) > LIMITS.side or frames > LIMITS.frames:
        raise UntrustedInput(f"{rows} rows, {columns} columns, {frames} frames are absurd")
    if rows * columns * frames > LIMITS.voxels:
        raise UntrustedInput(f"{rows} x {columns} x {frames} voxels are more than any scan has")
    if encoding.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        named = shown(encoding.photometric) or "missing"
        raise Unsupported(f"PhotometricInterpretation is {named}: values have no physical unit")
    if encoding.allocated not in (8, 16) or not 1 <= encoding.stored <= encoding.allocated:
        raise Unsupported(
            f"{encoding.stored} bits stored in {encoding.allocated} are not supported"
        )
    syntax = UID(encoding.transfer_syntax)
    try:
        compressed = get_decoder(syntax).is_encapsulated
    except NotImplementedError:
        raise Unsupported(f"transfer syntax {syntax.name} is not supported") from None
    element = encoding.element
    if compressed != (element.length < 0):
        raise Unreadable(f"the pixel data are not encoded as {syntax.name}")
    expected = encoding.frame_bytes * frames
    if not compressed and element.length not in (expected, expected + expected % 2):
        raise Unreadable(
            f"PixelData has {element.length} bytes, {rows}x{columns} pixels need {expected}"
        )


WORKER = Path(__file__).with_name("codec_worker.py")
PATIENCE = 120.0
"""Seconds after which a frame that is still not decoded is given up."""


class Codec:
    """Decompresses frames in child processes, which start when first needed.

    Safe to call from several threads; each call has a child to itself. A copy in another process,
    forked or unpickled, starts children of its own.
    """

    def __init__(self) -> None:
        self._owner = -1
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def decode(self, content: bytes, encoding: Encoding) -> np.ndarray:
        """Decompress one frame.

        Parameters
        ----------
        content : bytes
            The frame's codestream.
        encoding : Encoding
            How it is stored.

        Returns
        -------
        numpy.ndarray
            Integers (rows, columns), signed as `encoding` says.

        Raises
        ------
        Unreadable
            It cannot be decompressed; the path is the caller's to add.
        """
        child = self._take()
        timer = threading.Timer(PATIENCE, child.kill)
        timer.start()
        try:
            done, answer = _ask(child, content, encoding)
        except (OSError, EOFError):
            child.kill()
            child.wait()
            raise Unreadable("the pixel data are damaged: their decoder gave up") from None
        finally:
            timer.cancel()
        self._idle.put(child)
        if not done:
            reason = shown(answer.decode("utf-8", "replace")) or "no reason given"
            raise Unreadable(f"the pixel data cannot be decoded: {reason}")
        kind = f"<{'i' if encoding.signed else 'u'}{encoding.allocated // 8}"
        return np.frombuffer(answer, dtype=kind).reshape(encoding.rows, encoding.columns)

    def _take(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            self._owner, self._idle = os.getpid(), queue.SimpleQueue()
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            child = subprocess.Popen(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            )
            weakref.finalize(self, _dismiss, child, os.getpid())
            return child


def _ask(child: subprocess.Popen[bytes], content: bytes, encoding: Encoding) -> tuple[bool, bytes]:
    """Send one frame and take the answer.

    Raises
    ------
    OSError, EOFError
        The child ended.
    """
    plugin = "pylibjpeg" if encoding.transfer_syntax in JPEG2000TransferSyntaxes else ""
    request = {
        "syntax": encoding.transfer_syntax,
        "plugin": plugin,
        "rows": encoding.rows,
        "columns": encoding.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": encoding.photometric,
        "bits_allocated": encoding.allocated,
        "bits_stored": encoding.stored,
        "pixel_representation": int(encoding.signed),
        "pixel_keyword": "PixelData",
    }
    head = json.dumps(request).encode()
    to, back = child.stdin, child.stdout
    if to is None or back is None:
        raise EOFError
    for part in (head, content):
        to.write(struct.pack("<Q", len(part)) + part)
    to.flush()
    header = back.read(9)
    if len(header) != 9:
        raise EOFError
    done, length = struct.unpack("<BQ", header)
    answer = back.read(length)
    if len(answer) != length:
        raise EOFError
    return bool(done), answer


def _dismiss(child: subprocess.Popen[bytes], owner: int) -> None:
    """End a child that is no longer needed; a forked copy leaves its parent's children alone."""
    if os.getpid() != owner or child.poll() is not None:
        return
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
