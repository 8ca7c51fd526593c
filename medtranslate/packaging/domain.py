"""The domain check of a run's own model, from the slices that it was trained on."""

from __future__ import annotations

import torch

from medtranslate.domain_check import (
    CalibrationSettings,
    CalibrationSlices,
    calibrate,
    half_resolution,
    to_bytes,
)
from medtranslate.training.prepared import Data, PreparedSet, from_grey

FEWEST = 100
"""Slices of a modality without which no check is made."""

_MOST = 2000  # slices of a modality; more make the calibration longer, hardly better
_KEPT_OUT = 6  # one scan in so many measures what is odd, instead of teaching
_CHUNK = 64


def domain_numbers(
    data: Data, seed: int = 0, settings: CalibrationSettings | None = None
) -> bytes | None:
    """Calibrate a domain check on a run's slices.

    One scan in six is kept out of the fit and, with the slices that the run was validated on,
    measures how odd a genuine scan may look.

    Parameters
    ----------
    data : Data
    seed : int
        Of every random choice.
    settings : CalibrationSettings, optional

    Returns
    -------
    bytes or None
        A safetensors file, for `attach_domain`; None where there are so few slices of a modality
        (`FEWEST`) that they cannot say how odd a genuine one may look.
    """
    if min(len(data.ct), len(data.mri)) < FEWEST:
        return None
    random = torch.Generator().manual_seed(seed)
    slices = {
        "CT": _slices(data.ct, data.ct_held_out, random),
        "MR": _slices(data.mri, data.mri_held_out, random),
    }
    return to_bytes(calibrate(slices, seed, settings))


def _slices(
    trained_on: PreparedSet, held_out: PreparedSet | None, random: torch.Generator
) -> CalibrationSlices:
    scans = torch.randperm(len(trained_on.records), generator=random)
    kept_out = scans[: max(1, len(scans) // _KEPT_OUT)]
    apart = torch.isin(trained_on.scans, kept_out.to(trained_on.scans.dtype))
    if bool(apart.all()):  # a single scan: better its own slices than none
        apart = torch.arange(len(apart)) % _KEPT_OUT == 0
    measured = [trained_on.slices[apart]]
    if held_out is not None:
        measured.append(held_out.slices)
    return CalibrationSlices(
        _halved(trained_on.slices[~apart], random), _halved(torch.cat(measured), random)
    )


def _halved(grey: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    chosen = torch.randperm(len(grey), generator=random)[:_MOST].sort().values
    parts = []
    for part in chosen.split(_CHUNK):
        slices, head = from_grey(grey[part])
        parts.append(half_resolution(slices, head[:, 0]).half())
    return torch.cat(parts)
