"""Files: input paths, outputs that are complete or absent, hashes, caches and shipped data.

An output is written under a temporary name beside the target, then renamed. A kill in the middle
can leave only a hidden file whose name ends in ``.part`` plus the suffix. Shipped data are, in a
checkout (and so in an editable install), the repository's top-level folders ``transforms`` and
``bundles``; in an installed wheel they lie in the package's folder ``data``.

Imports nothing heavy, so that a mistyped path is reported at once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medtranslate.errors import InputMissing, OutputExists, OutputFailed

_PACKAGE = Path(__file__).resolve().parent

DANGLING = "is a link to a file that is not there"
"""Fault of a link whose target is missing, as where git-annex has not fetched a file's content."""


def shipped(name: str) -> Path:
    """Find shipped data, in the checkout before an installed copy.

    Parameters
    ----------
    name : str
        Relative path with forward slashes: ``"transforms"``, ``"transforms/ct-volume.yaml"``,
        ``"bundles/brain_ct_mri"``.

    Returns
    -------
    pathlib.Path
        Absolute path of the file or folder, which exists.

    Raises
    ------
    InputMissing
        Where medtranslate ships nothing of that name.
    """
    path = _home() / name
    if not path.exists():
        raise InputMissing("medtranslate ships no such file or folder", path=path)
    return path


def _home() -> Path:
    """Return the folder that holds ``transforms`` and ``bundles``."""
    root = _PACKAGE.parent
    return root if _is_checkout(root) else _PACKAGE / "data"


def _is_checkout(root: Path) -> bool:
    """Tell the repository from any folder that the package was copied or installed into."""
    metadata = root / "pyproject.toml"
    if not (root / "transforms").is_dir() or not metadata.is_file():
        return False
    try:
        project = tomllib.loads(metadata.read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # somebody else's file
    return bool(project == "medtranslate")


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex.

    Examples
    --------
    >>> len(file_hash(shipped("transforms/ct-volume.yaml")))
    64
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(*names: str) -> Path:
    """Return the user's folder for what is worth keeping between runs, or one below it.

    It is ``medtranslate`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``; it may not exist yet.

    Examples
    --------
    >>> cache_folder("prepared").parts[-2:]
    ('medtranslate', 'prepared')
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "medtranslate", *names)


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
        fault = DANGLING if path.is_symlink() else "no such file or folder"
        raise InputMissing(fault, path=path) from None
    except PermissionError:
        raise InputMissing("no permission to read", path=path) from None
    except OSError as error:
        raise InputMissing(f"cannot be opened: {error.strerror}", path=path) from error


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` when the block ends well.

    The temporary has the suffixes of `path`, by which libraries choose a format, and lies in the
    same folder, so that the renaming is atomic. On any exception, also an interrupt, it is removed.

    Parameters
    ----------
    path : path
        The file to be.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputExists
        `path` exists and `overwrite` is false.
    OutputFailed
        No permission, no space, no folder, or `path` is a folder.
    """
    path = Path(path)
    check_target(path, overwrite)
    temporary = _temporary_name(path)
    try:
        yield temporary
        check_target(path, overwrite)
        temporary.replace(path)
    except OSError as error:
        raise _failed(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; rename it to `path` when the block ends well.

    An empty folder at `path` counts as absent. With `overwrite` the old folder is set aside until
    the new one is in its place, and only then removed.

    Parameters
    ----------
    path : path
        The folder to be.
    overwrite : bool
        Replace an existing folder and what lies in it.

    Raises
    ------
    OutputExists
        `path` exists, holds something, and `overwrite` is false.
    OutputFailed
        No permission, no space, no parent folder, or `path` is a file.
    """
    path = Path(path)
    check_target_folder(path, overwrite)
    temporary, aside = _temporary_name(path), _temporary_name(path)
    try:
        temporary.mkdir()
        yield temporary
        check_target_folder(path, overwrite)
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
    except OSError as error:
        raise _failed(error, path) from error
    finally:
        if aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _temporary_name(path: Path) -> Path:
    suffixes = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".gz") else path.suffix
    return path.with_name(f".{secrets.token_hex(8)}.part{suffixes}")


def check_target(path: Path, overwrite: bool) -> None:
    """Raise what `whole_file` would, before anything is made."""
    if path.is_dir():
        raise OutputFailed("is a folder, a file was to be written", path=path)
    if os.path.lexists(path) and not overwrite:
        raise OutputExists("exists already", path=path, remedy="overwriting must be asked for")
    _check_parent(path)


def check_target_folder(path: Path, overwrite: bool) -> None:
    """Raise what `whole_folder` would, before anything is made."""
    if os.path.lexists(path) and not path.is_dir():
        raise OutputFailed("is a file, a folder was to be written", path=path)
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputExists("exists already", path=path, remedy="overwriting must be asked for")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise OutputFailed("cannot be written: its folder does not exist", path=path)
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise OutputFailed("cannot be written: no permission in its folder", path=path)


def _failed(error: OSError, path: Path) -> OutputFailed:
    return OutputFailed(f"cannot be written: {error.strerror or error}", path=path)
