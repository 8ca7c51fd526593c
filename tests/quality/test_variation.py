"""Variation is nothing where the translation moves with the scan, and much where it does not."""

from __future__ import annotations

import pytest
import stub_translator
import torch
from stub_translator import same, translator

from medtranslate.quality import variation
from medtranslate.quality.variation import VIEWS, View


def test_a_translation_that_moves_with_the_scan_is_certain(tiny_bundle) -> None:
    model, scan = translator(tiny_bundle, {"mri": same, "ct": same}), stub_translator.ct()

    found = variation(model, scan, model.translate(scan, to="mri"))

    assert found.units == "arbitrary units" and found.limits == (0, 4095)
    assert found.error < 1  # rounding
    assert found.map.shape == scan.shape and torch.equal(found.map.affine, scan.affine)


def test_what_stays_where_it_is_while_the_scan_moves_is_uncertain(tiny_bundle) -> None:
    """A generator that paints a bar at a fixed place, on the head's right."""

    def painted(slices: torch.Tensor) -> torch.Tensor:
        out = slices.clone()
        out[..., 100:140, 90:100] = 1
        return out

    model, scan = translator(tiny_bundle, {"mri": painted, "ct": same}), stub_translator.ct()

    found = variation(model, scan, model.translate(scan, to="mri"))

    plane = found.map.as_tensor()[0, ..., 1].T
    top, left = (256 - 212) // 2, (256 - 180) // 2
    bar = plane[103 - top : 137 - top, 93 - left : 97 - left]
    mirrored = plane[103 - top : 137 - top, 159 - left : 163 - left]
    still = plane[60 - top : 90 - top, 93 - left : 97 - left]
    assert bar.mean() > 300 and mirrored.mean() > 300 and still.mean() < 2


def test_a_model_of_one_direction_has_a_second_opinion_too(tmp_path) -> None:
    from tiny_bundles import tiny_bundle, tiny_networks

    model = translator(tiny_bundle(tmp_path / "one", tiny_networks(("mri",))), {"mri": same})
    scan = stub_translator.ct()

    assert variation(model, scan, model.translate(scan, to="mri")).error < 1


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_undone(view: View) -> None:
    slices = torch.rand(2, 1, 16, 20)

    again = view.invert(view.apply(slices))

    inner = (..., slice(4, -4), slice(4, -4))
    assert torch.equal(again[inner], slices[inner])
    assert not torch.equal(view.apply(slices), slices)
    assert view.rows % 4 or view.columns % 4 or view.mirrored


def test_a_ct_of_all_hu_varies_in_its_window(tmp_path) -> None:
    from tiny_bundles import all_hu_bundle

    model = translator(all_hu_bundle(tmp_path / "one"), {"mri": same, "ct": lambda x: 0.6 * x})
    scan = stub_translator.mr()

    found = variation(model, scan, model.translate(scan, to="ct"))

    assert found.units == "HU" and found.limits == (-20, 100)
    assert found.error < 0.5  # rounding
