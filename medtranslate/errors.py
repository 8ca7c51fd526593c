"""One tree of errors; each names the file and the fault in one line and carries its exit code.

The codes are part of the command line's contract (``docs/reference/exit-codes.md``): a script may
branch on them, so a number is never reused for another meaning.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

from medtranslate.text import escaped


class MedTranslateError(Exception):
    """Root of everything that medtranslate refuses or fails at on purpose.

    Parameters
    ----------
    fault : str
        What is wrong, in one line, without the file's name.
    path : path, optional
        The file or folder that has the fault.
    remedy : str, optional
        What the user can do about it.

    Examples
    --------
    >>> error = InputMissing("no such file", path="scan.nii", remedy="check the name")
    >>> print(error, error.exit_code)
    scan.nii: no such file (check the name) 3
    """

    exit_code = 1

    def __init__(
        self, fault: str, *, path: str | Path | None = None, remedy: str | None = None
    ) -> None:
        self.fault, self.path, self.remedy = escaped(fault), path, remedy
        where = f"{path}: " if path is not None else ""
        hint = f" ({remedy})" if remedy else ""
        super().__init__(escaped(f"{where}{fault}{hint}"))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a worker process: pickle would otherwise lose the keyword arguments."""
        return _rebuild, (type(self), self.fault, self.path, self.remedy)


def _rebuild(
    kind: type[MedTranslateError], fault: str, path: str | Path | None, remedy: str | None
) -> MedTranslateError:
    return kind(fault, path=path, remedy=remedy)


class InvalidOption(MedTranslateError, ValueError):
    """An option is unknown or missing, has a value it cannot take, or contradicts another."""

    exit_code = 2


class InputMissing(MedTranslateError):
    """The input does not exist or may not be read."""

    exit_code = 3


class Unreadable(MedTranslateError):
    """The input exists but is damaged, truncated, empty or of no known format."""

    exit_code = 4


class Unsupported(MedTranslateError):
    """The input is whole, but cannot be translated or written exactly: geometry, shape, values."""

    exit_code = 5


class WrongModality(MedTranslateError):
    """The input is of the target modality already, or its modality is unknown."""

    exit_code = 6


class OutOfDomain(MedTranslateError):
    """The input is no head, or no head as the model knows it."""

    exit_code = 7


class OutputExists(MedTranslateError):
    """The output exists and overwriting was not asked for."""

    exit_code = 8


class OutputFailed(MedTranslateError):
    """The output cannot be written: permission, full disk, vanished folder."""

    exit_code = 9


class ModelUnusable(MedTranslateError):
    """The bundle is missing, damaged, of a newer format, or names what is not allowed."""

    exit_code = 10


class DeviceUnusable(MedTranslateError):
    """The device asked for is absent or out of memory, or the engine is not installed."""

    exit_code = 11


class AmbiguousInput(MedTranslateError):
    """The input holds several series or scans and one must be chosen."""

    exit_code = 12


class UntrustedInput(MedTranslateError):
    """The input breaks a safety limit: archive bombs, links, absurd sizes."""

    exit_code = 13


class TrainingFailed(MedTranslateError):
    """Training cannot start or go on: data, checkpoint, non-finite loss."""

    exit_code = 14


class EvaluationFailed(MedTranslateError):
    """An evaluation cannot be made from what was given."""

    exit_code = 15


class NodeFailed(MedTranslateError):
    """The DICOM node cannot start: port, certificate, or a spool that another node uses."""

    exit_code = 16


INSTALLATION = (ModelUnusable, DeviceUnusable, OutputFailed)
"""Errors that are no fault of a scan: it can be converted once they are mended."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""Errors of the system that mean an output cannot be written, wherever they are met."""


class CohortFailed(MedTranslateError):
    """A cohort cannot start or go on: no scheduler, no workers, or another call works on it."""

    exit_code = 17


class WorkerKilled(MedTranslateError):
    """Converting the scan has ended its worker process every time: out of memory, or a crash."""

    exit_code = 18


class SomeFailed(MedTranslateError):
    """Several inputs were given and they failed for different reasons."""

    exit_code = 20


def exit_code(error: BaseException) -> int:
    """Return the exit code of a failure; an unexpected one has that of `MedTranslateError`."""
    known = named(error)
    kind = known if isinstance(known, MedTranslateError) else MedTranslateError
    return kind.exit_code


def named(error: BaseException) -> BaseException:
    """Return a full or read-only disk, met where nobody expected it, as `OutputFailed`.

    Examples
    --------
    >>> named(OSError(28, "No space left on device", "a.png"))
    OutputFailed('a.png: cannot be written: No space left on device')
    """
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return error
    failed = OutputFailed(f"cannot be written: {error.strerror}", path=error.filename)
    failed.__cause__ = error
    return failed


def common_exit_code(codes: Iterable[int]) -> int:
    """Return one exit code for several outcomes.

    Returns
    -------
    int
        0 if none failed, the code that all failures share, or that of `SomeFailed`.

    Examples
    --------
    >>> common_exit_code([0, 4, 4]), common_exit_code([4, 6])
    (4, 20)
    """
    failures = {code for code in codes if code}
    if len(failures) > 1:
        return SomeFailed.exit_code
    return failures.pop() if failures else 0
