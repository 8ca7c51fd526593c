"""A run stopped and resumed equals one that ran through, bit for bit."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from training.phantoms import TINY, prepared, same_tensors

from medtranslate.errors import OutputExists, OutputFailed, TrainingFailed
from medtranslate.training import Cadence, Outcome, Settings, Training
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.handlers import Board, Rows
from medtranslate.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("plots_undrawn")

EVERYTHING = replace(
    TINY,
    intermediate_noise=0.05,
    rotation_degrees=5.0,
    crop=(32, 28),
    steps_per_epoch=5,
)
THEN_FULL_SLICES = replace(EVERYTHING, full_slice_epochs=1)


class At:
    """Does something after a step."""

    def __init__(self, step: int, what: Any) -> None:
        self.step, self.what = step, what

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.step), lambda: self.what())


def interrupt(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def crash() -> None:
    raise RuntimeError("pulled the plug")


@pytest.fixture
def train(ct_slices: Path, mri_slices: Path, tmp_path: Path) -> Any:
    def run(name: str, settings: Settings = EVERYTHING, **more: Any) -> Outcome:
        more = {"cadence": Cadence(record_steps=3, grid_steps=0), **more}
        return Training(
            ct_slices, mri_slices, tmp_path / name, settings, device="cpu", **more
        ).run()

    return run


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the folder of a run without an interruption, trained once for each settings."""
    folder = tmp_path_factory.mktemp("through")
    ct, mri = folder / "ct.safetensors", folder / "mri.safetensors"
    prepared("CT", 6).save(ct)
    prepared("MR", 5).save(mri)

    def run(settings: Settings) -> Path:
        through = folder / f"{settings.precision}-{settings.full_slice_epochs}"
        if not through.is_dir():
            cadence = Cadence(record_steps=3, grid_steps=0)
            Training(ct, mri, through, settings, device="cpu", cadence=cadence).run()
        return through

    return run


def rows(folder: Path) -> list[list[str]]:
    """Rows of losses without the two columns that are times."""
    lines = RunFolder(folder).losses.read_text().splitlines()
    return [[cell for n, cell in enumerate(line.split(",")) if n not in (2, 3)] for line in lines]


@pytest.mark.parametrize(
    ("number", "settings", "side"),
    [(signal.SIGTERM, THEN_FULL_SLICES, (256, 256)), (signal.SIGINT, EVERYTHING, (32, 28))],
)
def test_a_signal_finishes_the_step_saves_and_a_resumed_run_ends_the_same(
    train: Any, through: Any, tmp_path: Path, number: int, settings: Settings, side: tuple[int, int]
) -> None:
    stopped = train("stopped", settings, handlers=[At(4, lambda: interrupt(number))])
    assert (stopped.step, stopped.finished) == (4, False)
    assert stopped.stopped == signal.Signals(number).name
    again = train("stopped", settings, resume=True, handlers=[At(8, lambda: interrupt(number))])
    assert again.step == 8
    assert train("stopped", settings, resume=True).finished

    whole, resumed = (
        Checkpoint.load(RunFolder(folder).last)
        for folder in (through(settings), tmp_path / "stopped")
    )
    assert whole.step == resumed.step == 10
    assert whole.tensors["pools.0.mri"].shape == (3, 1, *side)  # of the last epoch's slices
    same_tensors(whole.tensors, resumed.tensors)
    assert len(rows(through(settings))) == 1 + 10 // 3
    assert rows(through(settings)) == rows(tmp_path / "stopped")


@pytest.mark.parametrize(
    "settings",
    [THEN_FULL_SLICES, replace(EVERYTHING, precision="bf16")],
    ids=["float32", "bf16"],
)
def test_a_crash_goes_on_from_the_last_checkpoint_and_leaves_no_seam(
    train: Any, through: Any, tmp_path: Path, settings: Settings
) -> None:
    always = Cadence(record_steps=3, grid_steps=0, checkpoint_minutes=0)
    rarely = Cadence(record_steps=1, grid_steps=0, checkpoint_minutes=100)
    train("crashed", settings, cadence=always, handlers=[At(5, interrupt)])
    with pytest.raises(RuntimeError, match="plug"):
        train("crashed", settings, cadence=rarely, resume=True, handlers=[At(8, crash)])
    train("crashed", settings, resume=True)

    assert rows(through(settings)) == rows(tmp_path / "crashed")
    same_tensors(
        Checkpoint.load(RunFolder(through(settings)).last).tensors,
        Checkpoint.load(RunFolder(tmp_path / "crashed").last).tensors,
    )


def test_a_resumed_run_keeps_its_anchors(train: Any, tmp_path: Path) -> None:
    train("first", replace(EVERYTHING, learning_rate=2e-3))
    settings = replace(EVERYTHING, learning_rate=2e-3, anchor_weight=5.0)
    more = {"init_from": tmp_path / "first"}
    train("through", settings, **more)
    assert train("stopped", settings, handlers=[At(4, interrupt)], **more).step == 4
    assert train("stopped", settings, resume=True, **more).finished

    same_tensors(
        Checkpoint.load(RunFolder(tmp_path / "through").last).tensors,
        Checkpoint.load(RunFolder(tmp_path / "stopped").last).tensors,
    )


