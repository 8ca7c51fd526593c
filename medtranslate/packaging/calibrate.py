"""The domain check of a bundle, calibrated on the slices that its networks were trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from medtranslate.domain_check import half_resolution
from medtranslate.domain_check.calibration import CalibrationSettings, CalibrationSlices, calibrate
from medtranslate.domain_check.check import to_bytes
from medtranslate.label_synthesis import (
    PLAIN_ANATOMY,
    CutSettings,
    LabelMaps,
    PairRenderer,
    PairSettings,
)
from medtranslate.training.data import Data
from medtranslate.training.prepared import PreparedSet, from_gray

MIN_SLICES = 100
"""Below so many slices of a modality, no domain check is calibrated."""

_MAX_SLICES = 2000  # slices of a modality; more make the calibration longer, not better by much
_HELD_OUT = 6  # one scan in so many calibrates the scores instead of fitting the check
_CHUNK = 64  # slices, to bound the memory of halving them
_RENDERED = 480  # axial pairs rendered from label maps
_OTHER_PLANES = 240  # coronal pairs, and as many sagittal ones
_BATCH = 16  # pairs rendered at once
# Rendered at half resolution at once. Heads are whole: what is cut off is an anomaly of its own.
_AXIAL = PairSettings(CutSettings(size=128, pixel=1.8, far_share=0.0), PLAIN_ANATOMY)
_PLANES = PairSettings(
    replace(_AXIAL.cut, pitch=5.0, below=-8.0, above=-8.0, face_share=0.0, shift=20.0),
    PLAIN_ANATOMY,
    stripped=0.0,
)


@dataclass(frozen=True, eq=False)
class RenderedHeads:
    """Half-resolution slices rendered from label maps, by modality.

    Attributes
    ----------
    axial, planes : dict of str to float16 tensor (N, 2, 128, 128)
        By ``"CT"`` and ``"MR"``: axial slices, and coronal and sagittal ones.
    """

    axial: dict[str, torch.Tensor]
    planes: dict[str, torch.Tensor]

    @classmethod
    def of(cls, labels: LabelMaps, seed: int, axial: int, planes: int) -> RenderedHeads:
        """Render so many axial slices, and so many of each other plane.

        Examples
        --------
        >>> from medtranslate.label_synthesis import LabelMap, TissueTable
        >>> white = TissueTable.read().index("white_matter")
        >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
        >>> labels = LabelMaps((LabelMap(cube, (3.0, 3.0, 3.0), (-70.5, 70.5)),))
        >>> RenderedHeads.of(labels, seed=0, axial=1, planes=1).planes["MR"].shape
        torch.Size([2, 2, 128, 128])
        """
        coronal = _rendered(_turned(labels, "coronal"), _PLANES, planes, seed + 1)
        sagittal = _rendered(_turned(labels, "sagittal"), _PLANES, planes, seed + 2)
        both = {name: torch.cat([each, sagittal[name]]) for name, each in coronal.items()}
        return cls(_rendered(labels, _AXIAL, axial, seed), both)


def calibrate_from_run(
    data: Data, seed: int = 0, settings: CalibrationSettings | None = None
) -> bytes | None:
    """Calibrate a domain check on a run's slices.

    One scan in six is held out of the fit and, with the slices that the run was validated on,
    calibrates the anomaly scores of genuine scans. Where the run has label maps, the check learns
    the other views, coronal and sagittal slices and SPECT and PET, beside heads rendered from them.

    Parameters
    ----------
    data : Data
    seed : int
        Of every random choice.
    settings : CalibrationSettings, optional

    Returns
    -------
    bytes or None
        A safetensors file, for `attach`; None where there are so few slices of a modality
        (`MIN_SLICES`) that they cannot calibrate it.
    """
    if min(len(data.ct), len(data.mri)) < MIN_SLICES:
        return None
    random = torch.Generator().manual_seed(seed)
    rendered = (
        None
        if data.labels is None
        else RenderedHeads.of(data.labels, seed, _RENDERED, _OTHER_PLANES)
    )
    slices = {
        "CT": _slices(data.ct, data.ct_held_out, random, rendered),
        "MR": _slices(data.mri, data.mri_held_out, random, rendered),
    }
    return to_bytes(calibrate(slices, seed, settings))


def _slices(
    trained_on: PreparedSet,
    held_out: PreparedSet | None,
    random: torch.Generator,
    rendered: RenderedHeads | None,
) -> CalibrationSlices:
    scans = torch.randperm(len(trained_on.records), generator=random)
    held_out_scans = scans[: max(1, len(scans) // _HELD_OUT)]
    apart = torch.isin(trained_on.scans, held_out_scans.to(trained_on.scans.dtype))
    if bool(apart.all()):  # a single scan: hold out some of its slices instead
        apart = torch.arange(len(apart)) % _HELD_OUT == 0
    measured = [trained_on.slices[apart]]
    if held_out is not None:
        measured.append(held_out.slices)
    fit, measure = (
        _halved(each, random) for each in (trained_on.slices[~apart], torch.cat(measured))
    )
    if rendered is None:
        return CalibrationSlices(fit, measure)
    modality = trained_on.modality
    return CalibrationSlices(fit, measure, rendered.planes[modality], rendered.axial[modality])


def _turned(labels: LabelMaps, plane: Literal["coronal", "sagittal"]) -> LabelMaps:
    turned = tuple(each.in_plane(plane, labels.table) for each in labels.maps)
    return LabelMaps(turned, labels.table)


def _rendered(
    labels: LabelMaps, settings: PairSettings, count: int, seed: int
) -> dict[str, torch.Tensor]:
    renderer = PairRenderer(labels.maps, labels.table, settings)
    parts: dict[str, list[torch.Tensor]] = {"CT": [], "MR": []}
    for start in range(0, count, _BATCH):
        pairs = renderer.render(min(_BATCH, count - start), seed * 1000 + start)
        for modality, slices in zip(parts, pairs.network_slices(), strict=True):
            cover = pairs.head.float()
            parts[modality].append(torch.cat([(slices + 1) / 2 * cover, cover], dim=1).half())
    return {modality: torch.cat(each) for modality, each in parts.items()}


def _halved(gray: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    chosen = torch.randperm(len(gray), generator=random)[:_MAX_SLICES].sort().values
    parts = []
    for part in torch.split(chosen, _CHUNK):
        slices, head = from_gray(gray[part])
        parts.append(half_resolution(slices, head[:, 0]).half())
    return torch.cat(parts)
