"""Every NIfTI that must be refused: class, file and fault are named."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import torch

from medtranslate.errors import InputMissing, Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging import read, write


def refused(path, kind, fault):
    with pytest.raises(kind, match=fault) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_missing_file(tmp_path):
    refused(tmp_path / "none.nii.gz", InputMissing, "no such file")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    refused(tmp_path / name, Unreadable, "the file is empty")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_text_file(tmp_path, name):
    (tmp_path / name).write_text("Dear colleague,\n" * 99)
    refused(tmp_path / name, Unreadable, "not a NIfTI file")


@pytest.mark.parametrize("keep", [0.1, 0.6, 0.999])
def test_truncated_gzip(nifti_file, voxels, keep):
    path = nifti_file(voxels)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path, Unreadable, "truncated")


def test_truncated_plain(nifti_file, voxels):
    path = nifti_file(voxels, name="scan.nii")
    path.write_bytes(path.read_bytes()[:-7])
    refused(path, Unreadable, "truncated: at most 1065 of 1072 bytes")


def test_gzip_whose_stream_ends_whole_but_short(nifti_file, voxels):
    path = nifti_file(voxels)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-20]))
    refused(path, Unreadable, "truncated: 700 of 720 bytes of voxels")


def test_one_flipped_bit_in_gzip_is_noticed(nifti_file, voxels):
    path = nifti_file(voxels)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)
    refused(path, Unreadable, "damaged gzip stream: CRC check failed")


def test_header_and_image_pair(tmp_path, voxels):
    nib.Nifti1Pair(voxels, np.eye(4)).to_filename(tmp_path / "scan.img")
    (tmp_path / "scan.hdr").rename(tmp_path / "scan.nii")
    refused(tmp_path / "scan.nii", Unsupported, "second file")


def test_several_volumes(nifti_file):
    refused(nifti_file(np.zeros((4, 4, 4, 3), np.int16)), Unsupported, "holds 3 volumes")


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 2, 9), (1, 1, 1), (2, 9)])
def test_too_few_voxels(nifti_file, shape):
    refused(nifti_file(np.zeros(shape, np.int16)), Unsupported, "fewer than 3 voxels")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_voxels_that_are_no_numbers(nifti_file, value, dtype):
    array = np.ones((4, 5, 6), dtype)
    array[1, 2, 3] = value
    refused(nifti_file(array), Unsupported, "1 of 120 voxels are NaN or infinite")


def test_voxels_beyond_float32(nifti_file):
    refused(nifti_file(np.full((4, 5, 6), 1e300)), Unsupported, "120 of 120 voxels")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_voxels(nifti_file, dtype):
    refused(nifti_file(np.zeros((4, 5, 6), dtype)), Unsupported, f"voxels of type {dtype}")


def test_color_voxels(nifti_file):
    color = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(nifti_file(np.zeros((4, 5, 6), color)), Unsupported, "voxels of type RGB")


@pytest.mark.parametrize(
    ("affine", "fault"),
    [
        (np.zeros((4, 4)), "zero along axis X"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "zero along axis Z"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "not finite"),
        (np.diag([1.0, np.inf, 1.0, 1.0]), "not finite"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_affine_that_places_nothing(nifti_file, voxels, affine, fault):
    rows = {f"srow_{axis}": affine[row] for row, axis in enumerate("xyz")}
    refused(nifti_file(voxels, sform_code=1, **rows), Unsupported, fault)


@pytest.mark.parametrize("codes", [0, 1])
def test_voxel_size_of_zero_without_sform(nifti_file, voxels, codes):
    pixdim = [1, 1, 0, 1, 0, 0, 0, 0]
    path = nifti_file(voxels, sform_code=0, qform_code=codes, pixdim=pixdim)
    refused(path, Unsupported, "voxel size 0 along Y")


def test_header_that_claims_more_than_there_can_be(nifti_file, voxels):
    path = nifti_file(voxels, name="scan.nii")
    content = bytearray(path.read_bytes())
    content[42:48] = struct.pack("<3h", 800, 800, 800)
    path.write_bytes(content)
    refused(path, Unreadable, "truncated")
    content[42:48] = struct.pack("<3h", 32767, 32767, 32767)
    path.write_bytes(content)
    refused(path, UntrustedInput, "claims too many voxels")


@pytest.mark.parametrize(
    ("offset", "value", "fault"),
    [
        (40, struct.pack("<h", 0), "0 axes"),
        (40, struct.pack("<h", 9), "9 axes"),
        (42, struct.pack("<h", -5), "no voxels"),
        (70, struct.pack("<h", 4711), "damaged header"),
        (116, struct.pack("<f", np.nan), "damaged header"),
        (108, struct.pack("<f", 12.0), "damaged header"),
    ],
)
def test_damaged_header(nifti_file, voxels, offset, value, fault):
    path = nifti_file(voxels, name="scan.nii", scl_slope=1.0)
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(content)
    refused(path, (Unreadable, Unsupported), fault)


def test_unreadable_permission(nifti_file, voxels, monkeypatch):
    path = nifti_file(voxels)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", deny)
    refused(path, InputMissing, "no permission to read")


@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, -352.0, 352.5, 1e30])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_an_offset_that_is_none(nifti_file, voxels, name, offset):
    refused(nifti_file(voxels, name=name, vox_offset=offset), Unreadable, "vox_offset|truncated")


FULL_TURN = {"qform_code": 1, "quatern_b": 0, "quatern_c": 0}


def test_a_quaternion_a_hair_over_unit_length_is_scaled(nifti_file, voxels):
    exact = read(nifti_file(voxels, **FULL_TURN, quatern_d=1.0, sform_code=0, name="a.nii"))
    over = read(nifti_file(voxels, **FULL_TURN, quatern_d=1.0000003, sform_code=0, name="b.nii"))
    np.testing.assert_allclose(over.affine, exact.affine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [1.2, np.nan, np.inf])
def test_a_qform_that_is_none_gives_way_to_the_sform(nifti_file, voxels, oblique, wrong, tmp_path):
    image = read(nifti_file(voxels, **FULL_TURN, quatern_d=wrong, sform_code=1))
    np.testing.assert_array_equal(image.affine, oblique)
    assert "The qform is unusable and is left out" in image.meta["source"]["faults"][0]
    write(image, tmp_path / "again.nii")
    np.testing.assert_array_equal(nib.load(tmp_path / "again.nii").affine, oblique)


@pytest.mark.parametrize("wrong", [1.2, np.nan, np.inf])
def test_a_qform_that_is_none_and_no_sform(nifti_file, voxels, wrong):
    path = nifti_file(voxels, **FULL_TURN, quatern_d=wrong, sform_code=0)
    refused(path, Unreadable, "the qform is unusable")


NOWHERE = {f"srow_{axis}": [0, 0, 0, 0] for axis in "xyz"}


@pytest.mark.parametrize("wrong", [NOWHERE, {"srow_y": [np.nan, 0, 0, 0]}])
def test_an_sform_that_places_nothing_gives_way_to_the_qform(nifti_file, voxels, wrong, tmp_path):
    qform = {**FULL_TURN, "quatern_d": 1.0, "qoffset_x": 7.0}
    image = read(nifti_file(voxels, **qform, sform_code=1, **wrong, name="a.nii"))
    exact = read(nifti_file(voxels, **qform, sform_code=0, name="b.nii"))
    assert torch.equal(image.affine, exact.affine)
    assert image.meta["source"]["faults"][0] == (
        "The sform is unusable and is left out; the qform is used."
    )
    again = nib.load(write(image, tmp_path / "c.nii"))
    np.testing.assert_array_equal(again.affine, exact.affine)
    for unusable in ({"quatern_d": 3.0}, {"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]}, {"qform_code": 0}):
        path = nifti_file(voxels, **{**qform, "sform_code": 1, **wrong, **unusable})
        refused(path, Unsupported, "affine is (zero|not finite)")


def test_a_placement_that_no_code_vouches_for_is_not_looked_at(nifti_file, voxels):
    none = {"sform_code": 0, "qform_code": 0}
    exact = read(nifti_file(voxels, **none, name="a.nii"))
    image = read(nifti_file(voxels, **none, **NOWHERE, quatern_d=3.0, name="b.nii"))
    assert torch.equal(image.affine, exact.affine)
    assert image.meta["source"]["faults"] == exact.meta["source"]["faults"]
    assert exact.meta["source"]["faults"] == [
        "Neither sform nor qform: position and left-right are assumed."
    ]
    image = read(nifti_file(voxels, **FULL_TURN, sform_code=0, **NOWHERE, name="c.nii"))
    assert image.meta["source"]["faults"] == []
    image = read(nifti_file(voxels, sform_code=1, qform_code=0, quatern_d=3.0, name="d.nii"))
    assert image.meta["source"]["faults"] == []


def test_negative_sizes_do_not_vouch_for_a_qform_in_the_place_of_an_sform(nifti_file, voxels):
    sizes = {"pixdim": [1, -1, 1, 1, 0, 0, 0, 0]}
    path = nifti_file(voxels, **FULL_TURN, sform_code=1, **NOWHERE, **sizes)
    refused(path, Unsupported, "affine is zero")


def test_an_axis_of_no_length_beyond_the_third_counts_as_one(nifti_file, voxels):
    image = read(nifti_file(voxels, dim=[4, *voxels.shape, 0, 0, 0, 0]))
    np.testing.assert_array_equal(image.numpy()[0], voxels)
    assert image.meta["source"]["faults"] == ["header: dim[4] is 0; setting to 1."]
    refused(nifti_file(voxels, dim=[3, 8, 9, 0, 1, 1, 1, 1]), Unsupported, "has no voxels")
    refused(nifti_file(voxels, dim=[5, *voxels.shape, 0, 2, 1, 1]), Unsupported, "holds 2 volumes")


@pytest.mark.parametrize("extra", [1, 2000])
def test_a_gzip_stream_that_damage_made_longer(nifti_file, voxels, extra):
    path = nifti_file(voxels)
    content = gzip.compress(gzip.decompress(path.read_bytes()) + bytes(extra))
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    refused(path, Unreadable, "CRC check failed|more than the header describes")


def test_bytes_after_the_voxels_are_reported_and_a_slice_more_is_refused(nifti_file, voxels):
    path = nifti_file(voxels, name="scan.nii")
    content = path.read_bytes()
    path.write_bytes(content + bytes(16))
    image = read(path)
    np.testing.assert_array_equal(image.numpy()[0], voxels)
    assert "16 bytes after the voxels are not read." in image.meta["source"]["faults"]
    path.write_bytes(content + bytes(144))
    refused(path, Unreadable, "144 bytes of voxels more than the header describes")


def test_more_voxels_than_there_is_memory(nifti_file, voxels, monkeypatch):
    monkeypatch.setattr("medtranslate.imaging.limits.LEAST_CHECKED", 0)
    monkeypatch.setattr("medtranslate.imaging.limits.free_memory", lambda: 100)
    refused(nifti_file(voxels), UntrustedInput, "GiB of memory")


def test_a_small_file_of_very_many_voxels_is_a_bomb(nifti_file, monkeypatch):
    monkeypatch.setattr("medtranslate.imaging.limits.FREE_BYTES", 10**6)
    refused(nifti_file(np.zeros((400, 400, 40), np.uint8)), UntrustedInput, "like a bomb")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\0\0\0\1\0\0\0\100" + bytes(600), "a volume of FreeSurfer"),
        (bytes(128) + b"DICM" + bytes(500), "a gzipped DICOM file"),
        (b"head.nii".ljust(257, b"\0") + b"ustar\0" + bytes(400), "a tar archive"),
        (gzip.compress(bytes(range(256)) * 9), "gzipped twice"),
    ],
)
def test_what_a_gzip_holds_instead_is_named(tmp_path, content, fault):
    (tmp_path / "scan.mgz").write_bytes(gzip.compress(content))
    refused(tmp_path / "scan.mgz", Unreadable, f"{fault}.*not read")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (bytes(128) + b"DICM" + bytes(500), "a DICOM file"),
        (b"NRRD0004\n" + bytes(500), "a NRRD file"),
        (b"\x89PNG" + bytes(500), "a PNG image"),
    ],
)
def test_what_is_named_like_nifti_and_is_not_is_named(tmp_path, content, what):
    (tmp_path / "scan.nii").write_bytes(content)
    refused(tmp_path / "scan.nii", Unreadable, rf"{what} in spite of its name \(rename it\)")


@pytest.mark.parametrize(
    ("code", "meaning"), [(1002, "labels"), (1007, "vectors"), (3, "t-values"), (0, "")]
)
def test_values_that_were_computed_from_scans_are_reported(nifti_file, voxels, code, meaning):
    faults = read(nifti_file(voxels, intent_code=code)).meta["source"]["faults"]
    assert faults == (
        [f"The header's intent is {meaning}: the values may be no scan's."] if meaning else []
    )


@pytest.mark.parametrize(("unit", "fault"), [(1, "3500 mm: .*meters"), (3, "0.0035 mm: .*microns")])
def test_a_unit_that_makes_voxels_of_no_scanner(nifti_file, voxels, unit, fault):
    path = nifti_file(voxels)
    image = nib.load(path)
    placed = nib.Nifti1Image(np.asarray(image.dataobj), np.diag([3.5, 3.5, 3.5, 1]))
    placed.header["xyzt_units"] = unit
    nib.save(placed, path)
    refused(path, Unsupported, f"voxels of .* x {fault}")


@pytest.mark.parametrize(
    ("fields", "kind", "fault"),
    [
        ({"dim": [1, 8, 9, 5, 1, 1, 1, 1]}, Unsupported, "is no image"),
        ({"dim": [0, 8, 9, 5, 1, 1, 1, 1]}, Unreadable, "0 axes"),
        ({"dim": [8, 8, 9, 5, 1, 1, 1, 1]}, Unreadable, "8 axes"),
        ({"vox_offset": 1e19}, Unreadable, r"vox_offset is 1e\+19"),
        ({"vox_offset": -16}, Unreadable, "vox_offset is -16"),
        ({"vox_offset": 0}, Unreadable, "352 bytes of voxels more than"),
    ],
)
def test_sizes_and_offsets_that_are_none(nifti_file, voxels, fields, kind, fault):
    refused(nifti_file(voxels, name="a.nii", **fields), kind, fault)
