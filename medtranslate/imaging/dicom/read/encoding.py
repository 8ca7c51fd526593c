"""How the pixels of a file are stored, whether that can be decoded exactly, and decompression.

Decompression runs in child processes (`imaging.child`). The decoders that pydicom's plugins bring
are C and C++; on damaged frames some of them end the process they run in (GDCM on JPEG lossless
and JPEG-LS does). Children also decode in parallel, and what they print stays theirs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging.child import PATIENCE, children
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


def padding(dataset: Dataset, encoding: Encoding) -> tuple[int, int] | None:
    """Give the lowest and highest stored value that stand for no image, PS3.3 C.7.5.1.1.2."""
    value = stored_value(dataset, "PixelPaddingValue", encoding)
    if value is None:
        return None
    limit = stored_value(dataset, "PixelPaddingRangeLimit", encoding)
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def stored_value(dataset: Dataset, keyword: str, encoding: Encoding) -> int | None:
    """Give an attribute whose sign is that of the pixels (VR ``US or SS``)."""
    value = whole(dataset, keyword)
    if value is None:
        return None
    # Writers take either VR for either sign; PixelRepresentation decides.
    half = 1 << (encoding.allocated - 1)
    unsigned = value & (2 * half - 1)
    return unsigned - 2 * half if encoding.signed and unsigned >= half else unsigned


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


def decompress(content: bytes, encoding: Encoding) -> np.ndarray:
    """Decompress one frame, in a child process.

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
    request = {
        "syntax": encoding.transfer_syntax,
        "plugin": "pylibjpeg" if encoding.transfer_syntax in JPEG2000TransferSyntaxes else "",
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
    failed = "the pixel data cannot be decoded"
    (answer,) = children().ask("frame", request, content, failed=failed, patience=PATIENCE)
    kind = f"<{'i' if encoding.signed else 'u'}{encoding.allocated // 8}"
    return np.frombuffer(answer.content, dtype=kind).reshape(encoding.rows, encoding.columns)
