"""Lesions of known shape, contrast and size, each put into the brain at a place drawn by seed.

The contrasts of CT are those of what a brain window is read for: acute blood 60 to 80 HU against
25 to 40 HU of brain, edema and early ischemia 10 to 15 HU below it, an old infarct near water.
MR has no scale of its own: there a contrast is a share of the local brightness.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from medtranslate.evaluation.slices import GrayArray, ValueRange
from medtranslate.modality import Target

Shape = Literal["disc", "blob"]

SHAPES: tuple[Shape, Shape] = ("disc", "blob")
DIAMETERS = (5.0, 8.0, 12.0, 18.0, 25.0)
PIXEL = 0.9  # mm; what recipes bring scans and images to
IMAGE_WINDOW = 120.0  # HU from black to white in a CT image: level 40, width 120


@dataclass(frozen=True)
class Contrast:
    """How much brighter (or darker, below 0) than its place a lesion is made.

    Attributes
    ----------
    amount : float
    unit : {"HU", "%"}
        "%" is of the local brightness.
    """

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:+g} {self.unit}"

    def gray(self, local: float, scale: ValueRange) -> float:
        """Return the contrast in gray levels of 255, at a place of this mean gray level."""
        if self.unit == "%":
            return local * self.amount / 100
        width = scale.range if scale.unit == "HU" else IMAGE_WINDOW
        return self.amount * 255 / width


CONTRASTS: dict[Target, tuple[Contrast, ...]] = {
    "ct": (Contrast(35, "HU"), Contrast(15, "HU"), Contrast(-12, "HU"), Contrast(-22, "HU")),
    "mri": (Contrast(60, "%"), Contrast(30, "%"), Contrast(-20, "%"), Contrast(-40, "%")),
}


@dataclass(frozen=True)
class Kind:
    """One kind of lesion; the diameter in mm is that of a disc of the same area."""

    shape: Shape
    contrast: Contrast
    diameter: float

    @property
    def pixels(self) -> float:
        """The diameter in pixels."""
        return self.diameter / PIXEL


def kinds(source: Target) -> tuple[Kind, ...]:
    """Return every kind that is put into slices of a modality."""
    return tuple(Kind(*each) for each in product(SHAPES, CONTRASTS[source], DIAMETERS))


Mask = NDArray[np.bool_]

BONE = 240  # gray: above 93 HU in a brain window
FROM_BONE = 3.0  # mm: partial volume
FROM_SKIN = 16.0  # mm of scalp and skull, where MR cannot tell bone from air
FRONT, AIR, MOST_AIR = 0.35, 0.3, 0.05  # share of rows, of the median, of the front
SMALLEST = 5000.0  # mm^2, a disc of 80 mm: below it a slice shows face or the very top


def brain(image: GrayArray, head: Mask, modality: Target) -> Mask:
    """Find the brain in one slice.

    In CT it is what a closed ring of bone encloses, so slices of the skull base have none. MR shows
    no bone: there it is the head without its outermost 16 mm, and slices with much air in front
    (sinuses, between the orbits) have none.

    Parameters
    ----------
    image : uint8 array (H, W)
    head : bool array (H, W)
    modality : {"ct", "mri"}

    Returns
    -------
    bool array (H, W)
        Empty where a slice shows too little of it.
    """
    if modality == "ct":
        bone = _closed((image >= BONE) & head, radius=2)
        inside = depth(_largest_part(filled(bone) & ~bone)) > FROM_BONE / PIXEL
    else:
        inside = depth(head) > FROM_SKIN / PIXEL
        if _shows_a_face(image, inside):
            return np.zeros_like(inside)
    found = _largest_part(inside)
    return found if found.sum() * PIXEL**2 >= SMALLEST else np.zeros_like(found)


def _shows_a_face(image: GrayArray, inside: Mask) -> bool:
    if not inside.any():
        return False
    rows = np.flatnonzero(inside.any(axis=1))
    front = inside.copy()
    front[round(rows[0] + FRONT * len(rows)) :] = False
    return bool((image[front] < AIR * np.median(image[inside])).mean() > MOST_AIR)


def depth(mask: Mask) -> NDArray[np.float32]:
    """Return how far inside a mask each pixel lies, in pixels; below 0 outside, and -1 nowhere."""
    if not mask.any():
        return np.full(mask.shape, -1, dtype=np.float32)
    padded = np.pad(mask, 1)  # the image's edge is an edge
    distance = sitk.SignedMaurerDistanceMap(
        _image(padded), insideIsPositive=True, squaredDistance=False, useImageSpacing=False
    )
    return sitk.GetArrayFromImage(distance)[1:-1, 1:-1]


def parts(mask: Mask) -> NDArray[np.integer]:
    """Number the connected parts of a mask from 1."""
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(_image(mask)))


def filled(mask: Mask) -> Mask:
    """Return the mask with its holes filled."""
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(_image(mask))) > 0


def _largest_part(mask: Mask) -> Mask:
    labels = parts(mask)
    sizes = np.bincount(labels.ravel())[1:]
    return labels == 1 + int(np.argmax(sizes)) if len(sizes) else np.zeros_like(mask)


def _closed(mask: Mask, radius: int) -> Mask:
    return sitk.GetArrayFromImage(sitk.BinaryMorphologicalClosing(_image(mask), [radius] * 2)) > 0


Weights = NDArray[np.float32]

ROUGHNESS = 0.45  # of the radius: how far a blob's outline leaves the circle
TEXTURE = 0.15  # deviation of the contrast inside a blob
RIM = 1.0  # pixels: how soft a blob's outline is
REACH = 1.6  # no blob goes farther from its center than so many radii


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
        S is odd, the lesion's center in the middle.
    """
    reach = math.ceil(REACH * diameter / 2) + 3
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(rows, columns)
    if shape == "disc":
        return np.asarray((diameter / 2 + 0.5 - distance).clip(0, 1), dtype=np.float32)
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
    """Return noise of mean 0 and deviation 1 whose neighbors agree over so many pixels."""
    noise = rng.standard_normal(shape)
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(_image(noise), max(reach, 0.8)))
    return np.asarray((smooth - smooth.mean()) / smooth.std())


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


