"""Each row of the fault table: exact, or refused with the fault, the files and the remedy."""

from __future__ import annotations

import random

import numpy as np
import pytest
from monai.transforms import LoadImage
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medtranslate.errors import AmbiguousInput, Unreadable, Unsupported
from medtranslate.imaging.dicom import DicomReader, find_series

from .factory import (
    AXIAL,
    dose_report,
    enhanced,
    numbers,
    put_pixels,
    save,
    secondary_capture,
    series,
    stored_of,
    stored_values,
    values_of,
    write,
)


def voxels(image):
    return np.asarray(image.as_tensor()[0])


def refusal(read, folder, kind):
    with pytest.raises(kind) as caught:
        read(folder)
    return str(caught.value)


EVEN_AFFINE = [
    [-0.5, 0.0, 0.0, 20.0],
    [0.0, -0.75, 0.0, 30.0],
    [0.0, 0.0, 2.5, 40.0],
    [0.0, 0.0, 0.0, 1.0],
]


def test_even_series_is_exact(tmp_path, read):
    made = series()
    image = read(write(tmp_path / "s", made))
    assert image.shape == (1, 12, 16, 4)
    np.testing.assert_array_equal(voxels(image), values_of(made))
    np.testing.assert_allclose(image.affine.numpy(), EVEN_AFFINE, atol=1e-12)
    source = image.meta["source"]
    assert source["even"] is True and source["faults"] == []
    assert (source["format"], source["modality"], source["dtype"]) == ("dicom", "CT", "int16")


def test_load_image_gives_the_same_voxels_and_keeps_a_refusal(tmp_path, read):
    folder = write(tmp_path / "s", series())
    image = LoadImage(reader=DicomReader(), image_only=True, ensure_channel_first=True)(folder)
    np.testing.assert_array_equal(image.numpy(), read(folder).numpy())
    twice = [*series(), *series()[:1]]
    twice[-1].SOPInstanceUID += ".2"
    with pytest.raises(Unsupported, match="at one position"):
        LoadImage(reader=DicomReader())(write(tmp_path / "t", twice))


@pytest.mark.parametrize("names", ["shuffled", "missing", "repeated"])
def test_order_is_by_position_whatever_instance_number_says(tmp_path, read, names):
    made = series(count=6)
    expected = values_of(made)
    order = [3, 0, 5, 2, 4, 1]
    for one, number in zip(made, order, strict=True):
        if names == "shuffled":
            one.InstanceNumber = number
        elif names == "repeated":
            one.InstanceNumber = 1
        else:
            del one.InstanceNumber
    random.Random(0).shuffle(made)
    image = read(write(tmp_path / "s", made))
    np.testing.assert_array_equal(voxels(image), expected)
    np.testing.assert_allclose(image.affine.numpy(), EVEN_AFFINE, atol=1e-12)


def test_several_series_are_listed_and_one_must_be_chosen(tmp_path, read):
    first, second = series(number=1), series("MR", number=2, count=5)
    folder = write(tmp_path / "s", [*first, *second])
    message = refusal(read, folder, AmbiguousInput)
    for told in (first[0].SeriesInstanceUID, second[0].SeriesInstanceUID, "made MR", "5 slices"):
        assert told in message
    assert "--series" in message
    image = read(folder, series=second[0].SeriesInstanceUID)
    np.testing.assert_array_equal(voxels(image), values_of(second))
    assert {found.series: found.shape for found in find_series(folder)} == {
        first[0].SeriesInstanceUID: (12, 16, 4),
        second[0].SeriesInstanceUID: (12, 16, 5),
    }
    with pytest.raises(AmbiguousInput, match=r"holds no CT or MR series 1\.2\.3"):
        read(folder, series="1.2.3")


def test_of_many_other_series_a_note_names_three_and_counts_the_rest(tmp_path, read):
    for number in range(1, 7):
        write(tmp_path / "s" / str(number), series(number=number, count=2))
    uid = series(number=1)[0].SeriesInstanceUID
    notes = read(tmp_path / "s", series=uid).meta["source"]["faults"]
    assert len(notes) == 4
    assert all("left out: another series, " in note for note in notes[:3])
    assert notes[3].endswith(" and 1 more: left out: 2 further series")


