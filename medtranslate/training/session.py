"""One session of a run in one process: from a checkpoint, or none, to the next reason to stop."""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

from medtranslate.errors import TrainingFailed
from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.checkpoints import Checkpoint, network_state, whole_state
from medtranslate.training.data import Data
from medtranslate.training.distributed import World
from medtranslate.training.handlers import LossRecorder, Rows, open_board
from medtranslate.training.models import Models
from medtranslate.training.rendered import RenderedSource
from medtranslate.training.run_folder import RunFolder
from medtranslate.training.run_page import write_page
from medtranslate.training.settings import Cadence
from medtranslate.training.trainer import CycleGANTrainer
from medtranslate.training.validation import SampleGrid, Score, Validation

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGREE_EVERY = 20  # steps between the processes' agreements on whether to stop


@dataclass(frozen=True)
class Outcome:
    """How a session of training ended.

    Attributes
    ----------
    folder : path
        The run's.
    step, steps : int
        Steps taken, and steps in all.
    stopped : str
        Why it stopped early; empty where it is finished.

    Examples
    --------
    >>> outcome = Outcome(Path("run"), step=120, steps=400, stopped="SIGTERM")
    >>> outcome.finished
    False
    """

    folder: Path
    step: int
    steps: int
    stopped: str = ""

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.steps


