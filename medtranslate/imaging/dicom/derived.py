"""A derived series in the making: what its instances share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from pydicom.dataset import Dataset

from medtranslate.imaging.dicom.uids import UidMaker
from medtranslate.imaging.dicom.words import PixelWords

SOFTWARE = f"medtranslate {version('medtranslate')}"


@dataclass(frozen=True)
class Series:
    """A derived series in the making: what its instances share, and their pixels.

    Parameters
    ----------
    target : str
        ``"CT"`` or ``"MR"``.
    synthesis, header : dict
        ``meta["synthesis"]`` and ``meta["source"]["header"]``.
    source : pydicom.Dataset
        The carried attributes of the source series.
    copied : pydicom.Dataset
        Those that stand in the derived one.
    pixels : PixelWords
        The stored values of each slice.
    digests : list of str
        SHA-256 of the stored values of each slice.
    window : tuple of float
        Centre and width to display.
    padded : bool
        Whether part of the source was not imaged.
    uids : UidMaker
        Makes the new UIDs.
    uid : str
        SeriesInstanceUID.
    now : datetime
        When the series is made.
    notes : tuple of str
        What was added or mended, a sentence each.
    """

    target: str
    synthesis: dict[str, Any]
    header: dict[str, Any]
    source: Dataset
    copied: Dataset
    pixels: PixelWords
    digests: list[str]
    window: tuple[float, float]
    padded: bool
    uids: UidMaker
    uid: str
    now: datetime
    notes: tuple[str, ...]
