"""The cycle error: what of a scan is still there after it was translated there and back.

CycleGAN is trained to bring a scan back, and learns to do so by hiding it in patterns that nobody
sees (Chu, Zhmoginov, Sandler: "CycleGAN, a Master of Steganography", 2017). A figure taken from
the generators alone therefore flatters. Here the result goes back as it is written, rounded, with
noise laid over it: what comes back was really shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor

from medtranslate.device import Progress
from medtranslate.quality.error_map import Measure
from medtranslate.quality.pair import Indices, Pair
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator

NOISE = 0.04
"""Standard deviation of the noise, where the range of values is [-1, 1]: 2.4 HU in the brain
window, which is about the noise of a head CT itself, so whoever reads scans looks through as much;
and what `intermediate_noise` in training is set to (``docs/how-to/train.md``)."""


@dataclass(frozen=True)
class CycleError(Measure):
    """What the round trip did not bring back: absolute differences, in the scan's units.

    ``limits`` is what the network was shown of the scan: HU of the window, percentiles of an MR,
    black and white of a picture. Beyond them nothing is compared.
    """


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

    def lost(chosen: Indices) -> torch.Tensor:
        return brought_back(translator, pair, chosen).sub_(pair.source_frames(chosen))

    return CycleError.take(
        pair,
        image,
        lost,
        torch.Tensor.abs_,
        limits=pair.prepared.limits,
        units=pair.units,
        batch=translator.device.batch,
        progress=progress,
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