class Interrupts:
    """Notice that a run should stop; the run finishes its step, saves and ends.

    Parameters
    ----------
    max_minutes : float, optional
        Counted from the making of this object.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signal = ""

    @property
    def reason(self) -> str:
        """Why to stop, in words; empty where there is no reason."""
        if self._signal:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit is reached"
        return ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as requests until the block ends.

        A second one ends the process at once, as without this. Outside the main thread Python
        delivers no signals, so there only time counts.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier: dict[int, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            self._signal = signal.Signals(number).name
            for each, handler in earlier.items():
                signal.signal(each, handler)

        for each in _SIGNALS:
            earlier[each] = signal.signal(each, note)
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


class Session:
    """A trainer with its recording, samples, validation and checkpoints.

    Parameters
    ----------
    run : RunFolder
    world : World
    data : Data
    models : Models
        Restored already, where there is a checkpoint.
    about : dict
        What every checkpoint of the run says about it.
    cadence : Cadence
    score : callable, optional
        Judges held-out slices, where there are any.
    handlers : sequence
        MONAI's or Ignite's, for the trainer.
    checkpoint : Checkpoint, optional
        To go on from.
    """

    def __init__(
        self,
        run: RunFolder,
        world: World,
        data: Data,
        models: Models,
        about: dict[str, Any],
        cadence: Cadence,
        score: Score | None = None,
        handlers: Sequence[Any] = (),
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.run_folder, self.world, self.data, self.models = run, world, data, models
        self.cadence, self.score, self.handlers = cadence, score, handlers
        self.about = {**about, "versions": _versions()}
        before: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": None, "unrecorded": 0}
        before |= checkpoint.about if checkpoint else {}
        self.best: float | None = before["best"]
        self._saved_step = step = int(before["step"])
        settings = models.settings
        batches = UnpairedBatches(
            data.ct,
            data.mri,
            settings.batch_size,
            settings.seed,
            models.device,
            settings.steps_per_epoch,
            world.rank,
            world.size,
            step,
        )
        pairs = None if data.pairs is None else data.pairs.source(settings.seed, models.device)
        rendered = None
        if data.labels is not None:
            rendered = RenderedSource(data.labels, settings, models.device)
        self.trainer = CycleGANTrainer(
            models, batches, about["precision"], world, pairs=pairs, rendered=rendered
        )
        self.trainer.logger.setLevel(logging.CRITICAL)  # what fails is raised: once is enough
        self.board = None
        if self._leads:
            self.board = open_board(run.tensorboard, step)
        self.recorder = LossRecorder(
            Rows(run.losses, step) if self._leads else None,
            self.board,
            cadence.record_steps,
            settings.batch_size * world.size,
            before["seconds"],
            world,
        )
        if checkpoint:
            state = checkpoint.part(f"recorder.{world.rank}")
            self.recorder.restore(state, before["unrecorded"], models.device)
        self.grid = SampleGrid.choose(
            data.ct_held_out or data.ct,
            data.mri_held_out or data.mri,
            settings.seed,
            about["precision"],
            len(settings.contrasts),
            settings.window_share("ct"),
        )
        self.stopped = ""

    @property
    def _leads(self) -> bool:
        return self.world.leads

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.trainer.state.iteration)

    def run(self, interrupts: Interrupts) -> Outcome:
        """Train to the end or to a reason to stop; the last good checkpoint always stays."""
        trainer = self.trainer
        with self.board or nullcontext():
            self._attach(interrupts)
            if not trainer.finished:
                trainer.run()
            if self.step != self._saved_step:
                self.save()
            if self._leads and self.cadence.grid_steps:
                self._draw()
            if self._leads:
                write_page(self.run_folder, self.about, self.data.report())
        steps = trainer.state.max_epochs * trainer.state.epoch_length
        return Outcome(
            self.run_folder.folder, self.step, steps, "" if trainer.finished else self.stopped
        )

    def save(self) -> None:
        """Write the checkpoint to go on from.

        Raises
        ------
        TrainingFailed
            A weight or a loss is not a finite number, so the checkpoint is not worth keeping.
        OutputFailed
            It cannot be written.
        """
        self.recorder.check()
        if not self.models.finite():
            raise TrainingFailed(
                "a weight is no longer a finite number",
                remedy="the last good checkpoint is kept; lower the rates or use float32",
            )
        pools = self.world.gather(
            {n: p.kept.cpu() for n, p in self.models.pools.items() if p.kept is not None}
        )
        recorders = self.world.gather({k: v.cpu() for k, v in self.recorder.state().items()})
        if self._leads:
            tensors = whole_state(self.models, pools)
            for rank, state in enumerate(recorders):
                tensors.update({f"recorder.{rank}.{key}": value for key, value in state.items()})
            Checkpoint(tensors, self._about_now()).save(self.run_folder.last)
        self._saved_step = self.step

    def _about_now(self) -> dict[str, Any]:
        return {
            **self.about,
            "step": self.step,
            "seconds": self.recorder.seconds,
            "unrecorded": self.recorder.count,
            "best": self.best,
        }

    def _attach(self, interrupts: Interrupts) -> None:
        """Surround the trainer's loop; handlers of an event run in the order they are attached in.

        After each step losses are recorded, the caller's handlers run, a sample grid is drawn
        where one is due, and the run stops or saves where it should. After each epoch held-out
        slices are scored, and again the run stops or saves.
        """
        trainer, cadence = self.trainer, self.cadence
        self.recorder.attach(trainer)
        for handler in self.handlers:
            handler.attach(trainer)
        if self._leads and cadence.grid_steps:
            every = Events.ITERATION_COMPLETED(every=cadence.grid_steps)
            trainer.add_event_handler(every, lambda: self._draw())
        if self.data.ct_held_out is not None and self._leads:
            every = Events.EPOCH_COMPLETED(every=cadence.validate_epochs)
            trainer.add_event_handler(every, lambda: self._validate())
        saving = _Every(60 * cadence.checkpoint_minutes)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step, interrupts, saving)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._stop_or_save, interrupts, saving)

    def _after_step(self, engine: Engine, *watched: Any) -> None:
        """Stop or save, except at an epoch's last step, whose validation comes first."""
        step, every = self.step, 1 if self.world.size == 1 else _AGREE_EVERY
        if step % every == 0 and step % self.trainer.state.epoch_length:
            self._stop_or_save(engine, *watched)

    def _stop_or_save(
        self, engine: Engine, interrupts: Interrupts, due: Callable[[], bool]
    ) -> None:
        """Stop or save where that is due, in all processes at the same step."""
        if self.world.agree(bool(interrupts.reason), self.models.device):
            self.stopped = interrupts.reason or "another process was interrupted"
            engine.terminate()
        elif self.world.agree(due(), self.models.device):
            self.save()

    def _draw(self) -> None:
        path = self.run_folder.samples / f"step-{self.step:07d}.png"
        grid = self.grid.save(path, self.models.averages, self.models.device)
        if self.board is not None:
            self.board.add_image("samples", grid, self.step)

    def _validate(self) -> None:
        data, score = self.data, self.score
        assert data.ct_held_out is not None and data.mri_held_out is not None and score is not None
        validation = Validation(
            data.ct_held_out,
            data.mri_held_out,
            score,
            self.about["precision"],
            self.models.settings.window_share("ct"),
        )
        figures = validation.measure(self.models.averages, self.models.device)
        self.trainer.state.metrics.update({f"kid_{name}": kid for name, kid in figures.items()})
        Rows(self.run_folder.validation, self.step - 1).add(
            {"step": self.step, "epoch": self.trainer.state.epoch}
            | {f"kid_{name}": f"{kid:.6f}" for name, kid in figures.items()}
        )
        if self.board is not None:
            for name, kid in figures.items():
                self.board.add_scalar(f"validation/kid_{name}", kid, self.step)
        if self.best is None or figures["mean"] < self.best:
            self.best = figures["mean"]
            state = network_state(self.models)
            Checkpoint(state, self._about_now()).save(self.run_folder.best)


class _Every:
    """True once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._last = seconds, time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


@functools.cache  # each is in a long text that is parsed
def _versions() -> dict[str, str]:
    packages = ("torch", "monai", "pytorch-ignite", "medtranslate")
    return {name: version(name) for name in packages}
