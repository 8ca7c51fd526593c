from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import SaveImage

from medtranslate.errors import Unsupported
from medtranslate.imaging import NiftiReader, NiftiWriter, nifti, read, survey, write
from medtranslate.imaging.source import array_source

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def test_voxels_affine_and_source_are_as_stored(nifti_file, voxels, oblique):
    path = nifti_file(voxels, oblique)

    image = read(path)

    assert image.shape == (1, 8, 9, 5)
    assert image.dtype.is_floating_point
    assert np.array_equal(image.numpy()[0], voxels.astype(np.float32))
    assert np.array_equal(image.affine.numpy(), oblique)
    source = image.meta["source"]
    assert (source["format"], source["kind"], source["dtype"]) == ("nifti", "volume", "int16")
    assert (source["shape"], source["files"], source["even"]) == ([8, 9, 5], [str(path)], True)
    assert source["modality"] == "CT"
    assert source["modality_basis"].startswith("guess: ")
    json.dumps(source)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_every_type_and_byte_order(tmp_path, oblique, kind, dtype, order):
    array = np.arange(60).reshape(3, 4, 5).astype(np.dtype(dtype).newbyteorder(order))
    header = kind.header_class(endianness=order)
    image = kind(array, oblique, header=header, dtype=array.dtype)
    path = tmp_path / "scan.nii"
    image.to_filename(path)

    got = read(path)
    write(got, tmp_path / "again.nii")

    assert np.array_equal(got.numpy()[0], array.astype(np.float32))
    again = nib.load(tmp_path / "again.nii")
    assert type(again) is kind
    assert again.get_data_dtype() == np.dtype(dtype)
    assert np.array_equal(np.asanyarray(again.dataobj), array)
    assert np.array_equal(again.affine, image.affine)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (2, 4), (3, 1)])
def test_both_placements_come_back_to_the_bit(tmp_path, voxels, codes):
    image = nib.Nifti1Image(voxels, None)
    rotation = nib.affines.from_matvec(np.diag([-0.7, 0.8, 3.3]), [10.1, -20.2, 5.5])
    image.set_qform(rotation, code=codes[0])
    image.set_sform(rotation + np.diag([0.001, 0, 0, 0]), code=codes[1])
    image.header["descrip"] = b"as it was"
    image.to_filename(tmp_path / "scan.nii.gz")

    got = read(tmp_path / "scan.nii.gz")
    write(got, tmp_path / "again.nii.gz")

    first, second = nib.load(tmp_path / "scan.nii.gz"), nib.load(tmp_path / "again.nii.gz")
    assert first.header.binaryblock == second.header.binaryblock
    assert np.array_equal(first.affine, second.affine)
    assert np.array_equal(got.affine.numpy(), first.affine)
    assert bool(got.meta["source"]["faults"]) == (codes == (0, 0))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dtype=st.sampled_from([*INTEGERS, "float32", "float64"]),
    shape=st.tuples(st.integers(3, 7), st.integers(3, 7), st.integers(1, 5)),
    axes=st.permutations(range(3)),
    spacing=st.tuples(*[st.floats(0.1, 10).map(lambda x: float(np.float32(x)))] * 3),
    scaling=st.sampled_from([(1.0, 0.0), (0.5, -1024.0), (3.0, 7.0), (0.1, 0.3)]),
    seed=st.integers(0, 99),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_round_trip(tmp_path_factory, dtype, shape, axes, spacing, scaling, seed, suffix):
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 127, size=shape).astype(dtype)
    affine = np.eye(4)[[*axes, 3]] @ np.diag([*spacing, 1.0])
    image = nib.Nifti1Image(array, affine, dtype=np.dtype(dtype))
    image.header.set_slope_inter(*scaling)
    _write_raw(folder / f"a{suffix}", image.header, array)

    got = read(folder / f"a{suffix}")
    write(got, folder / f"b{suffix}")
    again = read(folder / f"b{suffix}")

    slope, inter = (float(np.float32(number)) for number in scaling)
    assert np.array_equal(got.numpy()[0], (array * np.float64(slope) + inter).astype(np.float32))
    assert np.array_equal(again.numpy(), got.numpy())
    assert np.array_equal(again.affine.numpy(), affine)
    if dtype not in ("float32", "float64"):
        assert again.meta["source"]["dtype"] == dtype


