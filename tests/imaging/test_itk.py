from __future__ import annotations

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging import read, write

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64")


@pytest.fixture
def itk_image(voxels):
    """A tilted ITK image in LPS whose spacing and origin no short decimal holds."""

    def make(array=voxels):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        image.SetSpacing((0.1, 0.2, 1 / 3))
        image.SetOrigin((1 / 3, -2.7, 100 / 7))
        direction = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, 0.1], [0.0, 0.28, 1.0]])
        image.SetDirection((direction / np.linalg.norm(direction, axis=0)).ravel().tolist())
        return image

    return make


def lps_affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return affine


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_voxels_and_affine_in_ras(tmp_path, itk_image, voxels, suffix, compressed):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(itk_image(), str(path), compressed)

    image = read(path)

    assert np.array_equal(image.numpy()[0], voxels)
    expected = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps_affine(itk_image())
    assert np.allclose(image.affine.numpy(), expected, rtol=0, atol=1e-12)
    assert image.meta["source"]["format"] == {"m": "metaimage", "n": "nrrd"}[suffix[1]]
    assert image.meta["source"]["modality"] == "CT"


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", TYPES)
def test_round_trip_keeps_type_voxels_and_placement(tmp_path, itk_image, suffix, dtype):
    array = np.arange(60).reshape(3, 4, 5).astype(dtype)
    sitk.WriteImage(itk_image(array), str(tmp_path / f"a{suffix}"))

    write(read(tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}")

    first, second = (sitk.ReadImage(str(tmp_path / f"{name}{suffix}")) for name in "ab")
    assert first.GetPixelID() == second.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
    assert np.allclose(lps_affine(first), lps_affine(second), rtol=0, atol=1e-15)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_result_says_that_it_is_synthetic(
    tmp_path, nifti_file, voxels, translated, synthesis, suffix
):
    source = read(nifti_file(voxels))
    write(translated(source), tmp_path / f"out{suffix}")

    out = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert out.GetPixelID() == sitk.sitkInt16
    assert out.GetMetaData("SYNTHETIC") == synthesis["label"]
    assert json.loads(out.GetMetaData("SYNTHESIS")) == synthesis
    again = read(tmp_path / f"out{suffix}")
    assert np.array_equal(again.numpy(), source.numpy())
    assert np.allclose(again.affine.numpy(), source.affine.numpy(), rtol=0, atol=1e-12)
    assert source.meta["source"]["modality"] == "CT"  # by its values, which are the result's too
    assert again.meta["source"]["modality_basis"] == "label SYNTHETIC MR"


def test_the_headers_modality_is_believed(tmp_path, itk_image):
    sitk.WriteImage(itk_image(), str(tmp_path / "scan.mha"))
    content = (tmp_path / "scan.mha").read_bytes()
    content = content.replace(b"DimSize", b"Modality = MET_MOD_MR\nDimSize")
    (tmp_path / "scan.mha").write_bytes(content)

    source = read(tmp_path / "scan.mha").meta["source"]
    assert (source["modality"], source["modality_basis"]) == ("MR", "header Modality")


def refused(path, kind, fault):
    with pytest.raises(kind, match=fault) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["scan.mha", "scan.mhd", "scan.nrrd", "scan.nhdr"])
def test_empty_and_text_files(tmp_path, name):
    path = tmp_path / name
    path.touch()
    refused(path, Unreadable, "the file is empty")
    path.write_text("Dear colleague")
    refused(path, Unreadable, "neither a MetaImage nor an NRRD")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("lost", [20, 700])
def test_truncated(tmp_path, itk_image, suffix, compressed, lost):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(itk_image(), str(path), compressed)
    path.write_bytes(path.read_bytes()[:-lost])
    refused(path, Unreadable, "truncated|damaged")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_one_flipped_byte_in_compressed_voxels_is_noticed(tmp_path, itk_image, suffix):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(itk_image(), str(path), True)
    content = bytearray(path.read_bytes())
    content[-15] ^= 0xFF
    path.write_bytes(content)
    refused(path, Unreadable, "damaged")


@pytest.mark.parametrize("target", ["../secret.raw", "/etc/passwd", "a\\b.raw"])
@pytest.mark.parametrize(
    ("suffix", "key"), [(".mhd", b"ElementDataFile = "), (".nhdr", b"data file: ")]
)
def test_a_header_that_points_out_of_its_folder(tmp_path, itk_image, suffix, key, target):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(itk_image(), str(path))
    path.write_bytes(re.sub(key + rb"[^\n]*", key + target.encode("unicode_escape"), _text(path)))
    refused(path, UntrustedInput, "outside its folder")


def _text(path):
    return path.read_bytes()


def test_voxels_behind_a_link_out_of_the_folder(tmp_path, itk_image):
    (tmp_path / "in").mkdir()
    sitk.WriteImage(itk_image(), str(tmp_path / "in" / "scan.mhd"))
    (tmp_path / "in" / "scan.raw").rename(tmp_path / "secret.raw")
    (tmp_path / "in" / "scan.raw").symlink_to(tmp_path / "secret.raw")
    refused(tmp_path / "in" / "scan.mhd", UntrustedInput, "behind a link")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_the_file_with_the_voxels_is_missing(tmp_path, itk_image, suffix):
    sitk.WriteImage(itk_image(), str(tmp_path / f"scan{suffix}"))
    next(path for path in tmp_path.iterdir() if path.suffix == ".raw").unlink()
    refused(tmp_path / f"scan{suffix}", Unreadable, "the file with its voxels is missing")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_color_and_several_volumes_and_numbers_that_are_none(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    color = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(color, str(path))
    refused(path, Unsupported, "several or complex components")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 5)), isVector=False), str(path))
    refused(path, Unsupported, "holds 2 volumes")
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), np.nan)), str(path))
    refused(path, Unsupported, "60 of 60 voxels are NaN")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 5))), str(path))
    refused(path, Unsupported, "fewer than 3 voxels")


@pytest.mark.parametrize(
    ("suffix", "old", "new", "kind", "fault"),
    [
        (".mha", rb"ElementSpacing = .*", b"ElementSpacing = 0 1 1", Unsupported, "zero along"),
        (".mha", rb"TransformMatrix = .*", b"TransformMatrix = 1 0 0 1 0 0 0 0 1", Unsupported,
         "singular"),
        (".mha", rb"DimSize = .*", b"DimSize = 60000 60000 60000", UntrustedInput, "too many"),
        (".nrrd", rb"sizes: .*", b"sizes: 60000 60000 60000", UntrustedInput, "too many"),
        (".nrrd", rb"space directions: .*", b"space directions: (0,0,0) (0,1,0) (0,0,1)",
         Unsupported, "affine"),
        (".nrrd", rb"space: .*", b"space: scanner-xyz", Unsupported, "does not say where left is"),
        (".nrrd", rb"type: .*", b"type: nonsense", Unreadable, "damaged NRRD header"),
    ],
)  # fmt: skip
def test_headers_that_place_nothing(tmp_path, itk_image, suffix, old, new, kind, fault):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(itk_image(), str(path))
    path.write_bytes(re.sub(old, new, path.read_bytes(), count=1))
    refused(path, kind, fault)


def test_an_nrrd_without_a_space_says_what_is_assumed(tmp_path, itk_image, voxels):
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(itk_image(), str(path))
    content = re.sub(rb"space: .*\n", b"space dimension: 3\n", path.read_bytes(), count=1)
    path.write_bytes(content)

    image = read(path)

    assert np.array_equal(image.numpy()[0], voxels)
    assert "no space" in image.meta["source"]["faults"][0]
