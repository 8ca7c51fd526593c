"""A head made of ellipsoids in world millimeters, so that any grid may sample it."""

from __future__ import annotations

import itertools
from typing import Any

import nibabel.orientations as orientations
import numpy as np
import torch
from monai.data import MetaTensor

from medtranslate.imaging.source import array_source

RADII = np.array([70.0, 90.0, 80.0])
"""Half axes of the head: left to right, anterior to posterior, inferior to superior, mm."""

LANDMARK = np.array([35.0, 40.0, 30.0])
"""On the patient's right, in front, above: RAS millimeters; nothing mirrors it."""

ORIENTATIONS = [
    np.array(list(zip(order, signs, strict=True)))
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""All 48 ways to store a volume, as nibabel writes them: axis and direction."""


def centered(axes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The affine with these voxel axes (columns, mm) whose grid has its middle at the origin."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def world(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """RAS millimeters (3, X, Y, Z) of each voxel."""
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    return np.einsum("ij,jxyz->ixyz", affine[:3, :3], voxels) + affine[:3, 3].reshape(3, 1, 1, 1)


def depth(points: np.ndarray) -> np.ndarray:
    """0 in the head's middle, 1 on its skin."""
    return np.sqrt(((points / RADII.reshape(3, 1, 1, 1)) ** 2).sum(0))


def smooth(points: np.ndarray) -> np.ndarray:
    """A slow wave and the landmark, 0 to 1."""
    wave = 0.3 + 0.2 * np.sin(points[0] / 20) * np.cos(points[1] / 25)
    away = ((points - LANDMARK.reshape(3, 1, 1, 1)) ** 2).sum(0)
    return wave + 0.5 * np.exp(-away / (2 * 15.0**2))


def head_ct(shape: tuple[int, int, int], affine: np.ndarray, skull: bool = True) -> MetaTensor:
    """HU: air, a skull (if wanted), and inside it -10 to 90."""
    points = world(shape, affine)
    deep = depth(points)
    values = np.full(shape, -1000.0)
    values[deep <= 1] = 40.0
    inside = deep <= 0.92
    values[inside] = -10 + 100 * smooth(points)[inside]
    if skull:
        values[(deep > 0.92) & (deep <= 0.97)] = 1200.0
    return image(values, affine, "CT")


def head_mr(shape: tuple[int, int, int], affine: np.ndarray, scale: float = 700.0) -> MetaTensor:
    """Scanner units: dark noise-free air, and 0.2 to 1.2 times the scale inside."""
    points = world(shape, affine)
    values = np.where(depth(points) <= 1, scale * (0.3 + smooth(points)), 0.0)
    return image(values, affine, "MR")


def image(values: np.ndarray, affine: np.ndarray, modality: str = "", **source: Any) -> MetaTensor:
    """An image of the contract around values (X, Y, Z)."""
    made = MetaTensor(torch.from_numpy(np.array(values, dtype=np.float32, order="C"))[None])
    made.affine = torch.from_numpy(np.asarray(affine, dtype=np.float64))
    made.meta["source"] = array_source(made, modality=modality) | source
    return made


def image_2d(values: np.ndarray, modality: str, dtype: str = "uint8") -> MetaTensor:
    """A 2D image from rows and columns (or pages, rows, columns)."""
    stack = np.atleast_3d(values) if values.ndim == 2 else values.transpose(1, 2, 0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    return image(stack.transpose(1, 0, 2), affine, modality, kind="image", dtype=dtype)


def reoriented(scan: MetaTensor, orientation: np.ndarray) -> MetaTensor:
    """The same scan, stored along other axes and directions."""
    values = scan.as_tensor()[0].numpy()
    affine = scan.affine.numpy()
    return image(
        orientations.apply_orientation(values, orientation),
        affine @ orientations.inv_ornt_aff(orientation, values.shape),
        scan.meta["source"]["modality"],
    )
