"""Files: input paths, outputs that are complete or absent, hashes, caches and shipped data.

An output is written in a hidden folder beside the target, ``.medtranslate-*.part``, brought to the
disk, and moved to its name in one step. A kill or a power cut in the middle can leave only that
folder, which no reader looks into and the next write to the same place removes. All that
medtranslate writes goes through `whole_file` or `whole_folder`, all that it unpacks through
`temporary_folder`.

Shipped data are, in a checkout (and so in an editable install), the repository's top-level folders
``transforms`` and ``bundles``; in an installed wheel they lie in the package's folder ``data``.

Imports nothing heavy, so that a mistyped path is reported at once.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from medtranslate.errors import InputMissing, OutputExists, OutputFailed, Unreadable

_PACKAGE = Path(__file__).resolve().parent
_TEMPORARY = re.compile(r"\.medtranslate-\w+\.part|\.[0-9a-f]{16}\.part(\.\w+)*")
_ASIDE = "replaced"
_ABANDONED = 24 * 3600.0  # seconds after which a temporary that cannot be locked is nobody's
_AT_CWD, _NO_REPLACE, _SWAP = -100, 1, 2  # <fcntl.h>, <linux/fs.h>

FORMATS = ("nii.gz", "nii", "mha", "nrrd", "png", "jpg", "tif", "dicom")
"""What a result may be written as: the suffix of its file, or ``dicom`` for a series' folder."""

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

    Raises
    ------
    InputMissing, Unreadable
        It is not there or may not be read; the disk cannot read it.

    Examples
    --------
    >>> len(file_hash(shipped("transforms/ct-volume.yaml")))
    64
    """
    with reading(path), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Name a file that cannot be read in the block.

    Raises
    ------
    InputMissing, Unreadable
        It is not there or may not be read; the disk cannot read it.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise InputMissing(f"cannot be opened: {error.strerror}", path=path) from error
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", path=path) from error


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
        There is no such file or folder, or no permission; or what is there only stands for a file
        that was not fetched.
    """
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif path.exists() and not path.is_file():
            # Opening a named pipe would wait for a writer for ever.
            raise InputMissing("is no regular file", path=path)
        else:
            with path.open("rb") as file:
                check_fetched(file.read(64), path)
    except FileNotFoundError:
        fault = DANGLING if path.is_symlink() else "no such file or folder"
        raise InputMissing(fault, path=path) from None
    except PermissionError:
        raise InputMissing("no permission to read", path=path) from None
    except OSError as error:
        raise InputMissing(f"cannot be opened: {error.strerror}", path=path) from error


def create_folder(folder: Path) -> None:
    """Create a folder, and those above it, unless it is there.

    Raises
    ------
    OutputFailed
        It cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot be created: {error.strerror}", path=folder) from error


def check_fetched(start: bytes, path: Path) -> None:
    """Refuse what stands in the place of a file, by its first bytes.

    Raises
    ------
    InputMissing
        A pointer of Git LFS or git-annex, or a web page, such as that of a failed download.
    """
    begins = start.lstrip().lower()
    for first, what, remedy in _STAND_INS:
        if begins.startswith(first):
            raise InputMissing(f"is {what}, not the file itself", path=path, remedy=remedy)


_STAND_INS = (
    (b"version https://git-lfs.github.com", "a pointer of Git LFS", "git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex", "git annex get, or datalad get"),
    (b"<!doctype html", "a web page", "download it again"),
    (b"<html", "a web page", "download it again"),
)


@contextmanager
def whole_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` when the block ends well.

    The temporary has the name of `path`, by which libraries choose a format, in a hidden folder
    beside it, so that the move is atomic. What was written is on the disk before the move, and the
    move before this returns. On any exception, also an interrupt, the temporary is removed.

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
    try:
        with _workspace(path.parent) as workspace:
            temporary = workspace / path.name
            yield temporary
            sync(temporary)
            check_target(path, overwrite)
            if overwrite or not _renamed(temporary, path, _NO_REPLACE):
                temporary.replace(path)
            sync_folder(path.parent)
    except FileExistsError as error:  # it came into being a moment ago
        raise _exists(path) from error
    except OSError as error:
        raise _failed(error, path) from error


@contextmanager
def whole_folder(
    path: str | Path, *, overwrite: bool = False, parents: bool = False
) -> Iterator[Path]:
    """Give a temporary folder to fill; move it to `path` when the block ends well.

    As `whole_file`. An empty folder at `path` counts as absent. With `overwrite` the old folder and
    the new one exchange their places in one step; where the system cannot do that, the old one is
    set aside first, and put back by the next call if this one is killed before it ends.

    Parameters
    ----------
    path : path
        The folder to be.
    overwrite : bool
        Replace an existing folder and what lies in it.
    parents : bool
        Create the folders above it where they are missing.

    Raises
    ------
    OutputExists
        `path` exists, holds something, and `overwrite` is false.
    OutputFailed
        No permission, no space, no parent folder, or `path` is a file.
    """
    path = Path(path)
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        check_target_folder(path, overwrite)
        remove_leftovers(path.parent)
        with _workspace(path.parent) as workspace:
            temporary = workspace / path.name
            temporary.mkdir()
            yield temporary
            for left in list(temporary.rglob(".medtranslate-*.part")):
                shutil.rmtree(left)  # of a file inside; published, it would stay for ever
            sync(temporary)
            check_target_folder(path, overwrite)
            _exchange(temporary, path, workspace / _ASIDE)
            sync_folder(path.parent)
    except OSError as error:
        raise _failed(error, path) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give an empty folder among the system's temporary files, which is removed with its content.

    Only the user can read it. What an earlier process left there when it was killed goes, too.

    Raises
    ------
    OutputFailed
        It cannot be created.
    """
    home = Path(tempfile.gettempdir())
    remove_leftovers(home)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(_workspace(home))
        except OSError as error:
            raise _failed(error, home) from error
        yield folder


