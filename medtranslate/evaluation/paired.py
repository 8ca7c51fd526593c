"""Errors against a paired truth, inside the head, with the range stated.

PSNR and SSIM depend on the range that they are given: compare figures of one `ValueRange` only.
SSIM and MS-SSIM are MONAI's maps (Wang et al. 2004 and 2003), averaged inside the head; MONAI's own
metrics average over the whole image, where the black around a head would count as agreement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from monai.metrics.regression import compute_ssim_and_cs
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.slices import GrayArray, SliceSet, ValueRange

WINDOW = 11
SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedErrors:
    """Errors of one case: MAE in the scale's unit, PSNR in dB, SSIM and MS-SSIM at most 1."""

    mae: float
    psnr: float
    ssim: float
    ms_ssim: float


@dataclass(frozen=True)
class Interval:
    """A mean over cases and its bootstrap interval (percentiles over resampled cases)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedSummary:
    """Means over cases with intervals, and what they were measured in."""

    mae: Interval
    psnr: Interval
    ssim: Interval
    ms_ssim: Interval
    scale: ValueRange
    cases: int
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES


def paired_errors(
    translated: torch.Tensor, truth: torch.Tensor, head: torch.Tensor, scale: ValueRange
) -> PairedErrors:
    """Compare one translated slice with the truth inside the head.

    Parameters
    ----------
    translated, truth : float tensor (H, W)
        In the scale's unit; values outside its range are clipped to it.
    head : bool tensor (H, W)
    scale : ValueRange

    Raises
    ------
    EvaluationFailed
        Shapes differ, or the head is empty.
    """
    if not translated.shape == truth.shape == head.shape:
        raise EvaluationFailed(
            "translated image, truth and head differ in size: "
            f"{tuple(translated.shape)}, {tuple(truth.shape)}, {tuple(head.shape)}"
        )
    if not head.any():
        raise EvaluationFailed("no head in the truth of a pair")
    first, second = (x.double().clamp(scale.low, scale.high) for x in (translated, truth))
    difference = (first - second)[head]
    ssim, ms_ssim = _similarity(first - scale.low, second - scale.low, head, scale.range)
    return PairedErrors(
        mae=float(difference.abs().mean()),
        psnr=_psnr(float(difference.square().mean()), scale.range),
        ssim=ssim,
        ms_ssim=ms_ssim,
    )


def errors_of_slices(
    translated: GrayArray, truth: GrayArray, heads: NDArray[np.bool_], scale: ValueRange
) -> list[PairedErrors]:
    """Compare 8-bit slices (N, 256, 256) one by one, inside the heads of the truth."""
    return [
        paired_errors(
            scale.of_gray(torch.tensor(first)),
            scale.of_gray(torch.tensor(second)),
            torch.tensor(head),
            scale,
        )
        for first, second, head in zip(translated, truth, heads, strict=True)
    ]


def check_pairs(ct: SliceSet, mri: SliceSet) -> None:
    """Check that two sets are pairs, image by image.

    Raises
    ------
    EvaluationFailed
        An image has no partner of the same name (its suffix left out), or its partner has another
        size.
    """
    first, second = ([Path(name).stem for name in each.names] for each in (ct, mri))
    alone = sorted(set(first) ^ set(second))
    if alone:
        lacking = mri if alone[0] in first else ct
        raise EvaluationFailed(
            f"{len(alone)} image(s) lack a partner of the same name, '{alone[0]}' first",
            path=lacking.folder or None,
            remedy="--paired needs the same names in both folders",
        )
    if first != second:
        raise EvaluationFailed("the pairs are not in the same order")
    for name, one, other in zip(first, ct.sizes, mri.sizes, strict=False):
        if one != other:
            raise EvaluationFailed(
                f"the pair '{name}' has mixed sizes: CT {one[1]}x{one[0]}, "
                f"MRI {other[1]}x{other[0]}",
                path=mri.folder or None,
                remedy="pairs must lie on one grid",
            )


def summarize(
    errors: Sequence[PairedErrors], cases: Sequence[str], scale: ValueRange, *, seed: int
) -> PairedSummary:
    """Return means over cases, each the mean of its slices, with bootstrap intervals."""
    columns = {
        name: mean_by_case([getattr(error, name) for error in errors], cases) for name in _MEASURES
    }
    intervals = {name: bootstrap(values, seed=seed) for name, values in columns.items()}
    return PairedSummary(
        mae=intervals["mae"],
        psnr=intervals["psnr"],
        ssim=intervals["ssim"],
        ms_ssim=intervals["ms_ssim"],
        scale=scale,
        cases=len(set(cases)),
    )


def mean_by_case(
    values: Sequence[float] | NDArray[np.float64], cases: Sequence[str]
) -> list[float]:
    """Return one mean a case, in order of first appearance."""
    grouped: dict[str, list[float]] = {}
    for value, case in zip(values, cases, strict=True):
        grouped.setdefault(case, []).append(float(value))
    return [float(np.mean(each)) for each in grouped.values()]


def bootstrap(values: Sequence[float], *, seed: int) -> Interval:
    """Return the mean with the percentile interval of `RESAMPLES` resampled means."""
    known: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(known), size=(RESAMPLES, len(known)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(known[drawn].mean(axis=1), [tail, 100 - tail])
    return Interval(float(known.mean()), float(low), float(high))


_MEASURES = [field.name for field in fields(PairedErrors)]


def _psnr(mean_square: float, value_range: float) -> float:
    # An exact copy has no finite PSNR; that of half an 8-bit step stands for it, so means exist.
    least = (value_range / 510) ** 2
    return 10 * math.log10(value_range**2 / max(mean_square, least))


def _similarity(
    first: torch.Tensor, second: torch.Tensor, head: torch.Tensor, value_range: float
) -> tuple[float, float]:
    """Return SSIM and MS-SSIM inside the head, of values from 0 to `value_range`."""
    x, y, mask = first[None, None].float(), second[None, None].float(), head[None, None].float()
    contrasts = []
    whole = math.nan
    for level in range(len(SCALE_WEIGHTS)):
        ssim, contrast = compute_ssim_and_cs(
            x, y, 2, (WINDOW, WINDOW), (SIGMA, SIGMA), data_range=value_range
        )
        inside = _windows_inside(mask)
        at_this_scale = _mean_inside(ssim, inside)
        whole = at_this_scale if level == 0 else whole
        last = level == len(SCALE_WEIGHTS) - 1
        contrasts.append(at_this_scale if last else _mean_inside(contrast, inside))
        x, y, mask = avg_pool2d(x, 2), avg_pool2d(y, 2), avg_pool2d(mask, 2)
    parts = zip(contrasts, SCALE_WEIGHTS, strict=True)
    return whole, math.prod(max(value, 0.0) ** weight for value, weight in parts)


def _windows_inside(mask: torch.Tensor) -> torch.Tensor:
    """Return which windows of the SSIM map have their center in the head."""
    edge = WINDOW // 2
    return mask[..., edge:-edge, edge:-edge] >= 0.5


def _mean_inside(values: torch.Tensor, inside: torch.Tensor) -> float:
    # A small head may hold no center at the coarsest scale; the map is then averaged as MONAI does.
    return float(values[inside].mean() if inside.any() else values.mean())
