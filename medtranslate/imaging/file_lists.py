"""Lists of files: which scans of a folder to take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medtranslate.errors import InputMissing, TrainingFailed

Parts = tuple[str, ...]


@dataclass(frozen=True)
class FileList:
    """The lines of one or more list files.

    A line names a scan where one's path ends with the other's: ``trainB/mri1.jpg`` names that file
    wherever ``trainB`` lies. Empty lines and lines that start with ``#`` are comments.

    Attributes
    ----------
    lines : tuple of str
    origin : str
        The files' names, for messages.
    """

    lines: tuple[str, ...] = ()
    origin: str = ""

    @classmethod
    def read(cls, paths: Sequence[Path]) -> FileList:
        """Read list files.

        Raises
        ------
        InputMissing
            One is not there or is no text.
        TrainingFailed
            They name nothing.
        """
        lines: list[str] = []
        for path in paths:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputMissing("not readable as a list of files", path=path) from error
            stripped = (line.strip() for line in text.splitlines())
            lines.extend(line for line in stripped if line and not line.startswith("#"))
        if paths and not lines:
            raise TrainingFailed("the list names no file", path=paths[0])
        return cls(tuple(lines), ", ".join(path.name for path in paths))

    def named(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of the scans' names that a line names."""
        endings = {ending for line in self.lines for ending in _endings(line)}
        whole = {_parts(line) for line in self.lines}
        return frozenset(
            name
            for name in names
            if _parts(name) in endings or any(ending in whole for ending in _endings(name))
        )

    def check_all_found(self, names: Iterable[str]) -> None:
        """Refuse a list of which a line names none of the scans.

        Raises
        ------
        TrainingFailed
            The message gives the first such line and their number.
        """
        whole = {_parts(name) for name in names}
        endings = {ending for name in whole for ending in _endings("/".join(name))}
        lost = [
            line
            for line in self.lines
            if _parts(line) not in endings and not any(end in whole for end in _endings(line))
        ]
        if lost:
            raise TrainingFailed(
                f"{len(lost)} of {len(self.lines)} lines name no scan, the first: {lost[0]}",
                path=self.origin,
            )


def _parts(name: str) -> Parts:
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/")


def _endings(name: str) -> Iterable[Parts]:
    parts = _parts(name)
    return (parts[start:] for start in range(len(parts)))