def is_temporary(name: str) -> bool:
    """Tell by its name what `whole_file`, `whole_folder` and `temporary_folder` work in.

    Examples
    --------
    >>> is_temporary(".medtranslate-x8fz3k1q.part"), is_temporary("head.nii.gz")
    (True, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder what processes that were killed left of their unfinished work.

    What belongs to a living process stays: it is locked. A folder that was set aside for a new one
    which never came is put back.
    """
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if is_temporary(entry.name)]
    except OSError:
        return  # whoever writes there will say what is wrong
    for path in found:
        try:
            _remove_leftover(path)
        except OSError:
            continue  # another user's, or gone meanwhile


def _remove_leftover(path: Path) -> None:
    status = path.lstat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return
    if stat.S_ISREG(status.st_mode):  # of a version that locked nothing
        if time.time() - status.st_mtime > _ABANDONED:
            path.unlink()
        return
    if not stat.S_ISDIR(status.st_mode):
        return
    lock = _lock(path)
    if lock is None and time.time() - status.st_mtime < _ABANDONED:
        return
    try:
        _remove(path)
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """Make a hidden folder that only the user can read, locked until the block ends, then gone."""
    workspace = Path(tempfile.mkdtemp(".part", ".medtranslate-", parent))
    lock = _lock(workspace)
    try:
        yield workspace
    finally:
        _remove(workspace)
        if lock is not None:
            os.close(lock)


def _remove(workspace: Path) -> None:
    """Remove a workspace, except for the only copy of a folder that was set aside in it."""
    aside = workspace / _ASIDE
    if aside.is_dir():
        for old in list(aside.iterdir()):
            with suppress(OSError):
                if not (workspace.parent / old.name).exists():
                    old.rename(workspace.parent / old.name)
        if any(not (workspace.parent / old.name).exists() for old in aside.iterdir()):
            return
    shutil.rmtree(workspace, ignore_errors=True)


def _exchange(new: Path, path: Path, aside: Path) -> None:
    """Move a folder to where another may be, which is in `new` or in `aside` afterwards."""
    if not path.exists() or not any(path.iterdir()):
        if path.exists() and os.name == "nt":
            path.rmdir()
        new.rename(path)
    elif _renamed(new, path, _SWAP):
        sync_folder(new.parent)
    else:
        aside.mkdir()
        path.rename(aside / path.name)
        new.rename(path)  # if this fails, `_remove` puts the old one back


def _renamed(source: Path, target: Path, flag: int) -> bool:
    """Rename as renameat2(2) does; False where the system or the file system does not know it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    paths = (os.fsencode(source.absolute()), os.fsencode(target.absolute()))
    if call(_AT_CWD, paths[0], _AT_CWD, paths[1], flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(target))


def _lock(folder: Path) -> int | None:
    """Lock a folder until the number is closed; None where it is locked, or cannot be."""
    try:
        number = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None  # Windows opens no folders
    try:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        os.close(number)
        return None
    return number


def sync(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to the disk."""
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
        sync_folder(path)
        return
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)


def check_target(path: Path, overwrite: bool) -> None:
    """Raise what `whole_file` would, before anything is made."""
    _check_parent(path)
    if path.is_dir():
        raise OutputFailed("is a folder, a file was to be written", path=path)
    if os.path.lexists(path) and not overwrite:
        raise _exists(path)


def check_target_folder(path: Path, overwrite: bool) -> None:
    """Raise what `whole_folder` would, before anything is made."""
    _check_parent(path)
    if os.path.lexists(path) and not path.is_dir():
        raise OutputFailed("is a file, a folder was to be written", path=path)
    if path.is_dir() and not overwrite and not all(is_temporary(p.name) for p in path.iterdir()):
        raise _exists(path)


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    try:
        if len(os.fsencode(path.name)) > os.pathconf(parent, "PC_NAME_MAX"):
            raise OutputFailed("cannot be written: its name would be too long", path=path)
    except (OSError, AttributeError, ValueError):
        pass  # no such folder, or a system that does not tell
    if not parent.is_dir():
        raise OutputFailed("cannot be written: its folder does not exist", path=path)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputFailed("cannot be written: no permission in its folder", path=path)


def _exists(path: Path) -> OutputExists:
    return OutputExists("exists already", path=path, remedy="overwriting must be asked for")


def _failed(error: OSError, path: Path) -> OutputFailed:
    return OutputFailed(f"cannot be written: {error.strerror or error}", path=path)