def _write_raw(path: Path, header: nib.Nifti1Header, array: np.ndarray) -> None:
    """Write stored numbers with a scaling that nibabel would otherwise choose itself."""
    header["vox_offset"] = 352
    content = header.binaryblock + bytes(4) + array.tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_values_that_do_not_fit_the_stored_type_go_out_as_float32(nifti_file, voxels, tmp_path):
    image = read(nifti_file(voxels))
    image += 0.25

    write(image, tmp_path / "out.nii")

    out = nib.load(tmp_path / "out.nii")
    assert out.get_data_dtype() == np.float32
    assert np.array_equal(out.get_fdata(), voxels + 0.25)


def test_a_trailing_axis_of_one_is_one_volume_and_comes_back(nifti_file, voxels, tmp_path):
    image = read(nifti_file(voxels[..., None]))
    write(image, tmp_path / "out.nii")

    assert image.shape == (1, 8, 9, 5)
    assert nib.load(tmp_path / "out.nii").shape == (8, 9, 5, 1)


def test_units_of_meters_are_turned_into_mm(tmp_path, voxels):
    image = nib.Nifti1Image(voxels, np.diag([0.001, 0.001, 0.005, 1.0]))
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "scan.nii")

    got = read(tmp_path / "scan.nii")
    write(got, tmp_path / "out.nii")

    assert np.allclose(np.diag(got.affine), [1.0, 1.0, 5.0, 1.0])
    assert "meter" in got.meta["source"]["faults"][0]
    first, second = nib.load(tmp_path / "scan.nii"), nib.load(tmp_path / "out.nii")
    assert np.array_equal(first.affine, second.affine)


def test_a_result_says_that_it_is_synthetic(nifti_file, voxels, translated, tmp_path, synthesis):
    image = read(nifti_file(voxels, descrip=b"Mr. Somebody", scl_slope=2.0))
    made = translated(image)
    made[:] = torch.arange(made.numel()).reshape(made.shape) + 0.4

    write(made, tmp_path / "out.nii.gz")

    out = nib.load(tmp_path / "out.nii.gz")
    assert out.get_data_dtype() == np.int16
    assert np.array_equal(np.asanyarray(out.dataobj).ravel(), np.arange(made.numel()))
    assert np.array_equal(out.affine, image.affine.numpy())
    assert bytes(out.header["descrip"]).rstrip(b"\0").decode() == synthesis["label"]
    (note,) = out.header.extensions
    assert note.get_code() == 6
    label, record = note.get_content().decode().rstrip("\0").split("\n")
    assert label == synthesis["label"]
    assert json.loads(record) == synthesis
    raw = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
    assert np.frombuffer(raw[112:120], "<f4").tolist() == [1.0, 0.0]


def test_a_results_label_says_what_it_is(nifti_file, voxels, translated, tmp_path):
    image = read(nifti_file(np.clip(voxels, -500, 500)))  # neither air nor MR signal
    made = translated(image)
    write(made, tmp_path / "out.nii.gz")
    write(translated(made, label="SYNTHETIC error map of synthetic MR"), tmp_path / "map.nii.gz")

    assert image.meta["source"]["modality"] == ""
    source = read(tmp_path / "out.nii.gz").meta["source"]
    assert (source["modality"], source["modality_basis"]) == ("MR", "label SYNTHETIC MR")
    (found,) = survey(tmp_path / "out.nii.gz")
    assert (found.modality, found.modality_basis) == ("MR", "label SYNTHETIC MR")
    assert read(tmp_path / "map.nii.gz").meta["source"]["modality"] == ""


