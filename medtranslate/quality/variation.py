"""The variation: how a result changes when the scan is mirrored and shifted a little.

Anatomy does not depend on how a scan lies on the network's grid. A structure that comes and goes
as the scan is shifted by a pixel or two was not taken from the scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from medtranslate.device import Progress
from medtranslate.quality.error_map import ErrorMap, Indices, Pair
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator


@dataclass(frozen=True)
class View:
    """A test-time augmentation: mirroring and shift.

    Parameters
    ----------
    mirrored : bool
        Left and right swapped.
    rows, columns : int
        Shift in network pixels.
    """

    mirrored: bool
    rows: int
    columns: int

    def apply(self, slices: torch.Tensor) -> torch.Tensor:
        """Mirror and shift slices (n, 1, H, W); -1 comes in at the border."""
        return _shifted(slices.flip(3) if self.mirrored else slices, self.rows, self.columns)

    def invert(self, slices: torch.Tensor) -> torch.Tensor:
        """Undo `apply`, except for what left the image."""
        moved = _shifted(slices, -self.rows, -self.columns)
        return moved.flip(3) if self.mirrored else moved


VIEWS = (View(True, 0, 0), View(False, 3, 2), View(True, -2, 3))
"""No shift is a multiple of 4: generators downsample twice, and are equivariant to shifts by 4."""


@dataclass(frozen=True, eq=False)
class Variation(ErrorMap):
    """Differences among translations of the same scan, mirrored and shifted.

    The standard deviation among the result and those of `VIEWS`, in the target's units; ``limits``
    is the range that a result is written in.

    Examples
    --------
    >>> image = MetaTensor(torch.zeros(1, 8, 8, 6))
    >>> found = Variation(image, 41.0, (), 2, units="arbitrary units", limits=(0.0, 4095.0))
    >>> found.name, round(found.share, 3)
    ('variation', 0.01)
    """

    name: ClassVar[str] = "variation"


def variation(
    translator: Translator,
    image: MetaTensor,
    result: MetaTensor,
    prepared: Prepared | None = None,
    *,
    with_map: bool = True,
    progress: Progress = lambda done, of: None,
) -> Variation:
    """Translate a scan again, mirrored and shifted, and measure how the result changes.

    Parameters
    ----------
    translator : Translator
        The model that made the result.
    image : MetaTensor (1, X, Y, Z)
        The scan, in physical units.
    result : MetaTensor (1, X, Y, Z)
        Its translation, in the target's units on the scan's grid.
    prepared : Prepared, optional
        As `cycle_error`.
    with_map : bool
        Whether the map is wanted beside the figures; without it, the result's map is empty.
    progress : function
        Called with the slices done and the slices in all.

    Raises
    ------
    MedTranslateError
        If the scan cannot be prepared (`Translator.prepare`).
    ValueError
        If image and result differ in shape.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> translator = Translator.load(device="cpu")
    >>> scan = Phantom(shape=(64, 64, 1), spacing=(3.0, 3.0, 20.0)).volume()
    >>> found = variation(translator, scan, translator.translate(scan, to="mri"))
    >>> found.units, 0 < found.share < 0.2
    ('arbitrary units', True)
    """
    pair = Pair.of(translator, image, result, prepared)

    def deviation(chosen: Indices) -> torch.Tensor:
        source, head = pair.source_slices(chosen), pair.prepared.head[chosen][:, None]
        results = [pair.result_slices(chosen)]
        for view in VIEWS:
            made = translator.translate_slices(view.apply(source), to=pair.to, in_window=True)
            stayed = view.invert(view.apply(torch.ones_like(source))) > 0
            results.append(torch.where(stayed & head, view.invert(made), results[0]))
        return torch.stack(results).std(dim=0, correction=0)

    return Variation.measure(
        pair,
        image,
        deviation,
        lambda planes: planes.clamp_(min=0),  # resampling overshoots at edges
        limits=pair.shown,
        units=pair.written_units,
        batch=translator.device.batch,
        with_map=with_map,
        progress=progress,
    )


def _shifted(slices: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Shift slices down and to the right; -1 comes in."""
    return F.pad(slices, (columns, -columns, rows, -rows), value=-1)