MARGIN = 2.0  # pixels between a disc of the lesion's area and the brain's edge
# Where a lesion may lie, by the mean gray level of its place. CT: 15 to 60 HU, tissue and no
# water. MR: neither so dark nor so bright that eight bits leave no room for the lesion.
TISSUE: dict[Target, tuple[float, float]] = {"ct": (74, 170), "mri": (40, 200)}
MR_SHARES = (0.4, 1.8)  # of the brain's median


@dataclass(frozen=True)
class Planted:
    """A slice with a lesion in it.

    Attributes
    ----------
    kind : Kind
    row, column : int
        The lesion's center.
    image : uint8 array (H, W)
        The slice with it.
    lesion : bool array (H, W)
        Where it has at least half of its contrast.
    """

    kind: Kind
    row: int
    column: int
    image: GrayArray
    lesion: Mask


def has_room(image: GrayArray, brain: Mask, modality: Target) -> bool:
    """Say whether a slice can take lesions of every size."""
    return bool(brain.any()) and all(
        places(image, brain, diameter / PIXEL, modality).any() for diameter in DIAMETERS
    )


def plant(
    image: GrayArray,
    brain: Mask,
    modality: Target,
    scale: ValueRange,
    kinds: Sequence[Kind],
    seeds: Sequence[int],
) -> list[Planted]:
    """Put each kind of lesion into its own copy of a slice.

    Parameters
    ----------
    image : uint8 array (H, W)
    brain : bool array (H, W)
        With room for them (`has_room`).
    modality : {"ct", "mri"}
    scale : ValueRange
        What gray 0 to 255 means.
    kinds : sequence of Kind
    seeds : sequence of int
        With the kind's number, of place and shape.
    """
    sizes = {kind.pixels for kind in kinds}
    allowed = {size: places(image, brain, size, modality) for size in sizes}
    return [
        _planted(
            image, brain, allowed[kind.pixels], scale, kind, np.random.default_rng([*seeds, number])
        )
        for number, kind in enumerate(kinds)
    ]


def places(image: GrayArray, brain: Mask, diameter: float, modality: Target) -> Mask:
    """Return where the center of a lesion may lie: in tissue, and in its more even half.

    A diameter is in pixels. Uneven places are ventricles, fissures and calcifications.
    """
    fits = depth(brain) >= diameter / 2 + MARGIN
    mean, deviation = _local(image, diameter)
    low, high = TISSUE[modality]
    if modality == "mri":
        median = float(np.median(image[brain]))
        low, high = max(low, MR_SHARES[0] * median), min(high, MR_SHARES[1] * median)
    tissue = fits & (mean >= low) & (mean <= high)
    if not tissue.any():
        return tissue
    return tissue & (deviation <= np.median(deviation[tissue]))


def _planted(
    image: GrayArray,
    brain: Mask,
    allowed: Mask,
    scale: ValueRange,
    kind: Kind,
    rng: np.random.Generator,
) -> Planted:
    row, column = rng.choice(np.argwhere(allowed))
    shape = weights(kind.shape, kind.pixels, rng)
    field = _placed(shape, row, column, image.shape) * brain
    lesion = field >= 0.5
    added = field * kind.contrast.gray(float(image[lesion].mean()), scale)
    changed = (image + added).round().clip(0, 255).astype(np.uint8)
    return Planted(kind, int(row), int(column), changed, lesion)


def _placed(
    shape: NDArray[np.float32], row: int, column: int, size: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return a small image in the middle of an empty image, its center at a place."""
    reach = len(shape) // 2
    field = np.zeros((size[0] + 2 * reach, size[1] + 2 * reach), dtype=np.float32)
    field[row : row + len(shape), column : column + len(shape)] = shape
    return field[reach : reach + size[0], reach : reach + size[1]]


def _local(image: GrayArray, diameter: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation of the square round each pixel."""
    side = 2 * round(diameter / 2) + 1
    values = torch.from_numpy(image.astype(np.float32))[None]

    def smooth(plane: torch.Tensor) -> torch.Tensor:
        # One axis after the other: a square of 29 x 29 at once costs fifteen times as much.
        along_rows = avg_pool2d(plane, (1, side), 1, (0, side // 2))
        return avg_pool2d(along_rows, (side, 1), 1, (side // 2, 0))

    mean, square = smooth(values), smooth(values.square())
    return mean[0].numpy(), (square - mean.square()).clamp(min=0).sqrt()[0].numpy()
