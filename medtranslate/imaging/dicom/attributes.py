"""What a derived series holds, attribute by attribute, and how attributes of its source get there.

The first part is data, which ``derive`` follows row by row. Sections are those of DICOM PS3.3.
Types are the standard's: 1 present with a value, 2 present but perhaps empty, 3 optional, C on a
condition. An attribute without a row here is not written.

Attributes of a source series travel in ``meta["source"]["header"]`` as base64 of a DICOM data set
in explicit VR little endian. Texts are never decoded on the way: a name in any character set, even
a broken one, stays the bytes that it was.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from medtranslate.errors import UntrustedInput
from medtranslate.imaging.dicom.read.files import LIMITS

Origin = Literal["copied", "slice", "constant", "computed", "empty"]
BOTH = ("CT", "MR")


@dataclass(frozen=True)
class AttributeRule:
    """How one attribute of the derived instance comes about.

    Parameters
    ----------
    keyword : str
        The attribute.
    kind : str
        Its type in the target's IOD: ``"1"``, ``"1C"``, ``"2"``, ``"2C"`` or ``"3"``.
    section : str
        Where PS3.3 defines it.
    origin : str
        ``copied`` from the source series, ``slice``: copied from the source slice, ``constant``,
        ``computed`` by the function of that name in ``derive``, or ``empty``.
    value : str
        Of a constant; of a copied attribute, what repairs its absence.
    targets : tuple of str
        The modalities that have it.
    when : tuple of str
        (keyword, value): the rule applies only where the source has that value, ``"*"`` for any.
    """

    keyword: str
    kind: str
    section: str
    origin: Origin
    value: str = ""
    targets: tuple[str, ...] = BOTH
    when: tuple[str, str] = ("", "")


def _rows(
    origin: Origin, section: str, kinds: str, *, when: tuple[str, str] = ("", "")
) -> list[AttributeRule]:
    """Give rules for ``Keyword/kind`` pairs that share origin and section."""
    pairs = (word.split("/") for word in kinds.split())
    return [AttributeRule(keyword, kind, section, origin, when=when) for keyword, kind in pairs]


_TRIAL = ("ClinicalTrialSponsorName", "*")

RULES: tuple[AttributeRule, ...] = (
    # Patient
    *_rows("copied", "C.12.1.1.2", "SpecificCharacterSet/1C TimezoneOffsetFromUTC/3"),
    *_rows(
        "copied",
        "C.7.1.1",
        """PatientName/2 PatientID/2 IssuerOfPatientID/3 PatientBirthDate/2 PatientSex/2
        PatientBirthTime/3 OtherPatientIDsSequence/3 OtherPatientNames/3 EthnicGroup/3
        PatientComments/3 PatientSpeciesDescription/3 PatientSpeciesCodeSequence/3
        PatientBreedDescription/3 PatientBreedCodeSequence/3 BreedRegistrationSequence/3
        ResponsiblePerson/3 ResponsiblePersonRole/3 ResponsibleOrganization/3
        PatientIdentityRemoved/3 DeidentificationMethodCodeSequence/3""",
    ),
    AttributeRule(
        "DeidentificationMethod",
        "1C",
        "C.7.1.1",
        "copied",
        "not stated by the source",
        when=("PatientIdentityRemoved", "YES"),
    ),
    # Clinical Trial Subject and Study, where the source has them
    *_rows(
        "copied",
        "C.7.1.3",
        """ClinicalTrialSponsorName/1 ClinicalTrialProtocolID/1 ClinicalTrialProtocolName/2
        ClinicalTrialSiteID/2 ClinicalTrialSiteName/2 ClinicalTrialSubjectID/1C
        ClinicalTrialSubjectReadingID/1C""",
        when=_TRIAL,
    ),
    *_rows(
        "copied",
        "C.7.2.3",
        "ClinicalTrialTimePointID/2 ClinicalTrialTimePointDescription/3",
        when=_TRIAL,
    ),
    # General Study and Patient Study
    *_rows(
        "copied",
        "C.7.2.1",
        """StudyInstanceUID/1 StudyDate/2 StudyTime/2 ReferringPhysicianName/2 StudyID/2
        AccessionNumber/2 IssuerOfAccessionNumberSequence/3 StudyDescription/3
        PhysiciansOfRecord/3 NameOfPhysiciansReadingStudy/3 ReferencedStudySequence/3
        ProcedureCodeSequence/3""",
    ),
    *_rows(
        "copied",
        "C.7.2.2",
        """AdmittingDiagnosesDescription/3 PatientAge/3 PatientSize/3 PatientWeight/3
        MedicalAlerts/3 Allergies/3 Occupation/3 SmokingStatus/3 AdditionalPatientHistory/3
        PregnancyStatus/3 PatientSexNeutered/2C""",
    ),
    # General Series
    AttributeRule("Modality", "1", "C.7.3.1", "computed"),
    AttributeRule("SeriesInstanceUID", "1", "C.7.3.1", "computed"),
    AttributeRule("SeriesNumber", "2", "C.7.3.1", "computed"),
    AttributeRule("SeriesDate", "3", "C.7.3.1", "computed"),
    AttributeRule("SeriesTime", "3", "C.7.3.1", "computed"),
    AttributeRule("SeriesDescription", "3", "C.7.3.1", "computed"),
    AttributeRule("BodyPartExamined", "3", "C.7.3.1", "copied", "HEAD"),
    AttributeRule("Laterality", "2C", "C.7.3.1", "copied"),
    AttributeRule("PatientPosition", "2C", "C.7.3.1", "copied"),
    *_rows(
        "copied",
        "10.15",
        "PatientOrientationCodeSequence/3 PatientGantryRelationshipCodeSequence/3",
    ),
    # Frame of Reference
    AttributeRule("FrameOfReferenceUID", "1", "C.7.4.1", "copied", "a new UID"),
    AttributeRule("PositionReferenceIndicator", "2", "C.7.4.1", "copied"),
    # General Equipment: this software, not the scanner
    AttributeRule("Manufacturer", "2", "C.7.5.1", "constant", "medtranslate"),
    AttributeRule("ManufacturerModelName", "3", "C.7.5.1", "computed"),
    AttributeRule("SoftwareVersions", "3", "C.7.5.1", "computed"),
    AttributeRule("DeviceSerialNumber", "3", "C.7.5.1", "computed"),
    AttributeRule("PixelPaddingValue", "1C", "C.7.5.1.1.2", "computed"),
    # General Image and General Reference
    AttributeRule("InstanceNumber", "2", "C.7.6.1", "computed"),
    AttributeRule("ContentDate", "2C", "C.7.6.1", "computed"),
    AttributeRule("ContentTime", "2C", "C.7.6.1", "computed"),
    AttributeRule("AcquisitionDate", "3", "C.7.6.1", "slice"),
    AttributeRule("AcquisitionTime", "3", "C.7.6.1", "slice"),
    AttributeRule("BurnedInAnnotation", "3", "C.7.6.1", "slice", "NO"),
    AttributeRule("LossyImageCompression", "3", "C.7.6.1.1.5", "computed"),
    AttributeRule("LossyImageCompressionRatio", "1C", "C.7.6.1.1.5.2", "computed"),
    AttributeRule("LossyImageCompressionMethod", "1C", "C.7.6.1.1.5.1", "computed"),
    AttributeRule(
        "ImageType", "1", "C.8.2.1.1.1", "constant", "DERIVED\\SECONDARY\\AXIAL", ("CT",)
    ),
    AttributeRule(
        "ImageType", "1", "C.8.3.1.1.1", "constant", "DERIVED\\SECONDARY\\OTHER", ("MR",)
    ),
    AttributeRule("DerivationDescription", "3", "C.12.4.1.1", "computed"),
    AttributeRule("DerivationCodeSequence", "3", "C.12.4.1.1", "computed"),
    AttributeRule("SourceImageSequence", "3", "C.12.4.1", "computed"),
    # Image Plane: copied, never computed
    AttributeRule("PixelSpacing", "1", "C.7.6.2", "slice"),
    AttributeRule("ImageOrientationPatient", "1", "C.7.6.2.1.1", "slice"),
    AttributeRule("ImagePositionPatient", "1", "C.7.6.2.1.1", "slice"),
    AttributeRule("SliceThickness", "2", "C.7.6.2", "slice"),
    AttributeRule("SliceLocation", "3", "C.7.6.2.1.2", "slice"),
    # Image Pixel
    AttributeRule("SamplesPerPixel", "1", "C.7.6.3", "constant", "1"),
    AttributeRule("PhotometricInterpretation", "1", "C.7.6.3.1.2", "constant", "MONOCHROME2"),
    AttributeRule("Rows", "1", "C.7.6.3", "computed"),
    AttributeRule("Columns", "1", "C.7.6.3", "computed"),
    AttributeRule("BitsAllocated", "1", "C.7.6.3", "constant", "16"),
    AttributeRule("BitsStored", "1", "C.7.6.3", "constant", "16"),
    AttributeRule("HighBit", "1", "C.7.6.3", "constant", "15"),
    AttributeRule("PixelRepresentation", "1", "C.7.6.3", "constant", "1", ("CT",)),
    AttributeRule("PixelRepresentation", "1", "C.7.6.3", "constant", "0", ("MR",)),
    AttributeRule("PixelData", "1C", "C.7.6.3", "computed"),
    # CT Image: values are HU; nothing was acquired, so acquisition attributes stay empty
    AttributeRule("RescaleIntercept", "1", "C.8.2.1", "constant", "0", ("CT",)),
    AttributeRule("RescaleSlope", "1", "C.8.2.1", "constant", "1", ("CT",)),
    AttributeRule("RescaleType", "1C", "C.8.2.1", "constant", "HU", ("CT",)),
    AttributeRule("KVP", "2", "C.8.2.1", "empty", targets=("CT",)),
    AttributeRule("AcquisitionNumber", "2", "C.8.2.1", "empty", targets=("CT",)),
    # MR Image: RM, research mode, is the one term that claims no pulse sequence
    AttributeRule("ScanningSequence", "1", "C.8.3.1", "constant", "RM", ("MR",)),
    AttributeRule("SequenceVariant", "1", "C.8.3.1", "constant", "NONE", ("MR",)),
    AttributeRule("ScanOptions", "2", "C.8.3.1", "empty", targets=("MR",)),
    AttributeRule("MRAcquisitionType", "2", "C.8.3.1", "empty", targets=("MR",)),
    AttributeRule("RepetitionTime", "2C", "C.8.3.1", "empty", targets=("MR",)),
    AttributeRule("EchoTime", "2", "C.8.3.1", "empty", targets=("MR",)),
    AttributeRule("EchoTrainLength", "2", "C.8.3.1", "empty", targets=("MR",)),
    # VOI LUT
    AttributeRule("WindowCenter", "1C", "C.11.2", "computed"),
    AttributeRule("WindowWidth", "1C", "C.11.2", "computed"),
    AttributeRule("WindowCenterWidthExplanation", "3", "C.11.2", "computed"),
    # SOP Common and Common Instance Reference
    AttributeRule("SOPClassUID", "1", "C.12.1", "computed"),
    AttributeRule("SOPInstanceUID", "1", "C.12.1", "computed"),
    AttributeRule("InstanceCreationDate", "3", "C.12.1", "computed"),
    AttributeRule("InstanceCreationTime", "3", "C.12.1", "computed"),
    AttributeRule("SyntheticData", "3", "C.12.1", "constant", "YES"),
    AttributeRule("ContributingEquipmentSequence", "3", "C.12.1", "computed"),
    AttributeRule("ReferencedSeriesSequence", "1C", "C.12.2", "computed"),
)

SLICE_ATTRIBUTES = (
    *(rule.keyword for rule in RULES if rule.origin == "slice"),
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
"""What is kept of each source slice, as strings."""

EQUIPMENT = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
"""What is kept of the source's scanner, for ContributingEquipmentSequence (C.12.1)."""

