"""Reasons to stop before the end: a signal, or time is up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """Notices that a run should stop; the run finishes its step, saves and leaves.

    Parameters
    ----------
    max_minutes : float, optional
        Counted from the making of this object.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signal = ""

    @property
    def reason(self) -> str:
        """Why to stop, in words; empty where there is no reason."""
        if self._signal:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the minutes given are over"
        return ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as wishes until the block ends.

        A second one means it, and ends the process as it would have. Outside the main thread
        signals cannot be had, so there only time counts.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier: dict[int, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            self._signal = signal.Signals(number).name
            for each, handler in earlier.items():
                signal.signal(each, handler)

        for wish in _SIGNALS:
            earlier[wish] = signal.signal(wish, note)
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
