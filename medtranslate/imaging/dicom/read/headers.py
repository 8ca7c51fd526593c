"""One record a file and one a slice: all that is ever asked of a header, read once.

After this nothing of pydicom's data sets is kept, so a series of a thousand slices costs a few
megabytes.

A multi-frame CT or MR has one slice a frame, geometry and units from the functional groups.
PS3.3 C.7.6.16: an attribute of a frame stands in an item of its macro's sequence, either in the
frame's own item of PerFrameFunctionalGroupsSequence or, where all frames agree, in
SharedFunctionalGroupsSequence.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported
from medtranslate.imaging.contrast import STATING, of_header
from medtranslate.imaging.dicom.attributes import SLICE_ATTRIBUTES, Kept, kept
from medtranslate.imaging.dicom.read.encoding import (
    Encoding,
    check_whole,
    padding,
    read_encoding,
)
from medtranslate.imaging.dicom.read.files import Parsed, damage_named, parse
from medtranslate.imaging.dicom.read.values import (
    first,
    items,
    required_decimals,
    rescale,
    shown,
    text,
)

UID_CHARACTERS = re.compile(r"[0-9.]{1,64}")
"""What a UID is made of, PS3.5 9.1; the finer rules are broken too often to refuse by."""


@dataclass(frozen=True)
class Header:
    """What one file says.

    Parameters
    ----------
    path : path
        The file.
    sop_class, instance, study, series, frame_of_reference, patient : str
        UIDs, and PatientID.
    modality, description, image_type : str
        As stored; `image_type` with backslashes.
    synthetic : bool
        SyntheticData is YES.
    tiled : bool
        Its image is a sheet of tiled slices (see `is_tiled`).
    notes : tuple of str
        What is unusual about the file, a sentence each.
    contrast : (contrast, basis)
        Of an MR, as `imaging.contrast.of_header` gives it.
    kept : dict
        The series-wide attributes that the derived series copies (see `carry`).
    slices : tuple of Slice
        Empty where `error` says why.
    error : MedTranslateError or None
        Why it cannot be a slice of a volume, though it is an image of its series.
    """

    path: Path
    sop_class: str
    instance: str
    study: str
    series: str
    frame_of_reference: str
    patient: str
    modality: str
    description: str
    image_type: str
    synthetic: bool
    tiled: bool
    notes: tuple[str, ...]
    contrast: tuple[str, str]
    kept: Kept
    slices: tuple[Slice, ...] = ()
    error: MedTranslateError | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is a CT or MR image object, whole or not."""
        return self.sop_class in SINGLE_FRAME or self.sop_class in MULTI_FRAME


def read_header(path: Path) -> Header:
    """Read the header of one file.

    Raises
    ------
    InputMissing, Unreadable, UntrustedInput
        The file as a whole cannot be used; what is wrong with a slice of a readable series is
        kept in `Header.error` instead.
    """
    parsed = parse(path)
    with damage_named(path):
        return _header(parsed)


def _header(parsed: Parsed) -> Header:
    path, dataset = parsed.path, parsed.dataset
    sop_class = first(dataset, "SOPClassUID")
    if not sop_class:
        raise Unreadable("is damaged: it has no SOPClassUID", path=path)
    slices: tuple[Slice, ...] = ()
    error: MedTranslateError | None = None
    notes = [parsed.note] if parsed.note else []
    of_class = (SINGLE_FRAME | MULTI_FRAME).get(sop_class, "")
    tiled = is_tiled(dataset, sop_class)
    if of_class:
        check_whole(parsed)
    if of_class and not tiled:
        notes += _absent(dataset)
        try:
            with damage_named(path):
                check_identity(parsed, of_class)
                read = frames if sop_class in MULTI_FRAME else single_frame
                slices = tuple(read(parsed))
        except MedTranslateError as refusal:
            error = refusal
    return Header(
        path=path,
        sop_class=sop_class,
        instance=first(dataset, "SOPInstanceUID"),
        study=first(dataset, "StudyInstanceUID"),
        series=shown(first(dataset, "SeriesInstanceUID")),
        frame_of_reference=first(dataset, "FrameOfReferenceUID"),
        patient=text(dataset, "PatientID"),
        modality=shown(first(dataset, "Modality")) or of_class,
        description=_decoded(dataset, "SeriesDescription"),
        image_type=text(dataset, "ImageType"),
        synthetic=first(dataset, "SyntheticData") == "YES",
        tiled=tiled,
        notes=tuple(notes),
        contrast=_contrast(dataset) if of_class == "MR" else ("", ""),
        kept=kept(dataset) if of_class else {},
        slices=slices,
        error=error,
    )


