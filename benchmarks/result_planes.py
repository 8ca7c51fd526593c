"""Draw translated volumes in three planes, to look at: flicker, rings, seams, wrong head sizes.

A row a volume: three axial slices, one coronal, one sagittal, square in millimeters, the result
alone. CT is shown in the window that the model learned, MRI from 0 to its 99.5th percentile. Slices
of a series with uneven gaps are drawn evenly.

::

    python benchmarks/result_planes.py planes.png DATA/nifti/mr-brain-t2w.nii.gz DATA/dicom/...
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Orientation
from numpy.typing import NDArray
from PIL import Image

from medtranslate import Translator, read
from medtranslate.modality import Modality
from medtranslate.translation.translator import source_of

MILLIMETERS = 240  # a panel's side
AXIAL = (0.35, 0.5, 0.65)  # of the slices that show a head, from below

Plane = NDArray[np.float32]


def main() -> None:
    """Translate each volume and draw its row."""
    options = argparse.ArgumentParser()
    options.add_argument("output", type=Path, help="the PNG to write")
    options.add_argument("volumes", nargs="+", type=Path)
    options.add_argument("--bundle", type=Path, help="instead of the shipped one")
    chosen = options.parse_args()
    translator = Translator.load(chosen.bundle)
    rows = [row(translator, path) for path in chosen.volumes]
    Image.fromarray(np.vstack(rows)).save(chosen.output, optimize=True)


def row(translator: Translator, path: Path) -> NDArray[np.uint8]:
    """Translate a volume and draw it: uint8 (MILLIMETERS, 5 MILLIMETERS)."""
    scan = read(path)
    to = Modality(source_of(scan)["modality"]).other.target
    made = translator.translate(scan, to=to, check=False)
    gray, spacing = upright(made)
    whole = [0.0, float(np.quantile(gray[gray > 0], 0.995))]
    low, high = made.meta["synthesis"]["window"] or whole
    shown = np.clip((gray - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    across, along, up = spacing
    head = np.argwhere(shown > 0)
    (left, front, lowest), (right, back, highest) = head.min(0), head.max(0)
    levels = [int(lowest + share * (highest - lowest)) for share in AXIAL]
    panels = [panel(shown[:, :, z].T, along, across) for z in levels]
    panels.append(panel(shown[:, (front + back) // 2, ::-1].T, up, across))
    panels.append(panel(shown[(left + right) // 2, :, ::-1].T, up, along))
    return np.hstack(panels)


def upright(volume: MetaTensor) -> tuple[Plane, tuple[float, float, float]]:
    """Return (X, Y, Z) toward left, posterior, superior, and its spacing in mm."""
    turned = Orientation(axcodes="LPS", labels=None)(volume)
    across, along, up = np.linalg.norm(np.asarray(turned.affine)[:3, :3], axis=0).tolist()
    return turned[0].numpy(), (across, along, up)


def panel(plane: NDArray[np.uint8], high: float, wide: float) -> NDArray[np.uint8]:
    """Lay a plane (rows, columns) of pixels `high` x `wide` mm on the middle of a panel."""
    rows, columns = round(plane.shape[0] * high), round(plane.shape[1] * wide)
    sized = Image.fromarray(np.ascontiguousarray(plane)).resize((columns, rows), Image.BILINEAR)
    whole = Image.new("L", (MILLIMETERS, MILLIMETERS))
    whole.paste(sized, ((MILLIMETERS - columns) // 2, (MILLIMETERS - rows) // 2))
    return np.asarray(whole)


if __name__ == "__main__":
    main()
