"""The files of a folder, within limits, and what files are by how they begin, without pydicom."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from medtranslate.errors import InputMissing, Unreadable, UntrustedInput

MOST_FILES = 50_000
"""Files below one folder beyond which it is refused."""
DEEPEST = 16
"""Folders nested in one another beyond which they are refused."""
PREFIX_AT = 128
"""Offset of the prefix ``DICM``, PS3.10 7.1."""


def walk(folder: Path) -> Iterator[Path]:
    """Give every regular file below a folder, in a fixed order, hidden files and folders left out.

    Links to files are followed, as DataLad and git-annex keep every file behind one; a link to a
    file that is not there is given as well, so that it is reported and not missed. Linked folders
    are not entered.

    Raises
    ------
    InputMissing
        There is no such folder.
    UntrustedInput
        Too many files, folders nested too deep, or a linked folder outside this one.
    """
    root, count = folder.resolve(), 0
    if not root.is_dir():
        raise InputMissing("no such folder", path=folder)
    for where, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        here = Path(where)
        if len(here.relative_to(root).parts) > DEEPEST:
            raise UntrustedInput("folders are nested too deep", path=here)
        for name in folders:
            if (here / name).is_symlink() and not (here / name).resolve().is_relative_to(root):
                raise UntrustedInput(
                    "a link leads to a folder elsewhere",
                    path=here / name,
                    remedy="give that folder itself",
                )
        for name in sorted(name for name in names if not _is_hidden(name)):
            path = here / name
            if path.is_file() or (path.is_symlink() and not path.exists()):
                count += 1
                if count > MOST_FILES:
                    raise UntrustedInput(f"more than {MOST_FILES} files", path=folder)
                yield folder / path.relative_to(root)


def _is_hidden(name: str) -> bool:
    """Say whether a file or folder is an operating system's or a version control's own."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db")


def looks_like_dicom(path: Path) -> bool:
    """Say whether a file begins like DICOM, with or without the 128-byte preamble."""
    try:
        with path.open("rb") as stream:
            start = stream.read(PREFIX_AT + 4)
    except OSError:
        return False
    return start[PREFIX_AT:] == b"DICM" or bare_start(start)


def bare_start(start: bytes) -> bool:
    """Say whether bytes begin with an element of group 2 or 8, as a file without preamble does."""
    if len(start) < 16:
        return False
    group, element, vr, _ = struct.unpack("<HH2sH", start[:8])
    explicit = vr in (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO")
    implicit = int.from_bytes(start[4:8], "little") <= 128
    return group in (0x0002, 0x0008) and element <= 0x0018 and (explicit or implicit)


def mistaken(block: bytes, path: Path) -> Unreadable:
    """Make the error that names what a file is that is no NIfTI, by its first (unpacked) bytes."""
    for offset, magic, what, remedy in _MISTAKEN:
        if block[offset : offset + len(magic)] == magic:
            with path.open("rb") as file:
                gzipped = file.read(2) == b"\x1f\x8b"
            if remedy:
                return Unreadable(f"{what}, which is not read", path=path, remedy=remedy)
            if gzipped:
                fault, remedy = f"a gzipped {what}, which is not read", "unpack it with gunzip"
                return Unreadable(fault, path=path, remedy=remedy)
            return Unreadable(f"a {what} in spite of its name", path=path, remedy="rename it")
    return Unreadable("not a NIfTI file", path=path)


_MISTAKEN = (
    (0, b"\0\0\0\1\0\0", "a volume of FreeSurfer (MGH)", "mri_convert makes a .nii.gz of it"),
    (128, b"DICM", "DICOM file", ""),
    (257, b"ustar", "a tar archive", "unpack it, or make a zip"),
    (0, b"NRRD", "NRRD file", ""),
    (0, b"\x1f\x8b", "gzipped twice", "unpack it with gunzip"),
    (0, b"\x89PNG", "PNG image", ""),
    (0, b"\xff\xd8\xff", "JPEG image", ""),
)
"""What a gzip, or a file named like NIfTI, may hold instead: offset, first bytes, name, remedy.

Without a remedy it is a format that is read, but not where it is gzipped or named otherwise.
"""
