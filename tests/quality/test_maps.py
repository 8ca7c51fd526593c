"""A map is a file like any other: on the scan's grid, whole, and labelled."""

from __future__ import annotations

from dataclasses import replace

import made_pair
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from made_head import made_picture
from made_pair import same, translator
from PIL import Image

from medtranslate import read
from medtranslate.errors import OutputExists
from medtranslate.quality import cycle_error, variation
from medtranslate.quality.coverage import find_unseen, marked
from medtranslate.quality.maps import write_map


@pytest.fixture
def model(tiny_bundle):
    return translator(tiny_bundle, {"mri": same, "ct": lambda x: -x})


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii", "map.mha", "map.nrrd"])
def test_a_volume_lies_on_the_scan_in_steps(model, tmp_path, name) -> None:
    scan = made_pair.ct()
    result = model.translate(scan, to="mri")
    found = cycle_error(model, scan, result)
    exact = found.map.as_tensor().clone()

    write_map(found, result.meta["synthesis"], tmp_path / name)

    again = read(tmp_path / name)
    assert np.allclose(again.affine, scan.affine, atol=1e-5)
    assert abs(again.as_tensor() - exact).max() <= 2**-6 / 2 + 1e-6  # 120 HU / 4096 is 2^-5.1
    with pytest.raises(OutputExists):
        write_map(found, result.meta["synthesis"], tmp_path / name)


def test_it_says_what_it_is(model, tmp_path) -> None:
    scan = made_pair.ct()
    result = model.translate(scan, to="mri")

    write_map(cycle_error(model, scan, result), result.meta["synthesis"], tmp_path / "a.nii.gz")
    write_map(variation(model, scan, result), result.meta["synthesis"], tmp_path / "b.mha")

    said = nib.load(tmp_path / "a.nii.gz").header["descrip"].item().decode()
    assert said.startswith("SYNTHETIC round-trip error in HU") and len(said) <= 79
    label = sitk.ReadImage(str(tmp_path / "b.mha")).GetMetaData("SYNTHETIC")
    assert label == (
        "SYNTHETIC variation in arbitrary units of synthetic MR, tiny 0.0, NOT FOR DIAGNOSIS"
    )


def test_marks_survive_the_rounding(model, tmp_path) -> None:
    scan = made_pair.ct()
    result = model.translate(scan, to="mri")
    found = cycle_error(model, scan, result)
    _, prepared = model.prepare(scan, scan.meta["source"], "mri")
    unseen = find_unseen(prepared, scan, model.bundle.recipe("CT", "volume"))
    marked(found, prepared, replace(unseen, unlike=(2,)))

    write_map(found, result.meta["synthesis"], tmp_path / "map.nii")

    values = read(tmp_path / "map.nii").as_tensor()[0]
    assert float(values[90, 106, 2]) < -1 and float(values[90, 106, 1]) > 0
    assert float(values[0, 0, 2]) == 0


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535)])
def test_a_picture_keeps_its_grey_levels(model, tmp_path, dtype, white) -> None:
    rows, columns = np.mgrid[:128, :128]
    disc = np.where(np.hypot(rows - 64, columns - 64) < 50, white // 4, 0)
    scan = made_picture(disc, "CT", dtype)
    result = model.translate(scan, to="mri")
    found = cycle_error(model, scan, result)
    expected = found.map.as_tensor()[0, 64, 64, 0].round()

    write_map(found, result.meta["synthesis"], tmp_path / "map.png")

    picture = Image.open(tmp_path / "map.png")
    assert np.asarray(picture)[64, 64] == expected and np.asarray(picture).dtype == dtype
    assert picture.info["Description"].startswith("SYNTHETIC round-trip error in grey levels")
    assert float(expected) == pytest.approx(white / 2, rel=0.1)


def test_a_stack_of_pictures_is_a_folder(model, tmp_path) -> None:
    rows, columns = np.mgrid[:128, :128]
    disc = np.where(np.hypot(rows - 64, columns - 64) < 50, 100, 0)
    scan = made_picture(np.stack([disc, disc]), "CT")
    result = model.translate(scan, to="mri")

    write_map(cycle_error(model, scan, result), result.meta["synthesis"], tmp_path / "maps")

    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["0001.png", "0002.png"]
