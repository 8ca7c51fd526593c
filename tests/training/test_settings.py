"""Settings: their defaults, their limits, and the files that they are read from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from training.phantoms import TINY

from medtranslate.errors import InputMissing, TrainingFailed
from medtranslate.training import Cadence, Settings, load_config
from medtranslate.training.settings import dump_config


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
        ({"downsampling": 2, "judged_ct_grain": 4.0}, "of pixels at full size; downsampling is 2"),
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
