"""Stored values to physical ones: decoding, unused bits, rescale and padding; masks of padding."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydicom.encaps import get_frame
from pydicom.uid import UID

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported
from medtranslate.imaging.dicom.read.encoding import Encoding, decompress
from medtranslate.imaging.dicom.read.files import LIMITS, BoundedFile, open_content
from medtranslate.imaging.dicom.read.geometry import label
from medtranslate.imaging.dicom.read.headers import Slice
from medtranslate.imaging.dicom.read.values import shown
from medtranslate.imaging.limits import check_claim, check_memory

AIR = -1000.0
"""HU of air, which padding is taken for."""
BELOW_AIR = -1024.0
"""HU below which a CT holds no tissue and no air, but the mark of a pixel that was not imaged."""
TISSUE = -500.0
"""HU from which a padding value would erase tissue."""


@dataclass(frozen=True)
class Voxels:
    """The pixels of a stack in physical units.

    Parameters
    ----------
    values : numpy.ndarray
        Float32 (X, Y, Z): HU for CT, scanner units for MR.
    masks : tuple of numpy.ndarray or None
        For each slice bool (X, Y): where it was not imaged; None where all of it was.
    """

    values: np.ndarray
    masks: tuple[np.ndarray | None, ...]


def decode(slices: Sequence[Slice], modality: str) -> Voxels:
    """Decode slices, in order, in parallel.

    Parameters
    ----------
    slices : sequence of Slice
        With one grid.
    modality : str
        ``"CT"`` or ``"MR"``.

    Raises
    ------
    Unreadable
        A slice cannot be decoded.
    Unsupported
        Its padding value lies among tissue.
    UntrustedInput
        The pixels unpack like a bomb, or do not fit into free memory.
    """
    encoding = slices[0].encoding
    _check_sizes(slices)
    # Stored slice by slice and given as a view, so that a slice is one run of memory.
    values = np.empty((len(slices), encoding.rows, encoding.columns), dtype=np.float32)

    def fill(index: int) -> np.ndarray | None:
        values[index], mask = physical(slices[index], modality)
        return mask

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        masks = tuple(pool.map(fill, range(len(slices))))
    return Voxels(values.transpose(2, 1, 0), masks)


def _check_sizes(slices: Sequence[Slice]) -> None:
    """Refuse pixels that no scan would pack so tightly, or that do not fit into memory."""
    path = slices[0].path
    stored = sum(one.encoding.frame_bytes for one in slices)
    check_claim(stored, sum(file.stat().st_size for file in {one.path for one in slices}), path)
    check_memory(4 * sum(one.encoding.rows * one.encoding.columns for one in slices), path)


def physical(one: Slice, modality: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode one slice: float32 (rows, columns) in physical units, and its mask (X, Y) or None."""
    stored = read_stored(one)
    if one.slope == 1 and float(one.intercept).is_integer():
        # Exact in float32, at a quarter of the time.
        pixels = stored.astype(np.float32)
        pixels += np.float32(one.intercept)
    else:
        pixels = (stored * np.float64(one.slope) + one.intercept).astype(np.float32)
    mask: np.ndarray | None = None
    if one.padding is not None:
        low, high = one.padding
        mask = (stored >= low) & (stored <= high)
        level = high * one.slope + one.intercept
        if modality == "CT" and level > TISSUE and mask.any():
            raise Unsupported(
                f"{label(one)}: PixelPaddingValue {high} stands for {level:g} HU, which tissue "
                "has as well",
                path=one.path,
            )
    if modality == "CT" and pixels.min() < BELOW_AIR:
        below = pixels < BELOW_AIR
        mask = below if mask is None else mask | below
    if mask is None or not mask.any():
        return pixels, None
    pixels[mask] = AIR if modality == "CT" else 0.0
    return pixels, mask.T


def read_stored(one: Slice) -> np.ndarray:
    """Decode the stored values of one slice: integers (rows, columns), sign and unused bits done.

    Raises
    ------
    Unreadable
        The pixel data are damaged.
    """
    encoding = one.encoding
    try:
        with open_content(one.path, LIMITS.file_bytes) as stream:
            frame = max(one.frame - 1, 0)
            if encoding.element.length < 0:
                return decompress(_compressed_frame(stream, encoding, frame), encoding)
            return _read_native(stream, encoding, frame)
    except MedTranslateError as error:
        raise type(error)(error.fault, path=one.path, remedy=error.remedy) from error
    except Exception as error:
        reason = shown(str(error) or type(error).__name__)
        raise Unreadable(f"the pixel data cannot be decoded: {reason}", path=one.path) from error


def _read_native(stream: BoundedFile, encoding: Encoding, frame: int) -> np.ndarray:
    size = encoding.frame_bytes
    stream.seek(encoding.element.offset + frame * size)
    content = stream.read(size)
    if len(content) != size:
        raise Unreadable("is truncated in its pixel data")
    order = "<" if UID(encoding.transfer_syntax).is_little_endian else ">"
    words = np.frombuffer(content, dtype=f"{order}u{encoding.allocated // 8}")
    return significant(words.reshape(encoding.rows, encoding.columns), encoding)


def _compressed_frame(stream: BoundedFile, encoding: Encoding, frame: int) -> bytes:
    stream.seek(encoding.element.offset)
    content = get_frame(stream, frame, number_of_frames=encoding.frames)
    check_codestream(content, encoding)
    return content


def significant(words: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Give integers from the low BitsStored bits alone: the others may hold overlays or noise."""
    spare = encoding.allocated - encoding.stored
    kind = np.dtype(f"{'i' if encoding.signed else 'u'}{words.itemsize}")
    native = words.astype(words.dtype.newbyteorder("="), copy=False)
    if not spare:
        return native.view(kind)
    # Shifted up and down again, a signed type repeats the sign bit over the spare ones.
    return (native << spare).view(kind) >> spare


def check_codestream(content: bytes, encoding: Encoding) -> None:
    """Refuse a compressed frame whose own size is not Rows and Columns, before it is decoded.

    Raises
    ------
    Unreadable
        It holds another size: a decoder would allocate what a damaged file asks for.
    """
    size = codestream_size(content)
    if size is not None and size != (encoding.rows, encoding.columns):
        raise Unreadable(
            f"the compressed pixel data hold {size[0]} rows and {size[1]} columns, "
            f"the header says {encoding.rows} and {encoding.columns}"
        )


def codestream_size(content: bytes) -> tuple[int, int] | None:
    """Give (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 frame states; None for RLE.

    Raises
    ------
    Unreadable
        A JPEG stream that states none.
    """
    if content[:4] == b"\xff\x4f\xff\x51" and len(content) >= 24:
        # SIZ of ISO/IEC 15444-1 A.5.1: reference grid less its offset.
        width, height, left, top = struct.unpack(">4I", content[8:24])
        return height - top, width - left
    if content[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(content):
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == _JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in _JPEG_NO_FRAME):
            rows, columns = struct.unpack(">2H", content[at + 5 : at + 9])
            return rows, columns
        at += 2 + length
    raise Unreadable("the compressed pixel data have no frame header")


_JPEG_LS_FRAME = 0xF7
_JPEG_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of frames that define tables: ISO/IEC 10918-1 B.1."""
