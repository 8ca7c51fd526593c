"""Made scans that are no head: bodies, limbs, and objects, as CT or as MR.

They are painted in millimeters from tissues, and are other than the examples that a domain check
is calibrated with (`medtranslate.domain_check.anomalies`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.imaging.image2d import IMAGE_2D_AFFINE
from medtranslate.imaging.source import make_source

AIR, LUNG, FAT, MUSCLE, ORGAN, FLUID, MARROW, BONE = range(8)
HU = np.array([-1000.0, -820.0, -100.0, 55.0, 65.0, 8.0, -40.0, 800.0])
T1 = np.array([0.02, 0.06, 0.95, 0.45, 0.50, 0.20, 0.80, 0.08])
T2 = np.array([0.02, 0.06, 0.75, 0.25, 0.35, 1.00, 0.60, 0.05])

Field = NDArray[np.float64]
Tissues = NDArray[np.int64]
_STEP = 1.6  # mm


@dataclass(frozen=True)
class Canvas:
    """Millimeters to the left and to the back of the middle of a slice."""

    left: Field
    back: Field

    @classmethod
    def of(cls, width: float) -> Canvas:
        """A square of this width in mm."""
        axis = np.arange(-width / 2, width / 2, _STEP)
        left, back = np.meshgrid(axis, axis, indexing="ij")
        return cls(left, back)

    def depth(self, x: float, y: float, a: float, b: float, power: float = 2.0) -> Field:
        """Below 1 in an ellipse about (x, y) with semi-axes a and b; a box where power is high."""
        u, v = np.abs(self.left - x) / a, np.abs(self.back - y) / b
        return (u**power + v**power) ** (1 / power)


def chest(c: Canvas, rng: np.random.Generator) -> Tissues:
    """Two lungs, a heart, a spine, ribs."""
    a, b = rng.uniform(140, 185), rng.uniform(95, 125)
    t = np.full(c.left.shape, AIR)
    outer = c.depth(0, 0, a, b)
    t[outer < 1] = FAT
    t[outer < 0.92] = MUSCLE
    angle = np.arctan2(c.back / b, c.left / a)
    t[(np.abs(outer - 0.85) < 0.03) & (np.sin(9 * angle + rng.uniform(0, 6)) > 0)] = BONE
    for side in (-1, 1):
        t[c.depth(side * 0.42 * a, -5, 0.34 * a, 0.66 * b) < 1] = LUNG
    t[c.depth(0.12 * a, -0.2 * b, 0.3 * a, 0.35 * b) < 1] = ORGAN
    t[c.depth(0, 0.68 * b, 20, 17) < 1] = BONE
    return t


def abdomen(c: Canvas, rng: np.random.Generator) -> Tissues:
    """Liver, spleen, kidneys, stomach with gas, aorta, spine."""
    a, b = rng.uniform(135, 185), rng.uniform(90, 130)
    t = np.full(c.left.shape, AIR)
    t[c.depth(0, 0, a, b, 2.3) < 1] = FAT
    t[c.depth(0, 0, 0.9 * a, 0.86 * b, 2.3) < 1] = MUSCLE
    t[c.depth(0, 0, 0.84 * a, 0.78 * b, 2.3) < 1] = FAT
    t[c.depth(-0.38 * a, -0.1 * b, 0.42 * a, 0.55 * b) < 1] = ORGAN
    t[c.depth(0.55 * a, 0.1 * b, 0.18 * a, 0.35 * b) < 1] = ORGAN
    t[c.depth(0.25 * a, -0.4 * b, 0.25 * a, 0.2 * b) < 1] = FLUID
    t[c.depth(0.25 * a, -0.5 * b, 0.18 * a, 0.08 * b) < 1] = AIR
    for side in (-1, 1):
        t[c.depth(side * 0.42 * a, 0.45 * b, 24, 30) < 1] = MUSCLE
    t[c.depth(0, 0.55 * b, 24, 20) < 1] = BONE
    t[c.depth(0, 0.55 * b, 16, 13) < 1] = MARROW
    t[c.depth(8, 0.25 * b, 11, 11) < 1] = FLUID
    return t


def thigh(c: Canvas, rng: np.random.Generator) -> Tissues:
    """Fat, muscle, one long bone."""
    a = rng.uniform(60, 100)
    t = np.full(c.left.shape, AIR)
    t[c.depth(0, 0, a, a * 1.05) < 1] = FAT
    t[c.depth(0, 0, a - 12, a - 10) < 1] = MUSCLE
    x, y = rng.uniform(-15, 15, 2)
    t[c.depth(x, y, 16, 16) < 1] = BONE
    t[c.depth(x, y, 9, 9) < 1] = MARROW
    return t


def forearm(c: Canvas, rng: np.random.Generator) -> Tissues:
    """Fat, muscle, two bones."""
    a, b = rng.uniform(35, 55), rng.uniform(28, 40)
    t = np.full(c.left.shape, AIR)
    t[c.depth(0, 0, a, b) < 1] = FAT
    t[c.depth(0, 0, a - 5, b - 5) < 1] = MUSCLE
    for side in (-1, 1):
        t[c.depth(side * 0.4 * a, 2, 8, 8) < 1] = BONE
        t[c.depth(side * 0.4 * a, 2, 4, 4) < 1] = MARROW
    return t


def box(c: Canvas, rng: np.random.Generator) -> Tissues:
    """A box of one tissue."""
    return _even(c.depth(0, 0, rng.uniform(50, 110), rng.uniform(50, 110), 60.0))


def disc(c: Canvas, rng: np.random.Generator) -> Tissues:
    """A disc (in a volume, a tube) of one tissue."""
    radius = rng.uniform(50, 110)
    return _even(c.depth(0, 0, radius, radius))


def ellipse(c: Canvas, rng: np.random.Generator) -> Tissues:
    """An ellipse of a head's size and proportions, of one tissue."""
    return _even(c.depth(0, 0, rng.uniform(65, 80), rng.uniform(85, 100)))


