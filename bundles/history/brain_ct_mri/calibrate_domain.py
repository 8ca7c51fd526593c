"""Teach the MR networks of the domain check of `brain_ct_mri` the other views.

The networks keep what they know; an output layer for coronal and sagittal slices, and for SPECT and
PET, is trained on slices resampled from MR volumes and on heads rendered from label maps. Its
scales are measured on the slices held out; those of the rest, and CT, stay as they are::

    python calibrate_domain.py domain.safetensors --start OLD/configs/domain.safetensors \
        --mri MRI.safetensors --mri-held-out VAL-MRI.safetensors \
        --volumes-prepared VOLUMES.safetensors --volumes ms_patient01*.nii.gz --labels LABELS

The prepared files are of ``medtranslate data prepare``; ``--volumes`` are the volumes of
``VOLUMES.safetensors``, ``LABELS`` a folder of label maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Orientation

from medtranslate.bundle import Bundle
from medtranslate.domain_check import DomainCheck, half_resolution, load_domain
from medtranslate.domain_check.calibration import CalibrationSettings, CalibrationSlices, calibrate
from medtranslate.domain_check.check import to_bytes
from medtranslate.files import shipped
from medtranslate.imaging import read
from medtranslate.imaging.image2d import IMAGE_2D_AFFINE
from medtranslate.imaging.source import make_source
from medtranslate.label_synthesis import LabelMaps
from medtranslate.packaging.calibrate import RenderedHeads
from medtranslate.training.prepared import PreparedSet, from_gray
from medtranslate.transforms import load_recipe

PLANES_OF_VOLUME = 10
"""Coronal slices resampled from each volume, and as many sagittal ones."""

SETTINGS = CalibrationSettings(view_examples=2600, variants=1)


def main() -> None:
    """Write the file."""
    options = argparse.ArgumentParser()
    options.add_argument("output", type=Path)
    options.add_argument(
        "--start", type=Path, required=True, help="file of the check to go on from"
    )
    for name in ("mri", "mri-held-out", "volumes-prepared"):
        options.add_argument(f"--{name}", type=Path, nargs="+", required=True)
    options.add_argument("--volumes", type=Path, nargs="+", default=[])
    options.add_argument("--labels", type=Path, required=True)
    chosen = options.parse_args()
    rendered = RenderedHeads.of(LabelMaps.read(chosen.labels), seed=0, axial=320, planes=160)
    resampled = [plane for path in chosen.volumes for plane in other_planes(path)]
    fit, held_out, axial = (
        halves(each) for each in (chosen.mri, chosen.mri_held_out, chosen.volumes_prepared)
    )
    axial = torch.cat([axial, rendered.axial["MR"]])
    planes = torch.cat([*resampled, rendered.planes["MR"]])
    slices = {"MR": CalibrationSlices(fit, held_out, planes, axial)}
    start = loaded(chosen.start)
    taught = calibrate(slices, 0, SETTINGS, start)
    both = DomainCheck({"CT": start.modalities["CT"], **taught.modalities})
    chosen.output.write_bytes(to_bytes(both))


def loaded(path: Path) -> DomainCheck:
    """Load a check from its file."""
    return cast(DomainCheck, load_domain(cast(Bundle, SimpleNamespace(domain=path))))


def halves(files: list[Path]) -> torch.Tensor:
    """Return prepared slices at half resolution."""
    parts = [part for path in files for part in PreparedSet.load(path).slices.split(64)]
    return torch.cat([half_resolution(s, head[:, 0]).half() for s, head in map(from_gray, parts)])


def other_planes(path: Path) -> Iterator[torch.Tensor]:
    """Resample coronal and sagittal slices to square pixels, and prepare them as 2D images."""
    recipe = load_recipe(shipped("transforms/mr-image.yaml"))
    image = cast(MetaTensor, Orientation(axcodes="RAS", labels=None)(read(path, modality="MR")))
    values = image.as_tensor()[0].float()
    spacing = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
    white = float(values.flatten()[::7].quantile(0.995))
    for axis in (0, 1):
        step = spacing[[other for other in range(3) if other != axis]]
        for share in np.linspace(0.15, 0.85, PLANES_OF_VOLUME):
            plane = values.select(axis, int(share * values.shape[axis]))
            size = [round(n * s) for n, s in zip(plane.shape, step, strict=True)]
            square = F.interpolate(plane[None, None], size, mode="bilinear", antialias=True)
            gray = (F.pad(square[0, 0].flip(1), (12, 12, 12, 12)) / white * 255).clamp(0, 255)
            prepared = recipe.prepare(as_image(gray))
            if prepared.head.any():
                yield half_resolution(prepared.slices, prepared.head).half()


def as_image(gray: torch.Tensor) -> MetaTensor:
    """Return gray levels (X, Y) as a 2D image."""
    source = make_source(
        format="array", kind="image", shape=(*gray.shape, 1), affine=IMAGE_2D_AFFINE,
        dtype="uint8", modality="MR", modality_basis="given",
    )  # fmt: skip
    meta = {"source": source, "affine": torch.from_numpy(IMAGE_2D_AFFINE)}
    return MetaTensor(gray.round()[None, ..., None], meta=meta)


if __name__ == "__main__":
    main()
