"""Which scans a folder holds, by one rule for converting, training, evaluating and bundles.

Files are found at any depth and judged by their headers alone (`medtranslate.survey`). Then:

1. A volume file is a scan, and so is each DICOM series. A zip is one scan, or one for each DICOM
   series in it; a zip of equal 2D images is a stack.
2. A 2D image is a scan where the folder holds 2D images only. Beside volumes it is a thumbnail, a
   preview or a screenshot, and is left out.
3. A file that says it is synthetic is left out where real scans lie beside it.
4. A list of files replaces rules 2 and 3: what it names is taken, all else is left out. A list
   that names nothing of the folder leaves it whole.

What cannot be read is reported with the reason; it is for the caller to refuse the folder or to go
on without that file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath

from medtranslate.errors import (
    InputMissing,
    InvalidOption,
    MedTranslateError,
    WrongModality,
)
from medtranslate.imaging.base import Finding
from medtranslate.imaging.folder import walk
from medtranslate.imaging.io import read_scan
from medtranslate.imaging.survey import SUFFIXES, survey
from medtranslate.imaging.text_headers import companion

IN_ZIP = "!/"


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
        InvalidOption
            They name nothing.
        """
        lines: list[str] = []
        for path in paths:
            try:
                text = path.read_text(encoding="utf-8", errors="surrogateescape")
                if "\0" in text:
                    raise UnicodeError
            except (OSError, UnicodeError) as error:
                raise InputMissing("not readable as a list of files", path=path) from error
            stripped = (line.strip() for line in text.splitlines())
            lines.extend(line for line in stripped if line and not line.startswith("#"))
        if paths and not lines:
            raise InvalidOption("the list names no file", path=paths[0])
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

    def inside(self, folder: Path) -> tuple[str, ...]:
        """Return the files of a folder that the lines name, as paths relative to it, sorted.

        A line names a file of the folder where it has the folder's name before the rest of its
        path, or where it is such a path itself and the file is there.
        """
        found = set()
        for line in map(_parts, self.lines):
            if folder.name in line[:-1]:
                place = len(line) - 2 - line[:-1][::-1].index(folder.name)
                found.add("/".join(line[place + 1 :]))
            elif folder.joinpath(*line).is_file() and not Path(*line).is_absolute():
                found.add("/".join(line))
        return tuple(sorted(found))

    def check_all_found(self, names: Iterable[str]) -> None:
        """Refuse a list of which a line names none of the scans.

        Raises
        ------
        InvalidOption
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
            raise InvalidOption(
                f"{len(lost)} of {len(self.lines)} lines name no scan, the first: {lost[0]}",
                path=self.origin,
            )


@dataclass(frozen=True)
class FoundScan:
    """One scan, or one file that cannot be read.

    Parameters
    ----------
    path : Path
        What `medtranslate.read` takes, together with `series`.
    name : str
        The folder's name and the path inside it, with forward slashes, and ``#`` and the series'
        UID for DICOM: how lists and reports name the scan.
    findings : tuple of Finding
        What headers say: one finding, or those of a zip's members.
    """

    path: Path
    name: str
    findings: tuple[Finding, ...]

    @property
    def finding(self) -> Finding:
        """What the header says; of a zip, that of its first member that can be read."""
        return next((one for one in self.findings if not one.error), self.findings[0])

    @property
    def kind(self) -> str:
        """``"volume"``, ``"image"``, or ``""`` where it cannot be read."""
        return self.finding.kind

    @property
    def series(self) -> str:
        """SeriesInstanceUID for DICOM, else ``""``."""
        return self.finding.series

    @property
    def error(self) -> str:
        """Why it cannot be read, in one sentence; ``""`` where it can."""
        return self.finding.error

    @property
    def synthetic(self) -> bool:
        """Whether its header says that it is the result of a translation."""
        return self.finding.synthetic

    @property
    def is_series(self) -> bool:
        """Whether it is a DICOM series that lies in no zip."""
        return self.finding.format == "dicom" and IN_ZIP not in self.finding.path

    def digest(self) -> str:
        """Return the SHA-256 of what the scan's files hold.

        Of a series that is all that its folder holds, of a header the file beside it, too.
        """
        files = list(walk(self.path)) if self.path.is_dir() else [self.path]
        if self.path.suffix.lower() in (".mhd", ".nhdr"):
            files.append(companion(self.path) or self.path)
        total = hashlib.sha256(self.series.encode())
        for file in files:
            with file.open("rb") as opened:
                total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A scan that is not used, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class FolderScans:
    """The scans at a path.

    Parameters
    ----------
    path : Path
        As given.
    found : tuple of FoundScan
        Everything: DICOM series first, then files in natural order.
    scans : tuple of FoundScan
        Those that can be read and that the rule takes, in this order.
    unreadable : tuple of FoundScan
        Those that cannot be read, each with an `error`.
    thumbnails : tuple of FoundScan
        2D images beside volumes.
    synthetic : tuple of FoundScan
        Results of earlier translations beside real scans.
    unlisted : tuple of FoundScan
        What the list does not name.
    """

    path: Path
    found: tuple[FoundScan, ...]
    scans: tuple[FoundScan, ...]
    unreadable: tuple[FoundScan, ...] = ()
    thumbnails: tuple[FoundScan, ...] = ()
    synthetic: tuple[FoundScan, ...] = ()
    unlisted: tuple[FoundScan, ...] = ()

    @property
    def kind(self) -> str:
        """``"image"`` where all scans are 2D images, else ``"volume"``; ``""`` without scans."""
        kinds = {scan.kind for scan in self.scans}
        return "volume" if len(kinds) > 1 else "".join(kinds)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """All that is not among `scans`, with the reason."""
        reasons = (
            *((scan, "not in the list") for scan in self.unlisted),
            *((scan, scan.error) for scan in self.unreadable),
            *((scan, "is a 2D image beside volumes") for scan in self.thumbnails),
            *((scan, "is labeled as synthetic") for scan in self.synthetic),
        )
        return tuple(LeftOut(scan.name, reason) for scan, reason in reasons)


def find_scans(path: str | PathLike[str], wanted: FileList | None = None) -> FolderScans:
    """Find the scans at a path, by the rule of this module.

    Parameters
    ----------
    path : path
        A folder, or a single file or zip.
    wanted : FileList, optional
        Files to take.

    Raises
    ------
    InputMissing, UntrustedInput
        As `medtranslate.survey`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate import find_scans, write
    >>> from medtranslate.phantom import Phantom
    >>> head = Phantom(shape=(64, 64, 2), spacing=(3.0, 3.0, 20.0)).volume()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(head, Path(folder) / "head.nii.gz")
    ...     [scan.kind for scan in find_scans(folder).scans]
    ['volume']
    """
    path = Path(path)
    found = _grouped(path, survey(path))
    listed = (wanted or FileList()).named(scan.name for scan in found)
    unlisted = tuple(scan for scan in found if listed and scan.name not in listed)
    chosen = [scan for scan in found if not listed or scan.name in listed]
    unreadable = tuple(scan for scan in chosen if scan.error)
    scans = [scan for scan in chosen if not scan.error]
    thumbnails: tuple[FoundScan, ...] = ()
    synthetic: tuple[FoundScan, ...] = ()
    if not listed and any(scan.kind == "volume" for scan in scans):
        thumbnails = tuple(scan for scan in scans if scan.kind != "volume")
        scans = [scan for scan in scans if scan.kind == "volume"]
    if not listed and not all(scan.synthetic for scan in scans):
        synthetic = tuple(scan for scan in scans if scan.synthetic)
        scans = [scan for scan in scans if not scan.synthetic]
    return FolderScans(
        path, tuple(found), tuple(scans), unreadable, thumbnails, synthetic, unlisted
    )


def _grouped(path: Path, found: Iterable[Finding]) -> list[FoundScan]:
    """Put the members of a zip together, but for its DICOM series, and name each scan."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        groups.setdefault((finding.path.split(IN_ZIP)[0], finding.series), []).append(finding)
    return [
        FoundScan(Path(file), _name(path, Path(file), series), tuple(findings))
        for (file, series), findings in groups.items()
    ]


