from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from medtranslate.errors import Unsupported
from medtranslate.imaging import from_nibabel, read, to_nibabel, write


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
