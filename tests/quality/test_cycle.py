"""The cycle error is what the reconstruction lost: where, how much, in which units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stub_translator
import torch
from head_scans import ORIENTATIONS, centered, head_ct, image_2d, reoriented
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_translator import PIXELS, same, translator
from tiny_bundles import all_hu_bundle

from medtranslate.errors import ModelUnusable
from medtranslate.quality import cycle_error, variation
from medtranslate.quality.cycle import NOISE
from medtranslate.transforms import Placement

NOISE_HU = 60 * NOISE * np.sqrt(2 / np.pi)
"""What noise alone makes of the mean absolute difference, in a window 120 HU wide."""


def test_generators_that_change_nothing_leave_the_noise(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()

    found = cycle_error(model, scan, model.translate(scan, to="mri"))

    assert found.error == pytest.approx(NOISE_HU, rel=0.1)  # less: what is clipped stays clipped
    assert found.error < NOISE_HU
    assert found.units == "HU" and found.limits == (-20, 100)
    assert found.share == pytest.approx(found.error / 120)


def test_the_map_is_the_figures(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": lambda x: -x}), stub_translator.ct()

    found = cycle_error(model, scan, model.translate(scan, to="mri"))

    values = found.map.as_tensor()[0]
    for one in found.slices:
        plane = values[..., one.index]
        assert plane.sum() / one.voxels == pytest.approx(one.error, rel=1e-4)
        assert (plane > 0).sum() <= one.voxels
    weights = np.array([one.voxels for one in found.slices])
    mean = np.average([one.error for one in found.slices], weights=weights)
    assert found.error == pytest.approx(mean)
    assert [one.peak for one in found.worst] == sorted(s.peak for s in found.slices)[::-1]
    assert found.axis == 2


@pytest.mark.parametrize("measure", [cycle_error, variation])
def test_figures_alone_are_those_of_the_map_and_lay_out_no_volume(
    tiny_bundle, monkeypatch, measure
) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": lambda x: -x}), stub_translator.ct()
    result = model.translate(scan, to="mri")
    with_map = measure(model, scan, result)
    monkeypatch.setattr(Placement, "empty", None)  # which every map begins with

    found = measure(model, scan, result, with_map=False)

    assert found.as_builtins() == with_map.as_builtins() and found.error == with_map.error
    assert with_map.map.numel() == scan.numel() and found.map.numel() == 0


@pytest.mark.parametrize("to", ["mri", "ct"])
def test_a_structure_that_a_generator_erases_is_where_the_map_is_bright(tiny_bundle, to) -> None:
    """Both ways, and the structure is known in the scan's own voxels."""

    def erase(slices: torch.Tensor) -> torch.Tensor:
        out = slices.clone()
        out[:, :, 100:120, 90:110] = out[:, :, 60:70, 120:130].mean()
        return out

    other = {"mri": "ct", "ct": "mri"}[to]
    model = translator(tiny_bundle, {to: erase, other: same})
    scan = stub_translator.ct() if to == "mri" else stub_translator.mr()
    _, prepared = model.prepare(scan, scan.meta["source"], to)
    spot = prepared.slices[1, 0, 100:120, 90:110].clone()
    found = cycle_error(model, scan, model.translate(scan, to=to))

    plane = found.map.as_tensor()[0, ..., 1].T  # rows, columns: the scan lies as the network's
    top, left = (256 - 212) // 2, (256 - 180) // 2
    erased = plane[100 - top : 120 - top, 90 - left : 110 - left]
    low, high = found.limits
    assert abs(float(spot.mean())) < 1
    assert erased.mean() > 4 * NOISE * (high - low) / 2
    assert plane.sum() - erased.sum() < 1.2 * (plane > 0).sum() * NOISE * (high - low) / 2


def test_an_altered_result_no_longer_fits_its_scan(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()
    result = model.translate(scan, to="mri")
    result[0, 80:100, 100:120, 2] = 4095

    found = cycle_error(model, scan, result)

    assert found.worst[0].index == 2
    inside = found.map.as_tensor()[0, 82:98, 102:118, 2]
    assert inside.mean() > 15 * NOISE_HU
    again = cycle_error(model, scan, model.translate(scan, to="mri"))
    others = [0, 1, 3]
    assert torch.equal(found.map[..., others], again.map[..., others])


def test_a_small_fault_ranks_its_slice_before_one_whose_skin_came_back_badly(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()
    result = model.translate(scan, to="mri")
    untouched = {one.index: one for one in cycle_error(model, scan, result).slices}
    across, along = np.mgrid[:180, :212]
    skin = np.hypot((across - 89.5) / 77.7, (along - 105.5) / 100) > 0.95
    result[0, ..., 1][torch.from_numpy(skin) & (result[0, ..., 1] > 0)] = 0
    blob = np.exp(-((across - 100) ** 2 + (along - 90) ** 2) / (2 * 5.0**2))
    result[0, ..., 2] += torch.from_numpy(0.2 * 4095 * blob).float()

    found = cycle_error(model, scan, result)

    slices = {one.index: one for one in found.slices}
    assert max(found.slices, key=lambda one: one.error).index == 1
    assert slices[1].peak == pytest.approx(untouched[1].peak, abs=0.1)
    assert found.worst[0].index == 2
    covered = blob[96:105, 86:95].mean()
    assert slices[2].peak == pytest.approx(0.2 * 120 * covered, rel=0.1)
    assert found.as_builtins()["worst_slices"][0] == 2
    assert found.as_builtins()["slices"][2]["peak"] == round(slices[2].peak, 4)


def test_the_same_bits_each_time_and_whatever_the_batch(tiny_bundle) -> None:
    scan = stub_translator.ct()
    maps = []
    for batch in (4, 4, 3):
        model = translator(tiny_bundle, {"mri": same, "ct": lambda x: -x}, batch)
        maps.append(cycle_error(model, scan, model.translate(scan, to="mri")).map)

    assert torch.equal(maps[0], maps[1])
    assert torch.allclose(maps[0], maps[2], atol=1e-4)


def test_what_was_prepared_already_is_not_prepared_again(tiny_bundle, monkeypatch) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()
    result = model.translate(scan, to="mri")
    _, prepared = model.prepare(scan, scan.meta["source"], "mri")
    expected = cycle_error(model, scan, result)

    monkeypatch.setattr(type(model), "prepare", None)
    found = cycle_error(model, scan, result, prepared)

    assert torch.equal(found.map, expected.map) and found.slices == expected.slices


@settings(max_examples=15, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(12, 40)] * 2, st.integers(1, 4)),
    spacing=st.tuples(*[st.floats(4.0, 9.0)] * 2, st.floats(9.5, 40.0)),
)
def test_the_map_lies_on_the_scan(tiny_bundle: Path, orientation, shape, spacing) -> None:
    model = translator(tiny_bundle, {"mri": same, "ct": same})
    scan = reoriented(head_ct(shape, centered(np.diag(spacing), shape)), orientation)

    found = cycle_error(model, scan, model.translate(scan, to="mri"))

    assert found.map.shape == scan.shape and torch.equal(found.map.affine, scan.affine)
    assert found.map.dtype == torch.float32
    assert found.map.meta["source"]["shape"] == scan.meta["source"]["shape"]
    assert float(found.map.min()) >= 0 and float(found.map.max()) <= 120 * 1.3
    assert scan.shape[1:][found.axis] == shape[2]


def test_a_finer_grid_than_the_networks_adds_no_error(tiny_bundle) -> None:
    """Writing at half the pixel and taking it back must not count as the model's loss."""
    shape = (360, 424, 2)
    scan = head_ct(shape, centered(np.diag([-0.45, -0.45, 30.0]), shape))
    model = translator(tiny_bundle, {"mri": same, "ct": same})

    assert cycle_error(model, scan, model.translate(scan, to="mri")).error < NOISE_HU


