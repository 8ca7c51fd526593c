"""The computed attributes of a derived series, one function a rule; see ``attributes``.

`Series` is what the functions are given; `UidMaker` makes UIDs at random, or from a hash that gives
a pipeline the same ones again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    CTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MRImageStorage,
)

from medtranslate.imaging.dicom.attributes import EQUIPMENT
from medtranslate.imaging.dicom.derive.stored_values import PixelWords

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
        Center and width to display.
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


@dataclass(frozen=True)
class UidMaker:
    """Makes UIDs under 2.25, PS3.5 B.2.

    Parameters
    ----------
    seed : str
        ``""``: new UIDs each time. Else a UID is a hash of the seed and of everything that the
        pixels depend on, and of the pixels themselves, so that different pixels never share one.
    basis : str
        What all UIDs of a series depend on beside the seed, from `basis_of`.
    """

    seed: str
    basis: str

    def make(self, purpose: str, *parts: str) -> str:
        """Give one UID.

        Parameters
        ----------
        purpose : str
            ``"series"``, ``"instance"`` or ``"frame of reference"``.
        *parts : str
            What tells it apart from others of its purpose.
        """
        if not self.seed:
            return f"2.25.{uuid.uuid4().int}"
        key = json.dumps([self.seed, self.basis, purpose, *parts]).encode()
        digest = hashlib.sha256(key).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def basis_of(synthesis: Mapping[str, Any], software: str) -> str:
    """Give what all UIDs of a derived series depend on: target, model, weights, options, software.

    Parameters
    ----------
    synthesis : mapping
        ``meta["synthesis"]``.
    software : str
        Name and version of this program.
    """
    keys = ("modality", "model", "version", "weights_sha256", "window", "range", "grain", "options")
    recorded = {key: synthesis.get(key) for key in keys}
    return json.dumps([software, recorded], sort_keys=True, default=str)


STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}

LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
"""LossyImageCompressionMethod by transfer syntax, PS3.3 C.7.6.1.1.5.1."""

SERIES_OFFSET = 9000
"""Added to the source's SeriesNumber, so that derived series are listed behind acquired ones."""


def ascii_text(written: object, longest: int = 64) -> str:
    """Give a text in the default repertoire, which every SpecificCharacterSet can write."""
    plain = str(written).encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return "".join(c for c in plain if c.isprintable())[:longest].strip()


def _code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return [code]


def _series_description(series: Series) -> str:
    label = ascii_text(series.synthesis["label"], 1024)
    if len(label) <= 64:
        return label
    contrast = f" {made}" if (made := _contrast(series)) else ""
    return f"SYNTHETIC {series.target}{contrast}, NOT FOR DIAGNOSIS"


def _contrast(series: Series) -> str:
    return str(series.synthesis.get("contrast", "")).upper()


def _derivation(series: Series) -> str:
    made = series.synthesis
    text = (
        f"{made['label']}. Image-to-image translation by {SOFTWARE}, model {made['model']} "
        f"{made['version']}, weights SHA-256 {made['weights_sha256']}. "
    )
    if series.target == "MR":
        text += "Values are in arbitrary units, no acquisition parameters apply. "
        if contrast := _contrast(series):
            text += f"The model was asked for the contrast {contrast}. "
    elif made.get("window"):
        text += f"{_meaning_of_hu(made)} Not for dose, attenuation or bone. "
    if grain := made.get("grain"):
        text += f"Noise with a standard deviation of {grain:g} HU was added. "
    return ascii_text(f"{text}Background is {made['background']:g}.", 1024)


def _meaning_of_hu(made: Mapping[str, Any]) -> str:
    low, high = made["window"]
    ends = made.get("range") or made["window"]
    if ends != made["window"]:
        return (
            f"{ends[0]:g}..{ends[1]:g} HU; what lies outside {low:g}..{high:g} HU was learned from "
            "label maps, not from CT."
        )
    return (
        f"Clipped to {low:g}..{high:g} HU: {high:g} means {high:g} HU or more, {low:g} means "
        f"{low:g} HU or less."
    )


def _reference(series: Series, index: int) -> Dataset:
    record, reference = series.header["slices"][index], Dataset()
    reference.ReferencedSOPClassUID = series.header["sop_class"]
    reference.ReferencedSOPInstanceUID = record["instance"]
    return reference


def _source_image(series: Series, index: int) -> list[Dataset]:
    """Give the reference of C.12.4.1 with the purpose of CID 7202."""
    reference = _reference(series, index)
    frame = series.header["slices"][index]["frame"]
    if frame:
        reference.ReferencedFrameNumber = frame
    reference.PurposeOfReferenceCodeSequence = _code(
        "121322", "DCM", "Source image for image processing operation"
    )
    reference.SpatialLocationsPreserved = "YES"
    return [reference]


def _referenced_series(series: Series, index: int) -> list[Dataset]:
    item = Dataset()
    item.SeriesInstanceUID = series.header["series"]
    item.ReferencedInstanceSequence = [_reference(series, index)]
    return [item]