SERIES_ATTRIBUTES = (
    *(rule.keyword for rule in RULES if rule.origin == "copied"),
    *EQUIPMENT,
    "SeriesNumber",
)
"""What is kept of the source series, as the bytes it holds."""

ITEM_NEEDS = {
    "OtherPatientIDsSequence": ("PatientID",),
    "PatientSpeciesCodeSequence": ("CodeMeaning",),
    "PatientBreedCodeSequence": ("CodeMeaning",),
    "BreedRegistrationSequence": ("BreedRegistrationNumber",),
    "DeidentificationMethodCodeSequence": ("CodeMeaning",),
    "IssuerOfAccessionNumberSequence": (),
    "ReferencedStudySequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "ProcedureCodeSequence": ("CodeMeaning",),
    "PatientOrientationCodeSequence": ("CodeMeaning",),
    "PatientGantryRelationshipCodeSequence": ("CodeMeaning",),
}
"""What each item of a copied sequence must have; a sequence that breaks it is left out."""


TEXT_VRS = frozenset(
    [
        "AE",
        "AS",
        "CS",
        "DA",
        "DS",
        "DT",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "ST",
        "TM",
        "UC",
        "UI",
        "UR",
        "UT",
    ]
)
"""Value representations whose bytes do not depend on byte order."""