def _contrast(dataset: Dataset) -> tuple[str, str]:
    try:
        said = {key: text(dataset, key) for key in STATING}
        # Multi-frame images name the agent in a sequence, PS3.3 C.7.6.4b.
        agents = items(dataset, "ContrastBolusAgentSequence")
        if agents and not said["ContrastBolusAgent"]:
            said["ContrastBolusAgent"] = text(agents[0], "CodeMeaning") or "unnamed"
        return of_header(said)
    except Unreadable:  # a damaged value that nothing depends on states nothing
        return "", ""


def _absent(dataset: Dataset) -> list[str]:
    """Say what an image lacks that the standard asks for, though nothing here depends on it."""
    position = "PatientOrientationCodeSequence" in dataset or text(dataset, "PatientPosition")
    absent = {
        "Modality is missing: the storage class tells it": not first(dataset, "Modality"),
        "PatientPosition is missing: position and orientation place the slices": not position,
    }
    return [note for note, missing in absent.items() if missing]


def is_tiled(dataset: Dataset, sop_class: str) -> bool:
    """Say whether a single-frame image is a sheet of tiled slices: a Siemens mosaic, a UIH grid.

    ImageType says so, or where that was taken out, a private count of tiles.
    """
    if sop_class not in SINGLE_FRAME:
        return False
    if "MOSAIC" in text(dataset, "ImageType").split("\\"):
        return True
    if sop_class != MRImageStorage:
        return False
    creators = [
        tag
        for tag in dataset.keys()  # noqa: SIM118
        if tag >> 16 in _TILES and 0x10 <= tag & 0xFFFF <= 0xFF
    ]
    for tag in creators:
        for name, element, search in _TILES[tag.group]:
            value = dataset.get_item(tag.group << 16 | tag.elem << 8 | element)
            if _raw(dataset.get_item(tag)) == name and value is not None:
                count = search.search(_raw(value))
                if count and int(count[1]) > 1:
                    return True
    return False


def _raw(element: Any) -> bytes:
    """Give the bytes of an element; of a binary number of 2 bytes, its digits."""
    value = element.value if isinstance(element.value, bytes) else str(element.value).encode()
    if len(value) == 2 and value.strip(b" 0123456789"):
        return str(int.from_bytes(value, "little")).encode()
    return bytes(value.strip(b" \0"))


_TILES: dict[int, list[tuple[bytes, int, re.Pattern[bytes]]]] = {
    # NumberOfImagesInMosaic in binary; the CSA header has it as a named tag: 84 bytes of name and
    # type, 16 of lengths, then the digits.
    0x0019: [(b"SIEMENS MR HEADER", 0x0A, re.compile(rb"^(\d+)"))],
    0x0029: [
        (
            b"SIEMENS CSA HEADER",
            0x10,
            re.compile(rb"NumberOfImagesInMosaic\0.{77} *(\d+)", re.DOTALL),
        )
    ],
    0x0065: [(b"Image Private Header", 0x50, re.compile(rb"^(\d+)"))],
}
"""By private group: the creator, and which of its elements counts the tiles of a sheet."""


