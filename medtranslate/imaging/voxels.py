"""Stored numbers to float32 voxels and back, one slab at a time.

Working slab by slab keeps the peak at the stored array plus one float32 copy, whatever the type.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medtranslate.errors import Unsupported

FLOAT32_INTEGERS = 2**24
"""Up to this magnitude float32 holds every integer."""


def to_float32(
    stored: np.ndarray, slope: float, inter: float, path: str | Path | None = None
) -> np.ndarray:
    """Give ``stored * slope + inter`` as float32, computed in float64 and rounded once.

    Parameters
    ----------
    stored : numpy.ndarray
        Integers or floats of shape (X, Y, Z), any byte order.
    slope, inter : float
        The scaling.
    path : path, optional
        The file, for the message.

    Returns
    -------
    numpy.ndarray
        Float32 of shape (X, Y, Z) in native byte order, memory order as stored.

    Raises
    ------
    Unsupported
        A voxel is NaN, infinite or beyond float32.
    """
    scaled = (slope, inter) != (1.0, 0.0)
    native_float = stored.dtype == np.float32 and stored.dtype.isnative
    voxels = stored if native_float and not scaled else np.empty_like(stored, dtype=np.float32)
    check = scaled or stored.dtype.kind == "f"
    bad = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for z in range(stored.shape[2]):
            if scaled:
                voxels[..., z] = stored[..., z].astype(np.float64) * slope + inter
            elif voxels is not stored:
                voxels[..., z] = stored[..., z]
            if check:
                bad += int(np.size(voxels[..., z]) - np.isfinite(voxels[..., z]).sum())
    if bad:
        raise Unsupported(f"{bad} of {stored.size} voxels are NaN or infinite", path=path)
    return voxels


def beyond_float32(stored: np.ndarray) -> bool:
    """Say whether integers are too large for float32 to hold each of them."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize < 4:
        return False
    return bool(int(stored.max()) > FLOAT32_INTEGERS or int(stored.min()) < -FLOAT32_INTEGERS)


def to_integers(
    voxels: np.ndarray, dtype: np.dtype | type | str, path: str | Path | None = None
) -> np.ndarray:
    """Round voxels to the nearest integers of a type.

    Parameters
    ----------
    voxels : numpy.ndarray
        Float32 of shape (X, Y, Z).
    dtype : dtype
        An integer type.
    path : path, optional
        The output, for the message.

    Raises
    ------
    Unsupported
        A voxel is not finite or does not fit the type.
    """
    dtype = np.dtype(dtype)
    limits = np.iinfo(dtype)
    integers = np.empty_like(voxels, dtype=dtype)
    for z in range(voxels.shape[2]):
        rounded = np.rint(voxels[..., z], dtype=np.float64)
        # Written so that NaN, which compares false with everything, is caught as well.
        if not (rounded.min() >= limits.min and rounded.max() <= limits.max):
            raise Unsupported(
                f"values from {rounded.min():g} to {rounded.max():g} do not fit {dtype.name}",
                path=path,
            )
        integers[..., z] = rounded
    return integers


def to_derived(
    voxels: np.ndarray, dtype: np.dtype | type | str, path: str | Path | None = None
) -> np.ndarray:
    """Give voxels in the type that a derived image says: floats as they are, integers rounded.

    Parameters and errors are those of `to_integers`.
    """
    if np.dtype(dtype).kind == "f":
        return voxels.astype(dtype, copy=False)
    return to_integers(voxels, dtype, path)


def to_stored(
    voxels: np.ndarray, dtype: np.dtype | type | str, slope: float = 1.0, inter: float = 0.0
) -> np.ndarray | None:
    """Give the numbers of a stored type that read back as exactly these voxels, if there are any.

    Parameters
    ----------
    voxels : numpy.ndarray
        Float32 of shape (X, Y, Z).
    dtype : dtype
        The type to store.
    slope, inter : float
        The scaling with which the numbers will be read.

    Returns
    -------
    numpy.ndarray or None
        Shape (X, Y, Z) of type `dtype`; None where that would lose something.
    """
    dtype = np.dtype(dtype)
    stored = np.empty_like(voxels, dtype=dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for z in range(voxels.shape[2]):
            slab = voxels[..., z].astype(np.float64)
            numbers = (slab - inter) / slope
            if dtype.kind in "iu":
                numbers = np.rint(numbers)
                limits = np.iinfo(dtype)
                if not (numbers.min() >= limits.min and numbers.max() <= limits.max):
                    return None
            stored[..., z] = numbers
            again = (stored[..., z].astype(np.float64) * slope + inter).astype(np.float32)
            if not np.array_equal(again, voxels[..., z]):
                return None
    return stored