def _name(path: Path, file: Path, series: str) -> str:
    inside = f"/{file.relative_to(path).as_posix()}" if path in file.parents else ""
    return f"{path.resolve().name}{inside}" + (f"#{series}" if series else "")


def without_suffix(name: str) -> str:
    """Return the name of a file without the suffix of its format: ``scan`` for ``scan.nii.gz``.

    Examples
    --------
    >>> without_suffix("head.nii.gz"), without_suffix("slice.of.7")
    ('head', 'slice.of.7')
    """
    suffix = next((one for one in SUFFIXES if name.lower().endswith(one)), "")
    return name[: len(name) - len(suffix)] or name


def _parts(name: str) -> Parts:
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/")


def _endings(name: str) -> Iterable[Parts]:
    parts = _parts(name)
    return (parts[start:] for start in range(len(parts)))


_SAMPLE = 48
_AGREEMENT = 0.75  # of the images with a guess: one of a few may be misjudged, a mixed folder not


def vote(folder: Path, images: Sequence[Path]) -> tuple[str, str]:
    """Guess the modality of a folder from an even sample of its 2D images.

    Parameters
    ----------
    folder : Path
        Named in the error.
    images : sequence of Path
        In order; those that cannot be read have no vote.

    Returns
    -------
    modality, basis : str
        As in ``meta["source"]``.

    Raises
    ------
    WrongModality
        The 2D images disagree, or none has a guess.
    """
    step = max(1, len(images) // _SAMPLE)
    votes = Counter(filter(None, map(_look, images[::step])))
    looked = len(images[::step])
    guessed = votes["CT"] + votes["MR"]
    winner, most = votes.most_common(1)[0] if guessed else ("", 0)
    counts = f"of {looked} images {votes['CT']} look like CT and {votes['MR']} like MR"
    if not guessed or most < _AGREEMENT * guessed:
        hint = "say which: --from ct or --from mri"
        raise WrongModality(f"cannot tell CT from MR: {counts}", path=folder, remedy=hint)
    return winner, f"guess: {counts}"


def _look(path: Path) -> str:
    try:
        return str(read_scan(path).source["modality"])
    except MedTranslateError:
        return ""