def _equipment(series: Series, index: int) -> list[Dataset]:
    """Give the scanner and this software, CID 7005."""
    items = []
    if series.source.get("Manufacturer"):
        scanner = Dataset()
        scanner.PurposeOfReferenceCodeSequence = _code("109101", "DCM", "Acquisition Equipment")
        for keyword in EQUIPMENT:
            value = series.source.get(keyword)
            if value:
                setattr(scanner, keyword, value)
        items.append(scanner)
    made, software = series.synthesis, Dataset()
    software.PurposeOfReferenceCodeSequence = _code("109100", "DCM", "Synthesizing Equipment")
    software.Manufacturer = "medtranslate"
    software.ManufacturerModelName = ascii_text(made["model"])
    software.DeviceSerialNumber = ascii_text(made["weights_sha256"])
    software.SoftwareVersions = [SOFTWARE, ascii_text(made["version"])]
    software.ContributionDateTime = series.now.strftime("%Y%m%d%H%M%S.%f")
    software.ContributionDescription = _derivation(series)
    return [*items, software]


def _lossy(record: dict[str, Any]) -> bool:
    said = record["attributes"].get("LossyImageCompression")
    return said == "01" if said else record["transfer_syntax"] in LOSSY_METHODS


def _lossy_ratio(series: Series, index: int) -> str:
    record = series.header["slices"][index]
    if not _lossy(record):
        return ""
    said = record["attributes"].get("LossyImageCompressionRatio", "")
    # Of a file that was lossy before and is not compressed now, only its header knows the ratio.
    return said or (record["ratio"] if record["transfer_syntax"] in LOSSY_METHODS else "")


def _lossy_method(series: Series, index: int) -> str:
    record = series.header["slices"][index]
    if not _lossy(record):
        return ""
    said = record["attributes"].get("LossyImageCompressionMethod", "")
    return said or LOSSY_METHODS.get(record["transfer_syntax"], "")


def _series_number(series: Series) -> int:
    try:
        return SERIES_OFFSET + max(int(str(series.source.get("SeriesNumber", 0) or 0)), 0) % 10**6
    except ValueError:
        return SERIES_OFFSET


def _instance_uid(series: Series, index: int) -> str:
    record = series.header["slices"][index]
    return series.uids.make(
        "instance", series.uid, record["instance"], str(record["frame"]), series.digests[index]
    )


def _date(series: Series, index: int) -> str:
    return series.now.strftime("%Y%m%d")


def _time(series: Series, index: int) -> str:
    return series.now.strftime("%H%M%S.%f")


COMPUTED: dict[str, Callable[[Series, int], Any]] = {
    "Modality": lambda series, index: series.target,
    "SeriesInstanceUID": lambda series, index: series.uid,
    "SeriesNumber": lambda series, index: _series_number(series),
    "SeriesDate": _date,
    "SeriesTime": _time,
    "SeriesDescription": lambda series, index: _series_description(series),
    "ManufacturerModelName": lambda series, index: ascii_text(series.synthesis["model"]),
    "SoftwareVersions": lambda series, index: [SOFTWARE, ascii_text(series.synthesis["version"])],
    "DeviceSerialNumber": lambda series, index: ascii_text(series.synthesis["weights_sha256"]),
    "PixelPaddingValue": lambda s, index: int(s.synthesis["background"]) if s.padded else None,
    "InstanceNumber": lambda series, index: index + 1,
    "ContentDate": _date,
    "ContentTime": _time,
    "LossyImageCompression": lambda s, i: "01" if _lossy(s.header["slices"][i]) else "00",
    "LossyImageCompressionRatio": _lossy_ratio,
    "LossyImageCompressionMethod": _lossy_method,
    "DerivationDescription": lambda series, index: _derivation(series),
    "DerivationCodeSequence": lambda series, index: _code(
        "MEDTRANSLATE-01", "99MEDTRANSLATE", "Image-to-image translation"
    ),
    "SourceImageSequence": _source_image,
    "Rows": lambda series, index: series.pixels.shape[1],
    "Columns": lambda series, index: series.pixels.shape[0],
    "PixelData": lambda series, index: series.pixels.of(index).tobytes(),
    "WindowCenter": lambda series, index: f"{series.window[0]:g}",
    "WindowWidth": lambda series, index: f"{series.window[1]:g}",
    "WindowCenterWidthExplanation": lambda s, i: "BRAIN" if s.synthesis.get("window") else "FULL",
    "SOPClassUID": lambda series, index: STORAGE[series.target],
    "SOPInstanceUID": _instance_uid,
    "InstanceCreationDate": _date,
    "InstanceCreationTime": _time,
    "ContributingEquipmentSequence": _equipment,
    "ReferencedSeriesSequence": _referenced_series,
}
"""How each computed attribute of the rules comes about, for one slice of a series."""
