"""Masks of what was not imaged, as text that ``meta`` can hold."""

from __future__ import annotations

import base64
import zlib

import numpy as np


def pack_mask(mask: np.ndarray) -> str:
    """Give a bool (X, Y) mask as text: bits, deflated, base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii")


def unpack_mask(packed: str, shape: tuple[int, int]) -> np.ndarray:
    """Give the bool (X, Y) mask that `pack_mask` was given."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=np.uint8)
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