def test_a_long_model_name_gives_way_in_the_description(nifti_file, voxels, translated, tmp_path):
    label = "SYNTHETIC MR from CT, " + "m" * 90 + " 0.1, NOT FOR DIAGNOSIS"
    write(translated(read(nifti_file(voxels)), label=label, model="m" * 90), tmp_path / "o.nii")

    description = bytes(nib.load(tmp_path / "o.nii").header["descrip"]).rstrip(b"\0")
    assert description.startswith(b"SYNTHETIC MR, NOT FOR DIAGNOSIS, mmm")
    assert len(description) == 79


def test_a_version_is_told_whole_or_not_at_all(nifti_file, voxels, translated, tmp_path):
    label = "SYNTHETIC error map of synthetic MR, brain_ct_mri 0.3.10, NOT FOR DIAGNOSIS" + " " * 9
    made = translated(read(nifti_file(voxels)), label=label, model="m" * 44, version="0.3.10")
    write(made, tmp_path / "o.nii")

    description = bytes(nib.load(tmp_path / "o.nii").header["descrip"]).rstrip(b"\0")
    assert description == b"SYNTHETIC MR, NOT FOR DIAGNOSIS, " + b"m" * 44


def test_the_same_image_gives_the_same_bytes(nifti_file, voxels, tmp_path):
    image = read(nifti_file(voxels))
    write(image, tmp_path / "a.nii.gz")
    write(image, tmp_path / "b.nii.gz")

    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_sheared_affine_from_elsewhere_is_told_by_the_sform_alone(nifti_file, voxels, tmp_path):
    image = read(nifti_file(voxels))
    image.meta["source"] = {**image.meta["source"], "format": "array", "header": {}}

    write(image, tmp_path / "out.nii")

    out = nib.load(tmp_path / "out.nii")
    assert (int(out.header["sform_code"]), int(out.header["qform_code"])) == (1, 0)
    assert np.allclose(out.affine, image.affine.numpy(), atol=1e-5)


def test_uneven_slices_are_refused(nifti_file, voxels, tmp_path, left_over):
    image = read(nifti_file(voxels))
    image.meta["source"] = {**image.meta["source"], "even": False}

    with pytest.raises(Unsupported, match=r"out.nii.gz: the slices are not evenly spaced"):
        write(image, tmp_path / "out.nii.gz")
    assert left_over("scan.nii.gz") == []


def test_monais_save_image_writes_with_ours(nifti_file, voxels, tmp_path):
    image = read(nifti_file(voxels))

    SaveImage(
        output_dir=tmp_path / "out", writer=NiftiWriter, output_ext=".nii", separate_folder=False
    )(image)

    saved = NiftiReader().read(tmp_path / "out" / "scan_trans.nii")
    assert np.array_equal(saved.voxels, voxels)
    assert saved.source["dtype"] == "int16"


@pytest.mark.data
def test_a_real_scan_comes_back_to_the_bit(shared_data, tmp_path):
    path = shared_data / "nifti" / "mr-brain-t2w.nii.gz"
    image = read(path)
    write(image, tmp_path / "out.nii.gz")

    first, second = nib.load(path), nib.load(tmp_path / "out.nii.gz")
    assert first.header.binaryblock == second.header.binaryblock
    assert np.array_equal(np.asanyarray(first.dataobj), np.asanyarray(second.dataobj))
    assert image.meta["source"]["modality"] == "MR"


def test_an_image_from_elsewhere_is_stored_as_it_is_and_without_scaling(tmp_path, voxels):
    image = MetaTensor(torch.from_numpy(voxels.astype(np.float32))[None], affine=torch.eye(4))
    image.meta["source"] = {**array_source(image), "dtype": "int16"}
    made = nib.load(write(image, tmp_path / "a.nii"))
    assert made.dataobj.slope == 1 and made.dataobj.inter == 0
    assert made.get_data_dtype() == np.int16
    np.testing.assert_array_equal(made.dataobj.get_unscaled(), voxels)


