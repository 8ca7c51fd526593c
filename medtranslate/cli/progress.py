"""Progress of a command on stderr: a bar in a terminal, a few lines elsewhere, nothing if quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from medtranslate.text import escaped


class ProgressLines:
    """Log progress as lines.

    A line is written when at least a tenth more is done and `SECONDS` have passed, so that short
    work is silent and long work leaves ten lines.
    """

    SECONDS = 10.0

    def __init__(self) -> None:
        self._name, self._tenths, self._last = "", 0, time.monotonic()

    def step(self, name: str, done: int, total: int) -> None:
        """Take progress; `total` is 0 until it is known."""
        if name != self._name:
            self._name, self._tenths, self._last = name, 0, time.monotonic()
        tenths = 10 * done // total if total else 0
        now = time.monotonic()
        if tenths > self._tenths and now - self._last >= self.SECONDS:
            self._tenths, self._last = tenths, now
            print(f"medtranslate: {name}: {100 * done // total} %", file=sys.stderr, flush=True)


class ProgressDisplay:
    """Show one step of work at a time; a context that ends the bar, whatever happens.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.on_terminal = not quiet and sys.stderr.isatty()
        self._lines = None if quiet or self.on_terminal else ProgressLines()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.on_terminal,
        )
        self._task: tuple[str, TaskID] | None = None

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def step(self, name: str, done: int, total: int) -> None:
        """Take progress on a step of work; another name ends the step before."""
        if self._lines is not None:
            self._lines.step(name, done, total)
        if not self.on_terminal:
            return
        if self._task is None or self._task[0] != name:
            self.end()
            self._bars.start()
            self._task = name, self._bars.add_task(name, total=None)
        self._bars.update(self._task[1], completed=done, total=total or None)

    def counter(self, name: str) -> Callable[[int, int], None]:
        """Return a function of done and total that shows one step, and ends it when all is done."""

        def show(done: int, total: int) -> None:
            self.step(name, done, total)
            if done == total:
                self.end()

        return show

    def end(self) -> None:
        """Remove the bar of the current step: nothing is drawn until the next one."""
        if self._task is not None:
            self._bars.remove_task(self._task[1])
            self._bars.stop()
            self._task = None

    def print(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        # Rich breaks what is printed past it at the width of the terminal; a line stays a line.
        line = escaped(text, lines=True)
        self._bars.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
