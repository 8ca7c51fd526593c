"""Add lesions to CT slices, and compose the MRI that should show them.

A generator that was trained to omit something may omit more than intended. Here the change that a
lesion causes in an earlier generator's MRI is the target: at the lesion, and nowhere else.

The shapes differ from those of the lesion test (`medtranslate.evaluation.lesions`): a soft-edged
blob of random size and contrast, lobed by waves around its center. They are still related, so the
lesion test flatters a generator trained this way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ct_pseudo_labels import Values, brain_of
from scipy import ndimage

GRAY_PER_HU = 255 / 120
"""A prepared CT is the brain window, 120 HU wide, in 255 gray values."""
CONTRASTS = (8.0, 40.0)
"""HU, brighter or darker: from barely visible to fresh blood."""
RADII = (2.5, 15.0)
"""Pixels of 0.9 mm: 4 to 27 mm across."""
NEAR = 4
"""Pixels around a lesion in which the MRI may change."""


@dataclass(frozen=True)
class Lesions:
    """One lesion for each slice.

    Attributes
    ----------
    contrast : float tensor (B, 1, rows, columns)
        Added to a CT in [-1, 1].
    near : bool tensor, the same
        At and near the lesion; empty in slices with too little brain.
    """

    contrast: torch.Tensor
    near: torch.Tensor


def draw_lesions(ct: torch.Tensor, draws: np.random.Generator) -> Lesions:
    """Draw a lesion for each CT slice, float (B, 1, rows, columns) in [-1, 1]."""
    contrasts = [_lesion(slice_, draws) for slice_ in ((ct[:, 0] + 1) * 127.5).double().numpy()]
    near = [ndimage.binary_dilation(np.abs(each) > 1, iterations=NEAR) for each in contrasts]
    contrast = torch.from_numpy(np.stack(contrasts) / 127.5).to(ct)
    return Lesions(contrast[:, None], torch.from_numpy(np.stack(near))[:, None])


def add_change(plain: torch.Tensor, change: torch.Tensor, lesions: Lesions) -> torch.Tensor:
    """Return MRI without lesions, in [-1, 1], with a change laid over them at the lesions."""
    share = lesions.near.to(plain)
    soft = torch.nn.functional.avg_pool2d(share, 3, stride=1, padding=1)
    return (plain + soft * change).clamp(-1, 1)


def _lesion(ct: Values, draws: np.random.Generator) -> Values:
    """Return the gray values that a lesion adds to a slice; zeros if it shows too little brain."""
    radius = float(np.exp(draws.uniform(*np.log(RADII))))
    brain = ndimage.binary_erosion(brain_of(ct, iterations=3), iterations=3 + round(radius / 2))
    if not brain.any():
        return np.zeros_like(ct)
    row, column = draws.permutation(np.argwhere(brain))[0]
    down, right = np.indices(ct.shape, dtype=float)
    down, right = down - row, right - column
    angle = np.arctan2(down, right)
    lobes = sum(
        draws.uniform(0, 0.18) * np.cos(n * angle + draws.uniform(0, 2 * np.pi)) for n in (2, 3, 5)
    )
    share = ndimage.gaussian_filter(
        (np.hypot(down, right) < radius * (1 + lobes)).astype(float), draws.uniform(0.5, 1.5)
    )
    grain = 1 + 0.15 * ndimage.gaussian_filter(draws.standard_normal(ct.shape), 1.5) / 0.19
    sign = 1 if draws.random() < 0.6 else -1
    return sign * draws.uniform(*CONTRASTS) * GRAY_PER_HU * share * grain
