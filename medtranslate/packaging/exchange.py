"""A generator as TorchScript or ONNX, with how far its picture is from the network's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from medtranslate.bundle import Bundle
from medtranslate.errors import OutputFailed
from medtranslate.files import whole_file
from medtranslate.modality import Modality
from medtranslate.packaging.onnx_torchscript import exchange_format, exchange_words
from medtranslate.packaging.reference import (
    GREY_LEVELS,
    phantom_kind,
    phantom_scan,
    reference_translator,
)

_MOST = 1.0  # grey levels: beyond that it is another picture


@dataclass(frozen=True)
class Difference:
    """How far a file's picture of the phantom is from the network's, in grey levels of 255.

    Parameters
    ----------
    largest, mean : float
        Absolute, over all pixels of all slices.
    slices : int
        How many.
    """

    largest: float
    mean: float
    slices: int


def export_network(
    bundle: Bundle, to: str, path: str | Path, *, overwrite: bool = False
) -> Difference:
    """Write one generator as TorchScript (``.ts``) or ONNX (``.onnx``), run it, and compare.

    Parameters
    ----------
    bundle : Bundle
        The model.
    to : str
        Which generator: ``"mri"`` or ``"ct"``.
    path : path
        The file to write; its suffix is the format. Weights are float32.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Difference
        On the slices of the phantom that `phantom_scan` makes, one at a time and so in another
        batch than the one that was written from.

    Raises
    ------
    ModelUnusable
        If the bundle makes no such target.
    OutputExists, OutputFailed
        If the file exists, cannot be written, has another suffix, or gives another picture than
        the network by more than a grey level; nothing is left behind.
    """
    path = Path(path)
    form = exchange_format(path)
    network = bundle.generator(to).network
    slices = _phantom_slices(bundle, to)
    with whole_file(path, overwrite=overwrite) as temporary:
        form.write(network, slices[:2], temporary, exchange_words(bundle, to))
        made = torch.cat([form.run(temporary, each[None]) for each in slices])
        with torch.inference_mode():
            levels = (made - network(slices)).abs() * (GREY_LEVELS / 2)
        difference = Difference(float(levels.max()), float(levels.mean()), len(slices))
        if not difference.largest <= _MOST:
            fault = f"the file gives another picture, by {difference.largest:.1f} grey levels"
            raise OutputFailed(fault, path=path)
    return difference


def _phantom_slices(bundle: Bundle, to: str) -> torch.Tensor:
    """Prepare the phantom: float32 (N, 1, 256, 256), N at least 2."""
    scan = phantom_scan(Modality.parse(to).other, phantom_kind(bundle, to))
    translator = reference_translator(bundle)
    _, prepared = translator.prepare(scan, scan.meta["source"], to)
    slices = prepared.slices
    # A picture is one slice; its mirror image is another.
    return slices if len(slices) > 1 else torch.cat([slices, slices.flip(-1)])
