"""Which files make a volume: by series, without what is no slice, within one patient and frame.

A file that cannot be a slice is left out and named; a slice that cannot be used refuses its
series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID, MediaStorageDirectoryStorage

from medtranslate.errors import (
    AmbiguousInput,
    InputMissing,
    MedTranslateError,
    Unreadable,
    Unsupported,
    UntrustedInput,
)
from medtranslate.files import file_hash
from medtranslate.imaging.dicom.read.files import LIMITS
from medtranslate.imaging.dicom.read.geometry import Stack, label, stack
from medtranslate.imaging.dicom.read.headers import Header, read_header
from medtranslate.imaging.dicom.read.values import shown
from medtranslate.imaging.folder import walk

NAMED = 3
"""How many files or series a sentence names before it only counts the rest."""


@dataclass(frozen=True)
class DicomContents:
    """What lies in a folder.

    Parameters
    ----------
    place : path
        The folder, or the file where one was given.
    series : dict of str to list of Header
        CT and MR images by SeriesInstanceUID, localizers left out, in order of path.
    others : list of Header
        DICOM objects that are no slice of a volume.
    copies : list of Header
        Files that hold byte for byte what another file of their series holds.
    broken : list of MedTranslateError
        Files that cannot be read at all, each with its path.
    """

    place: Path
    series: dict[str, list[Header]]
    others: list[Header]
    copies: list[Header]
    broken: list[MedTranslateError]


def group_series(paths: Sequence[Path]) -> DicomContents:
    """Read the header of every file, once.

    Parameters
    ----------
    paths : sequence of path
        Files, or folders, which are searched to the bottom.

    Raises
    ------
    InputMissing
        There is no such file or folder.
    UntrustedInput
        A limit on files, folders or links is broken.
    """
    files = [file for path in paths for file in (walk(path) if path.is_dir() else [path])]
    place = paths[0] if len(paths) == 1 else paths[0].parent
    series: dict[str, list[Header]] = {}
    others: list[Header] = []
    broken: list[MedTranslateError] = []
    for file in files:
        try:
            header = read_header(file)
        except (Unreadable, UntrustedInput, InputMissing) as error:
            broken.append(type(error)(error.fault, path=file, remedy=error.remedy))
            continue
        if header.is_image and not is_localizer(header) and not header.tiled:
            series.setdefault(header.series, []).append(header)
        else:
            others.append(header)
    copies = [copy for headers in series.values() for copy in _take_copies(headers)]
    return DicomContents(place, series, others, copies, broken)


def _take_copies(headers: list[Header]) -> list[Header]:
    """Take those headers out of a list whose files equal an earlier one's, and give them."""
    repeated = Counter(header.instance for header in headers)
    seen: set[tuple[str, str]] = set()
    kept, copies = [], []
    for header in headers:
        if repeated[header.instance] > 1:
            content = (header.instance, file_hash(header.path))
            if content in seen:
                copies.append(header)
                continue
            seen.add(content)
        kept.append(header)
    headers[:] = kept
    return copies


def is_localizer(header: Header) -> bool:
    """Say whether an image is a scout, by value 3 of ImageType (PS3.3 C.8.2.1.1.1)."""
    kinds = header.image_type.split("\\")
    return len(kinds) > 2 and kinds[2].strip() == "LOCALIZER"


def choose(contents: DicomContents, series: str) -> list[Header]:
    """Give the headers of one series.

    Parameters
    ----------
    contents : DicomContents
        What there is.
    series : str
        SeriesInstanceUID; ``""`` where there is only one, or one that is not synthetic.

    Raises
    ------
    AmbiguousInput
        There are several and none was named, or the one named is not there.
    Unreadable, Unsupported
        There is none.
    """
    if series:
        if series not in contents.series:
            raise AmbiguousInput(
                f"holds no CT or MR series {series}; {listing(contents)}", path=contents.place
            )
        return contents.series[series]
    if not contents.series:
        raise nothing(contents)
    real = [headers for headers in contents.series.values() if not headers[0].synthetic]
    if len(real) == 1:
        return real[0]
    if len(contents.series) > 1:
        raise AmbiguousInput(
            f"holds {len(contents.series)} series: {listing(contents)}",
            path=contents.place,
            remedy="choose one by its UID with --series",
        )
    return next(iter(contents.series.values()))


