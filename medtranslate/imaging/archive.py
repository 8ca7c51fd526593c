"""A zip from a stranger, unpacked within limits.

What a member claims about itself is checked before anything is written, and what it really unpacks
to is counted while it is written, because the claims of a bomb are false.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medtranslate.errors import (
    NO_ROOM,
    InputMissing,
    MedTranslateError,
    OutputFailed,
    Unreadable,
    Unsupported,
    UntrustedInput,
)
from medtranslate.files import temporary_folder

SUFFIX = ".zip"

_CHUNK = 2**20
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 0x1
_HAS_DRIVE = re.compile(".*:" if os.name == "nt" else "[A-Za-z]:(/|$)", re.DOTALL)
"""A drive of Windows. A colon elsewhere is a character of a name, but for Windows."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Sizes beyond which a zip is refused rather than unpacked.

    Parameters
    ----------
    members : int
        Files and folders.
    total_bytes : int
        Bytes of all files, unpacked.
    ratio : float
        Unpacked over packed bytes of the whole; a head scan packs 2 to 20 times.
    free_bytes : int
        Bytes that may unpack at any ratio: small files of one color pack very well.
    depth : int
        Folders nested in one another.
    """

    members: int = 50_000
    total_bytes: int = 16 * 2**30
    ratio: float = 200.0
    free_bytes: int = 64 * 2**20
    depth: int = 16


LIMITS = ArchiveLimits()


@contextmanager
def unpacked(path: str | Path, limits: ArchiveLimits = LIMITS) -> Iterator[Path]:
    """Give a temporary folder that holds what the zip holds; it goes when the block ends.

    A `MedTranslateError` raised in the block that names a file of the folder comes out naming the
    zip and the member.

    Parameters
    ----------
    path : path
        The zip.
    limits : ArchiveLimits
        What is accepted.

    Raises
    ------
    Unreadable
        No zip, damaged, or encrypted.
    Unsupported
        A packing method that Python does not know.
    UntrustedInput
        A member leaves the folder, is a link or a zip itself, or a limit is passed.
    OutputFailed
        The temporary folder is full.
    """
    path = Path(path)
    with temporary_folder() as folder:
        _unpack(path, folder, limits)
        try:
            yield folder
        except MedTranslateError as error:
            if error.path is None or not Path(error.path).is_relative_to(folder):
                raise
            place = member_name(path, folder, error.path)
            raise type(error)(error.fault, path=place, remedy=error.remedy) from error


def member_name(archive: Path, folder: Path, file: str | Path) -> str:
    """Give the lasting name of an unpacked file: the zip's path, ``!/`` and the member's name."""
    inside = Path(file).relative_to(folder).as_posix()
    return str(archive) if inside == "." else f"{archive}!/{inside}"


def _unpack(path: Path, folder: Path, limits: ArchiveLimits) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_claims(members, path, limits)
            budget = _budget(path, limits)
            for member in members:
                budget -= _unpack_member(archive, member, folder, budget, path)
    except (FileNotFoundError, PermissionError) as error:
        raise InputMissing(f"cannot be opened: {error.strerror}", path=path) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Unreadable(f"damaged or no zip: {error}", path=path) from error
    except NotImplementedError as error:
        raise Unsupported(f"packed in a way that is not read: {error}", path=path) from error
    except OSError as error:
        said = f"cannot be unpacked: {error.strerror or error}"
        kind = OutputFailed if error.errno in NO_ROOM else Unreadable
        raise kind(said, path=path) from error


def _check_claims(members: list[zipfile.ZipInfo], path: Path, limits: ArchiveLimits) -> None:
    if len(members) > limits.members:
        raise UntrustedInput(f"holds {len(members)} members, over {limits.members}", path=path)
    total = sum(member.file_size for member in members)
    if total > limits.total_bytes:
        raise UntrustedInput(f"claims to unpack to {total} bytes", path=path)
    seen = set()
    for member in members:
        _check_member(member, path, limits)
        if (name := _name_of(member)) in seen:
            raise UntrustedInput(f"holds the member {name!r} twice", path=path)
        seen.add(name)


def _name_of(member: zipfile.ZipInfo) -> str:
    """Give the name of a member with forward slashes: some writers on Windows store backslashes."""
    # orig_filename is the name as stored; zipfile tidies `filename` on some systems.
    return member.orig_filename.replace("\\", "/")


def _check_member(member: zipfile.ZipInfo, path: Path, limits: ArchiveLimits) -> None:
    name = _name_of(member)
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or _HAS_DRIVE.match(name) or "\0" in name:
        raise UntrustedInput(f"the member {name!r} leaves the folder", path=path)
    if len(parts) > limits.depth:
        raise UntrustedInput(f"the member {name!r} is nested too deep", path=path)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UntrustedInput(f"the member {name!r} is a link or a device", path=path)
    if name.lower().endswith(SUFFIX):
        raise UntrustedInput(f"the member {name!r} is a zip in a zip", path=path)
    if member.flag_bits & _ENCRYPTED:
        raise Unreadable(f"the member {name!r} is encrypted", path=path)


def _budget(path: Path, limits: ArchiveLimits) -> int:
    by_ratio = max(limits.free_bytes, int(path.stat().st_size * limits.ratio))
    return min(limits.total_bytes, by_ratio)


def _unpack_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, budget: int, path: Path
) -> int:
    """Write one member and give the bytes written; refuse once they pass the budget."""
    name = _name_of(member)
    target = folder / name
    if name.endswith("/"):
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(member) as packed, target.open("wb") as file:
        while piece := packed.read(_CHUNK):
            if not written and piece.startswith(_LOCAL_MAGIC):
                raise UntrustedInput(f"the member {name!r} is a zip", path=path)
            written += len(piece)
            if written > budget:
                raise UntrustedInput("unpacks to far more than a scan holds (a bomb)", path=path)
            file.write(piece)
    return written