def test_resuming_a_run_that_has_not_begun_begins_it(train: Any) -> None:
    assert train("new", TINY, resume=True).finished


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(
    train: Any, tmp_path: Path
) -> None:
    once = Cadence(record_steps=1, grid_steps=2, checkpoint_minutes=100)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="plug"):
        train("killed", TINY, cadence=once, handlers=[At(3, crash)])
    assert set(threading.enumerate()) <= before  # none may still write to TensorBoard's log
    run = RunFolder(tmp_path / "killed")
    assert run.losses.is_file() and not run.last.exists()
    (run.folder / ".medtranslate-abcdefgh.part").mkdir()

    with pytest.raises(OutputExists):
        train("killed", TINY, cadence=once)
    assert train("killed", TINY, cadence=once, resume=True).finished
    assert len(run.losses.read_text().splitlines()) == 1 + 8
    assert not list(run.folder.glob(".medtranslate*"))


def test_resuming_replaces_neither_foreign_files_nor_a_bundle_without_its_run(
    train: Any, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "mine.txt").write_text("all of it")
    (tmp_path / "old" / "bundle").mkdir(parents=True)
    with pytest.raises(OutputExists, match=r"holds mine\.txt, which is not of a run"):
        train("thesis", TINY, resume=True)
    with pytest.raises(OutputExists, match="holds a bundle, but no checkpoint to go on from"):
        train("old", TINY, resume=True)


@pytest.mark.parametrize("torn", ["", "4,1,0.1", "\0\0\0\0", "4,1,0.2,0.3,"])
def test_a_row_of_losses_that_a_power_cut_tore_goes(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "losses.csv"
    path.write_text(f"step,epoch,seconds,loss,more\n3,1,0.1,0.2,0.3\n{torn}")
    Rows(path, 3).add({"step": 4, "epoch": 1, "seconds": 0.2, "loss": 0.1, "more": 1})
    assert path.read_text() == "step,epoch,seconds,loss,more\n3,1,0.1,0.2,0.3\n4,1,0.2,0.1,1\n"
    path.write_text("\0" * 30)
    Rows(path, 3).add({"step": 4})
    assert path.read_text() == "step\n4\n"


def test_minutes_stop_a_run_cleanly(train: Any, tmp_path: Path) -> None:
    outcome = train("short", max_minutes=0)

    assert (outcome.step, outcome.stopped) == (1, "the time limit is reached")
    assert Checkpoint.load(RunFolder(tmp_path / "short").last).step == 1


def test_a_folder_with_a_run_is_not_written_over(train: Any) -> None:
    train("run", max_minutes=0)
    with pytest.raises(OutputExists, match="--resume goes on with it"):
        train("run")


def test_overwrite_replaces_a_run_and_nothing_else(train: Any, tmp_path: Path) -> None:
    train("run", TINY, max_minutes=0)
    (tmp_path / "run" / "checkpoints" / "best.safetensors").write_bytes(b"of the old run")

    assert train("run", TINY, overwrite=True).finished
    assert not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"holds thesis\.txt, which is not of a run"):
        train("run", TINY, overwrite=True)
    assert Checkpoint.load(RunFolder(tmp_path / "run").last).step == 8


def test_other_settings_or_scans_are_not_resumed(train: Any, mri_slices: Path) -> None:
    train("run", max_minutes=0)
    with pytest.raises(TrainingFailed, match=r"rate was 0.0002 and is now 0.1"):
        train("run", replace(EVERYTHING, learning_rate=0.1), resume=True)
    prepared("MR", 6).save(mri_slices)
    with pytest.raises(TrainingFailed, match="not those it was started with"):
        train("run", resume=True)


def test_a_finished_run_resumed_is_still_finished(train: Any, tmp_path: Path) -> None:
    train("run")
    before = RunFolder(tmp_path / "run").last.stat().st_mtime_ns

    assert train("run", resume=True).finished
    assert RunFolder(tmp_path / "run").last.stat().st_mtime_ns == before


def test_choices_do_not_depend_on_torchs_own_random_state(train: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    train("one")
    torch.manual_seed(2)
    train("two")
    same_tensors(
        Checkpoint.load(RunFolder(tmp_path / "one").last).tensors,
        Checkpoint.load(RunFolder(tmp_path / "two").last).tensors,
    )


def test_a_stop_at_an_epochs_end_comes_after_its_validation(train: Any, tmp_path: Path) -> None:
    held_out = tmp_path / "val.txt"
    held_out.write_text("ct/0.png\nct/1.png\nmr/0.png\nmr/1.png\n")
    watched = {"validate": [held_out], "score": lambda judged, real: float(judged.mean())}

    train("through", **watched)
    stopped = train("stopped", handlers=[At(5, interrupt)], **watched)
    train("stopped", resume=True, **watched)

    assert stopped.step == 5
    through, resumed = (RunFolder(tmp_path / name) for name in ("through", "stopped"))
    assert len(through.validation.read_text().splitlines()) == 3
    assert through.validation.read_text() == resumed.validation.read_text()
    same_tensors(Checkpoint.load(through.best).tensors, Checkpoint.load(resumed.best).tensors)


def test_a_full_disk_that_tensorboard_meets_is_named(tmp_path: Path) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            def fail(*_: object, **__: object) -> None:
                raise OSError(28, "No space left on device")

            return fail

    board = Board(Full(), tmp_path / "tensorboard")  # type: ignore[arg-type]
    for use in (lambda: board.add_scalar("loss", 1.0, 1), board.close):
        with pytest.raises(OutputFailed, match="tensorboard: cannot be written: No space left"):
            use()
    with pytest.raises(RuntimeError, match="the first failure"), board:
        raise RuntimeError("the first failure")
