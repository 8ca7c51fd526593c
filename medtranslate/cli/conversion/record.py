"""The report of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtranslate.assurance.report import conversion, report
from medtranslate.cli.conversion.batch import Batch, Outcome


def record(
    batch: Batch, options: Mapping[str, Any], *, exit_code: int, total: float
) -> dict[str, Any]:
    """Give the report of a batch that has run, in builtins.

    Parameters
    ----------
    batch : Batch
        What was converted.
    options : mapping
        As given on the command line.
    exit_code : int
        Of the call.
    total : float
        Seconds of the call.
    """
    return report(
        [_conversion(outcome) for outcome in batch.outcomes],
        options,
        batch.translator,
        exit_code=exit_code,
        seconds={"load": batch.loading_seconds, "total": total},
    )


def _conversion(outcome: Outcome) -> dict[str, Any]:
    job, made = outcome.job, outcome.converted
    return conversion(
        outcome.given,
        read=job.item.path if job else None,
        output=job.output if job and made else None,
        preview=job.preview if job and made else None,
        source=made.source if made else {},
        synthesis=made.synthesis if made else {},
        seconds=outcome.seconds,
        error=outcome.error,
    )
