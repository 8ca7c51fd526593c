"""The domain check of a bundle, calibrated on the slices that its networks were trained on."""

from __future__ import annotations

import torch

from medtranslate.domain_check import half_resolution
from medtranslate.domain_check.calibration import CalibrationSettings, CalibrationSlices, calibrate
from medtranslate.domain_check.check import to_bytes
from medtranslate.training.data import Data
from medtranslate.training.prepared import PreparedSet, from_gray

MIN_SLICES = 100
"""Below so many slices of a modality, no domain check is calibrated."""

_MAX_SLICES = 2000  # slices of a modality; more make the calibration longer, not better by much
_HELD_OUT = 6  # one scan in so many calibrates the scores instead of fitting the check
_CHUNK = 64  # slices, to bound the memory of halving them


def calibrate_from_run(
    data: Data, seed: int = 0, settings: CalibrationSettings | None = None
) -> bytes | None:
    """Calibrate a domain check on a run's slices.

    One scan in six is held out of the fit and, with the slices that the run was validated on,
    calibrates the anomaly scores of genuine scans.

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
        (`MIN_SLICES`) that they cannot calibrate it.
    """
    if min(len(data.ct), len(data.mri)) < MIN_SLICES:
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
    held_out_scans = scans[: max(1, len(scans) // _HELD_OUT)]
    apart = torch.isin(trained_on.scans, held_out_scans.to(trained_on.scans.dtype))
    if bool(apart.all()):  # a single scan: hold out some of its slices instead
        apart = torch.arange(len(apart)) % _HELD_OUT == 0
    measured = [trained_on.slices[apart]]
    if held_out is not None:
        measured.append(held_out.slices)
    return CalibrationSlices(
        _halved(trained_on.slices[~apart], random), _halved(torch.cat(measured), random)
    )


def _halved(gray: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    chosen = torch.randperm(len(gray), generator=random)[:_MAX_SLICES].sort().values
    parts = []
    for part in torch.split(chosen, _CHUNK):
        slices, head = from_gray(gray[part])
        parts.append(half_resolution(slices, head[:, 0]).half())
    return torch.cat(parts)
