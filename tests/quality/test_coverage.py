"""Where the model could not see is counted, and marked by values below zero."""

from __future__ import annotations

import numpy as np
import pytest
import stub_translator
import torch
from head_scans import centered, head_ct, image, world
from monai.data import MetaTensor
from stub_translator import PIXELS, same, translator

from medtranslate.quality import cycle_error
from medtranslate.quality.coverage import Coverage, mark_unseen, measure_coverage
from medtranslate.transforms import Prepared


def looked_at(model, scan: MetaTensor, unlike=()) -> tuple[Prepared, Coverage]:
    to = "mri" if scan.meta["source"]["modality"] == "CT" else "ct"
    _, prepared = model.prepare(scan, scan.meta["source"], to)
    recipe = model.bundle.recipe(scan.meta["source"]["modality"], "volume")
    return prepared, measure_coverage(prepared, scan, recipe, unlike)


@pytest.fixture
def model(tiny_bundle):
    return translator(tiny_bundle, {"mri": same, "ct": same})


def test_bone_is_above_the_window_and_fat_below_it(model) -> None:
    scan = stub_translator.ct()
    points = world(scan.shape[1:], scan.affine.numpy())
    scan[0][torch.from_numpy(np.hypot(points[0], points[1]) < 20)] = -90.0  # fat, in every slice

    _, unseen = looked_at(model, scan)

    inside = scan.as_tensor()[0] > -300
    assert unseen.above_window == pytest.approx(
        float((scan[0] > 100).sum() / inside.sum()), rel=0.2
    )
    assert unseen.below_window == pytest.approx(
        float((scan[0] == -90).sum() / inside.sum()), rel=0.1
    )
    assert unseen.outside_field == 0


def test_tissue_outside_the_field_is_counted(model) -> None:
    """A plate of tissue 340 pixels wide, of which the field covers 256."""
    shape = (340, 200, 2)
    values = np.full(shape, -1000.0)
    values[20:320, 20:180] = 40.0
    scan = image(values, centered(PIXELS, shape), "CT")

    prepared, unseen = looked_at(model, scan)
    drawn = mark_unseen(cycle_error(model, scan, model.translate(scan, to="mri")), prepared, unseen)

    assert unseen.outside_field == pytest.approx(2 * 160 * (300 - 256), abs=2 * 160)
    edge = drawn.as_tensor()[0, :41]
    assert torch.equal(edge, torch.full_like(edge, -1.0))
    assert float(drawn.as_tensor()[0, 60:280, 40:160].min()) >= 0


def head_and_neck() -> MetaTensor:
    """Three slices of neck, in which bone encloses nothing, and three of a head with a skull."""
    shape = (180, 212, 6)
    scan = head_ct(shape, centered(np.diag([-0.9, -0.9, 10.0]), shape))
    rows = world(shape, scan.affine.numpy())
    neck = np.hypot(rows[0], rows[1]) < 60
    spine = np.hypot(rows[0], rows[1] + 20) < 15
    for z in range(3):
        scan[0, ..., z] = torch.from_numpy(np.where(neck, 40.0, -1000.0)[..., z])
        scan[0, ..., z][torch.from_numpy(spine[..., z])] = 700.0
    return scan


def test_slices_below_the_skull_base_are_those_before_bone_encloses_brain(model) -> None:
    _, unseen = looked_at(model, head_and_neck())
    assert unseen.below_skull_base == (0, 1, 2)

    _, unseen = looked_at(model, stub_translator.ct())
    assert unseen.below_skull_base == ()


def test_upside_down_in_memory_they_are_the_same_slices(model) -> None:
    scan = head_and_neck()
    flipped = image(
        scan.as_tensor()[0].flip(2).numpy(), scan.affine.numpy() @ np.diag([1, 1, -1, 1]), "CT"
    )

    _, unseen = looked_at(model, flipped)

    assert sorted(unseen.below_skull_base or ()) == [3, 4, 5]


def test_without_a_skull_and_for_mr_nothing_is_said_of_its_base(model) -> None:
    shape = stub_translator.SHAPE
    _, unseen = looked_at(model, head_ct(shape, centered(PIXELS, shape), skull=False))
    assert unseen.below_skull_base is None

    _, unseen = looked_at(model, stub_translator.mr(), unlike=[1])
    assert unseen.below_skull_base is None and unseen.unlike == (1,)


def test_a_mark_keeps_what_was_measured(model) -> None:
    scan = head_and_neck()
    prepared, unseen = looked_at(model, scan)
    result = model.translate(scan, to="mri")
    plain = cycle_error(model, scan, result).map.as_tensor()[0]

    values = mark_unseen(cycle_error(model, scan, result), prepared, unseen).as_tensor()[0]

    hidden = values < 0
    assert torch.allclose(torch.where(hidden, -1 - values, values), plain, atol=1e-5)
    assert hidden[90, 106, :3].all() and not hidden[90, 106, 3:].any()  # neck, then brain
    skull = scan[0, ..., 4] == 1200
    assert hidden[..., 4][skull.as_tensor()].float().mean() > 0.5
