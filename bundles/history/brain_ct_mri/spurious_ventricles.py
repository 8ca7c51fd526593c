"""Find and fill spurious ventricles: dark places deep in a synthetic brain MRI, unlike in its CT.

Most MR training slices lie at the height of the ventricles, while CT slices cover the whole head,
so a CycleGAN learns to add ventricles where there are none.
"""

from __future__ import annotations

import numpy as np
import torch
from ct_pseudo_labels import Mask, Values, brain_of
from scipy import ndimage


def fill_spurious_ventricles(
    ct: torch.Tensor, mri: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return MR slices with spurious ventricles filled, and the filled places as masks.

    Parameters
    ----------
    ct, mri : float tensor, (B, 1, rows, columns)
        CT in [-1, 1], brain window, and the MRI that a generator makes of it.
    """
    whole, spurious = mri.clone(), torch.zeros_like(mri, dtype=torch.bool)
    for n in range(len(ct)):
        source, made = (((each[n, 0] + 1) * 127.5).double().numpy() for each in (ct, mri))
        found = _find(source, made, brain := _brain(source))
        if found.any():
            spurious[n, 0] = torch.from_numpy(found)
            filled = torch.from_numpy(_filled(source, made, brain, found)) / 127.5 - 1
            whole[n, 0] = torch.where(spurious[n, 0], filled.to(mri), mri[n, 0])
    return whole, spurious


def _brain(ct: Values) -> Mask:
    """Return the brain of a CT, a little smaller; nothing where it is small."""
    brain: Mask = ndimage.binary_erosion(brain_of(ct, iterations=3), iterations=3)
    return brain if brain.sum() >= 1500 else np.zeros_like(brain)


def _find(ct: Values, mri: Values, brain: Mask) -> Mask:
    """Return dark places of the MRI's brain, away from what the CT shows as fluid or as blood."""
    if not brain.any():
        return brain
    apart = ndimage.gaussian_filter(ct, 1.5) - _mean_near(ct, brain, 12)
    shown = ndimage.binary_dilation(brain & (np.abs(apart) > 9), iterations=4)  # fluid or blood
    solid = brain & ~shown
    dark = ndimage.gaussian_filter(mri, 1) < 0.62 * np.median(mri[solid if solid.any() else brain])
    places, _ = ndimage.label(ndimage.binary_opening(solid & dark))
    sizes = np.bincount(places.ravel())
    sizes[0] = 0
    spurious: Mask = ndimage.binary_dilation((sizes >= 14)[places], iterations=2) & brain
    return spurious


def _filled(ct: Values, mri: Values, brain: Mask, spurious: Mask) -> Values:
    """Return the MRI with these places filled from their surroundings and the CT's detail."""
    sound = brain & ~spurious
    fine_ct, fine_mri = (each - ndimage.gaussian_filter(each, 2) for each in (ct, mri))
    detail = fine_ct * np.std(fine_mri[sound]) / max(float(np.std(fine_ct[sound])), 1)
    soft = ndimage.gaussian_filter(spurious.astype(float), 1)
    filled: Values = soft * (_mean_near(mri, sound, 5) + 0.7 * detail) + (1 - soft) * mri
    return filled.clip(0, 255)


def _mean_near(values: Values, where: Mask, sigma: float) -> Values:
    """Return the mean round each pixel of those values that count."""
    share = ndimage.gaussian_filter(where.astype(float), sigma)
    near: Values = ndimage.gaussian_filter(np.where(where, values, 0.0), sigma)
    return near / np.maximum(share, 1e-3)
