"""Synthetic heads: CT with a white ring of bone around gray, MR with a dark one around bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medtranslate.training import Settings
from medtranslate.training.prepared import PreparedSet, ScanRecord

TINY = Settings(
    network="compact",
    network_arguments={"width": 16, "blocks": 1},
    discriminator_width=8,
    discriminator_layers=2,
    epochs=2,
    steps_per_epoch=4,
    pool_size=3,
    downsampling=8,
    shift_pixels=4.0,
    precision="float32",
)


def phantom(modality: str, seed: int, side: int = 256) -> np.ndarray:
    """Draw one head, uint8 (side, side): skull, tissue, two ventricles."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    high, wide = random.uniform(0.34, 0.4), random.uniform(0.28, 0.33)
    radius = np.hypot(rows / high, columns / wide)
    middle = random.uniform(-0.03, 0.03, 2)
    gap = random.uniform(0.05, 0.09)
    ventricles = np.minimum(
        *(
            np.hypot((rows - middle[0]) / 0.1, (columns - middle[1] + off) / 0.04)
            for off in (gap, -gap)
        )
    )
    bone, tissue, fluid = (255, 110, 60) if modality == "CT" else (40, 140, 230)
    gray = np.where(radius < 1, bone, 0)
    gray = np.where(radius < 0.88, tissue + random.normal(0, 4, radius.shape), gray)
    gray = np.where(ventricles < 1, fluid, gray)
    if modality == "MR":  # scalp is bright, so the head has an outline
        gray = np.where((radius < 1) & (radius > 0.95), 200, gray)
    return gray.clip(0, 255).astype(np.uint8)


def write_phantoms(folder: Path, modality: str, count: int, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        image = Image.fromarray(phantom(modality, number))
        image.save(folder / f"{modality.lower()}{number}.png")
    return folder


def prepared(modality: str, count: int, start: int = 0) -> PreparedSet:
    """Give phantoms as prepared slices without the way through files."""
    gray = torch.from_numpy(np.stack([phantom(modality, start + n) for n in range(count)]))
    records = tuple(ScanRecord(f"{modality.lower()}/{n}.png", f"{n}", 1, 0) for n in range(count))
    return PreparedSet(modality, gray, torch.arange(count, dtype=torch.int32), records)


def same_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Assert that two sets of tensors are equal bit for bit."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []
