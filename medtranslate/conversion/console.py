"""What ``convert`` says while it runs: results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medtranslate.conversion.endings import headed, sentence


class Screen:
    """Lines and one bar a scan; a context that ends the bars, whatever happens.

    Parameters
    ----------
    quiet : bool
        Errors only.
    verbose : bool
        All notes, and tracebacks.
    results_on_stderr : bool
        Keep stdout free (for ``--report -``).
    """

    def __init__(self, *, quiet: bool, verbose: bool, results_on_stderr: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._results = sys.stderr if results_on_stderr else sys.stdout
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=quiet or not sys.stderr.isatty(),
        )

    def __enter__(self) -> Screen:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def bar(self, text: str, total: int | None = None) -> Callable[[int, int], None]:
        """Show a bar; returns what moves it, which ends it once all is done."""
        task = self._bars.add_task(text, total=total)

        def move(done: int, of: int) -> None:
            self._bars.update(task, completed=done, total=of, visible=done < of)

        return move

    def result(self, line: str) -> None:
        """Say what was made."""
        if self.quiet:
            return
        if self._results.isatty() and not self._bars.disable:
            self._above_bars(line)
        else:
            print(line, file=self._results, flush=True)

    def note(self, line: str) -> None:
        """Say what was noticed and does not stop anything."""
        if not self.quiet:
            self._above_bars(f"medtranslate: note: {line}")

    def error(self, error: Exception) -> None:
        """Say what went wrong."""
        self._above_bars(headed(sentence(error, verbose=self.verbose)))

    def _above_bars(self, text: str) -> None:
        # Rich breaks what is printed past it at the width of the terminal; a line stays a line.
        self._bars.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
