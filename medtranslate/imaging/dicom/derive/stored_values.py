"""Translated voxels to the stored values of a derived series, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medtranslate.errors import Unsupported
from medtranslate.imaging.source import unpack_bits

WORDS = {"CT": np.dtype("<i2"), "MR": np.dtype("<u2")}
"""Stored type by target, as BitsStored and PixelRepresentation of the rules say."""

BLOCK = 16
"""Slices taken from memory together: 16 float32 of neighboring slices fill a cache line."""


class PixelWords:
    """The stored values of each slice of a derived series.

    They are made when asked for, a block at a time, so that no copy of the volume is held.

    Parameters
    ----------
    voxels : numpy.ndarray
        Float32 (X, Y, Z) as translated: HU for CT, arbitrary units from 0 for MR.
    masks : sequence of str
        For each slice the packed mask of what was not imaged, or ``""``.
    synthesis : dict
        ``meta["synthesis"]``.
    """

    def __init__(self, voxels: np.ndarray, masks: Sequence[str], synthesis: dict[str, Any]) -> None:
        self.shape = voxels.shape
        self._voxels, self._masks = voxels, masks
        self._background = synthesis["background"]
        self._kind = WORDS[synthesis["modality"]]
        self._start, self._block = -1, np.empty(0, dtype=np.float32)

    def of(self, index: int) -> np.ndarray:
        """Give the stored values (rows, columns) of a slice; background where not imaged.

        Raises
        ------
        Unsupported
            A value is not finite or does not fit.
        """
        limits = np.iinfo(self._kind)
        pixels = np.rint(self._slice(index))
        if self._masks[index]:
            mask = unpack_bits(self._masks[index], self.shape[:2])
            pixels[mask.T] = self._background
        low, high = float(pixels.min()), float(pixels.max())
        # Written so that NaN, which compares false with everything, is caught as well.
        if not (low >= limits.min and high <= limits.max):
            raise Unsupported(
                f"slice {index}: values from {low:g} to {high:g} do not fit {self._kind.name}"
            )
        return np.asarray(pixels, dtype=self._kind)

    def _slice(self, index: int) -> np.ndarray:
        start = index - index % BLOCK
        if start != self._start:
            block = self._voxels[:, :, start : start + BLOCK].transpose(2, 1, 0)
            self._start, self._block = start, np.ascontiguousarray(block)
        return np.asarray(self._block[index - start])
