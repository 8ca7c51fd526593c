"""How a command ends: a result as a line on stdout, a fault as one on stderr, and an exit code.

Refusals (`MedTranslateError`) carry their code; a wrong command line is 2, an interrupt 130, a
SIGTERM 143, anything else, which is a bug, 1.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

import typer

from medtranslate.errors import MedTranslateError, exit_code, named
from medtranslate.text import escaped, one_line

INTERRUPTED, TERMINATED = 130, 143
_ENDINGS: dict[int, tuple[int, str]] = {
    signal.SIGINT: (INTERRUPTED, "interrupted"),
    signal.SIGTERM: (TERMINATED, "terminated"),
}

# Typer names BadParameter only; its base, wherever typer takes it from, is any wrong command line.
UsageError: Any = typer.BadParameter.__base__
_NO_ARGUMENTS = "NoArgsIsHelpError"
_VERBOSE = {"--verbose", "-v"}


class Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files go on the way out."""


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; nothing but an exit leaves this function.

    Parameters
    ----------
    app : typer.Typer
        The commands.
    arguments : sequence of str
        Without the name of the program. ``--verbose`` among them asks for tracebacks.
    """
    with _Signals() as signals, _quiet_threads():
        try:
            code: Any = app(list(arguments), prog_name="medtranslate", standalone_mode=False)
            if code == INTERRUPTED:  # typer has made an exit of Ctrl-C, without a word
                return _ended(signal.SIGINT)
            return int(code or 0)
        except Terminated:
            return _ended(signal.SIGTERM)
        except (KeyboardInterrupt, typer.Abort):
            return _ended(signal.SIGINT)
        except UsageError as error:
            if type(error).__name__ == _NO_ARGUMENTS:  # its message is the help, of many lines
                print(error.format_message(), file=sys.stderr, flush=True)
                return int(error.exit_code)
            complain(f"{one_line(error.format_message())} (see --help)")
            return int(error.exit_code)
        except Exception as error:
            if signals.met:  # and made into this error by what it was raised in
                return _ended(signals.met)
            complain(sentence(error, verbose=not _VERBOSE.isdisjoint(arguments)))
            return exit_code(error)


def sentence(error: BaseException, *, verbose: bool = False) -> str:
    """Return what went wrong as one line, after the traceback where `verbose` asks for it."""
    error = named(error)
    if isinstance(error, MedTranslateError):
        line = one_line(str(error))
    else:
        message = one_line(f"{type(error).__name__}: {error}")
        hint = "" if verbose else "; run with --verbose for the traceback"
        line = f"unexpected error: {message}{hint}"
    if not verbose:
        return line
    return escaped("".join(traceback.format_exception(error)), lines=True) + line


def headed(text: str) -> str:
    """Put the program's name before the last line of what went wrong."""
    *before, last = text.splitlines() or [""]
    return "\n".join([*before, f"medtranslate: error: {last}"])


def say(text: str, *, quiet: bool = False) -> None:
    """Print a result on stdout as one line, whatever its names and paths hold."""
    if not quiet:
        typer.echo(escaped(text))


def complain(text: str) -> None:
    """Print what went wrong on stderr."""
    print(headed(text), file=sys.stderr, flush=True)


def _ended(number: int) -> int:
    code, message = _ENDINGS[number]
    complain(message)
    return code


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Print no traceback of a thread that cannot write: who waits for it raises the error again."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


class _Signals:
    """While a run lasts, SIGINT and SIGTERM end it, as exceptions.

    An import may swallow what is raised in it; so a signal met there is raised once more after it.
    """

    _RAISED: ClassVar = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}
    _AGAIN = 0.25  # seconds

    met = 0
    """The last signal, 0 before any."""

    def __enter__(self) -> _Signals:
        self._again = threading.Timer(0, lambda: None)
        self._before = {one: signal.getsignal(one) or signal.SIG_DFL for one in self._RAISED}
        for number, handler in self._before.items():
            if handler != signal.SIG_IGN:  # as a shell has it for its background jobs
                signal.signal(number, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        self._again.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.met = number
        if _importing(frame):
            self._again = threading.Timer(self._AGAIN, _thread.interrupt_main, [number])
            self._again.daemon = True
            self._again.start()
        raise self._RAISED[signal.Signals(number)]


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
