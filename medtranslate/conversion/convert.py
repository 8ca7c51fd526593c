"""One call of ``convert``: the batch, its last line, its report, its exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medtranslate.conversion.batch import Batch, Outcome
from medtranslate.conversion.console import Screen
from medtranslate.conversion.endings import common_code
from medtranslate.conversion.options import TO_STDOUT, Request, is_page
from medtranslate.conversion.report_record import looks, record
from medtranslate.conversion.targets import check_reports
from medtranslate.report.page import write_page
from medtranslate.report.record import as_json, write_report
from medtranslate.translation import Translator


@dataclass(frozen=True)
class Model:
    """Which model, and where it runs.

    Parameters
    ----------
    bundle : str
        Its folder; ``""`` for the shipped one.
    device, precision : str
        As `Translator.load`.
    batch_size : int or None
        Slices at once.
    """

    bundle: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None

    def load(self) -> Translator:
        """Load it."""
        return Translator.load(
            self.bundle or None,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
        )


def call(
    inputs: Sequence[str],
    request: Request,
    model: Model,
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Convert inputs, tell how it went, and return the exit code.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders or zips.
    request : Request
        What was asked for.
    model : Model
        What converts.
    quiet, verbose : bool
        How much is told.

    Raises
    ------
    typer.BadParameter, OutputExists, OutputFailed
        Nothing could be begun, or the report could not be written.
    """
    start = time.perf_counter()
    check_reports(request.report_files, overwrite=request.overwrite)
    to_stdout = TO_STDOUT in request.reports
    screen = Screen(quiet=quiet, verbose=verbose, results_on_stderr=to_stdout)
    with screen:
        batch = Batch(request, screen, model.load)
        outcomes = batch.run([Path(one) for one in inputs])
    code = common_code(outcome.code for outcome in outcomes)
    lines = sum(1 if plan.source.together else len(plan.jobs) for plan in batch.plans)
    if max(lines, len(inputs)) > 1:  # the line of a folder of pictures counts them itself
        screen.result(closing_line(outcomes))
    if request.reports:
        told = {"inputs": list(inputs), "quiet": quiet, "verbose": verbose}
        options = {**asdict(request), **asdict(model), **told}
        content = record(batch, options, exit_code=code, total=time.perf_counter() - start)
        for path in request.report_files:
            if is_page(path.name):
                write_page(content, looks(batch), path, overwrite=request.overwrite)
            else:
                write_report(content, path, overwrite=request.overwrite)
        if to_stdout:
            sys.stdout.write(as_json(content))
    return code


def closing_line(outcomes: Sequence[Outcome]) -> str:
    """Say how many scans were converted and how many were not."""
    failed = sum(outcome.error is not None for outcome in outcomes)
    made = f"{len(outcomes) - failed} of {len(outcomes)} converted"
    return f"{made}, {failed} failed" if failed else made
