"""What is learnt of a scan on its way, kept also where the conversion fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Trace:
    """Seconds by stage, and what the checks found.

    Parameters
    ----------
    seconds : dict of str to float
        By stage.
    found : dict of str to builtins
        ``"recipes"``, ``"domain"``, ``"unseen"``, ``"cycle_error"``, ``"variation"``: what the
        report says of each; those that were come to.
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