def test_localizer_report_and_capture_are_left_out_and_said_so(tmp_path, read):
    made, scout = series(), series(number=2, count=1)[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    image = read(write(tmp_path / "s", [*made, scout, dose_report(), secondary_capture()]))
    np.testing.assert_array_equal(voxels(image), values_of(made))
    told = "\n".join(image.meta["source"]["faults"])
    for reason in ("a localizer", "X-Ray Radiation Dose SR", "a secondary capture"):
        assert f"left out as {reason}" in told or reason in told
    errors = [found.error for found in find_series(tmp_path / "s") if found.error]
    assert len(errors) == 3


def test_missing_slice_keeps_positions_and_is_not_called_even(tmp_path, read):
    made = series(count=6)
    del made[2]
    image = read(write(tmp_path / "s", made))
    source = image.meta["source"]
    np.testing.assert_array_equal(voxels(image), values_of(made))
    assert source["even"] is False
    assert any("gaps from 2.5 to 5 mm" in fault for fault in source["faults"])
    heights = [one["position"][2] for one in source["header"]["slices"]]
    assert heights == [40.0, 42.5, 47.5, 50.0, 52.5]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("EchoTime", "30"), ("TriggerTime", "400"), ("AcquisitionNumber", "2"), ("EchoNumbers", "2")],
)
def test_two_slices_at_one_position_are_refused_by_attribute(tmp_path, read, keyword, value):
    made, twin = series("MR"), series("MR")
    for one in twin:
        setattr(one, keyword, value)
        one.SOPInstanceUID += ".2"
    message = refusal(read, write(tmp_path / "s", [*made, *twin]), Unsupported)
    assert f"{keyword} tells them apart" in message
    assert ".dcm" in message and "one slice a position" in message


def test_tilt_is_kept_as_shear(tmp_path, read):
    angle = np.radians(18.5)
    tilted = (1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle))
    made = series(orientation=tilted)
    image = read(write(tmp_path / "s", made))
    np.testing.assert_array_equal(voxels(image), values_of(made))
    np.testing.assert_allclose(image.affine.numpy()[:3, 2], [0, 0, 2.5], atol=1e-9)
    np.testing.assert_allclose(
        image.affine.numpy()[:3, 1], [0, -0.75 * np.cos(angle), -0.75 * np.sin(angle)], atol=1e-9
    )
    source = image.meta["source"]
    assert source["even"] is True
    assert any("tilted by 18.5 degrees" in fault for fault in source["faults"])


def test_rescale_is_applied_slice_by_slice(tmp_path, read):
    made = series("MR")
    for index, one in enumerate(made):
        one.RescaleSlope, one.RescaleIntercept = f"{1 + index / 4}", f"{-index}"
    slopes, offsets = 1 + np.arange(4) / 4, -np.arange(4.0)
    image = read(write(tmp_path / "s", made))
    np.testing.assert_array_equal(voxels(image), (values_of(made) * slopes + offsets))


def test_monochrome1_keeps_the_meaning_of_values(tmp_path, read):
    made = series()
    folder = write(
        tmp_path / "s", made, lambda one: setattr(one, "PhotometricInterpretation", "MONOCHROME1")
    )
    np.testing.assert_array_equal(voxels(read(folder)), values_of(made))


def test_padding_and_values_below_air_are_air_and_the_mask_is_kept(tmp_path, read):
    made = series()
    for one in made:
        stored = stored_of(one).copy()
        stored[0, :3], stored[1, :2] = -2000, -1500
        one.PixelData = stored.tobytes()
        one.PixelPaddingValue = -2000
        one["PixelPaddingValue"].VR = "SS"
    image = read(write(tmp_path / "s", made))
    expected = values_of(made)
    expected[:3, 0], expected[:2, 1] = -1000, -1000
    np.testing.assert_array_equal(voxels(image), expected)
    from medtranslate.imaging.source import unpack_bits

    for record in image.meta["source"]["header"]["slices"]:
        mask = unpack_bits(record["padding"], (12, 16))
        assert mask.sum() == 5 and mask[:3, 0].all() and mask[:2, 1].all()
    assert any("20 voxels were not imaged" in f for f in image.meta["source"]["faults"])


def test_padding_among_tissue_is_refused(tmp_path, read):
    made = series()
    for one in made:
        one.PixelPaddingValue = 0
        one["PixelPaddingValue"].VR = "SS"
    assert "PixelPaddingValue 0" in refusal(read, write(tmp_path / "s", made), Unsupported)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("spare", [0, 1])
