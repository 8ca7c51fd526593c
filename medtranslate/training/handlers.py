"""Handlers that record and show training: losses in CSV and TensorBoard, image grids, progress."""

from __future__ import annotations

import csv
import io
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from medtranslate.errors import OutputFailed, TrainingFailed
from medtranslate.files import reading, whole_file
from medtranslate.training.distributed import World
from medtranslate.training.objective import Losses

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Board:
    """TensorBoard's log of a run.

    What cannot be written is raised as `OutputFailed`, by a later call where TensorBoard's own
    thread met it.

    Parameters
    ----------
    writer : SummaryWriter
    folder : path
    """

    def __init__(self, writer: SummaryWriter, folder: Path) -> None:
        self._writer, self._folder = writer, folder

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Log a number."""
        with _output_of(self._folder):
            self._writer.add_scalar(name, value, step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Log a gray image, uint8 (H, W)."""
        with _output_of(self._folder):
            self._writer.add_image(name, image, step, dataformats="HW")

    def close(self) -> None:
        """Write what is still in memory."""
        with _output_of(self._folder):
            self._writer.flush()  # `close` alone waits for ever for a thread that has failed
            self._writer.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        """Close, so that no thread writes to the folder any more, and keep the first failure."""
        with nullcontext() if kind is None else suppress(OutputFailed):
            self.close()


@contextmanager
def _output_of(path: Path) -> Iterator[None]:
    """Name the failures of the system as those of an output."""
    try:
        yield
    except OSError as error:
        raise OutputFailed(f"cannot be written: {error.strerror or error}", path=path) from error


def open_board(folder: Path, step: int) -> Board | None:
    """Return TensorBoard's log for a run that goes on after a step; None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logging.getLogger(__name__).warning(
            "TensorBoard is not installed: losses go to losses.csv alone "
            "(pip install 'medtranslate[train]')"
        )
        return None
    with _output_of(folder):
        return Board(SummaryWriter(str(folder), purge_step=step + 1), folder)


class Rows:
    """A CSV file that grows by rows, the first column being the step.

    Parameters
    ----------
    path : path
    step : int
        Rows of later steps, left over from before a resumption, are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.is_file():
            self._drop_after(step)

    def add(self, row: dict[str, Any]) -> None:
        """Append one row, under a heading if it is the first; it is on the disk then.

        Raises
        ------
        OutputFailed
            Full disk, vanished folder; no part of the row is left.
        """
        before = self.path.stat().st_size if self.path.is_file() else 0
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if not before:
            writer.writeheader()
        writer.writerow(row)
        with _output_of(self.path):
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(text.getvalue())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.truncate(self.path, before)
                raise

    def _drop_after(self, step: int) -> None:
        """Keep the heading and the rows up to a step; what a power cut spoiled goes as well."""
        with reading(self.path):
            text = self.path.read_text(encoding="utf-8", errors="replace")
        heading, *rows = text.splitlines() or [""]
        kept = [
            row
            for row in rows
            if row.count(",") == heading.count(",")
            and (number := row.split(",")[0]).isdecimal()
            and int(number) <= step
        ]
        whole = "\n".join([heading, *kept, ""]) if heading.startswith("step,") else ""
        if whole != text:
            with whole_file(self.path, overwrite=True) as temporary:
                temporary.write_text(whole, encoding="utf-8")


