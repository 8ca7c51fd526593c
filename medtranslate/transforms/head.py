"""Where the head is: the part of a slice that the model may speak about.

Everything outside is background on both sides of a translation: head rests, cushions, tubes, text
at the rim and noise in the air are not anatomy, and a generator asked to translate them invents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_MARGIN = 8  # pixels of the halved slice added on each side, so that closing may cross the border
_BOX = 0.92  # an ellipse fills 0.79 of its box; a printed frame, once filled, all of it


@dataclass(frozen=True)
class FixedThreshold:
    """Tissue is what lies above a fixed value: CT, whose values have a meaning.

    Parameters
    ----------
    value : float
        In the image's units: HU for a volume (-300 lies between air and fat), share of full white
        for a picture.
    """

    value: float

    def level(self, values: NDArray[np.floating]) -> float:
        """Return the threshold for these values: always the same."""
        return self.value


@dataclass(frozen=True)
class OtsuThreshold:
    """Tissue is what lies above a share of Otsu's threshold: MR, whose values mean nothing alone.

    Parameters
    ----------
    share : float
        Of Otsu's threshold (IEEE Trans. SMC 9, 1979), which itself lies between dark and bright
        tissue; the air of a magnitude image lies well below half of it.
    """

    share: float

    def level(self, values: NDArray[np.floating]) -> float:
        """Return the threshold for these values, in their unit."""
        lowest = float(values.min())
        # Of 128 bins, one bright vessel would leave but the first to everything else.
        usual = np.minimum(values, np.percentile(values, 99.9))
        if lowest == float(usual.max()):
            return lowest
        otsu = sitk.OtsuThresholdImageFilter()
        otsu.Execute(sitk.GetImageFromArray(np.ascontiguousarray(usual).reshape(-1, 1)))
        return lowest + self.share * (float(otsu.GetThreshold()) - lowest)


def heads(tissue: Mask) -> Mask:
    """Find the head in each slice of thresholded tissue.

    Parameters
    ----------
    tissue : bool array (N, H, W)
        Axial slices with pixels of about 0.9 mm; H and W even.

    Returns
    -------
    bool array (N, H, W)
        The head, solid (air inside it belongs to it), without head rest, tubes and printed frames;
        all False where a slice holds no head.
    """
    found = np.empty_like(tissue)
    for index, each in enumerate(tissue):
        found[index] = _head(each)
    return found


def _head(tissue: Mask) -> Mask:
    rows, columns = tissue.shape
    # At half the size the shapes below cost an eighth; a pixel counts if any of its four does,
    # because skin is one pixel thick.
    halved = tissue.reshape(rows // 2, 2, columns // 2, 2).any(axis=(1, 3))
    if not halved.any():
        return np.zeros_like(tissue)
    solid = _solid(np.pad(halved, _MARGIN))
    core = _parts(_opened(solid, 2))
    if not core:
        return np.zeros_like(tissue)
    whole = np.logical_or.reduce(core)
    whole |= solid & _grown(whole, 3)
    smooth = _opened(_filled(_closed(whole, 5)), 1)
    inside = smooth[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].repeat(2, axis=0).repeat(2, axis=1)
    # Its outermost pixels came with their neighbours; they stay only where there is tissue.
    return _shrunk(inside, 1) | (inside & tissue)


def _solid(tissue: Mask) -> Mask:
    """Fill what tissue encloses; a printed frame encloses all, so it is worn away."""
    solid = np.zeros_like(tissue)
    for part in _parts(_closed(tissue, 1)):
        filled = _filled(part)
        solid |= filled if _share_of_box(filled) < _BOX else _opened(part, 2)
    return solid


def _parts(mask: Mask, most: int = 6, smallest: float = 0.02) -> list[Mask]:
    """Return the largest connected parts, none smaller than a share of the first."""
    labels = _labels(mask)
    sizes = np.bincount(labels.ravel())[1:]
    largest = np.argsort(-sizes, kind="stable")[:most]
    return [labels == i + 1 for i in largest if sizes[i] > smallest * sizes[largest[0]]]


def _labels(mask: Mask) -> NDArray[np.integer]:
    """Number the connected parts from 1; pixels that share a side are connected."""
    return sitk.GetArrayFromImage(
        sitk.ConnectedComponent(sitk.GetImageFromArray(mask.view(np.uint8)))
    )


def _share_of_box(mask: Mask) -> float:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))


# The shapes below are SimpleITK's, pixel for pixel, at a tenth of the time: a conversion may not
# spend on the head what it saves on a small network. All rely on the empty margin.


def _filled(mask: Mask) -> Mask:
    """Fill holes: background that does not reach the corner."""
    outside = _labels(~mask)
    return outside != outside[0, 0]


def _opened(mask: Mask, radius: int) -> Mask:
    return _grown(_shrunk(mask, radius), radius)


def _closed(mask: Mask, radius: int) -> Mask:
    return _shrunk(_grown(mask, radius), radius)


def _shrunk(mask: Mask, radius: int) -> Mask:
    return ~_grown(~mask, radius)


def _grown(mask: Mask, radius: int) -> Mask:
    """Grow by a disk, as the union of the rows that it consists of."""
    rows, columns = mask.shape
    padded = np.pad(mask, radius)
    wide = np.zeros((rows + 2 * radius, columns), dtype=bool)
    grown = np.zeros_like(mask)
    for reach in range(radius + 1):
        for start in (radius - reach, radius + reach):
            wide |= padded[:, start : start + columns]
        for shift in range(-radius, radius + 1):
            if math.isqrt(radius * (radius + 1) - shift * shift) == reach:  # (radius + 1/2)^2
                grown |= wide[radius + shift : radius + shift + rows]
    return grown
