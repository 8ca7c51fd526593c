"""What an image says of itself, and what its user says of it."""

from __future__ import annotations

from typing import Any

from monai.data import MetaTensor

from medtranslate.imaging.guess_modality import guess_volume
from medtranslate.imaging.source import array_source, check_modality


def source_of(image: MetaTensor, modality: str = "") -> dict[str, Any]:
    """Return the image's source record, made up for an image without one.

    Parameters
    ----------
    image : MetaTensor (1, X, Y, Z)
        With or without ``meta["source"]``.
    modality : str
        ``"CT"`` or ``"MR"`` settles it over what the source says.

    Returns
    -------
    dict
        A copy; ``docs/architecture.md`` has the keys.
    """
    source = dict(image.meta.get("source") or _from_array(image))
    if given := check_modality(modality):
        source |= {"modality": given, "modality_basis": "given"}
    return source


def _from_array(image: MetaTensor) -> dict[str, Any]:
    guess, basis = guess_volume(image.as_tensor()[0].detach().cpu().float().numpy())
    return array_source(image, modality=guess, basis=basis)
