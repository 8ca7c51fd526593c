"""A path that a user gave. Imports nothing heavy, so that a mistyped one is told at once."""

from __future__ import annotations

from pathlib import Path

from medtranslate.errors import InputMissing


def check_present(path: Path) -> None:
    """Refuse a path that is missing or may not be read.

    Raises
    ------
    InputMissing
        There is no such file or folder, or no permission.
    """
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif path.exists() and not path.is_file():
            # Opening a named pipe would wait for a writer for ever.
            raise InputMissing("is no regular file", path=path)
        else:
            with path.open("rb"):
                pass
    except FileNotFoundError:
        raise InputMissing("no such file or folder", path=path) from None
    except PermissionError:
        raise InputMissing("no permission to read", path=path) from None
    except OSError as error:
        raise InputMissing(f"cannot be opened: {error.strerror}", path=path) from error
