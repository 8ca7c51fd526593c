"""The report of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtranslate.conversion.batch import Batch, Outcome
from medtranslate.quality.worst_slices import Look
from medtranslate.report.record import conversion, report


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
        batch.loaded.translator if batch.loaded else None,
        exit_code=exit_code,
        seconds={"load": batch.loading_seconds, "total": total},
    )


def looks(batch: Batch) -> list[tuple[Look, ...]]:
    """Give the slices of each conversion that a page shows, in the order of the report."""
    return [one.converted.looks if one.converted else () for one in batch.outcomes]


def _conversion(outcome: Outcome) -> dict[str, Any]:
    job, made = outcome.job, outcome.converted
    found = outcome.trace.found
    written = {}
    if job and made:
        written = {
            "output": job.output,
            "preview": job.preview,
            "error_map": job.error_map if "cycle_error" in found else None,
            "variation_map": job.variation_map,
        }
    return conversion(
        outcome.given,
        read=job.item.path if job else None,
        written=written,
        source=made.source if made else outcome.trace.source,
        synthesis=made.synthesis if made else {},
        found=found,
        notes=made.notes if made else (),
        seconds=outcome.trace.seconds,
        error=outcome.error,
    )
