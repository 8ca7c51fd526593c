"""What is left of a lesion: its contrast, how it stands out, and what appears elsewhere.

All figures are of differences between two pictures of the same slice, with the lesion and without
it, so that anatomy cancels: what differs is the lesion's doing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from medtranslate.evaluation.frames import Frames
from medtranslate.evaluation.lesions.brain import Mask, depth, parts
from medtranslate.evaluation.lesions.kinds import PIXEL

GAP, RING = 2.0, 6.0  # pixels: the surroundings lie between so far and so far from the lesion
AWAY = 10.0  # mm from the lesion, where nothing should change
SMALLEST_ECHO = math.pi * 2.5**2  # mm^2: a disc of 5 mm
ECHO = 0.5  # of the contrast that was put in, in the target's terms
SPOT = 1.0  # spreads: as strong as the strongest lesions that are put in
SPOT_DIAMETERS = (8.0, 12.0, 18.0)  # mm
SPOT_NEAR = 5.0  # mm: anatomy may move this far
LEAST_SPREAD = 10.0  # grey levels: a brain with less to show is blank, whatever it hides
LEAST_VARIABILITY = 1.0  # grey level: the rounding


def spread(frame: Frames, brain: Mask) -> float:
    """Return what a contrast is measured against: from the 10th to the 90th percentile of brain."""
    low, high = np.percentile(frame[brain], [10, 90])
    return max(float(high - low), LEAST_SPREAD)


@dataclass(frozen=True)
class Regions:
    """Where one lesion is measured.

    Parameters
    ----------
    lesion, brain : bool array (H, W)

    Attributes
    ----------
    ring : bool array (H, W)
        Its surroundings, inside the brain.
    away : bool array (H, W)
        The rest of the brain.
    """

    lesion: Mask
    brain: Mask
    ring: Mask = field(init=False)
    away: Mask = field(init=False)

    def __post_init__(self) -> None:
        distance = -depth(self.lesion)
        object.__setattr__(self, "ring", (distance > GAP) & (distance <= RING) & self.brain)
        object.__setattr__(self, "away", (distance > AWAY / PIXEL) & self.brain)

    def contrast(self, difference: NDArray[np.float32]) -> float:
        """Return the mean of a difference in the lesion less that in its surroundings."""
        return float(difference[self.lesion].mean() - difference[self.ring].mean())

    def echoes(self, difference: NDArray[np.float32], level: float) -> int:
        """Count changes away from the lesion: connected, of 5 mm or more, as strong as a level.

        A change of all that is away from the lesion alike is no echo of it.
        """
        if not self.away.any():
            return 0
        change = np.abs(difference - np.median(difference[self.away]))
        sizes = np.bincount(parts((change >= level) & self.away).ravel())[1:]
        return int((sizes * PIXEL**2 >= SMALLEST_ECHO).sum())


def disc_contrasts(frame: Frames, diameter: float) -> NDArray[np.float32]:
    """Return the contrast that a disc would have at each pixel, by what the frame holds there.

    Parameters
    ----------
    frame : uint8 array (H, W)
    diameter : float
        In pixels.

    Returns
    -------
    float32 array (H, W)
        Mean inside the disc less mean in its surroundings. Edges wrap round: read it deep inside.
    """
    size = torch.tensor(frame.shape)
    rows, columns = (torch.fft.fftfreq(int(n), 1 / int(n)) for n in size)
    distance = torch.hypot(rows[:, None], columns[None]) - diameter / 2
    disc, ring = distance <= 0, (distance > GAP) & (distance <= RING)
    kernel = disc / disc.sum() - ring / ring.sum()
    spectrum = torch.fft.rfft2(torch.from_numpy(frame.astype(np.float32)))
    return torch.fft.irfft2(spectrum * torch.fft.rfft2(kernel), s=frame.shape).numpy()


def invented(source: Frames, translated: Frames, brain: Mask, spreads: tuple[float, float]) -> int:
    """Count spots of a translation that stand out like lesions where its source has none.

    A spot is a connected place where a disc of 8, 12 or 18 mm has a contrast of `SPOT` spreads or
    more, and no disc of that size within 5 mm in the source has half of that. No lesion is put in.

    Parameters
    ----------
    source, translated : uint8 arrays (H, W)
    brain : bool array (H, W)
    spreads : tuple of float
        Of the source's and of the translation's brain, in grey levels.
    """
    spots = np.zeros_like(brain)
    deepness = depth(brain)
    for diameter in (each / PIXEL for each in SPOT_DIAMETERS):
        before, after = (
            np.abs(disc_contrasts(frame, diameter)) / unit
            for frame, unit in zip((source, translated), spreads, strict=True)
        )
        near = 2 * round(SPOT_NEAR / PIXEL) + 1
        known = max_pool2d(torch.from_numpy(before)[None], near, 1, near // 2)[0].numpy()
        fits = deepness >= diameter / 2 + GAP
        spots |= (after >= SPOT) & (known < SPOT / 2) & fits
    return int(parts(spots).max())


def variability(frame: Frames, brain: Mask, diameter: float) -> float:
    """Return how far a frame's own disc contrasts scatter over the brain: their deviation.

    This is what a change must stand out from to be seen (an observer that matches a template).
    """
    deep = depth(brain) >= diameter / 2 + GAP
    return max(float(disc_contrasts(frame, diameter)[deep].std()), LEAST_VARIABILITY)
