"""File operations that fail: the n-th one, or it and all after it, as after a kill.

An audit hook sees every ``open``, rename, removal and new folder of this process, whoever calls;
``os.fsync`` and the writing of Python's files are wrapped. Only operations below a folder count.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KINDS = {
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EACCES": errno.EACCES,
    "EINTR": errno.EINTR,
    "short write": errno.ENOSPC,
}
"""By name, the errors that are injected. A short write stores half of what it is given first."""

_CHANGES = {"os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.truncate": 1}
_TEXT = dict.fromkeys(("encoding", "errors", "newline"))  # of ``open``, in its order
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Operation:
    """One file operation.

    Attributes
    ----------
    kind : str
        ``"read"``, ``"create"``, ``"write"``, ``"sync"``, ``"os.rename"`` and so on.
    path : str
    target : str
        Where a rename leads to.
    """

    kind: str
    path: str
    target: str = ""

    @property
    def changes(self) -> bool:
        """Whether it changes what is on the disk, so that a full disk can stop it."""
        return self.kind in ("create", "write", "sync", "os.rename", "os.mkdir")

    @property
    def removes(self) -> bool:
        """Whether it clears up."""
        return self.kind in ("os.remove", "os.rmdir", "os.truncate")


@dataclass
class Faults:
    """Record file operations below a folder, and make some of them fail.

    Attributes
    ----------
    root : path
    nth : int
        Which operation fails, from 0; -1 for none.
    error : str
        One of `KINDS`.
    killed : bool
        All later operations fail as well: what is on the disk then is what a kill leaves.
    """

    root: Path
    nth: int = -1
    error: str = "EIO"
    killed: bool = False
    seen: list[Operation] = field(default_factory=list)
    failed: Operation | None = None
    active: bool = False
    inside: bool = False

    def meet(self, operation: Operation) -> bool:
        """Take in an operation, and say whether it fails."""
        if not f"{operation.path}{os.sep}".startswith(f"{self.root}{os.sep}"):
            return False
        self.seen.append(operation)
        number = len(self.seen) - 1
        if number != self.nth and not (self.killed and 0 <= self.nth < number):
            return False
        self.failed = self.failed or operation
        return True

    def raised(self, path: str) -> OSError:
        return OSError(KINDS[self.error], os.strerror(KINDS[self.error]), path)


_current: list[Faults] = []  # an audit hook cannot be taken away again, so it looks here


def _text(path: Any) -> str:
    try:
        return str(Path(os.fsdecode(path)).absolute())
    except TypeError:
        return ""  # a descriptor, or nothing


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _current or _current[-1].inside:
        return
    faults = _current[-1]
    faults.inside = True
    try:
        operation = _operation(event, arguments)
        fails = operation is not None and faults.meet(operation)
    finally:
        faults.inside = False
    if fails:
        raise faults.raised(str(arguments[0]))


def _operation(event: str, arguments: tuple[Any, ...]) -> Operation | None:
    if event == "open":
        path, mode, flags = arguments[:3]
        writes = bool(flags & _WRITE_FLAGS) or bool(set(str(mode or "")) & set("wax+"))
        return Operation("create" if writes else "read", _text(path))
    if event in _CHANGES:
        target = _text(arguments[1]) if _CHANGES[event] == 2 else ""
        return Operation(event, _text(arguments[0]), target)
    return None


class _Written(io.FileIO):
    """A file whose writes can fail, in whole or in half."""

    def write(self, content: Any) -> int:
        if _current and not _current[-1].inside:
            faults = _current[-1]
            faults.inside = True
            try:
                path = _text(self.name if isinstance(self.name, str) else f"/proc/{self.name}")
                fails = faults.meet(Operation("write", path))
            finally:
                faults.inside = False
            if fails:
                if faults.error == "short write" and not faults.killed:
                    super().write(memoryview(content)[: len(content) // 2])
                raise faults.raised(path)
        return super().write(content)


def _opener(real: Any) -> Any:
    def opened(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        options |= dict(zip(_TEXT, more, strict=False))  # as pathlib gives them
        if not set(mode) & set("wax+") or isinstance(file, int) or options.keys() - _TEXT.keys():
            return real(file, mode, buffering, **options)
        raw = _Written(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
        buffered = kind(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, **options)
        text.mode = mode  # type: ignore[misc]
        return text

    return opened


@contextmanager
def injected(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """Let file operations be counted, and fail, until the block ends."""
    _install()
    real_sync, real_open = os.fsync, io.open

    def sync(number: int) -> None:
        path = str(Path(f"/proc/self/fd/{number}").readlink())
        if faults.meet(Operation("sync", path)):
            raise faults.raised(path)
        real_sync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(io, "open", _opener(real_open))
        patch.setattr("builtins.open", _opener(real_open))
        _current.append(faults)
        try:
            yield faults
        finally:
            _current.remove(faults)


def _install(done: list[bool] = []) -> None:  # noqa: B006
    if not done:
        sys.addaudithook(_hook)
        done.append(True)
