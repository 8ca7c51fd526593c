"""A made head in HU: scalp, skull, grey and white matter, ventricles, noise; nobody's scan.

For the demo and for tests. Values are those of a head CT; the anatomy is schematic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.imaging import make_source
from medtranslate.imaging.picture import PICTURE_AFFINE

Grid = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

AIR, FAT, FLUID, EYE = -1000.0, -90.0, 6.0, 12.0
WHITE, GREY, SKIN, BONE = 30.0, 38.0, 40.0, 900.0
"""HU of what the phantom is made of."""

_SCALP = (76.0, 96.0, 84.0)  # semi-axes in mm: right-left, front-back, up
_CENTRE = (0.0, 0.0, -14.0)


@dataclass(frozen=True)
class Phantom:
    """A head CT of chosen size.

    Parameters
    ----------
    shape : (X, Y, Z)
        Voxels; X to the patient's left, Y to posterior, Z upwards, as DICOM's head-first supine.
    spacing : (x, y, z)
        mm.
    noise : float
        Standard deviation in HU.
    seed : int
        Of the noise.
    """

    shape: tuple[int, int, int] = (224, 224, 28)
    spacing: tuple[float, float, float] = (1.0, 1.0, 5.0)
    noise: float = 3.0
    seed: int = 0

    def volume(self) -> MetaTensor:
        """Make the head as a CT volume.

        Returns
        -------
        MetaTensor (1, X, Y, Z)
            Float32 whole HU, affine in RAS mm, with ``meta["source"]``.
        """
        rng = np.random.default_rng(self.seed)
        clean = _paint(self._grid())
        noisy = clean + rng.normal(0.0, self.noise, self.shape)
        hu = np.rint(np.clip(noisy, -1024, 3071)).astype(np.float32)
        return _image(hu, self._affine(), "volume", "int16")

    def picture(self) -> MetaTensor:
        """Make one slice, through the ventricles, as a picture in the brain window.

        Returns
        -------
        MetaTensor (1, X, Y, 1)
            Grey levels 0 to 255 for -20 to 100 HU.
        """
        heights = np.abs(self._grid()[2][0, 0])
        hu = self.volume().as_tensor()[0].numpy()[..., [int(heights.argmin())]]
        grey = np.rint(np.clip((hu + 20.0) * (255.0 / 120.0), 0, 255)).astype(np.float32)
        return _image(grey, PICTURE_AFFINE, "picture", "uint8")

    def _affine(self) -> NDArray[np.float64]:
        affine = np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return affine

    def _grid(self) -> Grid:
        """Give millimetres to the left, to the back and upwards from the middle of the grid."""
        axes = [
            (np.arange(length, dtype=np.float32) - (length - 1) / 2) * step
            for length, step in zip(self.shape, self.spacing, strict=True)
        ]
        left, back, up = np.meshgrid(*axes, indexing="ij")
        return left, back, up


def _paint(grid: Grid) -> NDArray[np.float64]:
    """Lay the tissues over one another, from outside in."""
    left, back, up = grid
    head = np.full(left.shape, AIR)
    depth = _depth(grid)
    head[depth > 0] = SKIN
    head[(depth > 2) & (depth < 6)] = FAT
    head[depth > 6] = BONE
    head[depth > 13] = FLUID
    # The cortex: grey over white, with furrows of fluid that run down from the surface.
    around = np.arctan2(left, back)
    furrows = np.sin(17 * around + 0.12 * up) + 0.6 * np.sin(29 * around - 0.2 * up)
    brain = depth > 15 + 2.0 * np.clip(furrows, 0, None)
    head[brain] = GREY
    head[brain & (depth > 22 + 3.0 * furrows)] = WHITE
    for side in (-1, 1):
        deep = _inside(grid, (side * 20, 4, -8), (9, 16, 12))
        head[deep & brain] = GREY
    _hollow(head, grid, brain)
    return head


def _hollow(head: NDArray[np.float64], grid: Grid, brain: NDArray[np.bool_]) -> None:
    """Cut ventricles, the fissure between the halves, orbits and airways into the head."""
    left, back, up = grid
    below = _depth(grid) > 3
    for side in (-1, 1):
        bent = left - side * (8 + 0.004 * back**2)
        horn = (bent / 5) ** 2 + ((back - 4) / 34) ** 2 + ((up - 6) / 11) ** 2 < 1
        head[horn & brain] = FLUID
        head[_inside(grid, (side * 30, -62, -44), (17, 24, 16)) & below] = FAT
        head[_inside(grid, (side * 30, -66, -44), (12, 12, 12)) & below] = EYE
    head[(np.abs(left) < 1.6) & brain & (up > -6) & (np.abs(back) > 42)] = FLUID
    head[_inside(grid, (0, 8, -12), (2.5, 12, 8)) & brain] = FLUID
    head[_inside(grid, (0, -80, -58), (12, 16, 20)) & below] = AIR


def _depth(grid: Grid) -> NDArray[np.float64]:
    """Give mm below the skin, along the ray to the middle of the head; negative outside."""
    return (1.0 - _radius(grid, _CENTRE, _SCALP)) * min(_SCALP)


def _radius(
    grid: Grid, centre: tuple[float, float, float], axes: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Give the distance from a centre in units of the semi-axes: 1 on the ellipsoid."""
    scaled = [(x - c) / s for x, c, s in zip(grid, centre, axes, strict=True)]
    return np.asarray(np.linalg.norm(scaled, axis=0), dtype=np.float64)


def _inside(
    grid: Grid, centre: tuple[float, float, float], axes: tuple[float, float, float]
) -> NDArray[np.bool_]:
    return _radius(grid, centre, axes) < 1


def _image(
    voxels: NDArray[np.float32], affine: NDArray[np.float64], kind: str, dtype: str
) -> MetaTensor:
    source = make_source(
        format="array",
        kind=kind,
        shape=voxels.shape,
        affine=affine,
        dtype=dtype,
        modality="CT",
        modality_basis="given",
    )
    meta = {"source": source, "affine": torch.from_numpy(affine)}
    return MetaTensor(torch.from_numpy(voxels)[None], meta=meta)