def quality(c: Canvas, rng: np.random.Generator) -> Tissues:
    """A shell with rods in fluid, as for quality control."""
    radius = rng.uniform(80, 105)
    t = np.full(c.left.shape, AIR)
    t[c.depth(0, 0, radius, radius) < 1] = MUSCLE
    t[c.depth(0, 0, radius - 6, radius - 6) < 1] = FLUID
    for turn in np.arange(6) * np.pi / 3 + rng.uniform(0, 1):
        x, y = 0.55 * radius * np.cos(turn), 0.55 * radius * np.sin(turn)
        t[c.depth(x, y, 12, 12) < 1] = rng.choice([AIR, FAT, ORGAN, BONE])
    return t


def _even(depth: Field) -> Tissues:
    return np.where(depth < 1, MUSCLE, AIR)


Painter = Callable[[Canvas, np.random.Generator], Tissues]

WITHOUT_A_HEAD: dict[str, Painter] = {
    "chest": chest,
    "abdomen": abdomen,
    "thigh": thigh,
    "forearm": forearm,
    "box": box,
    "disc": disc,
    "ellipse of a head's size": ellipse,
    "quality phantom": quality,
}


def image_2d(paint: Painter, modality: str, rng: np.random.Generator) -> MetaTensor:
    """A made slice as a 2D image, that fills most of its field; MR of a drawn weighting."""
    shown = _shown(paint(Canvas.of(400.0), rng), modality, rng)
    body = np.abs(shown - shown[0, 0]) > 30
    reach = max(np.ptp(np.flatnonzero(body.any(1))), np.ptp(np.flatnonzero(body.any(0))))
    half = min(len(shown) // 2, int(reach * rng.uniform(0.53, 0.75)))
    middle = len(shown) // 2
    field = slice(middle - half, middle + half)
    values = shown[field, field][..., None]
    if modality == "CT":
        values = (values + 20) * (255 / 120)
    return image(np.rint(np.clip(values, 0, 255)), IMAGE_2D_AFFINE, modality, "image", "uint8")


def volume(paint: Painter, modality: str, rng: np.random.Generator) -> MetaTensor:
    """A dozen made slices, 5 mm apart, whose outline changes slowly; HU, or MR units."""
    canvas, seed = Canvas.of(400.0), int(rng.integers(1 << 30))
    slices = []
    for z in np.linspace(-1, 1, 12):
        wider = Canvas(canvas.left * (1 + 0.1 * z * z), canvas.back * (1 + 0.05 * z))
        same = np.random.default_rng(seed)
        slices.append(_shown(paint(wider, same), modality, same))
    values = np.stack(slices, axis=-1) * (1.0 if modality == "CT" else rng.uniform(2, 8))
    affine = np.diag([-_STEP, -_STEP, 5.0, 1.0])
    return image(np.rint(values), affine, modality, "volume", "int16")


def image(
    values: NDArray[np.floating], affine: NDArray[np.float64], modality: str, kind: str, dtype: str
) -> MetaTensor:
    """An image of the contract around values (X, Y, Z)."""
    source = make_source(
        format="array", kind=kind, shape=values.shape, affine=affine, dtype=dtype,
        modality=modality, modality_basis="given",
    )  # fmt: skip
    voxels = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
    return MetaTensor(voxels, meta={"source": source, "affine": torch.from_numpy(affine)})


def _shown(tissues: Tissues, modality: str, rng: np.random.Generator) -> Field:
    """Tissues as HU, or as MR signal of 0 to about 230, with noise."""
    if modality == "CT":
        return HU[tissues] + rng.normal(0, 6, tissues.shape)
    signal = (T1 if rng.random() < 0.5 else T2) * rng.uniform(0.8, 1.2, len(T1))
    return np.abs(220 * signal[tissues] + rng.normal(0, 4, tissues.shape))
