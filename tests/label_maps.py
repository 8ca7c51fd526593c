"""A small label map: ellipsoids in each other, with something at the front and at the right."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SPACING = 3.0
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
RADII = (
    (1.0, 511),
    (0.95, 507),
    (0.87, 515),
    (0.79, 24),
    (0.75, 3),
    (0.66, 2),
    (0.25, 4),
)  # of the head, and the label inside


def label_volume() -> np.ndarray:
    """Return labels (X, Y, Z) in RAS: a head of 150 x 186 x 150 mm, an eye at the front right."""
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (60, 72, 60)), indexing="ij"))
    away = np.sqrt(sum((axis / half) ** 2 for axis, half in zip(grid, (25, 31, 25), strict=True)))
    labels = np.zeros(away.shape, dtype=np.int16)
    for radius, label in RADII:
        labels[away < radius] = label
    eye = np.linalg.norm(grid - np.array([10, 24, 0])[:, None, None, None], axis=0) < 4
    labels[eye] = 506
    return labels


def write_labels(path: Path) -> Path:
    nib.save(nib.Nifti1Image(label_volume(), AFFINE), path)
    return path
