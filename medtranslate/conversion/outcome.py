"""What became of one scan: its `Conversion`, and the `Trace` kept on the way there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtranslate.errors import exit_code

ModalityBasis = tuple[str, str]
"""A modality and its basis, as in ``meta["source"]``; empty strings where it is not known."""

UNKNOWN: ModalityBasis = ("", "")


@dataclass(frozen=True, eq=False)
class Conversion:
    """The outcome of one scan, or of one input that could not be searched for scans.

    Parameters
    ----------
    given : Path
        The input, as given.
    path : Path
        The file or folder read; `given` where no scan was found.
    output, preview, error_map, variation_map, figures : Path or None
        Files or folders written.
    source : mapping
        ``meta["source"]`` of the scan without its header; empty where it was not read.
    synthesis : mapping
        ``meta["synthesis"]`` of the result: the model and what the values mean; empty where the
        scan was not converted.
    checks : mapping
        What the checks found, as the report has it: ``"domain"``, ``"unseen"``, ``"cycle_error"``,
        ``"variation"`` and ``"recipes"``; checks that were not made are absent.
    notes : tuple of str
        What was noticed, a sentence each.
    seconds : mapping of str to float
        Time by stage.
    error : Exception or None
        Why the scan was not converted.
    folder : Path or None
        For a 2D image of a folder, the folder of results.
    of : int
        Number of scans found at the same input.

    Examples
    --------
    >>> from medtranslate import convert
    >>> convert("head-ct.nii.gz", to="mri").output.name  # doctest: +SKIP
    'head-ct_mri.nii.gz'
    """

    given: Path
    path: Path
    output: Path | None = None
    preview: Path | None = None
    error_map: Path | None = None
    variation_map: Path | None = None
    figures: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    synthesis: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None
    folder: Path | None = None
    of: int = 1

    @property
    def exit_code(self) -> int:
        """Exit code of this conversion alone; 0 where it succeeded."""
        return exit_code(self.error) if self.error else 0

    def __repr__(self) -> str:
        outcome = f"failed: {self.error}" if self.error else f"-> {self.output}"
        return f"<Conversion {self.path} {outcome}>"

    def as_builtins(self) -> dict[str, Any]:
        """Return the conversion as one of the report's ``"conversions"``."""
        from medtranslate.report.record import (
            conversion,  # with torch, which a refusal does without
        )

        written = {
            "output": self.output,
            "preview": self.preview,
            "error_map": self.error_map,
            "variation_map": self.variation_map,
            "figures": self.figures,
        }
        return conversion(
            self.given,
            read=self.path,
            written=written,
            source=self.source,
            synthesis=self.synthesis,
            found=self.checks,
            notes=self.notes,
            seconds=self.seconds,
            error=self.error,
        )


@dataclass
class Trace:
    """Record what is learned of a scan on its way, also where the conversion fails.

    Parameters
    ----------
    seconds : dict of str to float
        By stage.
    found : dict of str to builtins
        What the checks found, for the report: ``"recipes"``, ``"domain"``, ``"unseen"``,
        ``"cycle_error"``, ``"variation"``; checks that were not reached are absent.
    source : mapping
        ``meta["source"]`` of the scan; empty until it is read.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
