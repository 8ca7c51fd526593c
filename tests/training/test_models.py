"""Image pools, the moving average of weights, and the discriminator."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medtranslate.networks import PatchGAN
from medtranslate.training.models import ImagePool, MovingAverage
from medtranslate.training.randomness import generator


@given(size=st.integers(1, 6), batch=st.integers(1, 9))
def test_a_pool_fills_first_and_then_gives_half_from_before(size: int, batch: int) -> None:
    pool, given_in = ImagePool(size), []
    for step in range(12):
        fakes = torch.arange(batch).reshape(-1, 1, 1, 1) + 100.0 * step
        given_in += fakes.flatten().tolist()
        out = pool.exchange(fakes, generator(0, "pool", step)).flatten().tolist()
        assert len(out) == batch
        assert set(out) <= set(given_in)
        if batch * (step + 1) <= size:
            assert out == fakes.flatten().tolist()
    assert pool.kept is not None and len(pool.kept) == min(size, 12 * batch)


def test_a_pool_shows_an_older_image_half_of_the_time() -> None:
    pool, older = ImagePool(50), 0
    for step in range(1050):
        fake = torch.full((1, 1, 1, 1), float(step))
        older += int(pool.exchange(fake, generator(1, "pool", step)).item() != step)

    assert 440 <= older <= 560


def test_fakes_of_another_size_empty_a_pool() -> None:
    pool, whole = ImagePool(4), torch.rand(2, 1, 5, 5)
    pool.exchange(torch.rand(3, 1, 3, 3), generator(0, "pool"))

    assert torch.equal(pool.exchange(whole, generator(1, "pool")), whole)
    assert pool.kept is not None and torch.equal(pool.kept, whole)


def test_no_pool_gives_back_what_it_is_given() -> None:
    fakes = torch.rand(2, 1, 3, 3)

    assert ImagePool(0).exchange(fakes, generator(0, "pool")) is fakes


def test_a_pool_is_full_when_it_keeps_its_number_of_images_of_a_size() -> None:
    pool, found = ImagePool(4), []
    for step in range(3):
        found.append(pool.full((1, 3, 3)))
        pool.exchange(torch.rand(2, 1, 3, 3), generator(0, "pool", step))

    assert found == [False, False, True]
    assert not pool.full((1, 5, 5))
    assert ImagePool(0).full((1, 3, 3))


def test_the_average_follows_and_early_weights_are_forgotten() -> None:
    source, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    following = MovingAverage(average, source, 0.5)
    with torch.no_grad():
        source.weight.fill_(1.0)
        average.weight.fill_(0.0)

    following.update(0)  # decay 1 / 10
    assert average.weight.item() == pytest.approx(0.9)
    following.update(1000)  # decay 0.5
    assert average.weight.item() == pytest.approx(0.95)


def test_one_discriminator_call_for_real_and_fake_equals_two() -> None:
    judge = PatchGAN(width=8)
    real, fake = torch.randn(2, 1, 64, 64), torch.randn(2, 1, 64, 64)

    together = judge(torch.cat([real, fake]))

    torch.testing.assert_close(together, torch.cat([judge(real), judge(fake)]))
