"""Lesions put into a slice: one at a time, each at a place drawn by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from medtranslate.evaluation.frames import Frames
from medtranslate.evaluation.lesions.brain import Mask, depth
from medtranslate.evaluation.lesions.kinds import DIAMETERS, PIXEL, Kind
from medtranslate.evaluation.lesions.shapes import weights
from medtranslate.evaluation.protocol import Modality
from medtranslate.evaluation.scale import Scale

MARGIN = 2.0  # pixels between a disc of the lesion's area and the brain's edge
# Where a lesion may lie, by the mean grey level of its place. CT: 15 to 60 HU, tissue and no
# water. MR: neither so dark nor so bright that eight bits leave no room for the lesion.
TISSUE: dict[Modality, tuple[float, float]] = {"ct": (74, 170), "mri": (40, 200)}
MR_SHARES = (0.4, 1.8)  # of the brain's median


@dataclass(frozen=True)
class Planted:
    """A slice with a lesion in it.

    Attributes
    ----------
    kind : Kind
    row, column : int
        The lesion's centre.
    frame : uint8 array (H, W)
        The slice with it.
    lesion : bool array (H, W)
        Where it has at least half of its contrast.
    """

    kind: Kind
    row: int
    column: int
    frame: Frames
    lesion: Mask


def has_room(frame: Frames, brain: Mask, modality: Modality) -> bool:
    """Say whether a slice can take lesions of every size."""
    return bool(brain.any()) and all(
        places(frame, brain, diameter / PIXEL, modality).any() for diameter in DIAMETERS
    )


def plant(
    frame: Frames,
    brain: Mask,
    modality: Modality,
    scale: Scale,
    kinds: Sequence[Kind],
    seeds: Sequence[int],
) -> list[Planted]:
    """Put each kind of lesion into its own copy of a slice.

    Parameters
    ----------
    frame : uint8 array (H, W)
    brain : bool array (H, W)
        With room for them (`has_room`).
    modality : {"ct", "mri"}
    scale : Scale
        What grey 0 to 255 means.
    kinds : sequence of Kind
    seeds : sequence of int
        With the kind's number, of place and shape.
    """
    sizes = {kind.pixels for kind in kinds}
    allowed = {size: places(frame, brain, size, modality) for size in sizes}
    return [
        _planted(
            frame, brain, allowed[kind.pixels], scale, kind, np.random.default_rng([*seeds, number])
        )
        for number, kind in enumerate(kinds)
    ]


def places(frame: Frames, brain: Mask, diameter: float, modality: Modality) -> Mask:
    """Return where the centre of a lesion may lie: in tissue, and in its more even half.

    A diameter is in pixels. Uneven places are ventricles, fissures and calcifications.
    """
    fits = depth(brain) >= diameter / 2 + MARGIN
    mean, deviation = _local(frame, diameter)
    low, high = TISSUE[modality]
    if modality == "mri":
        median = float(np.median(frame[brain]))
        low, high = max(low, MR_SHARES[0] * median), min(high, MR_SHARES[1] * median)
    tissue = fits & (mean >= low) & (mean <= high)
    if not tissue.any():
        return tissue
    return tissue & (deviation <= np.median(deviation[tissue]))


def _planted(
    frame: Frames, brain: Mask, allowed: Mask, scale: Scale, kind: Kind, rng: np.random.Generator
) -> Planted:
    row, column = rng.choice(np.argwhere(allowed))
    shape = weights(kind.shape, kind.pixels, rng)
    field = _placed(shape, row, column, frame.shape) * brain
    lesion = field >= 0.5
    added = field * kind.contrast.grey(float(frame[lesion].mean()), scale)
    changed = (frame + added).round().clip(0, 255).astype(np.uint8)
    return Planted(kind, int(row), int(column), changed, lesion)


def _placed(
    shape: NDArray[np.float32], row: int, column: int, size: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return a small picture in the middle of an empty frame, its centre at a place."""
    reach = len(shape) // 2
    field = np.zeros((size[0] + 2 * reach, size[1] + 2 * reach), dtype=np.float32)
    field[row : row + len(shape), column : column + len(shape)] = shape
    return field[reach : reach + size[0], reach : reach + size[1]]


def _local(frame: Frames, diameter: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation of the square round each pixel."""
    side = 2 * round(diameter / 2) + 1
    values = torch.from_numpy(frame.astype(np.float32))[None]

    def smooth(plane: torch.Tensor) -> torch.Tensor:
        # One axis after the other: a square of 29 x 29 at once costs fifteen times as much.
        along_rows = avg_pool2d(plane, (1, side), 1, (0, side // 2))
        return avg_pool2d(along_rows, (side, 1), 1, (side // 2, 0))

    mean, square = smooth(values), smooth(values.square())
    return mean[0].numpy(), (square - mean.square()).clamp(min=0).sqrt()[0].numpy()
