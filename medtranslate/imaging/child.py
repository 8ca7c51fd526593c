"""Child processes for what must not run here: third-party decoders, on files of strangers.

Pillow's, ITK's and pydicom's decoders are C and C++. On damaged or hostile files some of them end
the process that they run in, take all its memory, or never come back. Here they run in children
with limits of time and memory: what happens to a child becomes an error that names the file, and
the next file gets a new child. Children start when first needed and are used again, several at a
time for callers in several threads; an idle child ends by itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported, UntrustedInput

WORKER = Path(__file__).with_name("child_worker.py")

PATIENCE = 60.0
"""Seconds of computing after which a task is given up; a busy machine gets `SLOWEST` times that."""

SLOWEST = 3.0

_OUT_OF_TIME = getattr(signal, "SIGXCPU", 0)

_REFUSALS: dict[str, type[MedTranslateError]] = {
    kind.__name__: kind for kind in (Unreadable, Unsupported, UntrustedInput)
}


@dataclass(frozen=True, eq=False)
class Answer:
    """One part of what a child answers.

    Parameters
    ----------
    head : dict
        What the task says of it, in builtins.
    content : bytes
        Pixels, or nothing.
    """

    head: dict[str, Any]
    content: bytes


class _ChildEnded(Exception):
    """The child ended, or was ended, before its answer was complete."""


class Children:
    """A pool of child processes that run `child_worker.py`.

    Safe to call from several threads; each call has a child to itself. A copy in another process,
    forked or unpickled, starts children of its own.
    """

    def __init__(self) -> None:
        self._owner = -1
        self._idle: queue.LifoQueue[subprocess.Popen[bytes]] = queue.LifoQueue()

    def ask(
        self,
        task: str,
        request: dict[str, Any],
        content: bytes = b"",
        *,
        failed: str,
        patience: float = PATIENCE,
    ) -> Iterator[Answer]:
        """Let a child do a task, and yield the parts of its answer.

        Parameters
        ----------
        task : str
            A name in `child_worker.TASKS`.
        request : dict
            What the task needs, in builtins.
        content : bytes
            What it decodes, where that is no file.
        failed : str
            How the message begins where the decoder fails: ``"damaged image"``.
        patience : float
            Seconds of computing for the whole answer.

        Raises
        ------
        Unreadable, Unsupported, UntrustedInput
            As the task says, or the child crashed or took too long; the path is the caller's to
            add.
        """
        while True:
            child = self._take()
            late = threading.Event()
            timer = threading.Timer(SLOWEST * patience, _end, (child, late))
            timer.daemon = True
            timer.start()
            begun = complete = False
            try:
                _send(
                    child,
                    json.dumps({"task": task, "patience": patience, **request}).encode(),
                    content,
                )
                while not complete:
                    answer = _answer(child, failed)
                    begun, complete = True, answer.head.pop("last", False)
                    yield answer
                return
            except _Refused as refused:
                complete = True
                raise refused.error from None
            except (OSError, _ChildEnded):
                if late.is_set() or _ended_by(child) == -_OUT_OF_TIME:
                    raise Unreadable(
                        f"{failed}: it is not decoded after {patience:.0f} s"
                    ) from None
                if begun or _ended_by(child) != 0:
                    raise Unreadable(f"{failed}: its decoder crashed") from None
                # It ended by itself for want of tasks: another does this one.
            finally:
                timer.cancel()
                if complete and not late.is_set():
                    self._idle.put(child)
                else:
                    _dismiss(child, os.getpid())

    def _take(self) -> subprocess.Popen[bytes]:
        """Return an idle child, else a new one."""
        if self._owner != os.getpid():
            self._owner, self._idle = os.getpid(), queue.LifoQueue()
        while True:
            try:
                child = self._idle.get_nowait()
            except queue.Empty:
                break
            if child.poll() is None:
                return child
            _dismiss(child, os.getpid())
        child = subprocess.Popen(
            # -P: the names of our modules (io, memory...) must not stand for others'.
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        weakref.finalize(self, _dismiss, child, os.getpid())
        return child


@functools.cache
def children() -> Children:
    """Return the pool of this process."""
    return Children()


class _Refused(Exception):
    def __init__(self, error: MedTranslateError) -> None:
        super().__init__()
        self.error = error


def _send(child: subprocess.Popen[bytes], head: bytes, content: bytes) -> None:
    if child.stdin is None:
        raise _ChildEnded
    for part in (head, content):
        child.stdin.write(struct.pack("<Q", len(part)))
        child.stdin.write(part)
    child.stdin.flush()


def _answer(child: subprocess.Popen[bytes], failed: str) -> Answer:
    """Take the next part of what a child answers."""
    head = json.loads(_block(child))
    content = _block(child)
    if "refusal" in head:
        raise _Refused(_REFUSALS[head["refusal"]](head["fault"]))
    if "failure" in head:
        raise _Refused(Unreadable(f"{failed}: {head['failure'][:200]}"))
    return Answer(head, content)


def _block(child: subprocess.Popen[bytes]) -> bytes:
    if child.stdout is None:
        raise _ChildEnded
    size = child.stdout.read(8)
    if len(size) < 8:
        raise _ChildEnded
    (length,) = struct.unpack("<Q", size)
    content = child.stdout.read(length)
    if len(content) < length:
        raise _ChildEnded
    return content


def _ended_by(child: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status of a child that ended: 0 of its own accord, less by a signal."""
    try:
        return child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return None


def _end(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    child.kill()


def _dismiss(child: subprocess.Popen[bytes], owner: int) -> None:
    """End a child that is no longer needed; a forked copy leaves its parent's children alone."""
    if os.getpid() != owner:
        return
    if child.poll() is None:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(OSError):  # what was not sent cannot be sent any more
                pipe.close()
