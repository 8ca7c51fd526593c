from __future__ import annotations

import numpy as np
import pytest
import torch
from head_scans import centered, depth, head_mr, world
from monai.data import MetaTensor

from medtranslate.files import shipped
from medtranslate.transforms import N4BiasCorrection, load_recipe

SHAPE = (64, 72, 12)
AFFINE = centered(np.diag([3.0, 3.0, 14.0]), SHAPE)
HEAD = depth(world(SHAPE, AFFINE)) < 0.9


@pytest.fixture(scope="module")
def shaded() -> torch.Tensor:
    points = world(SHAPE, AFFINE)
    flat = np.where(depth(points) <= 1, 500.0, 0.0)
    return torch.from_numpy((flat * np.exp(points[1] / 150)).astype(np.float32))


def unevenness(volume: torch.Tensor) -> float:
    inside = volume.numpy()[HEAD]
    return float(inside.std() / inside.mean())


def test_a_shaded_head_becomes_flat(shaded):
    before = shaded.clone()
    corrected = N4BiasCorrection(shrink=2).correct(shaded, AFFINE)
    assert corrected.shape == shaded.shape
    assert corrected.dtype == torch.float32
    assert unevenness(shaded) > 0.2
    assert unevenness(corrected) < 0.25 * unevenness(shaded)
    assert torch.equal(shaded, before)
    assert (corrected[shaded == 0] == 0).all()


def test_it_iterates_as_often_as_it_may(shaded):
    flatter = [
        unevenness(N4BiasCorrection(iterations=(times,)).correct(shaded, AFFINE))
        for times in (1, 8)
    ]
    assert flatter[1] < 0.95 * flatter[0]


def test_it_is_the_same_each_time(shaded):
    once, again = (N4BiasCorrection(iterations=(5,)).correct(shaded, AFFINE) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_few_slices(shaded, slices):
    corrected = N4BiasCorrection(iterations=(5,)).correct(shaded[:, :, 5 : 5 + slices], AFFINE)
    assert corrected.isfinite().all()


def test_nothing_to_correct():
    flat = torch.zeros(64, 64, 4)
    assert torch.equal(N4BiasCorrection().correct(flat, AFFINE), flat)


def test_the_transform_corrects_an_image_and_gives_no_bias_back(shaded):
    scan = MetaTensor(shaded[None], affine=AFFINE)
    n4 = N4BiasCorrection(iterations=(5,))
    corrected = n4(scan)
    assert torch.equal(corrected.as_tensor()[0], n4.correct(shaded, AFFINE))
    back = n4.inverse(corrected)
    assert torch.equal(back.as_tensor(), corrected.as_tensor())
    assert back.applied_operations == []


def test_a_recipe_corrects_before_everything_else(tmp_path):
    text = shipped("transforms/mr-volume.yaml").read_text()
    first = """\
  transforms:
  - _target_: medtranslate.transforms.N4BiasCorrectiond
    keys: image
    iterations: [5]
"""
    path = tmp_path / "mr-volume.yaml"
    path.write_text(text.replace("  transforms:\n", first, 1))
    corrected, plain = load_recipe(path), load_recipe(shipped("transforms/mr-volume.yaml"))
    scan = head_mr(SHAPE, AFFINE)
    expected = scan.clone()
    expected[0] = N4BiasCorrection(iterations=(5,)).correct(scan.as_tensor()[0], AFFINE)
    assert torch.equal(corrected.prepare(scan).slices, plain.prepare(expected).slices)
    assert not torch.equal(corrected.prepare(scan).slices, plain.prepare(scan).slices)
