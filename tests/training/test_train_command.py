"""The commands, and that MONAI's bundle runner reaches the same losses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from monai.bundle import run as monai_run
from training.phantoms import TINY, write_phantoms
from typer.testing import CliRunner

from medtranslate.cli.data import data
from medtranslate.cli.train import train
from medtranslate.errors import OutputExists, TrainingFailed
from medtranslate.training import Cadence, RunFolder, Settings, load_config
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.prepared import PreparedSet

pytestmark = pytest.mark.usefixtures("plots_undrawn")

TINY_OPTIONS = [
    "--network", "compact", "--epochs", "2", "--precision", "float32", "--device", "cpu",
    *(f"--set={assignment}" for assignment in (
        "network_arguments={width: 16, blocks: 1}", "discriminator_width=8", "steps_per_epoch=4",
        "pool_size=3", "downsampling=8", "shift_pixels=4", "cadence.record_steps=2",
        "cadence.grid_steps=0",
    )),
]  # fmt: skip


@pytest.fixture
def app():
    import typer

    app = typer.Typer()
    app.command("train")(train)
    app.add_typer(data, name="data")
    return app


def invoke(app, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_says_what_it_made_and_resume_goes_on(
    app, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    command = ["train", ct_slices, mri_slices, "-o", tmp_path / "run", *TINY_OPTIONS]

    stopped = invoke(app, *command, "--max-minutes", 0)
    assert "stopped at step 1 of 8 (the time limit is reached)" in stopped
    assert "finished after 8 steps" in invoke(app, *command, "--resume")
    with pytest.raises(OutputExists):
        invoke(app, *command)


def test_a_config_an_assignment_and_an_option_reach_the_settings_each_before_the_other(
    app, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    run = ["train", ct_slices, mri_slices, *TINY_OPTIONS, "--max-minutes", 0]
    invoke(app, *run, "-o", tmp_path / "first")
    config = tmp_path / "config.yaml"
    config.write_text("learning_rate: 1e-4\nscaling: 0.05\nseed: 3\ncrop: [28, 24]\n")

    invoke(
        app, *run, "-o", tmp_path / "run", "--config", config, "--init-from", tmp_path / "first",
        "--set", "scaling=0.2", "--set", "anchor_weight=3", "--set", "seed=5", "--seed", 4,
        "--batch-size", 2,
    )  # fmt: skip

    about = Checkpoint.load(RunFolder(tmp_path / "run").last).about
    expected = replace(
        TINY, discriminator_layers=3, learning_rate=1e-4, scaling=0.2, seed=4, crop=(28, 24),
        anchor_weight=3.0, batch_size=2,
    )  # fmt: skip
    assert Settings.from_dict(about["settings"]) == expected
    written = load_config(RunFolder(tmp_path / "run").config)
    assert written == (expected, Cadence(record_steps=2, grid_steps=0))


def test_the_printed_config_is_the_papers_and_can_be_given_back(app, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(invoke(app, "train", "--print-config"))

    assert load_config(path) == (Settings(), Cadence())


def test_a_setting_that_does_not_exist(
    app, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=r"'cropp' \(did you mean crop\?\)"):
        invoke(
            app, "train", ct_slices, mri_slices, "-o", tmp_path / "run", "--set", "cropp=[64, 64]"
        )
    assert not (tmp_path / "run").exists()


def test_check_and_prepare(app, tmp_path: Path, cache: Path) -> None:
    folder = write_phantoms(tmp_path / "scans", "CT", 3)
    (folder / "copy.png").write_bytes((folder / "ct1.png").read_bytes())
    (folder / "bad.png").write_bytes(b"")
    lists, report = tmp_path / "clean.txt", tmp_path / "check.json"

    said = invoke(
        app, "data", "check", folder, "-m", "ct", "--cache", cache, "--list", lists,
        "--report", report,
    )  # fmt: skip

    assert "CT: 4 scans, 4 slices" in said
    assert "1 left out, such as scans/bad.png: the file is empty" in said
    assert "1 near copies in 1 groups" in said and "3 scans are clean" in said
    assert len(lists.read_text().split()) == 3
    assert json.loads(report.read_text())["left_out"] == {"scans/bad.png": "the file is empty"}

    out = tmp_path / "ct.safetensors"
    prepare = ["data", "prepare", folder, "-m", "ct", "-o", out, "--cache", cache]
    listed = invoke(app, *prepare, "--include", lists)
    assert "2 left out, such as scans/bad.png: not in the list" in listed
    prepare[6] = tmp_path / "all.safetensors"
    all_of_it = invoke(app, *prepare)
    assert "1 left out, such as scans/bad.png: the file is empty" in all_of_it
    assert len(PreparedSet.load(out)) == 3
    with pytest.raises(OutputExists):
        invoke(app, *prepare)


CONFIG = """
settings:
  _target_: medtranslate.training.Settings
  network: compact
  network_arguments: {width: 16, blocks: 1}
training:
  _target_: medtranslate.training.Training
  ct: null
  mri: null
  output: null
  device: cpu
  settings: "@settings"
  cadence: {_target_: medtranslate.training.Cadence, record_steps: 2, grid_steps: 0}
run:
- "$@training.run()"
"""


def test_monais_bundle_runner_gives_the_same_losses(
    app, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.yaml").write_text(CONFIG)
    changed = {
        name: value for name, value in TINY.as_dict().items() if value != getattr(Settings(), name)
    }
    changed["discriminator_layers"] = 3
    monai_run(
        config_file=str(tmp_path / "train.yaml"),
        **{f"settings::{name}": value for name, value in changed.items()},
        **{"training::ct": str(ct_slices), "training::mri": str(mri_slices)},
        **{"training::output": str(tmp_path / "monai")},
    )
    invoke(app, "train", ct_slices, mri_slices, "-o", tmp_path / "ours", *TINY_OPTIONS)

    def losses(name: str) -> list[list[str]]:
        lines = RunFolder(tmp_path / name).losses.read_text().splitlines()
        return [line.split(",")[4:] for line in lines]

    assert losses("monai") == losses("ours")
