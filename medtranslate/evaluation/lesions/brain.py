"""Where the brain is in a frame: lesions go there, and nowhere in skull, scalp, orbits or air."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medtranslate.evaluation.frames import Frames
from medtranslate.evaluation.lesions.kinds import PIXEL
from medtranslate.evaluation.protocol import Modality

Mask = NDArray[np.bool_]

BONE = 240  # grey: above 93 HU in a brain window
FROM_BONE = 3.0  # mm: partial volume
FROM_SKIN = 16.0  # mm of scalp and skull, where MR cannot tell bone from air
FRONT, AIR, MOST_AIR = 0.35, 0.3, 0.05  # share of rows, of the median, of the front
SMALLEST = 5000.0  # mm^2, a disc of 80 mm: below it a slice shows face or the very top


def brain(frame: Frames, head: Mask, modality: Modality) -> Mask:
    """Find the brain in one frame.

    In CT it is what a closed ring of bone encloses, so slices of the skull base have none. MR shows
    no bone: there it is the head without its outermost 16 mm, and slices with much air in front
    (sinuses, between the orbits) have none.

    Parameters
    ----------
    frame : uint8 array (H, W)
    head : bool array (H, W)
    modality : {"ct", "mri"}

    Returns
    -------
    bool array (H, W)
        Empty where a slice shows too little of it.
    """
    if modality == "ct":
        bone = _closed((frame >= BONE) & head, radius=2)
        inside = depth(_largest_part(filled(bone) & ~bone)) > FROM_BONE / PIXEL
    else:
        inside = depth(head) > FROM_SKIN / PIXEL
        if _shows_a_face(frame, inside):
            return np.zeros_like(inside)
    found = _largest_part(inside)
    return found if found.sum() * PIXEL**2 >= SMALLEST else np.zeros_like(found)


def _shows_a_face(frame: Frames, inside: Mask) -> bool:
    if not inside.any():
        return False
    rows = np.flatnonzero(inside.any(axis=1))
    front = inside.copy()
    front[round(rows[0] + FRONT * len(rows)) :] = False
    return bool((frame[front] < AIR * np.median(frame[inside])).mean() > MOST_AIR)


def depth(mask: Mask) -> NDArray[np.float32]:
    """Return how far inside a mask each pixel lies, in pixels; below 0 outside, and -1 nowhere."""
    if not mask.any():
        return np.full(mask.shape, -1, dtype=np.float32)
    padded = np.pad(mask, 1)  # the picture's edge is an edge
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


def _image(mask: Mask) -> sitk.Image:
    return sitk.GetImageFromArray(mask.astype(np.uint8))