def test_signs_and_stored_bits_are_exact(tmp_path, read, bits, signed, spare):
    """Spare bits above BitsStored hold rubbish where `spare` is set."""
    made, shape = series(), (16, 12)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    expected = []
    for index, one in enumerate(made):
        values = np.random.default_rng(index).integers(low, high, shape)
        values[0, 0], values[0, 1] = low, high - 1
        expected.append(values)
        raw = (values & (2**bits - 1)).astype("<u2")
        if spare and bits < 16:
            raw |= np.uint16(0xFFFF << bits & 0xFFFF)
        put_pixels(one, raw, bits)
        one.PixelRepresentation = int(signed)
        one.RescaleIntercept = "40000"  # keeps all above air
    image = read(write(tmp_path / "s", made))
    np.testing.assert_array_equal(voxels(image), np.stack(expected, -1).transpose(1, 0, 2) + 40000)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_enhanced_multi_frame_is_exact(tmp_path, read, modality):
    made = enhanced(modality)
    image = read(save(made, tmp_path / "e.dcm"))
    stored = stored_values(modality, 4, 16, 12).transpose(2, 1, 0)
    expected = stored if modality == "CT" else stored * 2.0 + 5
    np.testing.assert_array_equal(voxels(image), expected)
    np.testing.assert_allclose(image.affine.numpy(), EVEN_AFFINE, atol=1e-12)
    frames = [one["frame"] for one in image.meta["source"]["header"]["slices"]]
    assert frames == [4, 3, 2, 1]


def test_enhanced_frames_at_one_position_are_refused_by_attribute(tmp_path, read):
    made = enhanced("MR")
    groups = made.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[0].PlanePositionSequence
    groups[1].FrameContentSequence[0].TemporalPositionIndex = 2
    message = refusal(read, save(made, tmp_path / "e.dcm"), Unsupported)
    assert "frame 1" in message and "TemporalPositionIndex" in message


@pytest.mark.parametrize("macro", ["PlanePositionSequence", "PixelMeasuresSequence"])
def test_enhanced_without_geometry_is_refused(tmp_path, read, macro):
    made = enhanced()
    for groups in (*made.PerFrameFunctionalGroupsSequence, *made.SharedFunctionalGroupsSequence):
        if macro in groups:
            delattr(groups, macro)
    assert f"{macro} is missing" in refusal(read, save(made, tmp_path / "e.dcm"), Unsupported)


def test_enhanced_with_another_count_of_frames_is_refused(tmp_path, read):
    made = enhanced()
    del made.PerFrameFunctionalGroupsSequence[0]
    message = refusal(read, save(made, tmp_path / "e.dcm"), Unreadable)
    assert "NumberOfFrames is 4, but 3" in message


ORIENTATIONS = [
    (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    (0.0, -1.0, 0.0, -1.0, 0.0, 0.0),
    (0.8, 0.6, 0.0, -0.6, 0.8, 0.0),
    (0.0, 0.6, 0.8, 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_any_orientation_places_every_voxel(tmp_path, read, orientation, sign):
    """Equation C.7.6.2.1-1 for each voxel of each file, against the affine, in RAS."""
    normal = np.cross(orientation[:3], orientation[3:])
    made = series(orientation=orientation, step=2.5 * sign * normal)
    image = read(write(tmp_path / "s", made))
    by_instance = {str(one.SOPInstanceUID): one for one in made}
    for k, record in enumerate(image.meta["source"]["header"]["slices"]):
        one = by_instance[record["instance"]]
        position = np.array([float(x) for x in one.ImagePositionPatient])
        for column, row in ((0, 0), (11, 0), (0, 15), (7, 9)):
            lps = position + np.array(orientation[:3]) * 0.5 * column
            lps = lps + np.array(orientation[3:]) * 0.75 * row
            ras = image.affine.numpy() @ [column, row, k, 1]
            np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-6)
            assert voxels(image)[column, row, k] == stored_of(one)[row, column]


@pytest.mark.parametrize(
    "keyword",
    ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"],
)
@pytest.mark.parametrize("empty", [False, True])
def test_missing_geometry_is_refused_by_name(tmp_path, read, keyword, empty):
    made = series()
    if empty:
        setattr(made[2], keyword, [])
    else:
        delattr(made[2], keyword)
    folder = write(tmp_path / "s", made)
    message = refusal(read, folder, Unsupported)
    assert f"{keyword} is missing" in message and ".dcm" in message
    assert keyword in find_series(folder)[0].error


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_ct_without_rescale_is_refused(tmp_path, read, keyword):
    folder = write(tmp_path / "s", series(), lambda one: delattr(one, keyword))
    assert f"{keyword} is missing" in refusal(read, folder, Unsupported)


def test_ct_in_another_unit_is_refused(tmp_path, read):
    folder = write(tmp_path / "s", series(), lambda one: setattr(one, "RescaleType", "US"))
    assert "RescaleType is US" in refusal(read, folder, Unsupported)


def test_broken_files_are_named_and_the_others_read(tmp_path, read):
    made = series(count=5)
    folder = write(tmp_path / "s", made[:4])
    whole = save(made[4], folder / "truncated.dcm").read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[:-50])
    (folder / "empty.dcm").touch()
    (folder / "notes.txt").write_text("not an image at all, but long enough " * 10)
    (folder / "half.dcm").write_bytes(whole[:200])
    image = read(folder)
    np.testing.assert_array_equal(voxels(image), values_of(made[:4]))
    told = "\n".join(image.meta["source"]["faults"])
    assert "truncated.dcm: left out because it is truncated: 50 bytes" in told
    assert "empty.dcm: left out because it has zero bytes" in told
    assert "notes.txt: left out because it is not DICOM" in told
    assert "half.dcm: left out because it" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "zero bytes"), (b"hello" * 100, "not DICOM"), (b"\0" * 128 + b"DICM", "damaged")],
)
def test_a_broken_file_alone_is_refused_by_name(tmp_path, read, content, told):
    path = tmp_path / "broken.dcm"
    path.write_bytes(content)
    message = refusal(read, path, Unreadable)
    assert told in message and "broken.dcm" in message