@pytest.mark.parametrize("order", "<>")
def test_a_scan_of_either_byte_order_is_stored_as_it_was(tmp_path, voxels, order):
    content = nib.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype).to_bytes()
    header = nib.Nifti1Header(content[:348]).as_byteswapped(order)
    stored = np.ascontiguousarray(voxels.T).astype(f"{order}i2").tobytes()
    path = tmp_path / "a.nii"
    path.write_bytes(header.binaryblock + bytes(4) + stored)
    again = nib.load(write(read(path), tmp_path / "b.nii"))
    np.testing.assert_array_equal(again.dataobj.get_unscaled(), voxels)


def test_an_affine_without_shear_is_written_as_qform_too(tmp_path, voxels):
    turned = np.array([[0, -2.0, 0, 0], [1.5, 0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 1]])
    sheared = turned.copy()
    sheared[0, 2] = 1.0
    for affine, code in ((turned, 1), (sheared, 0)):
        data = torch.from_numpy(voxels.astype(np.float32))[None]
        image = MetaTensor(data, affine=torch.from_numpy(affine))
        image.meta["source"] = array_source(image)
        header = nib.load(write(image, tmp_path / f"{code}.nii")).header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (code, 1)
        np.testing.assert_array_equal(header.get_sform(), affine)
        assert header.get_xyzt_units()[0] == "mm"
        if code:
            np.testing.assert_allclose(header.get_qform(), affine, atol=1e-6)


def test_a_synthetic_ct_names_its_window_and_the_same_image_is_the_same_file(
    tmp_path, nifti_file, voxels, translated, monkeypatch
):
    image = read(nifti_file(voxels.clip(-20, 100)))
    made = translated(image, modality="CT", window=[-20.0, 100.0], background=-1000)
    first = write(made, tmp_path / "a.nii.gz").read_bytes()
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (float(header["cal_min"]), float(header["cal_max"])) == (-20, 100)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert write(made, tmp_path / "b.nii.gz").read_bytes() == first
    plain = nib.load(write(translated(image), tmp_path / "c.nii")).header
    assert (float(plain["cal_min"]), float(plain["cal_max"])) == (0, 0)


def test_sform_and_qform_that_differ_are_reported(nifti_file, voxels):
    turn = {"qform_code": 1, "quatern_b": 0, "quatern_c": 0, "quatern_d": 0, "sform_code": 1}
    placed = {"pixdim": [1, 1, 2, 3, 0, 0, 0, 0], "qoffset_y": 0, "qoffset_z": 0}
    rows = {"srow_x": [1, 0, 0, 5], "srow_y": [0, 2, 0, 0], "srow_z": [0, 0, 3, 0]}
    for offset, faults in (
        (5.05, []),
        (5.25, ["sform and qform differ by up to 0.25; the sform is used."]),
    ):
        path = nifti_file(voxels, **turn, **placed, **rows, qoffset_x=offset, name=f"{offset}.nii")
        image = read(path)
        assert image.meta["source"]["faults"] == faults
        np.testing.assert_array_equal(image.affine[:3, 3], [5, 0, 0])


def test_seven_axes_are_as_many_as_there_are(nifti_file, voxels):
    image = read(nifti_file(voxels, dim=[7, *voxels.shape, 1, 1, 1, 1]))
    np.testing.assert_array_equal(image.numpy()[0], voxels)


def test_the_memory_that_a_volume_takes_is_that_of_both_copies(nifti_file, voxels, monkeypatch):
    asked = []
    monkeypatch.setattr(nifti, "check_memory", lambda amount, path: asked.append(amount))
    read(nifti_file(voxels))
    assert asked == [voxels.size * 2 + voxels.size * 4]
