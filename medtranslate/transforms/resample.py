"""Resampling along one axis as a small matrix: exact, invertible in form, fast as a product.

MONAI's ``Spacingd`` drops the shear of a tilted CT and mixes slices; two matrices a slice plane
cannot, because they never touch the third axis.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Kernel = Callable[[NDArray[np.floating]], NDArray[np.floating]]


def triangle(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear interpolation; never overshoots."""
    return np.clip(1 - np.abs(x), 0, None)


def cubic(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Keys' cubic convolution with a = -1/2 (IEEE Trans. ASSP 29, 1981, equation 15)."""
    x = np.abs(x)
    near = 1 + x * x * (1.5 * x - 2.5)
    far = 2 + x * (-4 + x * (2.5 - 0.5 * x))
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resampling(
    positions: NDArray[np.floating], length: int, step: float, kernel: Kernel
) -> NDArray[np.float32]:
    """Weights that take samples 0..length-1 of an axis to new positions on it.

    Parameters
    ----------
    positions : float array (M,)
        New samples' centres, in units of the old samples.
    length : int
        Number of old samples.
    step : float
        Distance between new samples in units of old ones; above 1 the kernel is widened by it, so
        that what is too fine for the new grid is averaged away and not aliased.
    kernel : function
        ``triangle`` or ``cubic``.

    Returns
    -------
    float32 array (M, length)
        Rows add up to 1; a row is zero where its position lies outside the old samples' extent.
    """
    scale = max(step, 1.0)
    weights = kernel((positions[:, None] - np.arange(length)) / scale)
    inside = (positions >= -0.5) & (positions <= length - 0.5)
    total = weights.sum(axis=1, where=inside[:, None])
    weights = np.where(inside[:, None], weights, 0) / np.where(inside, total, 1)[:, None]
    return weights.astype(np.float32)
