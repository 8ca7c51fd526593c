"""What ``convert`` prints: results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import mean
from types import TracebackType
from typing import Self

from medtranslate.cli.endings import headed, sentence
from medtranslate.cli.progress import ProgressDisplay
from medtranslate.conversion import Conversion, Observer
from medtranslate.text import one_line


class Console(Observer):
    """Print progress, notes and failures on stderr; a context that ends the progress bar.

    Parameters
    ----------
    quiet : bool
        Print errors only.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._display = ProgressDisplay(quiet=quiet)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def progress(self, name: str, done: int, total: int) -> None:
        """Show progress."""
        self._display.step(one_line(name), done, total)

    def note(self, message: str) -> None:
        """Print a note."""
        if not self.quiet:
            self._display.print(f"medtranslate: note: {one_line(message)}")

    def failure(self, message: str) -> None:
        """Print what is wrong with a scan."""
        self._display.print(headed(one_line(message)))


class ConversionConsole(Console):
    """Print conversions as they are done.

    Parameters
    ----------
    quiet : bool
        Print errors only.
    verbose : bool
        Print every note, and tracebacks.
    results_on_stderr : bool
        Keep stdout free, for ``--report -``.
    """

    def __init__(self, *, quiet: bool, verbose: bool, results_on_stderr: bool = False) -> None:
        super().__init__(quiet=quiet)
        self.verbose = verbose
        self._results = sys.stderr if results_on_stderr else sys.stdout
        self._folders: dict[object, list[Conversion]] = {}
        self._told: Exception | None = None
        self._done = self._failed = self._skipped = self._lines = 0

    def show(self, one: Conversion) -> None:
        """Print a conversion that is done: its notes and one line; one line for a whole folder."""
        self._done += 1
        self._failed += one.error is not None
        self._skipped += one.skipped
        if one.error is not None and one.error is not self._told:  # a missing model fails them all
            self._told = one.error
            self._display.print(headed(sentence(one.error, verbose=self.verbose)))
        if one.folder is not None:
            self._show_of_folder(one)
            return
        self._lines += 1
        self._display.end()
        if one.error is None:
            for note in one.notes:
                self.note(f"{one.path}: {note}")
            self._result(skipped_summary(one) if one.skipped else summary(one))

    def close(self, inputs: int) -> None:
        """Print how many scans were converted, unless one line said it."""
        if max(self._lines + len(self._folders), inputs) < 2:
            return
        line = f"{self._done - self._failed - self._skipped} of {self._done} converted"
        for count, what in ((self._skipped, "skipped"), (self._failed, "failed")):
            line += f", {count} {what}" if count else ""
        self._result(line)

    def _show_of_folder(self, one: Conversion) -> None:
        images = self._folders.setdefault(one.given, [])
        images.append(one)
        if self.verbose:
            for note in one.notes:
                self.note(f"{one.path}: {note}")
        if len(images) != one.of:
            return
        skipped = sum(each.skipped for each in images)
        if skipped:
            self.note(f"{one.given}: {skipped} of {one.of} images are skipped: their results exist")
        converted = [each for each in images if each.error is None and not each.skipped]
        if not converted:
            return
        self._display.end()
        self._result(folder_summary(converted, one.of))
        warned = sum(each.checks["domain"]["verdict"] == "warned" for each in converted)
        if warned and not self.verbose:
            self.note(
                f"{one.given}: the domain check warns of {warned} of {len(converted)} images; "
                "--verbose and the report name them"
            )

    def _result(self, line: str) -> None:
        if self.quiet:
            return
        if self._results.isatty() and self._display.on_terminal:
            self._display.print(line)
        else:
            print(one_line(line), file=self._results, flush=True)


def skipped_summary(one: Conversion) -> str:
    """Say in one line that a scan was left out."""
    return f"{one.path}: skipped, {one.output} exists"


def summary(one: Conversion) -> str:
    """Say in one line what was converted to what, with the cycle error."""
    source = one.source
    shape = "x".join(map(str, source["shape"]))
    return (
        f"{one.path} -> {one.output}: {source['modality']} ({source['modality_basis']}) "
        f"to synthetic {one.synthesis['modality']}, {shape}, {_errors([one])}"
        f"{sum(one.seconds.values()):.1f} s"
    )


def folder_summary(converted: Sequence[Conversion], of: int) -> str:
    """Say in one line what a folder of 2D images was converted to, with the mean errors."""
    first = converted[0]
    seconds = sum(sum(one.seconds.values()) for one in converted)
    return (
        f"{first.given} -> {first.folder}: {len(converted)} of {of} images, "
        f"{first.source['modality']} ({first.source['modality_basis']}) "
        f"to synthetic {first.synthesis['modality']}, {_errors(converted)}{seconds:.1f} s"
    )


def _errors(conversions: Sequence[Conversion]) -> str:
    """Say the mean expected error and cycle error; nothing of what was not measured."""
    said = ""
    for check in ("expected_error", "cycle_error"):
        found = [one.checks[check] for one in conversions if check in one.checks]
        if not found:
            continue
        error, share = (mean(one[key] for one in found) for key in ("error", "share_of_range"))
        shown = f"{error:.1f}" if error >= 1 else f"{error:.2g}"
        name = check.replace("_", " ")
        said += f"{name} {shown} {found[0]['units']} ({share:.1%} of the range), "
    return said
