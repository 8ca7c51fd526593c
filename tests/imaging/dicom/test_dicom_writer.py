"""The derived series: what stands in it, what does not, and that it is whole or absent."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from medtranslate.errors import InputMissing, OutputExists, Unsupported
from medtranslate.imaging.dicom import DicomWriter, repairs, write_series
from medtranslate.imaging.dicom.attributes import RULES

from .factory import enhanced, save, series, translated, write

BOTH = ("CT", "MR")


@pytest.fixture
def made(tmp_path, read):
    """Give (source instances, translated image, folder written) of a source modality."""

    def make(modality, change=None, **options):
        instances = series(modality)
        image = translated(read(write(tmp_path / "in", instances, change)))
        return instances, image, write_series(image, tmp_path / "out", **options)

    return make


def written(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("modality", BOTH)
def test_one_instance_a_slice_in_its_place(made, modality):
    instances, image, folder = made(modality)
    target = {"CT": "MR", "MR": "CT"}[modality]
    derived = written(folder)
    assert [path.name for path in sorted(folder.iterdir())] == [f"000{i}.dcm" for i in range(1, 5)]
    for index, (source, one) in enumerate(zip(instances, derived, strict=True)):
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert getattr(one, keyword) == getattr(source, keyword)
        assert one.SliceThickness == source.SliceThickness
        assert one.StudyInstanceUID == source.StudyInstanceUID
        assert one.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert one.SeriesInstanceUID != source.SeriesInstanceUID
        assert one.SOPInstanceUID != source.SOPInstanceUID
        assert one.Modality == target and one.InstanceNumber == index + 1
        (reference,) = one.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.SpatialLocationsPreserved == "YES"
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        values = one.pixel_array.T
        np.testing.assert_array_equal(values, np.asarray(image.as_tensor()[0, :, :, index]))
    assert len({one.SOPInstanceUID for one in derived}) == 4
    assert len({one.SeriesInstanceUID for one in derived}) == 1


@pytest.mark.parametrize("modality", BOTH)
def test_every_attribute_has_a_rule_and_every_mandatory_rule_its_attribute(made, modality):
    _, _, folder = made(modality)
    target = {"CT": "MR", "MR": "CT"}[modality]
    rules = {rule.keyword: rule for rule in RULES if target in rule.targets}
    for one in written(folder):
        present = {element.keyword for element in one}
        assert present <= set(rules)
        for rule in rules.values():
            if rule.kind in ("1", "2") and not rule.when[0]:
                assert rule.keyword in present, rule.keyword


def test_synthetic_ct_says_what_its_values_mean(made):
    _, _, folder = made("MR")
    one = written(folder)[0]
    assert (one.RescaleSlope, one.RescaleIntercept, one.RescaleType) == (1, 0, "HU")
    assert (one.WindowCenter, one.WindowWidth) == (40, 120)
    assert "Clipped to -20..100 HU" in one.DerivationDescription
    assert one.SyntheticData == "YES" and "SYNTHETIC CT" in one.SeriesDescription
    assert one.SeriesDescription.endswith("NOT FOR DIAGNOSIS")
    assert list(one.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    for keyword in ("KVP", "AcquisitionNumber"):
        assert one[keyword].is_empty


def test_synthetic_mr_invents_no_acquisition(made):
    _, _, folder = made("CT")
    one = written(folder)[0]
    assert (one.ScanningSequence, one.SequenceVariant) == ("RM", "NONE")
    for keyword in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime"):
        assert one[keyword].is_empty
    for keyword in ("KVP", "RescaleType", "RescaleSlope"):
        assert keyword not in one


@pytest.mark.parametrize("modality", BOTH)
def test_provenance_names_model_and_scanner(made, modality):
    one = written(made(modality)[2])[0]
    assert one.Manufacturer == "medtranslate" and one.ManufacturerModelName == "brain_ct_mri"
    assert one.SoftwareVersions[1] == "0.1.0" and one.DeviceSerialNumber == "ab" * 32
    scanner, software = one.ContributingEquipmentSequence
    assert scanner.Manufacturer == "Scanner works" and scanner.ManufacturerModelName == "S1"
    assert software.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert "ab" * 32 in software.ContributionDescription


def test_enhanced_source_is_referenced_by_frame(tmp_path, read):
    path = save(enhanced(), tmp_path / "e.dcm")
    derived = written(write_series(translated(read(path)), tmp_path / "out"))
    references = [one.SourceImageSequence[0] for one in derived]
    assert [int(ref.ReferencedFrameNumber) for ref in references] == [4, 3, 2, 1]
    assert [float(one.ImagePositionPatient[2]) for one in derived] == [40, 42.5, 45, 47.5]
    assert {one.SliceThickness for one in derived} == {2.5}


NAMES = {
    "ISO_IR 100": "Äneas^Rüdiger".encode("latin-1"),
    "ISO_IR 192": "Wang^XiaoDong=王^小东".encode(),
    "ISO_IR 144": "Люкceмбypг".encode("iso8859-5"),
    "\\ISO 2022 IR 87": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    "GB18030": "Wang^XiaoDong=王^小东".encode("gb18030"),
}


@pytest.mark.parametrize("charset", NAMES)
def test_names_in_any_character_set_stay_the_bytes_they_are(tmp_path, read, charset):
    made = series()
    for one in made:
        one.SpecificCharacterSet = charset.split("\\")
        one.PatientName = "PLACEHOLDER^FOR^THE^NAME^OF^THE^PATIENT^"
    folder = write(tmp_path / "in", made)
    mark = b"PLACEHOLDER^FOR^THE^NAME^OF^THE^PATIENT^"
    name = NAMES[charset].ljust(len(mark))
    assert len(name) == len(mark)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(mark, name))
    out = write_series(translated(read(folder)), tmp_path / "out")
    for path in out.iterdir():
        assert name in path.read_bytes()
        one = pydicom.dcmread(path)
        assert one.PatientName == pydicom.dcmread(next(folder.iterdir())).PatientName


def with_private(one):
    block = one.private_block(0x0019, "MADE BY TEST", create=True)
    block.add_new(0x01, "LO", "secret")
    block.add_new(0x02, "DS", "1.5")


def test_private_attributes_are_left_out_unless_asked(tmp_path, read):
    image = translated(read(write(tmp_path / "in", series(), with_private)))
    plain = written(write_series(image, tmp_path / "out"))
    assert not any(element.tag.is_private for one in plain for element in one)
    kept = written(write_series(image, tmp_path / "kept", keep_private=True))
    for one in kept:
        assert one.private_block(0x0019, "MADE BY TEST")[0x01].value == "secret"


def test_private_attributes_of_vanished_files_are_refused(tmp_path, read):
    folder = write(tmp_path / "in", series(), with_private)
    image = translated(read(folder))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputMissing):
        write_series(image, tmp_path / "out", keep_private=True)
    assert not (tmp_path / "out").exists()


def uids(folder):
    derived = written(folder)
    return [derived[0].SeriesInstanceUID, *(one.SOPInstanceUID for one in derived)]


def test_uids_are_new_each_time_or_follow_from_the_seed(tmp_path, read):
    image = translated(read(write(tmp_path / "in", series())))
    outs = {name: tmp_path / name for name in "abcdefg"}
    fresh = uids(write_series(image, outs["a"])), uids(write_series(image, outs["b"]))
    assert not set(fresh[0]) & set(fresh[1])
    first = uids(write_series(image, outs["c"], uid_seed="one"))
    assert first == uids(write_series(image, outs["d"], uid_seed="one"))
    assert not set(first) & set(uids(write_series(image, outs["e"], uid_seed="two")))
    synthesis = {**image.meta["synthesis"], "weights_sha256": "cd" * 32}
    other = MetaTensor(image.as_tensor(), meta={**image.meta, "synthesis": synthesis})
    assert not set(first) & set(uids(write_series(other, outs["f"], uid_seed="one")))
    changed = MetaTensor(image.as_tensor().clone(), meta=dict(image.meta))
    changed[0, 3, 3, 1] += 1
    again = uids(write_series(changed, outs["g"], uid_seed="one"))
    assert first[0] != again[0] and not set(first) & set(again)


def test_padding_is_the_background_of_the_target(tmp_path, read):
    def pad(one):
        stored = np.frombuffer(one.PixelData, "<i2").copy()
        stored[:5] = -2000
        one.PixelData = stored.tobytes()
        one.PixelPaddingValue = -2000
        one["PixelPaddingValue"].VR = "SS"

    out = write_series(translated(read(write(tmp_path / "in", series(), pad))), tmp_path / "out")
    for one in written(out):
        assert one.PixelPaddingValue == 0
        assert (one.pixel_array.ravel()[:5] == 0).all()


def test_missing_and_broken_attributes_are_repaired_and_told(tmp_path, read):
    def spoil(one):
        del one.PatientBirthDate
        del one.SliceThickness
        del one.BodyPartExamined
        del one.FrameOfReferenceUID
        one.PatientSex = "X"
        one.PatientIdentityRemoved = "YES"
        one.StudyDate = "2024-01-02"
        one.ImagePositionPatient = [-20.123456789012345, -30, one.ImagePositionPatient[2]]

    image = translated(read(write(tmp_path / "in", series("MR"), spoil)))
    told = "\n".join(repairs(image))
    for keyword in (
        "PatientBirthDate is missing",
        "SliceThickness is missing in 4 slices",
        "BodyPartExamined is missing in the source: HEAD",
        "FrameOfReferenceUID is missing",
        "PatientSex: its value is not one that the standard allows: left out",
        "DeidentificationMethod is missing",
        "StudyDate: its value is no valid DA: left out",
    ):
        assert keyword in told
    assert "2024-01-02" not in told and "'X'" not in told
    derived = written(write_series(image, tmp_path / "out"))
    assert {one.FrameOfReferenceUID for one in derived} != {""}
    assert len({one.FrameOfReferenceUID for one in derived}) == 1
    for one in derived:
        assert one["PatientBirthDate"].is_empty and one["PatientSex"].is_empty
        assert one["StudyDate"].is_empty and one["SliceThickness"].is_empty
        assert one.BodyPartExamined == "HEAD"
        assert abs(float(one.ImagePositionPatient[0]) + 20.123456789012345) < 1e-9


def test_what_an_archive_files_by_is_kept_however_broken(tmp_path, read):
    def spoil(one):
        one.AccessionNumber = "A" * 17
        one.StudyDescription = "line\x01feed" + "x" * 64
        one.PatientAge = "41"
        one.SliceThickness = "2.5"
        one.PixelPaddingValue = -2000
        one["PixelPaddingValue"].VR = "SS"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = write(tmp_path / "in", series("CT"), spoil)
    image = translated(read(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = repairs(image)
    assert told == [
        "AccessionNumber: its value is no valid SH: kept as it is",
        "StudyDescription: its value is no valid LO: written without control characters, cut to 64",
        "PatientAge: its value is no valid AS: left out",
    ]
    one = pydicom.dcmread(write_series(image, tmp_path / "out") / "0001.dcm")
    assert one.get_item("AccessionNumber").value.rstrip() == b"A" * 17
    assert one.StudyDescription == "linefeed" + "x" * 56
    assert "PatientAge" not in one


def test_padding_of_a_synthetic_ct_is_signed(tmp_path, read):
    def pad(one):
        one.PixelPaddingValue = 0
        one["PixelPaddingValue"].VR = "US"
        stored = np.frombuffer(one.PixelData, "<u2").copy()
        stored[:5] = 0
        one.PixelData = stored.tobytes()

    image = translated(read(write(tmp_path / "in", series("MR"), pad)))
    for path in sorted(write_series(image, tmp_path / "out").iterdir()):
        one = pydicom.dcmread(path)
        if "PixelPaddingValue" in one:
            assert one.get_item("PixelPaddingValue").VR == "SS"
            assert one.PixelPaddingValue == -1000
            assert (one.pixel_array.ravel()[:5] == -1000).all()


@pytest.mark.parametrize(("modality", "low", "high"), [("CT", 0, 65535), ("MR", -32768, 32767)])
def test_values_fit_to_the_last_one(tmp_path, read, modality, low, high):
    image = translated(read(write(tmp_path / "in", series(modality))))
    image[0, 0, 0, 0], image[0, 1, 0, 0] = low, high
    made = pydicom.dcmread(write_series(image, tmp_path / "out") / "0001.dcm").pixel_array
    assert (int(made.min()), int(made.max())) == (low, high)
    for value in (low - 1, high + 1, float("nan")):
        image[0, 0, 0, 0] = value
        with pytest.raises(Unsupported, match=r"slice 0: values from .* do not fit"):
            write_series(image, tmp_path / "more")


def test_nothing_that_is_not_listed_is_copied(made):
    def add(one):
        one.InstitutionName = "A hospital"
        one.OperatorsName = "Somebody"
        one.ProtocolName = "head"
        one.ContrastBolusAgent = "iodine"
        one.Exposure = "100"

    _, _, folder = made("CT", add)
    for one in written(folder):
        for keyword in ("OperatorsName", "ProtocolName", "ContrastBolusAgent", "Exposure"):
            assert keyword not in one
        assert one.ContributingEquipmentSequence[0].InstitutionName == "A hospital"


def test_uneven_series_keeps_every_position(tmp_path, read):
    made = series(count=6)
    del made[3]
    derived = written(write_series(translated(read(write(tmp_path / "in", made))), tmp_path / "o"))
    assert [one.ImagePositionPatient for one in derived] == [m.ImagePositionPatient for m in made]


def test_written_series_reads_back_as_it_was(tmp_path, read):
    image = translated(read(write(tmp_path / "in", series("MR"))))
    back = read(write_series(image, tmp_path / "out"))
    torch.testing.assert_close(back.as_tensor(), image.as_tensor(), rtol=0, atol=0)
    np.testing.assert_array_equal(back.affine.numpy(), image.affine.numpy())
    assert any("synthetic itself" in fault for fault in back.meta["source"]["faults"])


def test_monai_writer_writes_the_same(tmp_path, read):
    image = translated(read(write(tmp_path / "in", series())))
    writer = DicomWriter()
    writer.set_data_array(image, channel_dim=0)
    writer.set_metadata(image.meta)
    writer.write(tmp_path / "scan.dcm")
    back = read(tmp_path / "scan.dcm")
    np.testing.assert_array_equal(back.numpy(), image.numpy())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda image: image.meta.pop("synthesis"), "only a translated image"),
        (lambda image: image.meta.pop("source"), "where it came from"),
        (lambda image: image.affine.mul_(1.1), "no longer agrees"),
        (lambda image: image.mul_(1e6), "do not fit"),
        (lambda image: image.div_(0.0), "do not fit"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_there(tmp_path, read, spoil, told):
    image = translated(read(write(tmp_path / "in", series())))
    spoil(image)
    with pytest.raises(Unsupported, match=told):
        write_series(image, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_existing_folder_is_replaced_only_if_asked_and_only_a_series(tmp_path, read):
    image = translated(read(write(tmp_path / "in", series())))
    out = tmp_path / "out"
    out.mkdir()
    write_series(image, out)
    with pytest.raises(OutputExists):
        write_series(image, out)
    before = uids(out)
    write_series(image, out, overwrite=True)
    assert uids(out) != before and len(list(out.iterdir())) == 4
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"notes\.txt"):
        write_series(image, out, overwrite=True)
    with pytest.raises(OutputExists, match="holds the source series"):
        write_series(image, tmp_path / "in", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_an_interrupt_leaves_nothing(tmp_path, read, monkeypatch):
    image = translated(read(write(tmp_path / "in", series())))
    from medtranslate.imaging.dicom.derive import writer

    real, calls = writer.save, []

    def interrupted(dataset, path):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(dataset, path)

    monkeypatch.setattr(writer, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_series(image, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
