"""Maps as files: beside the result, on the scan's grid, labelled as what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from medtranslate.imaging import write
from medtranslate.imaging.image2d import write_stack
from medtranslate.quality.cycle import CycleError
from medtranslate.quality.error_map import Measure


def write_map(
    measure: Measure,
    synthesis: Mapping[str, Any],
    path: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write a map, whole or not at all.

    Parameters
    ----------
    measure : Measure
        Its map is rounded where it lies, so that it packs as well as a scan: in volumes to about a
        4096th of the range, in pictures, which hold nothing below 0 and are not `marked`, to grey
        levels.
    synthesis : mapping
        ``meta["synthesis"]`` of the result that was measured.
    path : Path
        ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd``; for pictures ``.png``, ``.tif`` or, without
        a suffix, a folder of PNGs.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    Unsupported
        The slices are not evenly spaced, which the format cannot say.
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    image = measure.map
    picture = image.meta["source"]["kind"] == "picture"
    _round(image, 1.0 if picture else _step(measure))
    dtype = image.meta["source"]["dtype"] if picture else "float32"
    image.meta["synthesis"] = {**synthesis, **_said(measure, synthesis), "dtype": dtype}
    if picture and not path.suffix:
        write_stack(image, path, overwrite=overwrite)
    else:
        write(image, path, overwrite=overwrite)


def _said(measure: Measure, synthesis: Mapping[str, Any]) -> dict[str, Any]:
    name = "round-trip error" if isinstance(measure, CycleError) else "variation"
    what = f"{name} in {measure.units}"
    model = f"{synthesis['model']} {synthesis['version']}"
    return {
        "modality": what,
        "label": f"SYNTHETIC {what} of synthetic {synthesis['modality']}, {model}, "
        "NOT FOR DIAGNOSIS",
        "background": 0.0,
        "window": [],
    }


def _step(measure: Measure) -> float:
    """Give a power of two, which float32 adds up exactly, and of which 1 is a multiple."""
    low, high = measure.limits
    return float(2.0 ** min(0, math.floor(math.log2((high - low) / 4096))))


def _round(image: MetaTensor, step: float) -> None:
    volume = image.as_tensor()
    torch.round(volume.div_(step), out=volume)
    volume.mul_(step)
