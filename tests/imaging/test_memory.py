from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from imaging.dicom import factory

from medtranslate.errors import AmbiguousInput, InvalidOption, Unsupported
from medtranslate.imaging import as_image, from_nibabel, read, to_nibabel, write


@pytest.mark.parametrize("saved", [False, True])
def test_an_image_of_nibabel_is_as_good_as_a_file(tmp_path, voxels, oblique, saved):
    image = nib.Nifti1Image(voxels, oblique)
    if saved:
        image.to_filename(tmp_path / "scan.nii")
        image = nib.load(tmp_path / "scan.nii")

    got = from_nibabel(image)
    write(got, tmp_path / "out.nii")

    assert got.meta["source"]["files"] == ([str(tmp_path / "scan.nii")] if saved else [])
    out = nib.load(tmp_path / "out.nii")
    assert np.array_equal(out.affine, oblique)
    assert out.get_data_dtype() == np.int16
    assert np.array_equal(np.asanyarray(out.dataobj), voxels)


def test_an_image_of_nibabel_is_refused_alike(voxels):
    flat = nib.Nifti1Image(voxels, np.eye(4))
    flat.affine[0, 0] = 0
    with pytest.raises(Unsupported, match="nibabel image: the affine is zero along axis X"):
        from_nibabel(flat)
    with pytest.raises(Unsupported, match="holds 2 volumes"):
        from_nibabel(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)))
    with pytest.raises(Unsupported, match="MGHImage is no NIfTI image"):
        from_nibabel(nib.MGHImage(voxels, np.eye(4)))
    hole = np.full((4, 4, 4), np.nan, np.float32)
    with pytest.raises(Unsupported, match="64 of 64 voxels are NaN"):
        from_nibabel(nib.Nifti1Image(hole, np.eye(4)))


def test_modality_given_settles_it(voxels, oblique):
    source = from_nibabel(nib.Nifti1Image(voxels, oblique), modality="MR").meta["source"]
    assert (source["modality"], source["modality_basis"]) == ("MR", "given")


def test_a_result_goes_back_to_nibabel(nifti_file, voxels, oblique, translated, synthesis):
    image = to_nibabel(translated(read(nifti_file(voxels[..., None]))))

    assert image.shape == (8, 9, 5, 1)
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asanyarray(image.dataobj)[..., 0], voxels)
    assert np.array_equal(image.affine, oblique)
    assert image.header["descrip"].item().decode() == synthesis["label"]
    assert len(image.header.extensions) == 1


def test_an_image_of_simpleitk_is_as_good_as_a_file(tmp_path, voxels, oblique):
    nib.Nifti1Image(voxels, oblique).to_filename(tmp_path / "scan.nii")
    write(read(tmp_path / "scan.nii"), tmp_path / "scan.mha")
    expected = read(tmp_path / "scan.mha")

    got = as_image(sitk.ReadImage(str(tmp_path / "scan.mha")))

    assert torch.equal(got.as_tensor(), expected.as_tensor())
    assert torch.equal(got.affine, expected.affine)
    assert got.meta["source"]["modality"] == expected.meta["source"]["modality"]
    with pytest.raises(Unsupported, match="SimpleITK image: voxels with several"):
        as_image(sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3))


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_array_with_an_affine_is_a_scan(tmp_path, voxels, oblique, channel, kind):
    nib.Nifti1Image(voxels, oblique).to_filename(tmp_path / "scan.nii")
    array = kind(voxels[None] if channel else voxels)

    got = as_image(array, affine=oblique, modality="ct")

    assert torch.equal(got.as_tensor(), read(tmp_path / "scan.nii").as_tensor())
    assert np.array_equal(got.affine.numpy(), oblique)
    assert got.meta["source"]["modality"] == "CT"
    write(got, tmp_path / "out.nii")
    assert np.array_equal(nib.load(tmp_path / "out.nii").affine, oblique)


def test_an_image_does_not_share_memory_with_the_array_it_came_from(oblique):
    array = np.zeros((4, 5, 6), np.float32)
    image = as_image(array, affine=oblique, modality="MR")
    array[:] = 7

    assert float(image.max()) == 0


def test_an_array_is_refused_where_it_cannot_be_placed(voxels):
    with pytest.raises(InvalidOption, match="give its affine"):
        as_image(voxels)
    with pytest.raises(InvalidOption, match="affine must be 4x4, got 3x3"):
        as_image(voxels, affine=np.eye(3))
    with pytest.raises(Unsupported, match="zero along axis"):
        as_image(voxels, affine=np.diag([1, 0, 1, 1]))
    with pytest.raises(InvalidOption, match="affine is for arrays"):
        as_image(as_image(voxels, affine=np.eye(4)), affine=np.eye(4))
    with pytest.raises(Unsupported, match="complex64"):
        as_image(voxels.astype(np.complex64), affine=np.eye(4))
    with pytest.raises(TypeError, match="int is no scan"):
        as_image(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list is no scan"):
        as_image([])


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_datasets_of_pydicom_are_as_good_as_their_files(tmp_path, modality):
    factory.write(tmp_path / "series", factory.series(modality))
    expected = read(tmp_path / "series")
    files = sorted((tmp_path / "series").iterdir(), reverse=True)

    got = as_image([pydicom.dcmread(file) for file in files])

    assert torch.equal(got.as_tensor(), expected.as_tensor())
    assert torch.equal(got.affine, expected.affine)
    assert got.meta["source"] == expected.meta["source"]
    in_memory = as_image(factory.series(modality))
    assert torch.equal(in_memory.as_tensor(), expected.as_tensor())
    assert in_memory.meta["source"]["files"] == []


def test_datasets_of_two_series_are_refused():
    both = factory.series(number=1) + factory.series(number=2)
    with pytest.raises(AmbiguousInput, match="pydicom datasets: "):
        as_image(both)
