"""A synthetic head phantom in HU: scalp, skull, gray and white matter, ventricles; nobody's scan.

For the demo and for tests. Values are those of a head CT; the anatomy is schematic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.imaging.image2d import IMAGE_2D_AFFINE
from medtranslate.imaging.source import SourceRecord, make_source

Grid = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
Place = tuple[float, float, float]

AIR, FAT, FLUID, EYE = -1000.0, -90.0, 6.0, 12.0
WHITE, GRAY, SKIN, CALCIUM, BONE = 30.0, 38.0, 40.0, 150.0, 900.0
"""HU of what the phantom is made of."""

_SCALP = (76.0, 96.0, 84.0)  # semi-axes in mm: right-left, front-back, up
_CENTER = (0.0, 0.0, -14.0)
_TAPER = 1 / 600  # of the width a mm: a forehead is narrower than the back of a head


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

    def image_2d(self) -> MetaTensor:
        """Make one slice, through the ventricles, as a 2D image in the brain window.

        Returns
        -------
        MetaTensor (1, X, Y, 1)
            Gray levels 0 to 255 for -20 to 100 HU.
        """
        heights = np.abs(self._grid()[2][0, 0])
        hu = self.volume().as_tensor()[0].numpy()[..., [int(heights.argmin())]]
        gray = np.rint(np.clip((hu + 20.0) * (255.0 / 120.0), 0, 255)).astype(np.float32)
        return _image(gray, IMAGE_2D_AFFINE, "image", "uint8")

    def _affine(self) -> NDArray[np.float64]:
        affine = np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return affine

    def _grid(self) -> Grid:
        """Give millimeters to the left, to the back and upwards from the middle of the grid."""
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
    # The cortex: gray over white, with furrows of fluid that run down from the surface.
    around = np.arctan2(left, back)
    furrows = np.sin(17 * around + 0.12 * up) + 0.6 * np.sin(29 * around - 0.2 * up)
    brain = depth > 15 + 2.0 * np.clip(furrows, 0, None)
    head[brain] = GRAY
    head[brain & (depth > 22 + 3.0 * furrows)] = WHITE
    for side in (-1, 1):
        head[_inside(grid, (side * 22, -8, -6), (7, 15, 11)) & brain] = GRAY
        head[_inside(grid, (side * 11, 14, -6), (7, 11, 9)) & brain] = GRAY
    _hollow(head, grid, brain)
    _harden(head, grid, depth > 6)
    _face(head, grid, depth)
    return head


def _hollow(head: NDArray[np.float64], grid: Grid, brain: NDArray[np.bool_]) -> None:
    """Fill ventricles, the fissures of the halves and at their sides, and cisterns with fluid."""
    left, back, up = grid
    fluid = (np.abs(left) < 1.6) & (up > -6) & ((back < -42) | (back > 56))
    fluid |= _inside(grid, (0, 10, -12), (2.5, 12, 8))  # third ventricle
    fluid |= _inside(grid, (0, 36, -46), (7, 4, 9))  # fourth
    fluid |= _inside(grid, (0, -10, -34), (11, 9, 6))  # above the sella
    for side in (-1, 1):
        # A lateral ventricle: horns that part to the front and, wider, to the back.
        bent = left - side * (
            5 + 0.3 * np.clip(-10 - back, 0, None) + 0.5 * np.clip(back - 8, 0, 30)
        )
        wide = 4 + 0.08 * np.clip(back, 0, None)
        fluid |= (bent / wide) ** 2 + ((back - 8) / 40) ** 2 + ((up - 6) / 11) ** 2 < 1
        fluid |= _inside(grid, (side * 46, -18, -12), (15, 3, 9))  # Sylvian fissure
    head[fluid & brain] = FLUID


def _harden(head: NDArray[np.float64], grid: Grid, below: NDArray[np.bool_]) -> None:
    """Set chalk into the brain, and ridges onto the skull and its base."""
    chalk = _inside(grid, (0, 27, -8), (2.5, 2.5, 4))  # pineal gland
    bone = _inside(grid, (0, -82, -6), (4, 10, 24)) | _inside(grid, (0, 82, -18), (6, 10, 22))
    for side in (-1, 1):
        chalk |= _inside(grid, (side * 19, 34, 4), (3, 6, 5))  # choroid plexus
        bone |= _near(grid, (side * 66, 26, -52), (side * 10, -8, -56), 8)  # petrous ridge
        bone |= _near(grid, (side * 56, -40, -48), (side * 12, -22, -48), 5)  # sphenoid wing
    head[chalk] = CALCIUM
    head[bone & below] = BONE


def _face(head: NDArray[np.float64], grid: Grid, depth: NDArray[np.float64]) -> None:
    """Put orbits, nose and airways to the front of the head."""
    below = depth > 3
    head[_inside(grid, (0, -84, -62), (12, 16, 18)) & (depth <= 0)] = SKIN
    for side in (-1, 1):
        head[_inside(grid, (side * 30, -62, -44), (17, 24, 16)) & below] = FAT
        head[_inside(grid, (side * 30, -66, -44), (12, 12, 12)) & below] = EYE
        head[_inside(grid, (side * 8, -84, -26), (8, 5, 9)) & below] = AIR  # frontal sinus
    head[_inside(grid, (0, -80, -58), (12, 16, 20)) & below] = AIR
    head[_inside(grid, (0, -36, -60), (12, 14, 10)) & below] = AIR  # sphenoid sinus


def _depth(grid: Grid) -> NDArray[np.float64]:
    """Give mm below the skin, along the ray to the middle of the head; negative outside."""
    left, back, up = grid
    return (1.0 - _radius((left / (1 + _TAPER * back), back, up), _CENTER, _SCALP)) * min(_SCALP)


def _near(grid: Grid, start: Place, end: Place, distance: float) -> NDArray[np.bool_]:
    """Say what lies within a distance in mm of the straight line between two places."""
    along = np.subtract(end, start)
    away = [x - s for x, s in zip(grid, start, strict=True)]
    share = sum(a * x for a, x in zip(along, away, strict=True)) / (along @ along)
    share = np.clip(share, 0, 1)
    apart = [x - share * a for a, x in zip(along, away, strict=True)]
    return np.asarray(np.linalg.norm(apart, axis=0) < distance)


def _radius(grid: Grid, center: Place, axes: Place) -> NDArray[np.float64]:
    """Give the distance from a center in units of the semi-axes: 1 on the ellipsoid."""
    scaled = [(x - c) / s for x, c, s in zip(grid, center, axes, strict=True)]
    return np.asarray(np.linalg.norm(scaled, axis=0), dtype=np.float64)


def _inside(grid: Grid, center: Place, axes: Place) -> NDArray[np.bool_]:
    return _radius(grid, center, axes) < 1


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
    meta = {"source": SourceRecord.of(source), "affine": torch.from_numpy(affine)}
    return MetaTensor(torch.from_numpy(voxels)[None], meta=meta)