def test_an_image_is_compared_in_gray_levels(tiny_bundle) -> None:
    rows, columns = np.mgrid[:200, :240]
    disc = np.hypot(rows - 100, columns - 120) < 80
    scan = image_2d(np.where(disc, 130.0, 0.0), "CT")
    model = translator(tiny_bundle, {"mri": same, "ct": lambda x: x + 0.2})

    found = cycle_error(model, scan, model.translate(scan, to="mri"))

    assert found.units == "gray levels" and found.limits == (0, 255)
    assert found.error == pytest.approx(0.2 * 127.5, rel=0.05)
    assert float(found.map[0, 0, 0, 0]) == 0 and len(found.slices) == 1


def test_nothing_is_compared_outside_the_head_or_the_field(tiny_bundle) -> None:
    shape = (340, 340, 1)
    scan = head_ct(shape, centered(PIXELS, shape))
    model = translator(tiny_bundle, {"mri": same, "ct": lambda x: torch.ones_like(x)})

    found = cycle_error(model, scan, model.translate(scan, to="mri"))

    values = found.map.as_tensor()[0, ..., 0]
    assert float(values[:42].abs().max()) == 0 and float(values[60, 60]) == 0
    assert float(values[170, 170]) > 10


def test_a_model_without_a_reconstruction_says_so(tmp_path) -> None:
    from tiny_bundles import tiny_bundle, tiny_networks

    model = translator(tiny_bundle(tmp_path / "one", tiny_networks(("mri",))), {"mri": same})
    scan = stub_translator.ct()

    with pytest.raises(ModelUnusable, match="makes no ct"):
        cycle_error(model, scan, model.translate(scan, to="mri"))


def test_another_shape_is_no_result_of_this_scan(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()

    with pytest.raises(ValueError, match="for a scan"):
        cycle_error(model, scan, scan[..., :2])


def test_a_ct_of_all_hu_is_translated_back_as_its_window_shows_it(tmp_path) -> None:
    """The generator of CT gives window, bone and air; the one of MR sees what a real CT shows."""

    def bone_and_air(slices: torch.Tensor) -> torch.Tensor:
        return torch.where(slices > 0.5, 0.9, torch.where(slices < -0.5, -0.8, 0.6 * slices))

    seen: list[torch.Tensor] = []

    def back(slices: torch.Tensor) -> torch.Tensor:
        seen.append(slices)
        return slices.clone()

    model = translator(all_hu_bundle(tmp_path / "one"), {"mri": back, "ct": bone_and_air})
    scan = stub_translator.mr()
    result = model.translate(scan, to="ct")
    source = model.prepare(scan, result.meta["source"], "ct")[1].slices

    assert result.max() == 1525 and result[result > -1000].min() == -522
    assert result.meta["synthesis"]["window"] == [-20, 100]
    assert result.meta["synthesis"]["range"] == [-1024, 2000]
    made = model.translate_slices(source, to="ct", in_window=True)
    expected = torch.where(source > 0.5, 1.0, torch.where(source < -0.5, -1.0, source))
    torch.testing.assert_close(made, expected)
    assert float(model.translate_slices(source, to="ct").max()) == pytest.approx(0.9)

    found = cycle_error(model, scan, result)
    noise = 0.04  # of each slice, beside half a HU of rounding
    inner = slice(None), slice(None), slice(90, 170), slice(90, 170)
    off = (torch.cat(seen)[-len(made) :] - made)[inner].abs()
    assert float(off.mean()) < noise and found.limits[0] < found.limits[1]


def test_a_2d_image_of_all_hu_shows_the_window(tmp_path) -> None:
    rows, columns = np.mgrid[:200, :240]
    away = np.hypot(rows - 100, columns - 120)
    gray = np.where(away < 80, 128.0, 0.0) + np.where(away < 40, 76.5, 0.0)
    model = translator(all_hu_bundle(tmp_path / "one"), {"mri": same, "ct": same})
    made = model.translate(image_2d(gray, "MR"), to="ct")
    assert made.meta["synthesis"]["window"] == [] == made.meta["synthesis"]["range"]
    # 204.5 of 255 is 0.6 of [-1, 1], the window's upper end; the middle stays gray.
    assert float(made[0, 120, 100, 0]) == 255 and float(made[0, 120, 160, 0]) == 128
