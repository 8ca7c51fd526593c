"""The cycle error: how a scan differs from its reconstruction (CT -> MRI -> CT, or the reverse).

CycleGAN is trained to reconstruct a scan, and learns to do so by hiding it in patterns that nobody
sees (Chu, Zhmoginov, Sandler: "CycleGAN, a Master of Steganography", 2017). A figure taken from
the generators alone therefore flatters. Here the result is translated back as it is written,
rounded, with noise over it: what is reconstructed was really visible.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.device import Progress
from medtranslate.modality import Modality
from medtranslate.quality.error_map import ErrorMap, Indices, Pair
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator

NOISE = 0.04
"""Standard deviation of the noise, for values in [-1, 1]: 2.4 HU in the brain window, about the
noise of a head CT itself; `intermediate_noise` in training is set to the same."""

COUNT = 4
"""Number of worst slices that are shown."""

_MIN_HEAD = 0.25  # of the largest slice's head: the vertex is all rim, and always worst

GrayImage = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CycleError(ErrorMap):
    """Absolute differences of a scan and its reconstruction, in the scan's units.

    ``limits`` is the range that the network saw of the scan: HU of the window, percentiles of an
    MR, black and white of a 2D image. Values beyond it are not compared. ``contrast`` is that of
    the MR, made or given: `nearest_contrast` where the result does not say; ``""`` for models
    without a choice.

    Examples
    --------
    >>> found = CycleError(MetaTensor(torch.zeros(1, 8, 8, 6)), 6.0, (), 2, "HU", (-20.0, 100.0))
    >>> found.name, found.as_builtins()["share_of_range"]
    ('cycle error', 0.05)
    """

    name: ClassVar[str] = "cycle error"
    contrast: str = ""


def cycle_error(
    translator: Translator,
    image: MetaTensor,
    result: MetaTensor,
    prepared: Prepared | None = None,
    *,
    with_map: bool = True,
    progress: Progress = lambda done, of: None,
) -> CycleError:
    """Translate a result back and compare the reconstruction with the scan.

    The reconstruction is compared with the scan as the network saw it, so that detail finer than a
    network pixel is no error. The same scan and result give the same error, bit for bit.

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
        From `Translator.prepare`, with the slices of the scan still in it; without it the scan is
        prepared again.
    with_map : bool
        Whether the map is wanted beside the figures; without it, the result's map is empty.
    progress : function
        Called with the slices done and the slices in all.

    Raises
    ------
    ModelUnusable
        If the model has no generator back.
    MedTranslateError
        If the scan cannot be prepared (`Translator.prepare`).
    ValueError
        If image and result differ in shape.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> translator = Translator.load(device="cpu")
    >>> scan = Phantom(shape=(64, 64, 2), spacing=(3.0, 3.0, 20.0)).volume()
    >>> found = cycle_error(translator, scan, translator.translate(scan, to="mri"))
    >>> found.units, 0 < found.share < 0.2
    ('HU', True)
    """
    pair = Pair.of(translator, image, result, prepared)
    contrast = _contrast_of(result) or nearest_contrast(translator, pair)
    back = translator.for_contrast(contrast)

    def difference(chosen: Indices) -> torch.Tensor:
        return reconstruct(back, pair, chosen).sub_(pair.source_slices(chosen))

    found = CycleError.measure(
        pair,
        image,
        difference,
        torch.Tensor.abs_,
        limits=pair.prepared.limits,
        units=pair.units,
        batch=translator.device.batch,
        with_map=with_map,
        progress=progress,
    )
    return replace(found, contrast=contrast)


def _contrast_of(result: MetaTensor) -> str:
    """Return the contrast of the MR, made or given, that a result says; ``""`` if it says none."""
    said = result.meta.get("synthesis", {})
    return str(said.get("contrast") or said.get("source_contrast") or "")


def nearest_contrast(translator: Translator, pair: Pair) -> str:
    """Return the contrast in which the reconstruction comes nearest to an MRI.

    What contrast an MRI has is rarely stated, and a reconstruction in another one would differ from
    it everywhere. It is judged by the mean absolute error of one slice, the middle one of those
    that show some head; ``""`` for a CT, and for a model without a choice of contrast.
    """
    held = pair.holds
    if pair.back != Modality.MR.target or not translator.bundle.contrasts or not len(held):
        return ""
    middle = held[[len(held) // 2]]

    def error(contrast: str) -> float:
        back = reconstruct(translator.for_contrast(contrast), pair, middle)
        return float((back - pair.source_slices(middle)).abs().mean())

    return min(translator.bundle.contrasts, key=error)


def reconstruct(translator: Translator, pair: Pair, chosen: Indices) -> torch.Tensor:
    """Translate slices of a result, with noise over the head, back to the scan's modality.

    Returns
    -------
    float32 tensor (n, 1, size, size)
        In [-1, 1], -1 outside the head.
    """
    slices, head = pair.result_slices(chosen), pair.prepared.head[chosen][:, None]
    slices.add_(_noise(chosen, slices.shape[2:]) * head).clamp_(-1, 1)
    reconstruction = translator.translate_slices(slices, to=pair.back, in_window=True)
    reconstruction[~head] = -1
    return reconstruction


def _noise(chosen: Indices, size: torch.Size) -> torch.Tensor:
    """Draw the noise of each slice with its index as seed, so that batching does not matter."""
    drawn = [
        torch.randn((1, *size), generator=torch.Generator().manual_seed(int(one))) for one in chosen
    ]
    return torch.stack(drawn).mul_(NOISE)


@dataclass(frozen=True, eq=False)
class WorstSlice:
    """A slice with its result and reconstruction, as the network saw them.

    Parameters
    ----------
    index : int
        Index of the slice along its axis of the scan, from 0.
    error : float
        Mean error, in the scan's units.
    peak : float or None
        Error of its worst patch, in the same units.
    source, result, reconstruction : uint8 array (size, size)
        Gray; rows from anterior to posterior, columns from the patient's right to left.
    difference : uint8 array (size, size)
        Absolute difference of source and reconstruction; 255 is half the range of values, or more.

    Examples
    --------
    >>> gray = np.zeros((256, 256), dtype=np.uint8)
    >>> worst = WorstSlice(12, 4.5, 31.0, gray, gray, reconstruction=gray, difference=gray)
    >>> worst.index, worst.peak
    (12, 31.0)
    """

    index: int
    error: float
    peak: float | None
    source: GrayImage
    result: GrayImage
    reconstruction: GrayImage
    difference: GrayImage


def worst_slices(
    translator: Translator,
    image: MetaTensor,
    result: MetaTensor,
    found: CycleError,
    prepared: Prepared | None = None,
    *,
    exclude: Collection[int] = (),
    count: int = COUNT,
) -> list[WorstSlice]:
    """Return the slices with the largest peaks, among those that show a good part of the head.

    Parameters
    ----------
    translator, image, result, prepared
        As `cycle_error`.
    found : CycleError
        From `cycle_error`.
    exclude : collection of int
        Indices of slices to leave out, such as those below the skull base.
    count : int
        Maximum number of slices.

    Returns
    -------
    list of WorstSlice
        The largest peak first.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> translator = Translator.load(device="cpu")
    >>> scan = Phantom(shape=(64, 64, 1), spacing=(3.0, 3.0, 20.0)).volume()
    >>> result = translator.translate(scan, to="mri")
    >>> (worst,) = worst_slices(translator, scan, result, cycle_error(translator, scan, result))
    >>> worst.index, worst.reconstruction.shape
    (0, (256, 256))
    """
    pair = Pair.of(translator, image, result, prepared)
    reverse = translator.for_contrast(found.contrast)
    numbers = {int(at): number for number, at in enumerate(pair.prepared.placement.slices)}
    least = _MIN_HEAD * max((one.voxels for one in found.slices), default=0)
    shown = [s for s in found.worst if s.voxels >= least and s.index not in exclude]
    slices = []
    for one in shown[:count]:
        chosen = np.array([numbers[one.index]])
        source, back = pair.source_slices(chosen), reconstruct(reverse, pair, chosen)
        made = pair.result_slices(chosen)
        difference = (2 * (back - source).abs() - 1).clamp_(-1, 1)  # 1 is half the range
        slices.append(
            WorstSlice(
                one.index,
                one.error,
                one.peak,
                *(_gray(each) for each in (source, made, back, difference)),
            )
        )
    return slices


def _gray(slices: torch.Tensor) -> GrayImage:
    """Return the one slice of (1, 1, size, size) in [-1, 1] as gray levels."""
    return ((slices[0, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
