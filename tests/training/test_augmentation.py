"""Prepared gray levels, and what is changed in slices before a step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.phantoms import TINY, prepared

from medtranslate.training.augmentation import Augmentation, draw
from medtranslate.training.prepared import from_gray, to_gray
from medtranslate.training.randomness import generator, reseed

STILL = replace(
    TINY, flip=False, scaling=0.0, rotation_degrees=0.0, shift_pixels=0.0, downsampling=1
)


def test_a_generator_seeded_anew_draws_as_a_fresh_one_does() -> None:
    used = generator(0, "pool", 3)
    torch.rand(5, generator=used)

    again = torch.rand(5, generator=reseed(used, 7, "noise", 2, 1))

    assert torch.equal(again, torch.rand(5, generator=generator(7, "noise", 2, 1)))


def test_gray_keeps_head_and_values_to_half_a_level() -> None:
    slices = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    head = torch.ones(1, 8, 8, dtype=torch.bool)
    head[0, 0] = False

    image, again = from_gray(to_gray(slices, head))

    assert torch.equal(again[:, 0], head)
    assert bool((image[0, 0, 0] == -1).all())
    assert float((image - slices)[again].abs().max()) <= 0.5 / 127


def test_without_changes_slices_stay_as_they_are() -> None:
    gray = prepared("CT", 2).slices
    image, head = from_gray(gray)

    still = Augmentation(STILL)(gray, torch.zeros(2, 5))
    resampled = Augmentation(replace(STILL, flip=True))(gray, torch.full((2, 5), 0.5))

    for images in (still, resampled):
        assert torch.equal(images.head, head)
        torch.testing.assert_close(images.image, image, atol=1e-4, rtol=0)


def test_mirroring_exchanges_left_and_right() -> None:
    gray = prepared("CT", 1).slices
    draws = torch.tensor([[-0.5, 0, 0, 0, 0]])

    images = Augmentation(replace(STILL, flip=True))(gray, draws)

    torch.testing.assert_close(images.image, from_gray(gray)[0].flip(3), atol=1e-4, rtol=0)


def test_size_makes_heads_larger_by_as_much() -> None:
    gray = prepared("CT", 3).slices
    draws = torch.zeros(3, 5)
    draws[:, 1] = 1.0

    larger = Augmentation(replace(STILL, scaling=0.10))(gray, draws)

    ratio = larger.head.sum((1, 2, 3)) / from_gray(gray)[1].sum((1, 2, 3))
    assert ratio.tolist() == pytest.approx([1.21] * 3, rel=0.02)


def test_a_crop_is_centered_on_the_head_and_shifts_move_it() -> None:
    gray = torch.zeros(1, 256, 256, dtype=torch.uint8)
    gray[0, 20:120, 60:140] = 200
    cropped = replace(
        STILL, network="resnet9", network_arguments={}, crop=(128, 112), shift_pixels=8.0
    )

    head = Augmentation(cropped)(gray, torch.zeros(1, 5)).head[0, 0]
    moved = Augmentation(cropped)(gray, torch.tensor([[0, 0, 0, 1.0, -1.0]])).head[0, 0]

    assert torch.equal(head.nonzero().amin(0), torch.tensor([14, 16]))
    assert torch.equal(head.nonzero().amax(0), torch.tensor([113, 95]))
    assert torch.equal(moved.nonzero().amin(0), torch.tensor([6, 24]))


@given(st.integers(0, 10_000))
def test_whatever_is_drawn_background_lies_outside_the_head(seed: int) -> None:
    gray = prepared("MR", 1).slices
    wild = replace(
        STILL,
        flip=True,
        scaling=0.3,
        rotation_degrees=30.0,
        shift_pixels=60.0,
        downsampling=4,
        crop=(48, 40),
    )

    images = Augmentation(wild)(gray, draw(1, generator(seed, "augment")))

    assert images.image.shape == (1, 1, 48, 40)
    assert bool((images.image[~images.head] == -1).all())
    assert float(images.image.min()) >= -1 and float(images.image.max()) <= 1
