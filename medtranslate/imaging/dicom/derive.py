"""One data set for each slice of a derived series, by the rules of `attributes`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
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

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom.attributes import EQUIPMENT, RULES
from medtranslate.imaging.dicom.carry import from_text
from medtranslate.imaging.dicom.repair import copy_series, mend_slice
from medtranslate.imaging.dicom.uids import UidMaker, basis_of
from medtranslate.imaging.dicom.words import PixelWords

SOFTWARE = f"medtranslate {version('medtranslate')}"
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


def derive(image: MetaTensor, source: dict[str, Any], uid_seed: str = "") -> Series:
    """Prepare the derived series of a translated image.

    Parameters
    ----------
    image : MetaTensor
        Float32 (1, X, Y, Z): HU for CT, arbitrary units from 0 for MR; ``meta["synthesis"]`` set.
    source : dict
        ``meta["source"]`` of a DICOM series on the same grid.
    uid_seed : str
        ``""`` for new UIDs each time; see `UidMaker`.

    Raises
    ------
    Unsupported
        The image was not translated, does not fit the source's slices, or holds values that do
        not fit 16 bits.
    """
    synthesis = getattr(image, "meta", {}).get("synthesis")
    if not synthesis:
        raise Unsupported("only a translated image is written as a derived DICOM series")
    header, target = source["header"], synthesis["modality"]
    slices = header.get("slices", ())
    if "shared" not in header or len(slices) != image.shape[3]:
        raise Unsupported(
            "the image has no DICOM series on the same slices to be derived from",
            remedy="give that series with --template, or write NIfTI",
        )
    voxels = np.asarray(torch.as_tensor(image.detach().cpu()).as_subclass(torch.Tensor)[0])
    pixels = PixelWords(voxels, [one["padding"] for one in slices], synthesis)
    digests, highest = [], 1
    for index in range(len(slices)):
        words = pixels.of(index)
        digests.append(hashlib.sha256(words.tobytes()).hexdigest())
        highest = max(highest, int(words.max()))
    seed = uid_seed or str((synthesis.get("options") or {}).get("uid_seed", ""))
    uids = UidMaker(seed, basis_of(synthesis, SOFTWARE))
    carried = from_text(header["shared"])
    copied = copy_series(carried, target, uids.make("frame of reference", header["series"]))
    return Series(
        target=target,
        synthesis=synthesis,
        header=header,
        source=carried,
        copied=copied.dataset,
        pixels=pixels,
        digests=digests,
        window=display_window(highest, synthesis),
        padded=any(one["padding"] for one in slices),
        uids=uids,
        uid=uids.make("series", *(one["instance"] for one in slices), *digests),
        now=_now(str(carried.get("TimezoneOffsetFromUTC", "") or "")),
        notes=(*copied.notes, *_slice_notes(slices)),
    )


def repairs(image: MetaTensor, source: dict[str, Any] | None = None) -> list[str]:
    """Say what the derived series adds to or mends of its source's attributes.

    Parameters
    ----------
    image : MetaTensor
        As for `derive`.
    source : dict, optional
        ``meta["source"]`` to derive from; the image's own by default.

    Raises
    ------
    Unsupported
        As `derive`.
    """
    return list(derive(image, source or image.meta["source"]).notes)


def display_window(highest: int, synthesis: dict[str, Any]) -> tuple[float, float]:
    """Give centre and width to display: the model's window, else what the values span.

    Parameters
    ----------
    highest : int
        The largest stored value of the series.
    synthesis : dict
        ``meta["synthesis"]``.
    """
    if synthesis.get("window"):
        low, high = synthesis["window"]
        return (low + high) / 2, high - low
    return (40.0, 400.0) if synthesis["modality"] == "CT" else (highest / 2, highest)


def instance(series: Series, index: int) -> Dataset:
    """Give the data set of one slice, every row of the rules in it.

    Parameters
    ----------
    series : Series
        From `derive`.
    index : int
        The slice, from 0, by position along the normal.
    """
    built = copy.copy(series.copied)
    for rule in RULES:
        if series.target not in rule.targets or rule.origin == "copied":
            continue
        if rule.origin == "computed":
            value = COMPUTED[rule.keyword](series, index)
        elif rule.origin == "slice":
            written = series.header["slices"][index]["attributes"].get(rule.keyword, "")
            value, _ = mend_slice(rule.keyword, written or rule.value)
        else:
            value = rule.value
        if value in (None, "") and rule.kind not in ("2", "2C"):
            continue
        _put(built, rule.keyword, value, series.target)
    return built


def _put(dataset: Dataset, keyword: str, value: Any, target: str) -> None:
    vr, tag = dictionary_VR(keyword), tag_for_keyword(keyword) or 0
    if vr == "US or SS":
        vr = "SS" if target == "CT" else "US"
    elif vr == "OB or OW":
        vr = "OW"
    if vr in ("US", "SS"):
        value = int(value)
    dataset[tag] = DataElement(tag, vr, value)


def _slice_notes(slices: list[dict[str, Any]]) -> list[str]:
    notes: dict[str, int] = {}
    for record in slices:
        for keyword, written in record["attributes"].items():
            note = mend_slice(keyword, written)[1]
            if note:
                notes[note.split(":")[0]] = notes.get(note.split(":")[0], 0) + 1
    told = [
        f"{keyword}: not as the standard writes it, mended in {count} slices"
        for keyword, count in notes.items()
    ]
    bare = sum("SliceThickness" not in record["attributes"] for record in slices)
    if bare:
        told.append(f"SliceThickness is missing in {bare} slices: written empty (type 2)")
    return told


def _now(offset: str) -> datetime:
    """Give the time in the zone that the source's times are in, that of this machine if unsaid."""
    try:
        sign = -1 if offset.startswith("-") else 1
        hours, minutes = int(offset[1:3]), int(offset[3:5])
        zone = timezone(sign * timedelta(hours=hours, minutes=minutes))
    except ValueError:
        return datetime.now().astimezone()
    return datetime.now(zone)


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
    return f"SYNTHETIC {series.target}, NOT FOR DIAGNOSIS"


def _derivation(series: Series) -> str:
    made = series.synthesis
    text = (
        f"{made['label']}. Image-to-image translation by {SOFTWARE}, model {made['model']} "
        f"{made['version']}, weights SHA-256 {made['weights_sha256']}. "
    )
    if series.target == "MR":
        text += "Values are in arbitrary units, no acquisition parameters apply. "
    elif made.get("window"):
        low, high = made["window"]
        text += (
            f"Clipped to {low:g}..{high:g} HU: {high:g} means {high:g} HU or more, {low:g} means "
            f"{low:g} HU or less. Not for dose, attenuation or bone. "
        )
    return ascii_text(f"{text}Background is {made['background']:g}.", 1024)


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