def _decoded(dataset: Dataset, keyword: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return shown(str(dataset.get(keyword, "") or ""))
        except Exception:
            # A description is only shown, so one in a broken character set is shown as bytes.
            return shown(text(dataset, keyword))


def check_identity(parsed: Parsed, modality: str) -> None:
    """Refuse an image without the UIDs that a derived series must refer to.

    Raises
    ------
    Unreadable
        SOPInstanceUID, StudyInstanceUID or SeriesInstanceUID is missing or no UID.
    Unsupported
        Modality says something else than the SOP class.
    """
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = first(parsed.dataset, keyword)
        if not uid:
            raise Unreadable(f"has no {keyword}")
        if not UID_CHARACTERS.fullmatch(uid):
            raise Unreadable(f"{keyword} is no UID: {shown(uid)!r}")
    said = first(parsed.dataset, "Modality")
    if said not in ("", modality):
        raise Unsupported(f"Modality is {said}, but its SOP class is that of {modality}")


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


WIDEST_MR = 700.0
"""Field of view that no MR scanner has in both directions of a slice, mm: bores end at 700."""


def single_frame(parsed: Parsed) -> list[Slice]:
    """Give the one slice of a CT or MR Image Storage instance."""
    dataset = parsed.dataset
    modality = SINGLE_FRAME[first(dataset, "SOPClassUID")]
    encoding = read_encoding(parsed)
    if encoding.allocated != 16:
        raise Unsupported(f"BitsAllocated is {encoding.allocated}; {modality} images have 16")
    if encoding.frames != 1:
        raise Unsupported(f"NumberOfFrames is {encoding.frames} in a single-frame image")
    if "ModalityLUTSequence" in dataset:
        raise Unsupported("a ModalityLUTSequence, not a rescale, gives the units")
    telling = {key: text(dataset, key) for key in TELLING_APART if key in dataset}
    groups = _Groups(dataset, dataset, dataset, dataset)
    one = _slice(parsed, encoding, modality, 0, groups, slice_attributes(dataset), telling)
    field = (encoding.rows * one.spacing[0], encoding.columns * one.spacing[1])
    if modality == "MR" and min(field) > WIDEST_MR:
        raise Unsupported(
            f"covers {field[1]:.0f} x {field[0]:.0f} mm, more than any scanner: "
            "a sheet of tiled slices, or a wrong PixelSpacing"
        )
    return [one]


class _Groups(NamedTuple):
    """Where geometry and units of a slice are: functional groups, or the data set itself."""

    position: Dataset
    orientation: Dataset
    measures: Dataset
    units: Dataset


def _slice(
    parsed: Parsed,
    encoding: Encoding,
    modality: str,
    frame: int,
    groups: _Groups,
    attributes: dict[str, str],
    telling: dict[str, str],
) -> Slice:
    slope, intercept = rescale(
        modality,
        text(groups.units, "RescaleSlope"),
        text(groups.units, "RescaleIntercept"),
        first(groups.units, "RescaleType") if modality == "CT" else "",
    )
    return Slice(
        path=parsed.path,
        frame=frame,
        instance=first(parsed.dataset, "SOPInstanceUID"),
        sop_class=first(parsed.dataset, "SOPClassUID"),
        position=required_decimals(groups.position, "ImagePositionPatient", 3),
        orientation=required_decimals(groups.orientation, "ImageOrientationPatient", 6),
        spacing=required_decimals(groups.measures, "PixelSpacing", 2),
        slope=slope,
        intercept=intercept,
        padding=padding(parsed.dataset, encoding),
        attributes=attributes,
        telling=telling,
        encoding=encoding,
    )


def slice_attributes(dataset: Dataset) -> dict[str, str]:
    """Give the per-slice attributes that a data set has, as the strings it holds."""
    return {key: value for key in SLICE_ATTRIBUTES if (value := text(dataset, key))}


POSITION = "PlanePositionSequence"
"""C.7.6.16.2.3"""
ORIENTATION = "PlaneOrientationSequence"
"""C.7.6.16.2.4"""
MEASURES = "PixelMeasuresSequence"
"""C.7.6.16.2.1"""
TRANSFORMATION = "PixelValueTransformationSequence"
"""C.7.6.16.2.9"""

FRAME_TYPES = {"CT": "CTImageFrameTypeSequence", "MR": "MRImageFrameTypeSequence"}
"""C.8.15.3.1 and C.8.13.5.1"""

TELLING_FRAMES_APART = (
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("CTReconstructionSequence", "ConvolutionKernel"),
    ("CTXRayDetailsSequence", "KVP"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
    ("FrameContentSequence", "StackID"),
    ("FrameContentSequence", "FrameAcquisitionDateTime"),
)
"""What can tell frames at one position apart: sequence and attribute, most telling first."""


def frames(parsed: Parsed) -> list[Slice]:
    """Give one slice for each frame of an enhanced or legacy converted image.

    Raises
    ------
    Unsupported
        A frame lacks what geometry or units need.
    Unreadable
        The functional groups do not match NumberOfFrames, or are damaged.
    UntrustedInput
        Absurd sizes.
    """
    dataset = parsed.dataset
    encoding = read_encoding(parsed)
    shared_items = items(dataset, "SharedFunctionalGroupsSequence")
    shared = shared_items[0] if shared_items else Dataset()
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(per_frame) != encoding.frames:
        raise Unreadable(
            f"NumberOfFrames is {encoding.frames}, but {len(per_frame)} frames are described"
        )
    modality = MULTI_FRAME[first(dataset, "SOPClassUID")]
    slices = []
    for number, own in enumerate(per_frame, start=1):
        groups = _Groups(
            _group(own, shared, POSITION, number),
            _group(own, shared, ORIENTATION, number),
            _group(own, shared, MEASURES, number),
            _units(own, shared),
        )
        attributes = slice_attributes(dataset)
        for group in groups[:3]:
            attributes |= slice_attributes(group)
        telling = _telling(own, shared, modality)
        slices.append(_slice(parsed, encoding, modality, number, groups, attributes, telling))
    return slices


def _group(own: Dataset, shared: Dataset, macro: str, number: int) -> Dataset:
    found = items(own, macro) or items(shared, macro)
    if not found:
        raise Unsupported(f"{macro} is missing for frame {number}")
    return found[0]


def _units(own: Dataset, shared: Dataset) -> Dataset:
    """Give the item that holds the rescale; an MR image may do without one."""
    found = items(own, TRANSFORMATION) or items(shared, TRANSFORMATION)
    return found[0] if found else Dataset()


def _telling(own: Dataset, shared: Dataset, modality: str) -> dict[str, str]:
    values = {}
    for macro, keyword in (*TELLING_FRAMES_APART, (FRAME_TYPES[modality], "FrameType")):
        found = items(own, macro) or items(shared, macro)
        if found and keyword in found[0]:
            element = found[0][keyword]
            values[keyword] = str(element.value)
    return values
