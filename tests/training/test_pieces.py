"""Order, pool, average, augmentation, prepared gray levels, lists, settings."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training.phantoms import TINY, prepared

from medtranslate.errors import InputMissing, TrainingFailed
from medtranslate.networks import PatchGAN
from medtranslate.training import Cadence, Settings, load_config
from medtranslate.training.augmentation import Augmentation, draw
from medtranslate.training.batches import Order, UnpairedBatches
from medtranslate.training.handlers import open_board
from medtranslate.training.models import ImagePool, MovingAverage
from medtranslate.training.prepared import from_gray, to_gray
from medtranslate.training.randomness import generator, reseed
from medtranslate.training.settings import dump_config

CPU = torch.device("cpu")


@given(count=st.integers(2, 40), start=st.integers(0, 200), length=st.integers(1, 30))
def test_an_order_is_the_same_wherever_one_enters_it(count: int, start: int, length: int) -> None:
    whole = Order(count, 7, "ct").places(0, start + length)

    assert torch.equal(Order(count, 7, "ct").places(start, length), whole[start:])


@given(count=st.integers(2, 40), seed=st.integers(0, 1000))
def test_every_slice_is_seen_once_before_any_is_seen_again(count: int, seed: int) -> None:
    places = Order(count, seed, "mri").places(0, 3 * count).reshape(3, count)

    assert bool((places.sort(dim=1).values == torch.arange(count)).all())


def test_processes_share_a_step_without_overlap() -> None:
    ct, mri = prepared("CT", 6), prepared("MR", 5)

    def batches(size: int, rank: int = 0, processes: int = 1) -> UnpairedBatches:
        return UnpairedBatches(ct, mri, size, 3, CPU, 0, rank, processes)

    whole = next(iter(batches(4)))
    parts = [next(iter(batches(2, rank, 2))) for rank in (0, 1)]

    for name in ("ct", "mri"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert len(batches(4)) == len(batches(2, 0, 2)) == 2


def test_one_slice_is_too_few() -> None:
    with pytest.raises(TrainingFailed, match="1 CT slice"):
        UnpairedBatches(prepared("CT", 1), prepared("MR", 5), 1, 0, CPU)


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


def test_a_generator_seeded_anew_draws_as_a_fresh_one_does() -> None:
    used = generator(0, "pool", 3)
    torch.rand(5, generator=used)

    again = torch.rand(5, generator=reseed(used, 7, "noise", 2, 1))

    assert torch.equal(again, torch.rand(5, generator=generator(7, "noise", 2, 1)))


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


def test_gray_keeps_head_and_values_to_half_a_level() -> None:
    slices = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    head = torch.ones(1, 8, 8, dtype=torch.bool)
    head[0, 0] = False

    image, again = from_gray(to_gray(slices, head))

    assert torch.equal(again[:, 0], head)
    assert bool((image[0, 0, 0] == -1).all())
    assert float((image - slices)[again].abs().max()) <= 0.5 / 127


STILL = replace(
    TINY, flip=False, scaling=0.0, rotation_degrees=0.0, shift_pixels=0.0, downsampling=1
)


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


def test_one_discriminator_call_for_real_and_fake_equals_two() -> None:
    judge = PatchGAN(width=8)
    real, fake = torch.randn(2, 1, 64, 64), torch.randn(2, 1, 64, 64)

    together = judge(torch.cat([real, fake]))

    torch.testing.assert_close(together, torch.cat([judge(real), judge(fake)]))


def test_the_defaults_are_the_papers() -> None:
    paper = Settings()

    assert (paper.cycle_weight, paper.identity_share, paper.pool_size, paper.batch_size) == (
        10,
        0.5,
        50,
        1,
    )
    assert (paper.learning_rate, paper.discriminator_learning_rate, paper.betas) == (
        2e-4,
        2e-4,
        (0.5, 0.999),
    )
    assert paper.epochs == 200
    # As the reference's LambdaLR: 1 - max(0, epoch - 100) / 101.
    assert [paper.rate_factor(epoch) for epoch in (1, 100)] == [1, 1]
    assert paper.rate_factor(101) == pytest.approx(100 / 101)
    assert paper.rate_factor(200) == pytest.approx(1 / 101)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"network": "vgg"}, "network must be one of compact, resnet9, unet256, .* not 'vgg'"),
        ({"learning_rate": -1.0}, "learning_rate must be greater than or equal to 0, not -1.0"),
        ({"ema_decay": 1.0}, "ema_decay must be less than 1"),
        ({"crop": (225, 192)}, "resnet9 takes sides that 4 divides, not 225x192"),
        ({"crop": (512, 512)}, "must fit into 256x256"),
        ({"network": "unet256", "downsampling": 2}, "unet256 takes sides that 256 divides"),
        ({"downsampling": 3}, "downsampling must divide 256"),
        ({"epochs": 2, "full_slice_epochs": 3}, "full_slice_epochs is 3 of 2 epochs"),
        ({"batch_size": 0}, "batch_size must be greater than or equal to 1"),
        ({"downsampling": 16}, "sides from 24 pixels on, not 16x16"),
        ({"crop": (64, 20), "network": "compact"}, "sides from 24 pixels on, not 64x20"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingFailed, match=message):
        Settings(**wrong)


def test_the_last_epochs_see_whole_frames() -> None:
    settings = Settings(
        network="compact", crop=(64, 48), downsampling=2, epochs=5, full_slice_epochs=2
    )

    images = [settings.in_epoch(epoch).image_size for epoch in range(1, 6)]
    assert images == [(64, 48)] * 3 + [(256, 256)] * 2


def test_settings_survive_json() -> None:
    settings = replace(TINY, crop=(32, 28))

    assert Settings.from_dict(settings.as_dict()) == settings
    with pytest.raises(TrainingFailed, match=r"'cycle_wieght' \(did you mean cycle_weight\?\)"):
        Settings.from_dict({"cycle_wieght": 10})


def test_a_config_file_gives_way_to_assignments_and_those_to_what_is_given(tmp_path: Path) -> None:
    settings, cadence = replace(TINY, crop=(32, 28)), Cadence(record_steps=3)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(settings, cadence))

    assert load_config(path) == (settings, cadence)
    changed = load_config(
        path,
        ["learning_rate=1e-4", "cadence.grid_steps=7", "network_arguments.blocks=2", "epochs=3"],
        epochs=5,
        batch_size=None,
    )
    assert changed == (
        replace(
            settings,
            learning_rate=1e-4,
            network_arguments={**settings.network_arguments, "blocks": 2},
            epochs=5,
        ),
        replace(cadence, grid_steps=7),
    )


@pytest.mark.parametrize(
    ("text", "assignment", "message"),
    [
        ("", "epochs", "'epochs' is not name=value"),
        ("", "epochs=[", "is not valid YAML"),
        ("", "epochs=many", "epochs must be a valid integer"),
        ("", "cadence.steps=1", "no setting 'steps'"),
        ("", "cadence=3", "cadence must hold names and values"),
        ("epochs: 3", "epochs.more=1", "epochs has no names below it"),
        ("- 3", "epochs=1", "config.yaml: must hold names and values"),
        ("a: [", "epochs=1", "config.yaml: not valid YAML"),
        ("ephocs: 2", "seed=1", r"config.yaml: no setting 'ephocs' \(did you mean epochs\?\)"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    tmp_path: Path, text: str, assignment: str, message: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(TrainingFailed, match=message) as refused:
        load_config(tmp_path / "config.yaml", [assignment])
    assert "\n" not in str(refused.value)


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_without_tensorboard_a_run_says_which_extra_it_lacks(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    assert open_board(tmp_path / "board", 0) is None
    assert "medtranslate[train]" in caplog.text
    assert not (tmp_path / "board").exists()
