"""What headers of MetaImage and NRRD share: a record, fields of numbers, and a file beside."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medtranslate.errors import Unreadable, UntrustedInput
from medtranslate.imaging.source import LPS_TO_RAS

LONGEST_HEADER = 2**20
"""Bytes before the voxels; a DICOM series' attributes copied into one take some 10 kB."""

LONGEST_VALUE = 255
"""Characters of a value that MetaIO knows; its own buffers hold no more."""

LONGEST_FIELD = 2**16
"""Characters of a line of an NRRD header."""

_ALIKE = 0.8
"""How like a key must be to one that is missing to count as that key, damaged."""


@dataclass(frozen=True, eq=False)
class TextHeader:
    """What a MetaImage or NRRD file says of its voxels.

    Parameters
    ----------
    path : Path
        The header's file.
    format : str
        ``"metaimage"`` or ``"nrrd"``.
    shape : tuple of int
        (X, Y, Z).
    dtype : numpy.dtype
        Type of the stored voxels, with their byte order.
    origin, spacing : list of float
        LPS mm, of as many axes as the file has in space.
    direction : list of float
        LPS direction cosines of the axes in its columns, row by row.
    voxels : Path
        The file that holds the voxels: the header's own, or one beside it.
    offset : int
        First byte of the voxels in that file, or -1 where they end with it.
    packing : str
        ``"raw"``, ``"zlib"``, ``"gzip"``, ``"bz2"``, ``"text"`` or ``"hex"``.
    packed_bytes : int
        Bytes that the packed voxels take; 0 where that is not said.
    skipped_lines, skipped_bytes : int
        Left out before the voxels: lines as stored, then bytes once unpacked.
    texts : dict
        Everything else by its key, as text.
    faults : list of str
        What is unusual and how it is handled, a sentence each.
    """

    path: Path
    format: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    origin: list[float]
    spacing: list[float]
    direction: list[float]
    voxels: Path
    offset: int
    packing: str
    packed_bytes: int = 0
    skipped_lines: int = 0
    skipped_bytes: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def affine(self) -> np.ndarray:
        """The 4x4 affine, RAS mm."""
        return affine_ras(self.origin, self.spacing, self.direction)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the voxels, unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


def affine_ras(
    origin: Iterable[float], spacing: Iterable[float], direction: Iterable[float]
) -> np.ndarray:
    """Return the 4x4 affine (RAS mm) of a placement as ITK has it, in LPS mm and 2 to 4 axes."""
    places, sizes = list(origin), list(spacing)
    axes, known = len(places), min(len(places), 3)
    affine = np.eye(4)
    columns = np.asarray(list(direction)).reshape(axes, axes) * np.asarray(sizes)
    affine[:known, :known] = columns[:known, :known]
    affine[:known, 3] = places[:known]
    return LPS_TO_RAS @ affine


def beside(path: Path, name: str) -> Path:
    """Return the file with the voxels that a header names, which must lie beside it.

    A link counts as lying where it leads to, but for git-annex (DataLad), which keeps the content
    of every file below ``.git/annex/objects`` of the repository.

    Raises
    ------
    UntrustedInput
        It lies anywhere else.
    Unreadable
        It is missing.
    """
    name = name.removeprefix("./")
    if len(os.fsencode(name)) > LONGEST_VALUE:
        raise Unreadable("damaged header: the name of the file with its voxels is too long")
    if name in ("", ".", "..", "-") or Path(name).name != name or "\\" in name or "\0" in name:
        raise UntrustedInput(f"its voxels are said to lie outside its folder: {name}", path=path)
    voxels = path.with_name(name)
    folder, place = path.absolute().parent.resolve(), voxels.resolve()
    if place.parent != folder and not _is_annexed(place, folder):
        raise UntrustedInput(f"its voxels lie behind a link out of its folder: {name}", path=path)
    if not voxels.is_file():
        raise Unreadable(f"the file with its voxels is missing: {name}", path=path)
    return voxels


def _is_annexed(place: Path, folder: Path) -> bool:
    objects = (above / ".git" / "annex" / "objects" for above in (folder, *folder.parents))
    return any(place.is_relative_to(one) for one in objects)


def check_alike(missing: Iterable[str], others: Iterable[str]) -> None:
    """Refuse a header in which a key that is missing stands with a few other characters.

    Raises
    ------
    Unreadable
        A damaged key would else count as unknown, and what it says be lost without a word.
    """
    names = list(missing)
    for other in others:
        alike = difflib.get_close_matches(other[:64], names, 1, _ALIKE)
        alike = alike or [name for name in names if _is_torn(name, other)]
        if alike:
            raise Unreadable(f"damaged header: {other[:64]!r} looks like {alike[0]!r}")


def _is_torn(name: str, other: str) -> bool:
    """Say whether a key is a name with other characters put into it, or after it."""
    return len(other) > len(name) and any(
        other.startswith(name[:cut]) and other.endswith(name[cut:])
        for cut in range(1, len(name) + 1)
    )


_NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|(?i:nan|inf))")


def parse_numbers(words: Iterable[str]) -> list[float] | None:
    """Return words as numbers, None where one is none."""
    numbers = []
    for word in words:
        if not _NUMBER.fullmatch(word):
            return None
        numbers.append(float(word))
    return numbers


def parse_integer(fields: dict[str, str], key: str, default: int | None = None) -> int:
    """Return the whole number of a field; Unreadable if it is none or missing."""
    text = fields.get(key, "" if default is None else str(default))
    if not re.fullmatch(r"[-+]?\d{1,18}", text):
        raise Unreadable(f"damaged header: {key} is {text!r}")
    return int(text)