class LossRecorder:
    """Writes mean losses at intervals, and stops a run whose losses are no longer numbers.

    Parameters
    ----------
    rows : Rows or None
        None in processes that write nothing.
    board : Board or None
    every : int
        Steps an interval. Reading losses waits for the device, so not every step.
    pairs : int
        Pairs a step, over all processes.
    seconds : float
        Spent on the run before it was resumed.
    """

    def __init__(
        self,
        rows: Rows | None,
        board: Board | None,
        every: int,
        pairs: int,
        seconds: float = 0.0,
        world: World | None = None,
    ) -> None:
        self.rows, self.board, self.every, self.pairs = rows, board, every, pairs
        self.sums: torch.Tensor | None = None
        self.count = self._restored = 0
        self.world = world or World()
        self._before = seconds
        self._started = self._interval = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent on the run, earlier stretches included."""
        return self._before + time.monotonic() - self._started

    def state(self) -> dict[str, torch.Tensor]:
        """Return what an interval that is not over yet has gathered."""
        return {} if self.sums is None else {"sums": self.sums.clone()}

    def restore(self, state: dict[str, torch.Tensor], count: int, device: torch.device) -> None:
        """Go on with an interval."""
        if "sums" in state:
            self.sums, self.count = state["sums"].to(device), count
            self._restored = count  # steps of an earlier stretch tell nothing of this one's speed

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer's steps."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Take in a step's losses."""
        losses: Losses = engine.state.output  # type: ignore[assignment]
        values = torch.stack(list(losses.values()))
        self.sums = values if self.sums is None else self.sums + values
        self.count += 1
        if engine.state.iteration % self.every == 0:
            self._record(engine, list(losses))

    def check(self) -> None:
        """Refuse losses that are not finite.

        Raises
        ------
        TrainingFailed
        """
        if self.sums is not None and not bool(torch.isfinite(self.sums).all()):
            raise TrainingFailed(
                "a loss is no longer a finite number",
                remedy="the last good checkpoint is kept; lower the rates or use float32",
            )

    def _record(self, engine: Engine, names: list[str]) -> None:
        assert self.sums is not None
        self.sums = self.world.mean(self.sums)
        self.check()
        means = (self.sums / self.count).tolist()
        self.sums = None
        step, now = engine.state.iteration, time.monotonic()
        steps = self.count - self._restored
        speed = steps * self.pairs / max(now - self._interval, 1e-9)
        self.count, self._restored, self._interval = 0, 0, now
        engine.state.metrics.update(zip(names, means, strict=True))
        if self.rows is not None:
            self.rows.add(
                {
                    "step": step,
                    "epoch": engine.state.epoch,
                    "seconds": f"{self.seconds:.1f}",
                    "pairs_per_second": f"{speed:.3f}",
                    **{name: f"{mean:.6f}" for name, mean in zip(names, means, strict=True)},
                }
            )
        if self.board is not None:
            self.board.add_scalar("speed/pairs_per_second", speed, step)
            for name, mean in zip(names, means, strict=True):
                self.board.add_scalar(f"losses/{name}", mean, step)


class ProgressBar:
    """Shows steps, pairs per second, losses and time left; a line a minute where no one watches.

    Parameters
    ----------
    console : rich.console.Console
    """

    SILENCE = 60.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[news]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._steps = self._spoken = 0.0
        self._started = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._stop)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        total = engine.state.epoch_length * engine.state.max_epochs  # type: ignore[operator]
        self._steps, self._started = engine.state.iteration, time.monotonic()
        self._spoken = self._started
        self.progress.start()
        self.task = self.progress.add_task(
            "train", total=total, completed=engine.state.iteration, epoch=1, news=""
        )

    def _step(self, engine: Engine) -> None:
        now, step = time.monotonic(), engine.state.iteration
        batches = engine.state.dataloader
        pairs = (step - self._steps) * getattr(batches, "batch_size", 1)
        pairs *= getattr(batches, "processes", 1)
        news = f"{pairs / max(now - self._started, 1e-9):.2f} pairs/s"
        cycle = [engine.state.metrics.get(f"cycle_{side}") for side in ("ct", "mri")]
        if None not in cycle:
            news += f", cycle {cycle[0]:.3f} {cycle[1]:.3f}"
        self.progress.update(self.task, completed=step, epoch=engine.state.epoch, news=news)
        if not self.console.is_terminal and now - self._spoken >= self.SILENCE:
            self._spoken = now
            self.console.print(f"epoch {engine.state.epoch}, step {step}: {news}")

    def _stop(self, engine: Engine) -> None:
        self.progress.stop()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self.progress.stop()
        raise error
