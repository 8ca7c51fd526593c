"""One record a slice: position, units and what the derived series copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom.attributes import SLICE_ATTRIBUTES
from medtranslate.imaging.dicom.encoding import Encoding, read_encoding
from medtranslate.imaging.dicom.files import Parsed
from medtranslate.imaging.dicom.values import decimals, first, parse_decimals, shown, text, whole

SINGLE_FRAME: dict[str, str] = {CTImageStorage: "CT", MRImageStorage: "MR"}
"""Storage classes with one slice a file, PS3.3 A.3 and A.4, and their modality."""

MULTI_FRAME: dict[str, str] = {
    EnhancedCTImageStorage: "CT",
    EnhancedMRImageStorage: "MR",
    LegacyConvertedEnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedMRImageStorage: "MR",
}
"""Storage classes with functional groups, PS3.3 A.36, A.38, A.70 and A.71."""

TELLING_APART = (
    "EchoNumbers",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "DiffusionBValue",
    "ContrastBolusAgent",
    "AcquisitionNumber",
    "ConvolutionKernel",
    "KVP",
    "ReconstructionDiameter",
    "ImageType",
    "SequenceName",
    "AcquisitionTime",
    "ContentTime",
)
"""What can tell slices at one position apart, most telling first."""


@dataclass(frozen=True)
class Slice:
    """One slice: a single-frame file, or a frame of a multi-frame one.

    Parameters
    ----------
    path : path
        Its file.
    frame : int
        Its frame number, from 1; 0 for a single-frame file.
    instance, sop_class : str
        SOPInstanceUID and SOPClassUID of its file.
    position : tuple of float
        ImagePositionPatient (x, y, z), mm, LPS.
    orientation : tuple of float
        ImageOrientationPatient: direction of increasing column, then of increasing row.
    spacing : tuple of float
        PixelSpacing: between rows, then between columns, mm.
    slope, intercept : float
        Of the modality rescale.
    padding : tuple of int or None
        Lowest and highest stored value that stand for no image.
    attributes : dict
        The per-slice attributes that the derived series copies, as strings.
    telling : dict
        What could tell it apart from another slice at the same position, as strings.
    encoding : Encoding
        How its pixels are stored.
    """

    path: Path
    frame: int
    instance: str
    sop_class: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    attributes: dict[str, str]
    telling: dict[str, str]
    encoding: Encoding


def single_frame(parsed: Parsed) -> list[Slice]:
    """Give the one slice of a CT or MR Image Storage instance."""
    dataset = parsed.dataset
    modality = SINGLE_FRAME[first(dataset, "SOPClassUID")]
    encoding = read_encoding(parsed)
    if encoding.allocated != 16:
        raise Unsupported(f"BitsAllocated is {encoding.allocated}; {modality} images have 16")
    if encoding.frames != 1:
        raise Unsupported(f"NumberOfFrames is {encoding.frames} in a single-frame image")
    require(dataset, "PatientPosition")
    slope, intercept = rescale(
        modality,
        text(dataset, "RescaleSlope"),
        text(dataset, "RescaleIntercept"),
        first(dataset, "RescaleType"),
    )
    if "ModalityLUTSequence" in dataset:
        raise Unsupported("a ModalityLUTSequence, not a rescale, gives the units")
    return [
        Slice(
            path=parsed.path,
            frame=0,
            instance=first(dataset, "SOPInstanceUID"),
            sop_class=first(dataset, "SOPClassUID"),
            position=required_decimals(dataset, "ImagePositionPatient", 3),
            orientation=required_decimals(dataset, "ImageOrientationPatient", 6),
            spacing=required_decimals(dataset, "PixelSpacing", 2),
            slope=slope,
            intercept=intercept,
            padding=padding(dataset, encoding),
            attributes=slice_attributes(dataset),
            telling={key: text(dataset, key) for key in TELLING_APART if key in dataset},
            encoding=encoding,
        )
    ]


def require(dataset: Dataset, keyword: str) -> None:
    """Refuse a data set that lacks an attribute, naming it.

    Raises
    ------
    Unsupported
        It is absent or empty.
    """
    if not text(dataset, keyword):
        raise Unsupported(f"{keyword} is missing")


def required_decimals(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Give the numbers of an attribute that geometry cannot do without.

    Raises
    ------
    Unsupported
        It is absent or empty.
    Unreadable
        It does not hold `count` numbers.
    """
    numbers = decimals(dataset, keyword, count)
    if not numbers:
        raise Unsupported(f"{keyword} is missing")
    return numbers


def slice_attributes(dataset: Dataset) -> dict[str, str]:
    """Give the per-slice attributes that a data set has, as the strings it holds."""
    return {key: text(dataset, key) for key in SLICE_ATTRIBUTES if text(dataset, key)}


def rescale(modality: str, slope: str, intercept: str, kind: str) -> tuple[float, float]:
    """Give slope and intercept of the modality rescale, PS3.3 C.11.1.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"``.
    slope, intercept, kind : str
        RescaleSlope, RescaleIntercept and RescaleType as stored, ``""`` where absent.

    Raises
    ------
    Unsupported
        A CT without a rescale to HU, or a slope of zero.
    """
    if modality == "CT" and kind not in ("", "HU"):
        raise Unsupported(f"RescaleType is {shown(kind)}, not HU")
    for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if modality == "CT" and not value:
            raise Unsupported(f"{keyword} is missing")
    (factor,) = parse_decimals(slope or "1", "RescaleSlope", 1)
    (offset,) = parse_decimals(intercept or "0", "RescaleIntercept", 1)
    if factor == 0:
        raise Unsupported("RescaleSlope is 0")
    if max(abs(factor), abs(offset)) > 1e9:
        raise Unsupported(f"RescaleSlope {factor:g} or RescaleIntercept {offset:g} is absurd")
    return factor, offset


def padding(dataset: Dataset, encoding: Encoding) -> tuple[int, int] | None:
    """Give the lowest and highest stored value that stand for no image, PS3.3 C.7.5.1.1.2."""
    value = stored_value(dataset, "PixelPaddingValue", encoding)
    if value is None:
        return None
    limit = stored_value(dataset, "PixelPaddingRangeLimit", encoding)
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def stored_value(dataset: Dataset, keyword: str, encoding: Encoding) -> int | None:
    """Give an attribute whose sign is that of the pixels (VR ``US or SS``)."""
    value = whole(dataset, keyword)
    if value is None:
        return None
    # Writers take either VR for either sign; PixelRepresentation decides.
    half = 1 << (encoding.allocated - 1)
    unsigned = value & (2 * half - 1)
    return unsigned - 2 * half if encoding.signed and unsigned >= half else unsigned