def test_dicomdir_is_left_out_and_alone_refused(tmp_path, read):
    made, directory = series(), dose_report()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    folder = write(tmp_path / "s", made)
    save(directory, folder / "DICOMDIR")
    image = read(folder)
    np.testing.assert_array_equal(voxels(image), values_of(made))
    assert any("DICOMDIR" in fault for fault in image.meta["source"]["faults"])
    assert "give the folder" in refusal(read, folder / "DICOMDIR", Unsupported)


def test_files_without_preamble_are_read_and_said_so(tmp_path, read):
    made = series()
    folder = write(tmp_path / "s", made)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(voxels(read(folder)), values_of(made))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_uncompressed_syntaxes_are_exact(tmp_path, read, syntax):
    made = series()
    expected = values_of(made)
    for index, one in enumerate(made):
        if syntax == ExplicitVRBigEndian:
            one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
        save(one, tmp_path / f"{index}.dcm", syntax)
    np.testing.assert_array_equal(voxels(read(tmp_path)), expected)


def test_secondary_capture_is_refused_as_a_volume(tmp_path, read):
    message = refusal(read, save(secondary_capture(), tmp_path / "sc.dcm"), Unsupported)
    assert "without geometry or units" in message


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", numbers((0.0, 1.0, 0.0, 0.0, 0.0, -1.0))),
        ("PixelSpacing", ["0.5", "0.5"]),
        ("PatientID", "P2"),
        ("FrameOfReferenceUID", "1.2.3"),
    ],
)
def test_slices_that_disagree_are_refused_by_attribute(tmp_path, read, keyword, value):
    made = series()
    setattr(made[1], keyword, value)
    message = refusal(read, write(tmp_path / "s", made), Unsupported)
    assert f"{keyword} differs within the series" in message and ".dcm" in message


@pytest.mark.parametrize("bad", [(1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0)])
def test_direction_cosines_that_are_none_are_refused(tmp_path, read, bad):
    folder = write(
        tmp_path / "s", series(), lambda one: setattr(one, "ImageOrientationPatient", list(bad))
    )
    assert "two perpendicular unit vectors" in refusal(read, folder, Unsupported)


def test_one_slice_takes_its_thickness(tmp_path, read):
    image = read(write(tmp_path / "s", series(count=1, orientation=AXIAL)))
    assert image.shape == (1, 12, 16, 1)
    np.testing.assert_allclose(image.affine.numpy()[:3, 2], [0, 0, 2.5])
    assert "SliceThickness" in image.meta["source"]["faults"][0]


def test_source_is_builtins_only(tmp_path, read):
    def walk(value):
        assert type(value) in (dict, list, str, int, float, bool), type(value)
        for inner in value.values() if isinstance(value, dict) else []:
            walk(inner)
        for inner in value if isinstance(value, list) else []:
            walk(inner)

    walk(dict(read(write(tmp_path / "s", series())).meta["source"]))
