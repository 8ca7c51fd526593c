"""Cohorts: any number of scans through `medtranslate.convert`, on workers of Dask.

``journal`` (what is finished, on disk) -> ``queue`` (jobs of SLURM and others) -> ``workers``
(where scans are converted, and how one is) -> ``run`` (`convert_cohort`: find, check, hand out,
collect) -> ``summary`` (the table and the page). Names load on first use: a worker needs less than
the call that started it. Needs the extra ``cohort``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtranslate.cohort.journal import Entry, Journal
    from medtranslate.cohort.queue import ClusterSettings, load_cluster
    from medtranslate.cohort.run import Cohort, convert_cohort
    from medtranslate.cohort.workers import Workers

_HOMES = {
    **dict.fromkeys(("Entry", "Journal"), "journal"),
    **dict.fromkeys(("Cohort", "convert_cohort"), "run"),
    **dict.fromkeys(("ClusterSettings", "load_cluster"), "queue"),
    "Workers": "workers",
}

__all__ = [
    "ClusterSettings",
    "Cohort",
    "Entry",
    "Journal",
    "Workers",
    "convert_cohort",
    "load_cluster",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
