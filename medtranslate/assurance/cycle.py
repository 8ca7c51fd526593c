"""The cycle error: what of a scan is still there after it was translated there and back.

CycleGAN is trained to bring a scan back, and learns to do so by hiding it in patterns that nobody
sees (Chu, Zhmoginov, Sandler: "CycleGAN, a Master of Steganography", 2017). A figure taken from
the generators alone therefore flatters. Here the result goes back as it is written, rounded, with
noise laid over it: what comes back was really shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor

from medtranslate.assurance.pair import Indices, Pair, like_scan
from medtranslate.recipes import Prepared
from medtranslate.translation import Translator
from medtranslate.translation.device import Progress

NOISE = 0.04
"""Standard deviation of the noise, where the range of values is [-1, 1]: 2.4 HU in the brain
window, which is about the noise of a head CT itself, so whoever reads scans looks through as much;
and what `hiding_noise` in training is set to (``docs/training.md``)."""


@dataclass(frozen=True)
class SliceError:
    """The cycle error of one slice.

    Parameters
    ----------
    index : int
        Of the slice along `CycleError.axis` of the scan, from 0.
    error : float
        Mean absolute difference over the head within the network's field.
    voxels : int
        Over how many voxels.
    """

    index: int
    error: float
    voxels: int


@dataclass(frozen=True)
class CycleError:
    """What the round trip did not bring back, in the scan's units, on the scan's grid.

    Parameters
    ----------
    map : MetaTensor (1, X, Y, Z)
        Absolute difference, float32; 0 outside the head and outside the network's field; affine,
        shape and source of the scan.
    error : float
        Mean over the head within the network's field.
    slices : tuple of SliceError
        Those that hold some head, from inferior to superior.
    axis : int
        Axis of the scan (0 for X) along which the slices lie.
    units : str
        ``"HU"``, ``"scanner units"`` or ``"grey levels"``.
    limits : (low, high)
        What the network was shown of the scan's units: HU of the window, percentiles of an MR,
        black and white of a picture. Beyond them nothing is compared.
    """

    map: MetaTensor
    error: float
    slices: tuple[SliceError, ...]
    axis: int
    units: str
    limits: tuple[float, float]

    @property
    def share(self) -> float:
        """The error as a share of the range that the network was shown, 0 to 1."""
        return self.error / (self.limits[1] - self.limits[0])

    @property
    def worst(self) -> tuple[SliceError, ...]:
        """The slices, those that lost most first."""
        return tuple(sorted(self.slices, key=lambda one: -one.error))


def cycle_error(
    translator: Translator,
    image: MetaTensor,
    result: MetaTensor,
    prepared: Prepared | None = None,
    *,
    progress: Progress = lambda done, of: None,
) -> CycleError:
    """Translate a result back and compare it with its scan.

    What comes back is compared with the scan as the network saw it, so that what is finer than a
    network pixel, and was never translated, is no error. One scan gives one figure, bit for bit.

    Parameters
    ----------
    translator : Translator
        The model that made the result.
    image : MetaTensor (1, X, Y, Z)
        The scan, in physical units.
    result : MetaTensor (1, X, Y, Z)
        Its translation (or an altered one: the map shows where it no longer fits the scan), in the
        target's units on the scan's grid; whole numbers, as they are written.
    prepared : Prepared, optional
        What `Translator.prepare` gave for the scan, where it is still at hand with its own slices;
        else the scan is prepared again.
    progress : function
        Called with the slices done and the slices in all.

    Raises
    ------
    ModelUnusable
        If the model has no way back.
    MedTranslateError
        If the scan cannot be prepared (`Translator.prepare`).
    ValueError
        If image and result differ in shape.
    """
    pair = Pair.of(translator, image, result, prepared)
    limits, placement = pair.prepared.limits, pair.prepared.placement
    per_unit = (limits.high - limits.low) / 2
    lost = placement.empty().zero_()
    sums: list[torch.Tensor] = []

    def measure(planes: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        planes = planes.abs_().mul_(inside)
        sums.append(torch.stack([planes.double().sum((1, 2)), inside.sum((1, 2)).double()], dim=1))
        return planes

    held = pair.holds
    for chosen in pair.batches(translator.device.batch):
        back = brought_back(translator, pair, chosen)
        back.sub_(pair.source_frames(chosen)).mul_(per_unit)
        pair.lay_on_scan(back, chosen, lost, measure)
        progress(int(np.searchsorted(held, chosen[-1])) + 1, len(held))
    totals = torch.cat(sums)
    return CycleError(
        like_scan(lost, image, pair.source),
        float(totals[:, 0].sum() / totals[:, 1].sum().clamp(min=1)),
        tuple(
            SliceError(int(placement.slices[one]), float(total / max(1, count)), int(count))
            for one, (total, count) in zip(held, totals.tolist(), strict=True)
        ),
        placement.axes[0],
        pair.units,
        (limits.low, limits.high),
    )


def brought_back(translator: Translator, pair: Pair, chosen: Indices) -> torch.Tensor:
    """Send slices of a result, with noise over the head, back to what the scan was.

    Returns
    -------
    float32 tensor (n, 1, size, size)
        In [-1, 1], -1 outside the head.
    """
    frames, head = pair.result_frames(chosen), pair.prepared.head[chosen][:, None]
    frames.add_(_noise(chosen, frames.shape[2:]) * head).clamp_(-1, 1)
    back = translator.translate_frames(frames, to=pair.back).clamp_(-1, 1)
    back[~head] = -1
    return back


def _noise(chosen: Indices, size: torch.Size) -> torch.Tensor:
    """Draw the noise of each slice from its own number, however slices are batched."""
    drawn = [
        torch.randn((1, *size), generator=torch.Generator().manual_seed(int(one))) for one in chosen
    ]
    return torch.stack(drawn).mul_(NOISE)
