"""Error maps as Parametric Maps and figures as a structured report, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom import (
    read_parametric_map,
    write_figures,
    write_parametric_map,
    write_series,
)
from medtranslate.imaging.dicom.derive.computed import SOFTWARE

from .factory import series, translated, write

FIGURES = {
    "domain": {"verdict": "warned", "score": 2.5, "reasons": ["tilted"]},
    "unseen": {"outside_field_voxels": 7},
    "cycle_error": {
        "error": 4.5,
        "units": "HU",
        "share_of_range": 0.0375,
        "slice_axis": "Z",
        "slices": [
            {"index": 0, "error": 3.25, "voxels": 9, "peak": None},
            {"index": 2, "error": 5.75, "voxels": 9, "peak": 8.5},
        ],
    },
}


def error_map(image: MetaTensor) -> MetaTensor:
    """Make a map on the grid of an image: every voxel another value, the first below 0."""
    values = torch.arange(image.numel(), dtype=torch.float32).reshape(image.shape) / 8
    values[0, 0, 0, 0] = -1
    return MetaTensor(values, meta=dict(image.meta))


def write_measured(image: MetaTensor, folder: Path, beside: Path, **more: str) -> tuple[Path, Path]:
    """Write a map and figures for a derived series."""
    mapped, told = beside / "map.dcm", beside / "figures.dcm"
    quantity = {"quantity": "cycle error", "units": "HU", "highest": 120.0}
    write_parametric_map(error_map(image), mapped, series=folder, **quantity, **more)
    made = image.meta["synthesis"]
    write_figures(FIGURES, told, series=folder, synthesis=made, by_slice=True, **more)
    return mapped, told


def derived(tmp_path: Path, read, instances) -> tuple[MetaTensor, Path]:
    image = translated(read(write(tmp_path / "in", instances)))
    return image, write_series(image, tmp_path / "out")


def test_each_frame_of_a_map_lies_where_its_slice_lies_also_in_an_uneven_series(tmp_path, read):
    instances = series(count=6)
    image, folder = derived(tmp_path, read, instances[:2] + instances[3:])
    mapped, _ = write_measured(image, folder, tmp_path)
    made = pydicom.dcmread(mapped)
    slices = {
        tuple(one.ImagePositionPatient): (one.SOPInstanceUID, number)
        for number, one in enumerate(map(pydicom.dcmread, sorted(folder.iterdir())))
    }
    frames = np.frombuffer(made.FloatPixelData, "<f4").reshape(5, made.Rows, made.Columns)
    values = error_map(image).as_tensor()[0].numpy()
    placed = {}
    for frame, group in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        position = tuple(group.PlanePositionSequence[0].ImagePositionPatient)
        uid, number = placed[position] = slices[position]
        assert np.array_equal(frame, values[..., number].T)
        [source] = group.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == uid
    assert placed == slices


def test_a_map_reads_back_to_the_bit_on_the_grid_of_its_series_alone(tmp_path, read):
    image, folder = derived(tmp_path, read, series(count=5, rows=15))
    mapped, told = write_measured(image, folder, tmp_path)
    source = read(folder).meta["source"]
    quantity, units, values = read_parametric_map(mapped, source)
    assert (quantity, units) == ("cycle error", "HU")
    np.testing.assert_array_equal(values, error_map(image).as_tensor()[0].numpy())
    assert values.dtype == np.float32 and values.flags["C_CONTIGUOUS"]

    moved = np.array(source["affine"])
    moved[0, 3] += 0.2
    for changed in (
        {"shape": [15, 12, 5]},
        {"shape": [12, 15, 4]},
        {"affine": moved.tolist()},
        {"affine": (np.asarray(source["affine"]) * [1, 1, 1.5, 1]).tolist()},
    ):
        with pytest.raises(Unsupported, match="lies on another grid than the result"):
            read_parametric_map(mapped, {**dict(source.items()), **changed})
    with pytest.raises(Unsupported, match="is no error map of medtranslate"):
        read_parametric_map(told, source)


def test_a_map_says_what_its_values_mean(tmp_path, read):
    image, folder = derived(tmp_path, read, series())
    made = pydicom.dcmread(write_measured(image, folder, tmp_path)[0])
    [shared] = made.SharedFunctionalGroupsSequence
    [meaning] = shared.RealWorldValueMappingSequence
    assert meaning.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert (meaning.RealWorldValueSlope, meaning.RealWorldValueIntercept) == (1, 0)
    assert made.SeriesDescription == "cycle error of SYNTHETIC MR, NOT FOR DIAGNOSIS"
    assert made.SyntheticData == "YES"
    [window] = shared.FrameVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (60, 120)


def test_figures_name_the_instance_that_they_were_measured_on(tmp_path, read):
    image, folder = derived(tmp_path, read, series())
    report = pydicom.dcmread(write_measured(image, folder, tmp_path)[1])
    uids = [pydicom.dcmread(one).SOPInstanceUID for one in sorted(folder.iterdir())]
    groups = [
        group
        for part in report.ContentSequence
        if part.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
        for group in part.ContentSequence
    ]

    def numbers(group) -> dict[str, float]:
        return {
            one.ConceptNameCodeSequence[0].CodeMeaning: float(
                one.MeasuredValueSequence[0].NumericValue
            )
            for one in group.ContentSequence
            if one.ValueType == "NUM"
        }

    def images(group) -> list[str]:
        return [
            one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for one in group.ContentSequence
            if one.ValueType == "IMAGE"
        ]

    assert [numbers(one) for one in groups] == [
        {
            "Cycle error": 4.5,
            "Cycle error as a share of the range of values": 0.0375,
            "Anomaly score of the domain check": 2.5,
            "Voxels of tissue outside the field of view": 7,
        },
        {"Cycle error": 3.25},
        {"Cycle error": 5.75, "Peak of the cycle error": 8.5},
    ]
    assert [images(one) for one in groups] == [[], [uids[0]], [uids[2]]]
    [verdict] = [
        one
        for one in groups[0].ContentSequence
        if one.ValueType == "CODE" and one.ConceptNameCodeSequence[0].CodeMeaning == "Domain check"
    ]
    assert verdict.ConceptCodeSequence[0].CodeMeaning == "warned"


def test_patient_and_study_are_the_bytes_of_the_source(tmp_path, read):
    instances = series()
    for one in instances:
        one.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        one.PatientName = "Yamada^Tarou=山田^太郎"
        one.AccessionNumber = "A-77"
    image, folder = derived(tmp_path, read, instances)
    first = pydicom.dcmread(folder / "0001.dcm")
    for path in write_measured(image, folder, tmp_path):
        made = pydicom.dcmread(path)
        assert made.get_item("PatientName").value == first.get_item("PatientName").value
        assert str(made.PatientName) == "Yamada^Tarou=山田^太郎"
        assert made.StudyInstanceUID == first.StudyInstanceUID
        assert made.AccessionNumber == "A-77"
        assert made.SeriesInstanceUID != first.SeriesInstanceUID


def test_a_seed_makes_the_same_uids_again_and_none_makes_new_ones(tmp_path, read):
    image, folder = derived(tmp_path, read, series())

    def made(name: str, **more: str) -> list[tuple[str, str]]:
        (tmp_path / name).mkdir()
        read = map(pydicom.dcmread, write_measured(image, folder, tmp_path / name, **more))
        return [(one.SeriesInstanceUID, one.SOPInstanceUID) for one in read]

    assert made("a", uid_seed="s") == made("b", uid_seed="s")
    assert set(made("c", uid_seed="t")).isdisjoint(made("d"))
    assert set(made("e")).isdisjoint(made("f"))


def test_a_map_and_figures_say_what_made_them(tmp_path, read):
    image, folder = derived(tmp_path, read, series())
    mapped, told = map(pydicom.dcmread, write_measured(image, folder, tmp_path, uid_seed="s"))
    first = pydicom.dcmread(folder / "0001.dcm")
    for made, number in ((mapped, 10000), (told, 30000)):
        assert made.SeriesNumber == first.SeriesNumber + number
        assert made.InstanceNumber == 1
        assert made.Manufacturer == "medtranslate"
        assert made.ManufacturerModelName == "brain_ct_mri"
        assert made.SoftwareVersions == [SOFTWARE, "0.1.0"]
        assert made.DeviceSerialNumber == "ab" * 32
        assert made.StudyInstanceUID == first.StudyInstanceUID
        assert made.SyntheticData == "YES"
    assert mapped.ContentLabel == "CYCLE_ERROR"
    assert mapped.ContentDescription == "cycle error; below 0 where the model could not see"
    assert mapped.BodyPartExamined == "HEAD"
    assert told.SeriesDescription == "Quality of SYNTHETIC MR, NOT FOR DIAGNOSIS"
    assert (told.CompletionFlag, told.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert told.PreliminaryFlag == "FINAL"
    texts = [(name, value) for name, value in texts_of(told) if name.startswith("Tracking")]
    assert [value for name, value in texts if name == "Tracking Identifier"] == [
        "scan",
        "slice 0",
        "slice 2",
    ]
    assert len({value for name, value in texts if name == "Tracking Unique Identifier"}) == 3
    observer = dict(texts_of(told))
    assert observer["Device Observer Name"] == observer["Device Observer Manufacturer"]
    assert observer["Device Observer Name"] == "medtranslate"
    assert observer["Device Observer Model Name"] == "brain_ct_mri"
    assert observer["Device Observer Serial Number"] == "ab" * 32
    assert (observer["Algorithm Name"], observer["Algorithm Version"]) == ("brain_ct_mri", "0.1.0")


def texts_of(item) -> list[tuple[str, str]]:
    """Give names and values of the texts and UIDs of a structured report, in order."""
    found = []
    for one in item.get("ContentSequence", ()):
        value = one.get("TextValue", one.get("UID"))
        if value is not None:
            found.append((one.ConceptNameCodeSequence[0].CodeMeaning, str(value)))
        found += texts_of(one)
    return found
