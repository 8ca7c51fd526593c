"""The commands, and that MONAI's bundle runner reaches the same losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import run as monai_run
from training.phantoms import TINY, write_phantoms
from typer.testing import CliRunner

from medtranslate.cli.data import data
from medtranslate.cli.train import train
from medtranslate.errors import OutputExists
from medtranslate.training import RunFolder, Settings
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.prepared import PreparedSet

TINY_OPTIONS = [
    "--network", "compact", "--width", "16", "--blocks", "1", "--discriminator-width", "8",
    "--epochs", "2", "--steps-per-epoch", "4", "--pool", "3", "--reduce", "8", "--shift", "4",
    "--precision", "float32", "--device", "cpu", "--record-steps", "2", "--picture-steps", "0",
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
    assert "stopped at step 1 of 8 (the minutes given are over)" in stopped
    assert "finished after 8 steps" in invoke(app, *command, "--resume")
    with pytest.raises(OutputExists):
        invoke(app, *command)


def test_every_option_reaches_the_settings(
    app, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    invoke(app, "train", ct_slices, mri_slices, "-o", start, *TINY_OPTIONS, "--max-minutes", 0)
    invoke(
        app, "train", ct_slices, mri_slices, "-o", tmp_path / "run", *TINY_OPTIONS,
        "--init-from", start, "--learns", "ct", "--hold", 3, "--hold-of", "ct",
        "--batch-size", 2, "--rate", 1e-4, "--discriminator-rate", 3e-4, "--adversarial", "log",
        "--cycle", 5, "--cycle-of-mri", 0.5, "--identity", 0.1, "--identity-of", "ct",
        "--hiding-noise", 0.02, "--average", 0.9, "--no-flip",
        "--size", 0.05, "--rotation", 6, "--crop", "28x24", "--seed", 4, "--max-minutes", 0,
        "--whole-epochs", 1, "--layout", "channels-last",
    )  # fmt: skip

    about = Checkpoint.load(RunFolder(tmp_path / "run").last).about
    assert Settings.from_dict(about["settings"]) == Settings(
        network="compact", network_arguments={"width": 16, "blocks": 1}, discriminator_width=8,
        epochs=2, steps_per_epoch=4, batch_size=2, learning_rate=1e-4, discriminator_learning_rate=3e-4,
        adversarial_loss="log", cycle_weight=5.0, mri_cycle_share=0.5, identity_share=0.1, identity_generators="ct",
        trained_generators="ct", anchor_weight=3.0, anchored_generators="ct", pool_size=3,
        intermediate_noise=0.02, ema_decay=0.9,
        flip=False, scaling=0.05, rotation_degrees=6.0, shift_pixels=4.0, crop=(28, 24), downsampling=8, full_slice_epochs=1,
        precision="float32", memory_format="channels-last", seed=4,
    )  # fmt: skip


def test_the_commands_defaults_are_the_settings_defaults(app) -> None:
    import inspect

    parameters = inspect.signature(train).parameters
    paper = Settings()
    same = set(parameters) & set(paper.as_dict())
    assert len(same) >= 20
    assert {name: parameters[name].default for name in same} == {
        name: getattr(paper, name) for name in same
    }


def test_a_crop_that_is_none(app, ct_slices: Path, mri_slices: Path, tmp_path: Path) -> None:
    arguments = ["train", str(ct_slices), str(mri_slices), "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--crop", "224"])

    assert result.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_check_and_prepare(app, tmp_path: Path, cache: Path) -> None:
    folder = write_phantoms(tmp_path / "scans", "CT", 3)
    (folder / "copy.png").write_bytes((folder / "ct1.png").read_bytes())
    (folder / "bad.png").write_bytes(b"")
    lists, report = tmp_path / "clean.txt", tmp_path / "check.json"

    said = invoke(
        app, "data", "check", folder, "-m", "ct", "--cache", cache, "--list", lists,
        "--json", report,
    )  # fmt: skip

    assert "CT: 4 scans, 4 slices" in said
    assert "1 left out, such as scans/bad.png: the file is empty" in said
    assert "1 near copies in 1 groups" in said and "3 scans are clean" in said
    assert len(lists.read_text().split()) == 3
    assert json.loads(report.read_text())["left_out"] == {"scans/bad.png": "the file is empty"}

    out = tmp_path / "ct.safetensors"
    prepare = ["data", "prepare", folder, "-m", "ct", "-o", out, "--cache", cache]
    invoke(app, *prepare, "--include", lists)
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
