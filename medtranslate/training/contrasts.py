"""The contrast codes of a run: 1 for its first MR contrast, and 0 for one that is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtranslate.errors import InputMissing, TrainingFailed
from medtranslate.imaging.scans import FileList

UNKNOWN = "unknown"


def contrast_codes(contrasts: Sequence[str]) -> dict[str, int]:
    """Return the code of each contrast.

    Examples
    --------
    >>> contrast_codes(("t1", "flair"))
    {'t1': 1, 'flair': 2}
    """
    return {name: code for code, name in enumerate(contrasts, 1)}


@dataclass(frozen=True)
class ContrastList:
    """Which MR scan has which contrast.

    Attributes
    ----------
    named : tuple of (str, FileList)
        A contrast, and the scans that have it.
    """

    named: tuple[tuple[str, FileList], ...] = ()

    @classmethod
    def read(cls, path: Path, contrasts: Sequence[str]) -> ContrastList:
        """Read a list: a line has a scan's name, as lists of files have it, a comma and a contrast.

        Parameters
        ----------
        path : path
        contrasts : sequence of str
            Those of the run; a line may also say ``unknown``.

        Raises
        ------
        InputMissing
            It is not there or is no text.
        TrainingFailed
            A line is no such line, or has another contrast; the message has its number.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputMissing("not readable as a list of contrasts", path=path) from error
        found: dict[str, list[str]] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, contrast = (part.strip() for part in line.rpartition(","))
            if not name or contrast.lower() not in (*contrasts, UNKNOWN):
                raise TrainingFailed(
                    f"line {number} is not NAME,CONTRAST with a contrast of "
                    f"{', '.join((*contrasts, UNKNOWN))}",
                    path=path,
                )
            found.setdefault(contrast.lower(), []).append(name)
        return cls(tuple((c, FileList(tuple(names), path.name)) for c, names in found.items()))

    def codes(self, names: Iterable[str], contrasts: Sequence[str]) -> dict[str, int]:
        """Return the codes of the scans that the list names.

        Raises
        ------
        InvalidOption
            A line names none of them.
        """
        every, codes = list(names), contrast_codes(contrasts)
        found: dict[str, int] = {}
        for contrast, files in self.named:
            files.check_all_found(every)
            found |= dict.fromkeys(files.named(every), codes.get(contrast, 0))
        return found