def listing(contents: DicomContents) -> str:
    """Name the series of a folder in one line."""
    lines = []
    for uid, headers in contents.series.items():
        head, count = headers[0], sum(max(len(h.slices), 1) for h in headers)
        lines.append(f"{uid} ({head.modality} {head.description!r}, {count} slices)")
    return "; ".join(lines) or "there is none"


def nothing(contents: DicomContents) -> MedTranslateError:
    """Say why a folder or file holds no series of slices."""
    if len(contents.broken) == 1 and not contents.others:
        return contents.broken[0]
    if contents.others:
        what = "; ".join(dict.fromkeys(describe(h) for h in contents.others[:NAMED]))
        return Unsupported(f"holds no series of CT or MR slices, but {what}", path=contents.place)
    reason = f": {contents.broken[0]}" if contents.broken else ""
    return Unreadable(f"holds no DICOM image{reason}", path=contents.place)


def describe(header: Header) -> str:
    """Say what a DICOM object is that is no slice of a volume."""
    name = UID(header.sop_class).name
    if header.sop_class == MediaStorageDirectoryStorage:
        return "a DICOMDIR: a directory of files, no image; give the folder"
    if header.tiled:
        return "a mosaic: slices tiled on one sheet, which other software must unpack"
    if is_localizer(header):
        return "a localizer"
    if "Secondary Capture" in name:
        return "a secondary capture: an image without geometry or units"
    return f"an object of another kind ({shown(name)[:60]})"


def left_out(contents: DicomContents, chosen: Sequence[Header]) -> list[str]:
    """Give a sentence for each kind of file that is not part of the volume."""
    groups: dict[str, list[str]] = {}
    for header in contents.others:
        groups.setdefault(f"left out as {describe(header)}", []).append(header.path.name)
    for error in contents.broken:
        name = Path(error.path or "").name
        groups.setdefault(f"left out because it {error.fault}", []).append(name)
    others = {
        uid: [header.path.name for header in headers]
        for uid, headers in contents.series.items()
        if headers is not chosen and headers != chosen
    }
    for uid, files in list(others.items())[:NAMED]:
        groups[f"left out: another series, {uid}"] = files
    if rest := list(others.values())[NAMED:]:
        groups[f"left out: {len(rest)} further series"] = [name for files in rest for name in files]
    for copy in contents.copies:
        groups.setdefault("left out as a copy of another file", []).append(copy.path.name)
    for header in chosen:
        for note in header.notes:
            groups.setdefault(note, []).append(header.path.name)
    return [f"{names(files)}: {what}" for what, files in groups.items()]


def names(files: Sequence[str]) -> str:
    """Name a few files and count the rest."""
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more


def volume(headers: Sequence[Header]) -> Stack:
    """Give the one volume that the files of a series make.

    Raises
    ------
    MedTranslateError
        Whatever keeps a slice or the whole from being exact; see
        `docs/reference/dicom-conformance.md`.
    """
    for header in headers:
        if header.error is not None:
            raise header.error
    check_one_source(headers)
    slices = [one for header in headers for one in header.slices]
    first = slices[0].encoding
    if first.rows * first.columns * len(slices) > LIMITS.voxels:
        raise UntrustedInput(f"more than {LIMITS.voxels} voxels", path=headers[0].path.parent)
    built = stack(slices)
    check_instances(headers)
    return built


def check_one_source(headers: Sequence[Header]) -> None:
    """Refuse a series whose slices disagree on patient, study, frame of reference or kind."""
    tests = {
        "PatientID": lambda h: h.patient,
        "StudyInstanceUID": lambda h: h.study,
        "FrameOfReferenceUID": lambda h: h.frame_of_reference,
        "SOPClassUID": lambda h: h.sop_class,
    }
    for keyword, take in tests.items():
        odd = [h.path.name for h in headers if take(h) != take(headers[0])]
        if odd:
            raise Unsupported(
                f"{keyword} differs within the series: {names(odd)} from {headers[0].path.name}",
                path=headers[0].path.parent,
                remedy="separate the files into one folder a series",
            )


def check_instances(headers: Sequence[Header]) -> None:
    """Refuse two different files with one SOPInstanceUID: no reference could tell them apart."""
    seen: dict[str, Header] = {}
    for header in headers:
        other = seen.setdefault(header.instance, header)
        if other is not header:
            raise Unsupported(
                f"{label(other.slices[0])} and {label(header.slices[0])} share one SOPInstanceUID",
                path=header.path.parent,
            )
