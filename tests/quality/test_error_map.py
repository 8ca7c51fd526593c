"""An error map is a file on the scan's grid, complete and labeled; a peak is the worst patch."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import stub_translator
import torch
from head_scans import image_2d
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from stub_translator import same, translator

from medtranslate import read
from medtranslate.errors import OutputExists
from medtranslate.quality import cycle_error, variation
from medtranslate.quality.coverage import mark_unseen, measure_coverage
from medtranslate.quality.error_map import PATCH, RIM, peaks, write_map


@pytest.fixture
def model(tiny_bundle):
    return translator(tiny_bundle, {"mri": same, "ct": lambda x: -x})


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii", "map.mha", "map.nrrd"])
def test_a_volume_lies_on_the_scan_in_steps(model, tmp_path, name) -> None:
    scan = stub_translator.ct()
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
    scan = stub_translator.ct()
    result = model.translate(scan, to="mri")

    write_map(cycle_error(model, scan, result), result.meta["synthesis"], tmp_path / "a.nii.gz")
    write_map(variation(model, scan, result), result.meta["synthesis"], tmp_path / "b.mha")

    said = nib.load(tmp_path / "a.nii.gz").header["descrip"].item().decode()
    assert said.startswith("SYNTHETIC cycle error in HU") and len(said) <= 79
    label = sitk.ReadImage(str(tmp_path / "b.mha")).GetMetaData("SYNTHETIC")
    assert label == (
        "SYNTHETIC variation in arbitrary units of synthetic MR, tiny 0.0, NOT FOR DIAGNOSIS"
    )


def test_marks_survive_the_rounding(model, tmp_path) -> None:
    scan = stub_translator.ct()
    result = model.translate(scan, to="mri")
    found = cycle_error(model, scan, result)
    _, prepared = model.prepare(scan, scan.meta["source"], "mri")
    unseen = measure_coverage(prepared, scan, model.bundle.recipe("CT", "volume"))
    mark_unseen(found, prepared, replace(unseen, unlike=(2,)))

    write_map(found, result.meta["synthesis"], tmp_path / "map.nii")

    values = read(tmp_path / "map.nii").as_tensor()[0]
    assert float(values[90, 106, 2]) < -1 and float(values[90, 106, 1]) > 0
    assert float(values[0, 0, 2]) == 0


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535)])
def test_an_image_keeps_its_gray_levels(model, tmp_path, dtype, white) -> None:
    rows, columns = np.mgrid[:128, :128]
    disc = np.where(np.hypot(rows - 64, columns - 64) < 50, white // 4, 0)
    scan = image_2d(disc, "CT", dtype)
    result = model.translate(scan, to="mri")
    found = cycle_error(model, scan, result)
    expected = found.map.as_tensor()[0, 64, 64, 0].round()

    write_map(found, result.meta["synthesis"], tmp_path / "map.png")

    written = Image.open(tmp_path / "map.png")
    assert np.asarray(written)[64, 64] == expected and np.asarray(written).dtype == dtype
    assert written.info["Description"].startswith("SYNTHETIC cycle error in gray levels")
    assert float(expected) == pytest.approx(white / 2, rel=0.1)


def test_a_stack_of_images_is_a_folder(model, tmp_path) -> None:
    rows, columns = np.mgrid[:128, :128]
    disc = np.where(np.hypot(rows - 64, columns - 64) < 50, 100, 0)
    scan = image_2d(np.stack([disc, disc]), "CT")
    result = model.translate(scan, to="mri")

    write_map(cycle_error(model, scan, result), result.meta["synthesis"], tmp_path / "maps")

    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["0001.png", "0002.png"]


# Peaks ---------------------------------------------------------------------------------------

SIDE = 64


def blank(count: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nothing lost, a gray scan, and a head of 60 x 60 pixels in a field of 64."""
    head = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    head[:, 2:62, 2:62] = True
    return torch.zeros(count, 1, SIDE, SIDE), torch.zeros(count, 1, SIDE, SIDE), head


def test_a_lost_structure_counts_with_its_share_of_the_patch() -> None:
    lost, source, head = blank(2)
    lost[0, 0, 30:33, 30:33] = -9.0
    lost[1, 0, 20:32, 20:32] = 5.0

    assert peaks(lost, source, head) == pytest.approx([9.0 * 9 / PATCH**2, 5.0])


def test_noise_and_soft_edges_cancel_out() -> None:
    lost, source, head = blank()
    lost[0, 0, :, 30], lost[0, 0, :, 31] = 40.0, -40.0

    assert peaks(lost, source, head)[0] == pytest.approx(40.0 / PATCH)


def test_a_slice_that_is_brighter_all_over_has_lost_nothing() -> None:
    lost, source, head = blank(2)
    lost += 7.0
    lost[1, 0, 20:32, 20:32] = 4.0

    assert peaks(lost, source, head) == pytest.approx([0.0, 3.0])


def test_the_rim_and_what_the_network_could_not_see_are_passed_over() -> None:
    lost, source, head = blank(3)
    first = 2 + RIM - PATCH // 2  # that a patch reaches whose middle is deep enough
    lost[0, 0, :first], lost[0, 0, :, :first] = 50.0, 50.0
    lost[1, 0, first, 30] = PATCH**2
    lost[2, 0, 30, 30] = 50.0
    source[2, 0, 30, 30] = 1.0

    assert peaks(lost, source, head) == pytest.approx([0.0, 1.0, 0.0])


def test_a_head_without_room_has_none() -> None:
    lost, source, head = blank(2)
    head[0] = False
    head[0, 20 : 20 + 2 * RIM, 20 : 20 + 2 * RIM] = True

    assert peaks(lost, source, head) == [None, 0.0]


@given(row=st.integers(12, 51), column=st.integers(12, 51), turns=st.integers(0, 3))
def test_it_does_not_depend_on_the_place_or_the_direction(row, column, turns) -> None:
    lost, source, head = blank()
    lost[0, 0, row, column] = -float(PATCH**2)

    turned = torch.rot90(lost, turns, (2, 3))
    assert peaks(turned, source, head)[0] == pytest.approx(1.0)


def test_the_field_s_border_is_no_place_deep_in_the_head() -> None:
    lost, source, head = blank()
    head[:] = True
    lost[0, 0, :4] = 50.0

    assert peaks(lost, source, head) == [0.0]
