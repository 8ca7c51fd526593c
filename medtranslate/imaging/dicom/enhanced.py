"""Multi-frame CT and MR: one slice a frame, geometry and units from the functional groups.

PS3.3 C.7.6.16: an attribute of a frame stands in an item of its macro's sequence, either in the
frame's own item of PerFrameFunctionalGroupsSequence or, where all frames agree, in
SharedFunctionalGroupsSequence.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging.dicom.encoding import read_encoding
from medtranslate.imaging.dicom.files import Parsed
from medtranslate.imaging.dicom.slices import (
    MULTI_FRAME,
    Slice,
    padding,
    require,
    required_decimals,
    rescale,
    slice_attributes,
)
from medtranslate.imaging.dicom.values import first, items, text

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

TELLING_APART = (
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
    require(dataset, "PatientPosition")
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
        measures = _group(own, shared, MEASURES, number)
        orientation = _group(own, shared, ORIENTATION, number)
        place = _group(own, shared, POSITION, number)
        units = _units(own, shared)
        slope, intercept = rescale(
            modality,
            text(units, "RescaleSlope"),
            text(units, "RescaleIntercept"),
            first(units, "RescaleType") if modality == "CT" else "",
        )
        attributes = slice_attributes(dataset)
        for group in (measures, orientation, place):
            attributes |= slice_attributes(group)
        slices.append(
            Slice(
                path=parsed.path,
                frame=number,
                instance=first(dataset, "SOPInstanceUID"),
                sop_class=first(dataset, "SOPClassUID"),
                position=required_decimals(place, "ImagePositionPatient", 3),
                orientation=required_decimals(orientation, "ImageOrientationPatient", 6),
                spacing=required_decimals(measures, "PixelSpacing", 2),
                slope=slope,
                intercept=intercept,
                padding=padding(dataset, encoding),
                attributes=attributes,
                telling=_telling(own, shared, modality),
                encoding=encoding,
            )
        )
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
    told = {}
    for macro, keyword in (*TELLING_APART, (FRAME_TYPES[modality], "FrameType")):
        found = items(own, macro) or items(shared, macro)
        if found and keyword in found[0]:
            element = found[0][keyword]
            told[keyword] = str(element.value)
    return told