_SERIES_TAGS = frozenset(tag_for_keyword(keyword) or 0 for keyword in SERIES_ATTRIBUTES)

Kept = dict[int, DataElement | RawDataElement]
"""Series attributes of one file as they were read, by tag."""


def kept(dataset: Dataset) -> Kept:
    """Give the series attributes of a parsed file, untouched."""
    return {tag: dataset.get_item(tag) for tag in sorted(dataset.keys() & _SERIES_TAGS)}


def differ(one: Kept, other: Kept) -> bool:
    """Say whether two files of a series disagree in a series attribute."""
    if one.keys() != other.keys():
        return True
    return any(one[tag].value != other[tag].value for tag in one)


def carried(attributes: Kept, path: Path) -> tuple[bytes, list[str]]:
    """Give series attributes as DICOM bytes, and the keywords of those too damaged to copy.

    Parameters
    ----------
    attributes : dict
        From `kept`.
    path : path
        Their file, for messages.

    Raises
    ------
    UntrustedInput
        Sequences are nested too deep.
    """
    source, whole, damaged = Dataset(), Dataset(), []
    for tag, element in attributes.items():
        source[tag] = element
    keep_bytes(source)
    for tag in attributes:
        try:
            alone = Dataset()
            alone[tag] = portable(source, tag)
            # Encoded one by one, so that one that cannot be does not take the others with it.
            pack(alone)
            whole[tag] = alone.get_item(tag)
        except (RecursionError, UntrustedInput):
            raise UntrustedInput("sequences are nested too deep", path=path) from None
        except Exception:
            # pydicom raises what it will on a damaged element; all that matters is that it did.
            damaged.append(keyword_for_tag(tag))
    return pack(whole), damaged


