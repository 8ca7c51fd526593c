"""Pictures of the slices with the worst place on the round trip, as the network saw them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.quality.cycle import CycleError, brought_back
from medtranslate.quality.pair import Pair
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator

COUNT = 4
"""How many slices of a scan are shown."""

_PART = 0.25  # of the largest slice's head: the vertex is all rim, and always worst

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """One slice there and back.

    Parameters
    ----------
    index : int
        Of the slice along its axis of the scan, from 0.
    error : float
        Its mean, in the scan's units.
    peak : float or None
        What its worst patch lost, in the same units.
    source, result, back : uint8 array (size, size)
        Grey; rows from anterior to posterior, columns from the patient's right to left.
    lost : uint8 array (size, size)
        Absolute difference of source and back; 255 is half the range of values, or more.
    """

    index: int
    error: float
    peak: float | None
    source: Picture
    result: Picture
    back: Picture
    lost: Picture


def worst_looks(
    translator: Translator,
    image: MetaTensor,
    result: MetaTensor,
    found: CycleError,
    prepared: Prepared | None = None,
    *,
    passed_over: Collection[int] = (),
    count: int = COUNT,
) -> list[Look]:
    """Look at the slices with the worst place, among those that show a good part of the head.

    Parameters
    ----------
    translator, image, result, prepared
        As `cycle_error`.
    found : CycleError
        What it gave.
    passed_over : collection of int
        Slices, by their index, of which little is to be expected: below the skull's base.
    count : int
        At most so many slices.

    Returns
    -------
    list of Look
        That with the largest peak first.
    """
    pair = Pair.of(translator, image, result, prepared)
    numbers = {int(at): number for number, at in enumerate(pair.prepared.placement.slices)}
    least = _PART * max((one.voxels for one in found.slices), default=0)
    telling = [s for s in found.worst if s.voxels >= least and s.index not in passed_over]
    looks = []
    for one in telling[:count]:
        chosen = np.array([numbers[one.index]])
        source, back = pair.source_frames(chosen), brought_back(translator, pair, chosen)
        made = pair.result_frames(chosen)
        lost = (2 * (back - source).abs() - 1).clamp_(-1, 1)  # a difference of 1 is half the range
        looks.append(
            Look(
                one.index,
                one.error,
                one.peak,
                *(_grey(each) for each in (source, made, back, lost)),
            )
        )
    return looks


def _grey(frames: torch.Tensor) -> Picture:
    """Give the one slice of (1, 1, size, size) in [-1, 1] as grey levels."""
    return ((frames[0, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
