"""Find the scans of one modality in a folder, from headers alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medtranslate.errors import InputMissing, TrainingFailed, WrongModality
from medtranslate.imaging import Finding, survey
from medtranslate.imaging.file_lists import FileList

IN_ZIP = "!/"


@dataclass(frozen=True)
class Scan:
    """One scan to prepare.

    Attributes
    ----------
    path : path
        What `imaging.read` takes.
    name : str
        The folder's name and the path inside it, with forward slashes: how reports and lists name
        the scan.
    kind : {"volume", "picture"}
    series : str
        SeriesInstanceUID for DICOM, else empty.
    """

    path: Path
    name: str
    kind: str
    series: str = ""

    def digest(self) -> str:
        """Return the SHA-256 of what the scan's files hold (for a series: all of its folder)."""
        files = [self.path] if self.path.is_file() else sorted(self.path.iterdir())
        total = hashlib.sha256(self.series.encode())
        for file in files:
            if file.is_file():
                with file.open("rb") as opened:
                    total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A scan that is not used, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Gathered:
    """What a folder holds for training.

    Attributes
    ----------
    folder : path
    modality : {"CT", "MR"}
    scans : tuple of Scan
        To be prepared, in order of their names as `survey` gives them.
    left_out : tuple of LeftOut
        Unreadable, of another modality, or not in the list.
    """

    folder: Path
    modality: str
    scans: tuple[Scan, ...]
    left_out: tuple[LeftOut, ...]


def gather(folder: Path, modality: str, wanted: FileList | None = None) -> Gathered:
    """Find the scans of a folder: pictures, NIfTI, DICOM and so on, nested and mixed.

    Parameters
    ----------
    folder : path
    modality : {"CT", "MR"}
        What the user says that it holds.
    wanted : FileList, optional
        Only the scans that it names; where it names none of this folder, the folder is taken whole.

    Raises
    ------
    InputMissing
        No such folder.
    WrongModality
        All that can be read is of the other modality by its headers.
    TrainingFailed
        Nothing in the folder can be used.
    """
    if not folder.is_dir():
        raise InputMissing("no such folder of scans", path=folder)
    named = [(each, _name(folder, each)) for each in survey(folder)]
    listed = (wanted or FileList()).named(name for _, name in named)
    scans: list[Scan] = []
    left_out: list[LeftOut] = []
    for finding, name in named:
        reason = _reason_against(finding, modality)
        if listed and name not in listed:
            left_out.append(LeftOut(name, "not in the list"))
        elif reason:
            left_out.append(LeftOut(name, reason))
        else:
            path = Path(finding.path.split(IN_ZIP)[0])
            scans.append(Scan(path, name, finding.kind, finding.series))
    if not scans:
        raise _nothing_left(folder, modality, [finding for finding, _ in named])
    return Gathered(folder, modality, tuple(scans), tuple(left_out))


def _name(folder: Path, finding: Finding) -> str:
    inside = Path(finding.path).resolve().relative_to(folder.resolve()).as_posix()
    series = f"#{finding.series}" if finding.series else ""
    return f"{folder.resolve().name}/{inside}{series}"


def _reason_against(finding: Finding, modality: str) -> str:
    if finding.error:
        return finding.error
    if finding.modality not in ("", modality):
        return f"is {finding.modality} by {finding.modality_basis}, not {modality}"
    return ""


def _nothing_left(folder: Path, modality: str, found: Iterable[Finding]) -> Exception:
    readable = [each for each in found if not each.error]
    if readable and all(each.modality not in ("", modality) for each in readable):
        return WrongModality(
            f"given as {modality}, but its scans are {readable[0].modality} by their headers",
            path=folder,
            remedy="exchange the folders",
        )
    if readable:
        return TrainingFailed("none of its scans can be used", path=folder)
    return TrainingFailed("holds no scan that can be read", path=folder)
