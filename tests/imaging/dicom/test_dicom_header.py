"""Every attribute of a derived instance with its value, and the rules that values follow."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit

from medtranslate.imaging.dicom.derive import instances
from medtranslate.imaging.dicom.derive.computed import (
    COMPUTED,
    SOFTWARE,
    UidMaker,
    ascii_text,
    basis_of,
)
from medtranslate.imaging.dicom.derive.instances import derive, display_window, instance

from .factory import enhanced, save, series, translated, write

ROOT = "1.2.826.0.1.3680043.8.498."
CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
WEIGHTS = "ab" * 32
LABEL = "SYNTHETIC {} from {}, brain_ct_mri 0.1.0, NOT FOR DIAGNOSIS"
MEANING = {
    "MR": "Values are in arbitrary units, no acquisition parameters apply. Background is 0.",
    "CT": "Clipped to -20..100 HU: 100 means 100 HU or more, -20 means -20 HU or less. "
    "Not for dose, attenuation or bone. Background is -1000.",
}


def plain(dataset):
    """Give a data set as keywords with VR and value, as text."""
    given = {}
    for one in dataset:
        if one.VR == "SQ":
            given[one.keyword] = [plain(item) for item in one.value]
        elif one.keyword != "PixelData":
            value = "" if one.is_empty else one.value
            many = not isinstance(value, str | int | float) and one.VM > 1
            text = "\\".join(map(str, value)) if many else str(value)
            given[one.keyword] = f"{one.VR} {text}"
    return given


def code(value, meaning, scheme="DCM"):
    return [
        {
            "CodeValue": f"SH {value}",
            "CodingSchemeDesignator": f"SH {scheme}",
            "CodeMeaning": f"LO {meaning}",
        }
    ]


def expected(target, source):
    label = LABEL.format(target, source)
    derivation = (
        f"{label}. Image-to-image translation by {SOFTWARE}, model brain_ct_mri 0.1.0, "
        f"weights SHA-256 {WEIGHTS}. {MEANING[target]}"
    )
    reference = {
        "ReferencedSOPClassUID": f"UI {CLASSES[source]}",
        "ReferencedSOPInstanceUID": f"UI {ROOT}1.1.2",
    }
    software = {
        "Manufacturer": "LO medtranslate",
        "ManufacturerModelName": "LO brain_ct_mri",
        "DeviceSerialNumber": f"LO {WEIGHTS}",
        "SoftwareVersions": f"LO {SOFTWARE}\\0.1.0",
    }
    return {
        "SpecificCharacterSet": "CS ISO_IR 100",
        "ImageType": f"CS DERIVED\\SECONDARY\\{'OTHER' if target == 'MR' else 'AXIAL'}",
        "InstanceCreationDate": "DA 20260102",
        "InstanceCreationTime": "TM 030405.000006",
        "SOPClassUID": f"UI {CLASSES[target]}",
        "SyntheticData": "CS YES",
        "StudyDate": "DA 20240102",
        "SeriesDate": "DA 20260102",
        "AcquisitionDate": "DA 20240102",
        "ContentDate": "DA 20260102",
        "StudyTime": "TM 030405",
        "SeriesTime": "TM 030405.000006",
        "AcquisitionTime": "TM 030450",
        "ContentTime": "TM 030405.000006",
        "AccessionNumber": "SH A1",
        "Modality": f"CS {target}",
        "ReferringPhysicianName": "PN Doe^John",
        "SeriesDescription": f"LO {label}",
        "ReferencedSeriesSequence": [
            {"ReferencedInstanceSequence": [reference], "SeriesInstanceUID": f"UI {ROOT}1.1"}
        ],
        "DerivationDescription": f"ST {derivation}",
        "SourceImageSequence": [
            {
                **reference,
                "SpatialLocationsPreserved": "CS YES",
                "PurposeOfReferenceCodeSequence": code(
                    "121322", "Source image for image processing operation"
                ),
            }
        ],
        "DerivationCodeSequence": code(
            "MEDTRANSLATE-01", "Image-to-image translation", "99MEDTRANSLATE"
        ),
        "PatientName": "PN Test^Patient",
        "PatientID": "LO P1",
        "PatientBirthDate": "DA 19700101",
        "PatientSex": "CS O",
        "BodyPartExamined": "CS HEAD",
        "SliceThickness": "DS 2.5",
        **software,
        "PatientPosition": "CS HFS",
        "ContributingEquipmentSequence": [
            {
                "Manufacturer": "LO Scanner works",
                "ManufacturerModelName": "LO S1",
                "PurposeOfReferenceCodeSequence": code("109101", "Acquisition Equipment"),
            },
            {
                **software,
                "ContributionDateTime": "DT 20260102030405.000006",
                "ContributionDescription": f"ST {derivation}",
                "PurposeOfReferenceCodeSequence": code("109100", "Synthesizing Equipment"),
            },
        ],
        "StudyInstanceUID": f"UI {ROOT}1",
        "StudyID": "SH 1",
        "SeriesNumber": "IS 9001",
        "InstanceNumber": "IS 2",
        "ImagePositionPatient": "DS -20\\-30\\42.5",
        "ImageOrientationPatient": "DS 1\\0\\0\\0\\1\\0",
        "FrameOfReferenceUID": f"UI {ROOT}2",
        "PositionReferenceIndicator": "LO ",
        "SamplesPerPixel": "US 1",
        "PhotometricInterpretation": "CS MONOCHROME2",
        "Rows": "US 16",
        "Columns": "US 12",
        "PixelSpacing": "DS 0.75\\0.5",
        "BitsAllocated": "US 16",
        "BitsStored": "US 16",
        "HighBit": "US 15",
        "BurnedInAnnotation": "CS NO",
        "LossyImageCompression": "CS 00",
        **OF_TARGET[target],
    }


OF_TARGET = {
    "MR": {
        "ScanningSequence": "CS RM",
        "SequenceVariant": "CS NONE",
        "ScanOptions": "CS ",
        "MRAcquisitionType": "CS ",
        "RepetitionTime": "DS ",
        "EchoTime": "DS ",
        "EchoTrainLength": "IS ",
        "PixelRepresentation": "US 0",
        "WindowCenter": "DS 1040",
        "WindowWidth": "DS 2080",
        "WindowCenterWidthExplanation": "LO FULL",
    },
    "CT": {
        "KVP": "DS ",
        "AcquisitionNumber": "IS ",
        "PixelRepresentation": "US 1",
        "WindowCenter": "DS 40",
        "WindowWidth": "DS 120",
        "WindowCenterWidthExplanation": "LO BRAIN",
        "RescaleIntercept": "DS 0",
        "RescaleSlope": "DS 1",
        "RescaleType": "LO HU",
    },
}


@pytest.fixture
def derived(tmp_path, read):
    """Give the derived series of two slices, made at a fixed time."""

    def make(modality="CT", change=None, number=0, **changes):
        folder = write(tmp_path / f"{modality}{number}", series(modality, count=2), change)
        image = translated(read(folder), **changes)
        return replace(derive(image, dict(image.meta["source"]), uid_seed="seed"), now=NOW)

    return make


@pytest.mark.parametrize("source", ["CT", "MR"])
def test_every_attribute_has_its_value(derived, source):
    target = {"CT": "MR", "MR": "CT"}[source]
    made = derived(source)
    given = plain(instance(made, 1))
    uids = {name: given.pop(name).removeprefix("UI ") for name in ("SOPInstanceUID", UID)}
    assert given == expected(target, source)
    assert uids[UID] == made.uid and uids["SOPInstanceUID"] == COMPUTED["SOPInstanceUID"](made, 1)
    assert instance(made, 0).SOPInstanceUID != uids["SOPInstanceUID"]
    assert instance(made, 0).InstanceNumber == 1


UID = "SeriesInstanceUID"


def test_uids_follow_from_seed_basis_purpose_and_parts():
    # SHA-256 of the JSON of all four, its first 16 bytes as a UUID of version 5, below 2.25.
    maker = UidMaker("seed", "basis")
    assert maker.make("series", "a", "b") == "2.25.126693784377851383437471572285862006445"
    ways = {maker.make("series", "a"), maker.make("instance", "a"), maker.make("series", "b")}
    ways |= {UidMaker("other", "basis").make("series", "a")}
    ways |= {UidMaker("seed", "other").make("series", "a"), maker.make("series", "a", "b")}
    assert len(ways) == 6
    random = {UidMaker("", "basis").make("series") for _ in range(3)}
    assert len(random) == 3 and all(uid.startswith("2.25.") for uid in random)


def test_the_basis_is_everything_that_pixels_depend_on():
    made = {"modality": "MR", "model": "m", "version": "1", "weights_sha256": "ab", "label": "L"}
    made |= {"window": [1, 2], "range": [0, 3], "grain": 4.0, "options": {"force": True}}
    assert json.loads(basis_of(made, "medtranslate 9")) == [
        "medtranslate 9",
        {key: value for key, value in made.items() if key != "label"},
    ]
    assert basis_of(made, "s") == basis_of(dict(reversed(made.items())), "s")


def test_the_seed_of_the_synthesis_counts_where_none_is_given(tmp_path, read):
    image = translated(read(write(tmp_path / "in", series(count=2))), options={"uid_seed": "one"})
    source = dict(image.meta["source"])
    assert derive(image, source).uids.seed == "one"
    assert derive(image, source, uid_seed="two").uids.seed == "two"
    assert derive(image, source).uid == derive(image, source).uid
    assert derive(image, source).uid == derive(image, source).uids.make(
        "series",
        *(one["instance"] for one in source["header"]["slices"]),
        *derive(image, source).digests,
    )


def test_a_contrast_that_was_asked_for_is_written(derived):
    label = LABEL.format("MR FLAIR", "CT")
    one = instance(derived(label=label + "x" * 64, contrast="flair"), 0)
    assert one.SeriesDescription == "SYNTHETIC MR FLAIR, NOT FOR DIAGNOSIS"
    assert "The model was asked for the contrast FLAIR. Background is 0." in (
        one.DerivationDescription
    )
    short = instance(derived(number=1, label="x" * 64), 0)
    assert short.SeriesDescription == "x" * 64
    long = instance(derived(number=2, label="x" * 65), 0)
    assert long.SeriesDescription == "SYNTHETIC MR, NOT FOR DIAGNOSIS"


@pytest.mark.parametrize(
    ("written", "number"),
    [("7", 9007), ("0", 9000), ("-3", 9000), ("999999", 1008999), ("1000001", 9001), (None, 9000)],
)
def test_series_numbers_lie_behind_those_of_scanners(derived, written, number):
    made = derived(change=lambda one: setattr(one, "SeriesNumber", written))
    assert instance(made, 0).SeriesNumber == number


@pytest.mark.parametrize(
    ("syntax", "said", "lossy"),
    [
        (ExplicitVRLittleEndian, {}, ("00", "", "")),
        (JPEG2000, {}, ("01", "8.25", "ISO_15444_1")),
        (JPEGBaseline8Bit, {}, ("01", "8.25", "ISO_10918_1")),
        (JPEGExtended12Bit, {}, ("01", "8.25", "ISO_10918_1")),
        (JPEG2000, {"": "00"}, ("00", "", "")),
        (ExplicitVRLittleEndian, {"": "01"}, ("01", "", "")),
        (
            ExplicitVRLittleEndian,
            {"": "01", "Ratio": "12", "Method": "ISO_14495_1"},
            ("01", "12", "ISO_14495_1"),
        ),
        (JPEG2000, {"Ratio": "12", "Method": "X"}, ("01", "12", "X")),
    ],
)
def test_what_was_lost_by_compression_once_is_said(derived, syntax, said, lossy):
    made = derived()
    header = copy.deepcopy(dict(made.header))
    record = header["slices"][1]
    record["transfer_syntax"], record["ratio"] = str(syntax), "8.25"
    record["attributes"] |= {f"LossyImageCompression{key}": value for key, value in said.items()}
    given = instance(replace(made, header=header), 1)
    names = [f"LossyImageCompression{part}" for part in ("", "Ratio", "Method")]
    found = tuple(str(given.get(name, "")) for name in names)
    assert (found[0], found[1].removesuffix(".0"), found[2]) == lossy


@pytest.mark.parametrize(
    ("offset", "hours"),
    [("+0530", 5.5), ("-0800", -8), ("+0000", 0), ("-0330", -3.5)],
)
def test_times_are_in_the_zone_of_the_source(derived, offset, hours):
    made = derived(change=lambda one: setattr(one, "TimezoneOffsetFromUTC", offset))
    now = instances._now(offset)
    assert now.utcoffset() == timedelta(hours=hours)
    assert abs(now - datetime.now(timezone(timedelta(hours=9)))) < timedelta(minutes=5)
    assert instance(made, 0).TimezoneOffsetFromUTC == offset
    for unsaid in ("", "junk", "+9999"):
        assert instances._now(unsaid).utcoffset() == datetime.now().astimezone().utcoffset()


def test_windows_show_what_the_values_mean():
    window = {"modality": "CT", "window": [-20.0, 100.0]}
    assert display_window(3000, window) == (40, 120)
    assert display_window(3000, {"modality": "CT", "window": []}) == (40, 400)
    assert display_window(3000, {"modality": "MR", "window": []}) == (1500, 3000)


def test_a_ct_of_all_hu_says_where_they_come_from(derived):
    made = derived("MR", range=[-1024.0, 2000.0])
    text = instance(made, 0).DerivationDescription
    assert "-1024..2000 HU; what lies outside -20..100 HU was learned from label maps" in text
    assert "Clipped" not in text and "Not for dose, attenuation or bone" in text


def test_a_ct_with_grain_says_that_it_was_added(derived):
    noisy, plain = (instance(derived("MR", **more), 0) for more in ({"grain": 4.0}, {}))
    added = "Noise with a standard deviation of 4 HU was added."
    assert added in noisy.DerivationDescription and "Noise" not in plain.DerivationDescription


def test_text_that_every_character_set_can_write():
    assert ascii_text("Müller\\脳\x1b[1m  ") == "M?ller/?[1m"
    assert ascii_text("x" * 100) == "x" * 64 and ascii_text("x" * 100, 70) == "x" * 70


def test_frames_are_referenced_by_number_and_files_are_not(derived, tmp_path, read):
    image = translated(read(save(enhanced(count=2), tmp_path / "e.dcm")))
    made = derive(image, dict(image.meta["source"]))
    assert [instance(made, n).SourceImageSequence[0].ReferencedFrameNumber for n in (0, 1)] == [
        2,
        1,
    ]
    assert "ReferencedFrameNumber" not in instance(derived(), 0).SourceImageSequence[0]


def test_a_source_without_a_scanner_names_the_software_alone(derived):
    def unnamed(one):
        del one.Manufacturer

    (software,) = instance(derived(change=unnamed), 0).ContributingEquipmentSequence
    assert isinstance(software, Dataset) and software.Manufacturer == "medtranslate"
