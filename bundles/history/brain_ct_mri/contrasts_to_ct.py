"""One CT for the contrasts of one person, as 1.0.0 of brain_ct_mri learned from.

A study is T1, T2 and FLAIR of one person on one scanner's axes (``NAME_T1W.nii.gz`` and so on; two
of them will do, one the FLAIR). Each is translated by the shipped model. On the grid of the FLAIR,
bone, air and soft tissue are the median of these CT. Inside the skull the MR says what a place is:
the share of fluid is the mean over the contrasts of where a pixel lies between gray matter and
ventricle, that of white matter where it lies between gray and white in T1 and T2, all after the
shading was divided out. Fluid has 8, gray matter 42.5 and white matter 36 HU. Pairs are written as
``train --paired`` takes them:

::

    python contrasts_to_ct.py STUDIES PAIRS
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from scipy import ndimage

from medtranslate import Translator

CONTRASTS = {"T1W": "t1", "T2W": "t2", "FLAIR": "flair"}
FLUID, GRAY, WHITE = 8.0, 42.5, 36.0  # HU

Volume = NDArray[np.float64]
Mask = NDArray[np.bool_]


def main() -> None:
    """Make the pairs of every study in a folder."""
    studies, pairs = map(Path, sys.argv[1:])
    translator = Translator.load()
    for name in sorted({path.name.rpartition("_")[0] for path in studies.glob("*_*.nii.gz")}):
        files = {key: studies / f"{name}_{key}.nii.gz" for key in CONTRASTS}
        scans = {key: nib.load(path) for key, path in files.items() if path.exists()}
        if "FLAIR" not in scans or len(scans) < 2:
            continue
        grid = scans["FLAIR"]
        made = [
            translator.translate(scan, to="ct", contrast=CONTRASTS[key], force=True)
            for key, scan in scans.items()
        ]
        on_grid = [resample_from_to(ct, grid, order=1, cval=-1000).get_fdata() for ct in made]
        mr = {key: resample_from_to(scan, grid, order=1).get_fdata() for key, scan in scans.items()}
        ct = one_ct(np.median(on_grid, 0), mr, np.array(grid.header.get_zooms()))
        for key, voxels in mr.items():
            for folder, values in (("ct", ct), ("mri", voxels)):
                (pairs / folder).mkdir(parents=True, exist_ok=True)
                image = nib.Nifti1Image(np.round(values).astype(np.int16), grid.affine)
                nib.save(image, pairs / folder / f"{name}_{key}.nii.gz")


def one_ct(ct: Volume, mr: dict[str, Volume], sides: NDArray[np.floating]) -> Volume:
    """Return the CT in HU that a person's MR agree on; `sides` of a voxel are in mm."""
    inside = within_skull(ct, float(sides[0]))
    ventricle = ndimage.binary_erosion(inside & (ct < 18), np.ones((3, 3, 1)))
    tissue = inside & (ct > 28) & (ct < 50)
    deep = tissue & ndimage.binary_erosion(inside, np.ones((5, 5, 1)))
    fluid, white = [], []
    for key, voxels in mr.items():
        even = voxels / np.maximum(shading(voxels, tissue & (voxels > 0), sides), 1e-3)
        low, high = two_levels(even[deep][::7])
        gray_level, white_level = (low, high) if key == "T1W" else (high, low)
        ventricle_level = np.median(even[ventricle])
        blurred = ndimage.gaussian_filter(even, (0.5, 0.5, 0))
        share = np.clip((blurred - gray_level) / (ventricle_level - gray_level), 0, 1)
        fluid.append(np.clip((share - 0.15) / 0.8, 0, 1))
        if key != "FLAIR":  # gray and white matter hardly differ in it
            white.append(np.clip((even - gray_level) / (white_level - gray_level), 0, 1))
    share, matter = np.mean(fluid, 0), ndimage.gaussian_filter(np.mean(white, 0), (0.7, 0.7, 0))
    hu = share * FLUID + (1 - share) * (GRAY + (WHITE - GRAY) * matter)
    depth = ndimage.gaussian_filter(inside.astype(float), (1 / sides[0], 1 / sides[1], 0))
    depth = np.clip(2 * depth - 1, 0, 1)
    return np.where(inside, depth * hu + (1 - depth) * np.clip(ct, 0, 80), ct)


def within_skull(ct: Volume, side: float) -> Mask:
    """Return brain and fluid, slice by slice: the largest soft part that bone lies around."""
    bone, soft = ct > 85, (ct > -5) & (ct < 85)
    apart = soft & ~ndimage.binary_dilation(bone)
    inside = np.zeros(ct.shape, bool)
    for k in range(ct.shape[2]):
        parts, count = ndimage.label(
            ndimage.binary_opening(apart[..., k], iterations=int(4 / side))
        )
        if not count:
            continue
        sizes = ndimage.sum_labels(np.ones(parts.shape), parts, range(1, count + 1))
        largest = parts == 1 + int(np.argmax(sizes))
        if largest.sum() * side**2 > 1500 and around(bone[..., k], largest) > 0.85:
            grown = ndimage.binary_dilation(largest, iterations=int(4 / side))
            inside[..., k] = ndimage.binary_fill_holes(grown & soft[..., k])
    return inside


def around(bone: Mask, part: Mask) -> float:
    """Return in what share of all directions from a part's middle there is bone."""
    middle = ndimage.center_of_mass(part)
    rows, columns = np.nonzero(bone)
    angles = np.arctan2(rows - middle[0], columns - middle[1])
    return len(np.unique(np.floor((angles + np.pi) / (2 * np.pi) * 72))) / 72


def shading(voxels: Volume, where: Mask, sides: NDArray[np.floating]) -> Volume:
    """Return the smooth gray of tissue: within 25 mm, and 12 mm across slices."""
    reach = np.array([25, 25, 12]) / sides
    share = ndimage.gaussian_filter(where.astype(float), reach)
    return ndimage.gaussian_filter(voxels * where, reach) / np.maximum(share, 1e-3)


def two_levels(values: NDArray[np.floating]) -> Sequence[float]:
    """Return the means of a mixture of two normal distributions, by EM, the lower one first."""
    means = np.percentile(values, [25, 75]).astype(float)
    spread, weight = np.full(2, values.std() / 2), np.full(2, 0.5)
    for _ in range(60):
        odds = weight * np.exp(-0.5 * ((values[:, None] - means) / spread) ** 2) / spread
        share = odds / np.maximum(odds.sum(1, keepdims=True), 1e-12)
        count = share.sum(0)
        weight, means = count / count.sum(), (share * values[:, None]).sum(0) / count
        variance = (share * (values[:, None] - means) ** 2).sum(0) / count
        spread = np.maximum(np.sqrt(variance), values.std() / 20)
    low, high = np.sort(means).tolist()
    return low, high


if __name__ == "__main__":
    main()
