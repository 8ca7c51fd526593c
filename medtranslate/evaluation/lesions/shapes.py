"""The shapes of made lesions: how much of its contrast each pixel of a lesion gets."""

from __future__ import annotations

import heapq
import math

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medtranslate.evaluation.lesions.brain import filled
from medtranslate.evaluation.lesions.kinds import Shape

Weights = NDArray[np.float32]

ROUGHNESS = 0.45  # of the radius: how far a blob's outline leaves the circle
TEXTURE = 0.15  # deviation of the contrast inside a blob
RIM = 1.0  # pixels: how soft a blob's outline is
REACH = 1.6  # no blob goes farther from its centre than so many radii


def weights(shape: Shape, diameter: float, rng: np.random.Generator) -> Weights:
    """Return the weights of a lesion, 1 inside and 0 outside with a soft rim.

    Parameters
    ----------
    shape : {"disc", "blob"}
        A disc is even, with a rim of a pixel. A blob grows from the top of a round hill of smooth
        noise, higher ground first, until its area is that of the disc; its rim is softer and its
        inside textured.
    diameter : float
        In pixels, of a disc of the same area.
    rng : Generator
        Of a blob's noise.

    Returns
    -------
    float32 array (S, S)
        S is odd, the lesion's centre in the middle.
    """
    reach = math.ceil(REACH * diameter / 2) + 3
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(rows, columns)
    if shape == "disc":
        return (diameter / 2 + 0.5 - distance).clip(0, 1).astype(np.float32)
    return _blob(distance, diameter, rng)


def _blob(distance: NDArray[np.float64], diameter: float, rng: np.random.Generator) -> Weights:
    radius = diameter / 2
    outline = _smooth_noise(distance.shape, 0.45 * radius, rng)
    hill = -distance / radius + ROUGHNESS * outline
    hill[distance > REACH * radius] = -np.inf
    pixels = max(1, round(math.pi * radius**2))
    inside = filled(_grown(hill, pixels))
    # Half a pixel's worth of softness would leave stairs; the sum stays that of the area.
    soft = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(_image(inside), RIM))
    texture = 1 + TEXTURE * _smooth_noise(distance.shape, 1.5, rng)
    return (soft.clip(0, 1) * texture).astype(np.float32)


def _smooth_noise(
    shape: tuple[int, ...], reach: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return noise of mean 0 and deviation 1 whose neighbours agree over so many pixels."""
    noise = rng.standard_normal(shape)
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(_image(noise), max(reach, 0.8)))
    return (smooth - smooth.mean()) / smooth.std()


def _grown(hill: NDArray[np.float64], pixels: int) -> NDArray[np.bool_]:
    """Return so many pixels in one part: from the top on, always the highest that touches it.

    A plain cut at a height would leave several parts where the noise has valleys, the largest of
    them smaller than was asked for.
    """
    inside = np.zeros(hill.shape, bool)
    top = divmod(int(np.argmax(hill)), hill.shape[1])
    border, seen = [(-hill[top], *top)], {top}
    for _ in range(pixels):
        _, row, column = heapq.heappop(border)
        inside[row, column] = True
        for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if place not in seen:
                seen.add(place)
                heapq.heappush(border, (-hill[place], *place))
    return inside


def _image(values: NDArray[np.generic]) -> sitk.Image:
    return sitk.GetImageFromArray(values.astype(np.uint8) if values.dtype == bool else values)
