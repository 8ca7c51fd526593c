from __future__ import annotations

import numpy as np
import pytest
import torch
from made_head import centred, depth, made_mr, world

from medtranslate.files import shipped
from medtranslate.transforms import N4, load_recipe

SHAPE = (64, 72, 12)
AFFINE = centred(np.diag([3.0, 3.0, 14.0]), SHAPE)
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
    corrected = N4(shrink=2).correct(shaded, AFFINE)
    assert corrected.shape == shaded.shape
    assert corrected.dtype == torch.float32
    assert unevenness(shaded) > 0.2
    assert unevenness(corrected) < 0.25 * unevenness(shaded)
    assert torch.equal(shaded, before)
    assert (corrected[shaded == 0] == 0).all()


def test_it_is_the_same_each_time(shaded):
    once, again = (N4(iterations=(5,)).correct(shaded, AFFINE) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_few_slices(shaded, slices):
    corrected = N4(iterations=(5,)).correct(shaded[:, :, 5 : 5 + slices], AFFINE)
    assert corrected.isfinite().all()


def test_nothing_to_correct():
    flat = torch.zeros(64, 64, 4)
    assert torch.equal(N4().correct(flat, AFFINE), flat)


def test_a_recipe_corrects_before_everything_else():
    plain = load_recipe(shipped("transforms/mr-volume.yaml"))
    scan = made_mr(SHAPE, AFFINE)
    expected = scan.clone()
    expected[0] = N4(iterations=(5,)).correct(scan.as_tensor()[0], AFFINE)
    corrected = plain.with_bias(N4(iterations=(5,))).prepare(scan)
    assert torch.equal(corrected.slices, plain.prepare(expected).slices)
    assert not torch.equal(corrected.slices, plain.prepare(scan).slices)
