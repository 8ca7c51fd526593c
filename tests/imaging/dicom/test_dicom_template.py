"""A NIfTI scan with DICOM out: through the series it was made from, or not at all."""

from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest

from medtranslate.errors import Unsupported, WrongModality
from medtranslate.imaging.dicom import adopt_template, write_series
from medtranslate.imaging.nifti import NiftiReader

from .factory import series, translated, values_of, write


@pytest.fixture
def as_nifti(tmp_path, read):
    """Write a read series as NIfTI, its axes turned, and read that back."""

    def make(folder, orientation="LPS", modality="CT", shift=0.0):
        image = read(folder)
        moved = image.affine.numpy().copy()
        moved[2, 3] += shift
        nifti = nibabel.Nifti1Image(image.numpy()[0].astype(np.int16), moved)
        turned = nifti.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.io_orientation(nifti.affine), nibabel.orientations.axcodes2ornt(orientation)
            )
        )
        nibabel.save(turned, tmp_path / "scan.nii.gz")
        reader = NiftiReader(modality=modality)
        scan = reader.read(tmp_path / "scan.nii.gz")
        reader.get_data(scan)
        return scan.image()

    return make


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "SPR", "ARI", "SLP", "PIR"])
def test_the_grid_may_be_stored_any_way_round(tmp_path, as_nifti, orientation):
    made = series()
    folder = write(tmp_path / "in", made)
    image = translated(as_nifti(folder, orientation))
    out = write_series(image, tmp_path / "out", template=folder)
    expected = (np.clip(values_of(made), -1000, 1000) + 1000) * 2
    for index, source in enumerate(made):
        one = pydicom.dcmread(out / f"{index + 1:04d}.dcm")
        assert one.ImagePositionPatient == source.ImagePositionPatient
        np.testing.assert_array_equal(one.pixel_array.T, expected[:, :, index])


def test_without_a_template_nifti_is_refused(tmp_path, as_nifti):
    image = translated(as_nifti(write(tmp_path / "in", series())))
    with pytest.raises(Unsupported, match="--template"):
        write_series(image, tmp_path / "out")


def test_another_place_is_refused(tmp_path, as_nifti):
    folder = write(tmp_path / "in", series())
    with pytest.raises(Unsupported, match=r"up to 0\.5 mm apart"):
        adopt_template(translated(as_nifti(folder, shift=0.5)), folder)


def test_another_size_is_refused(tmp_path, as_nifti):
    image = translated(as_nifti(write(tmp_path / "in", series())))
    other = write(tmp_path / "other", series(count=5))
    with pytest.raises(Unsupported, match=r"its grid \[12, 16, 5\] is not the scan's"):
        adopt_template(image, other)


def test_another_spacing_is_refused(tmp_path, as_nifti):
    image = translated(as_nifti(write(tmp_path / "in", series())))
    other = write(tmp_path / "other", series(spacing=(0.75, 0.52)))
    with pytest.raises(Unsupported, match="mm apart"):
        adopt_template(image, other)


def test_an_uneven_template_is_refused(tmp_path, as_nifti):
    image = translated(as_nifti(write(tmp_path / "in", series())))
    made = series(count=5)
    del made[2]
    with pytest.raises(Unsupported, match="not even"):
        adopt_template(image, write(tmp_path / "other", made))


def test_a_template_of_another_modality_is_refused(tmp_path, as_nifti):
    image = translated(as_nifti(write(tmp_path / "in", series())))
    with pytest.raises(WrongModality, match="a series of MR, the scan is CT"):
        adopt_template(image, write(tmp_path / "other", series("MR")))