def portable(dataset: Dataset, tag: int) -> DataElement | RawDataElement:
    """Give an element so that it can be written in explicit VR little endian unchanged."""
    raw = dataset.get_item(tag)
    vr = dictionary_VR(tag)
    if isinstance(raw, RawDataElement) and vr in TEXT_VRS:
        return raw._replace(
            VR=vr, value=raw.value or b"", is_implicit_VR=False, is_little_endian=True
        )
    element = dataset[tag]
    if vr == "SQ":
        for item in element.value:
            _strip_private(item, 1)
    return element


def _strip_private(item: Dataset, depth: int) -> None:
    if depth > LIMITS.sequence_depth:
        raise UntrustedInput("sequences are nested too deep")
    for element in list(item):
        if element.tag.is_private:
            del item[element.tag]
        elif element.VR == "SQ":
            for inner in element.value:
                _strip_private(inner, depth + 1)


def keep_bytes(dataset: Dataset) -> Dataset:
    """Tell pydicom that raw values are encoded as the output is, so that it copies their bytes."""
    named = dataset.get("SpecificCharacterSet", None)
    charset = convert_encodings(named) if named else default_encoding
    dataset.set_original_encoding(False, True, charset)
    return dataset


def pack(dataset: Dataset) -> bytes:
    """Encode a data set in explicit VR little endian, raw values as they are."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, keep_bytes(dataset))
    return buffer.getvalue()


def to_text(packed: bytes) -> str:
    """Give packed attributes as the string that ``meta`` holds."""
    return base64.b64encode(packed).decode("ascii")


def from_text(written: str) -> Dataset:
    """Give the data set that `to_text` was given, values raw."""
    stream = io.BytesIO(base64.b64decode(written))
    return keep_bytes(read_dataset(stream, is_implicit_VR=False, is_little_endian=True))
