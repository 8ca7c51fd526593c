"""What is converted: the scans of an input, found from headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medtranslate.errors import (
    AmbiguousInput,
    Unreadable,
    Unsupported,
)
from medtranslate.imaging import Finding, read
from medtranslate.imaging.base import NO_SERIES
from medtranslate.imaging.scans import FolderScans, FoundScan, find_scans, without_suffix


@dataclass(frozen=True)
class Item:
    """One scan to convert.

    Parameters
    ----------
    path : Path
        What `medtranslate.read` takes.
    name : Path
        Stem of the result's name, relative to the folder of results.
    format : str
        Format of the result unless another is asked for: as ``ConversionOptions.format``, or
        ``"images"`` for a stack of 2D images that becomes a folder.
    kind : str
        ``"volume"`` or ``"image"``.
    series : str
        SeriesInstanceUID, or ``""``.
    """

    path: Path
    name: Path
    format: str
    kind: str
    series: str = ""


@dataclass(frozen=True)
class Input:
    """The scans of one input.

    Parameters
    ----------
    given : Path
        The input, as given.
    items : tuple of Item
        Its scans.
    together : bool
        Whether it is a folder of 2D images, which becomes a folder of 2D images.
    notes : tuple of str
        What was skipped, a sentence each.
    """

    given: Path
    items: tuple[Item, ...]
    together: bool = False
    notes: tuple[str, ...] = ()


def find(given: Path, series: str = "") -> Input:
    """Find the scans of one input, from headers alone.

    Parameters
    ----------
    given : Path
        File, folder or zip.
    series : str
        UID or number (from 1, as `medtranslate.inspect` lists them) of a DICOM series, or
        ``"all"``.

    Raises
    ------
    MedTranslateError
        There is no scan, it cannot be read, or a series must be chosen.
    """
    if given.name in ("", ".."):  # "." has no name that a result could be called after
        given = given.resolve()
    found = find_scans(given)
    if not given.is_dir():
        dicom = [scan for scan in found.found if scan.finding.format == "dicom"]
        if dicom:
            return _of_series(given, dicom, series)
        if not found.scans:
            raise _fault(given)
        _refuse_series(given, series)
        return Input(given, (_item(found.scans[0]),))
    return _in_folder(given, found, series)


def find_each(given: Path) -> Input:
    """Find every scan of a folder: volumes, and DICOM series where they lie.

    As `find`, but no series has to be chosen, and volumes may lie beside series: each scan is an
    item of its own with the path of its file or of its series' folder.

    Raises
    ------
    MedTranslateError
        There is no scan, or it cannot be read.
    """
    if given.name in ("", ".."):
        given = given.resolve()
    if not given.is_dir():
        return find(given, "all" if _holds_dicom(given) else "")
    found = find_scans(given)
    if not any(scan.is_series for scan in found.found):
        return _in_folder(given, found, "")
    if not found.scans:
        raise _fault(given)
    others = [scan for scan in found.unreadable if scan.error.endswith(NO_SERIES)]
    unreadable = [scan for scan in found.unreadable if scan not in others]
    homes = Counter(map(_home, found.scans))
    numbers: Counter[Path] = Counter()
    items = []
    for scan in (*found.scans, *unreadable):  # what cannot be read fails by itself
        path = _home(scan)
        name = path.relative_to(given) if path != given else Path(given.name)
        name = name.with_name(without_suffix(name.name))
        if homes[path] > 1:  # several series in one folder
            numbers[path] += 1
            name = name.with_name(f"{name.name}_{numbers[path]}")
        format = "nii.gz" if scan.error else _item(replace(scan, path=path)).format
        kind = "image" if scan.error else scan.kind
        items.append(Item(path, name, format, kind, scan.series))
    notes = list(_left_out(found))
    if others:
        notes.append(_skipped(len(others), "DICOM object", "without a series of slices"))
    return Input(given, tuple(items), notes=tuple(notes))


def _home(scan: FoundScan) -> Path:
    """Return the file of a scan, or the file or folder that holds its series."""
    return Path(scan.finding.home) if scan.is_series and scan.finding.home else scan.path


def _holds_dicom(file: Path) -> bool:
    return any(scan.finding.format == "dicom" for scan in find_scans(file).found)


def _left_out(found: FolderScans) -> Iterator[str]:
    synthetic, images = len(found.synthetic), len(found.thumbnails)
    if synthetic:
        yield _skipped(synthetic, "file", "labeled as synthetic")
    if images:
        yield _skipped(images, "2D image", "beside the volumes")


def _item(scan: FoundScan, folder: Path | None = None) -> Item:
    """Return what becomes of one file; its name is relative to a folder, or bare."""
    path, first = scan.path, scan.finding
    name = (path.relative_to(folder) if folder else Path(path.name)).with_name(
        without_suffix(path.name)
    )
    if first.kind == "image":
        count = sum(one.shape[2] if one.shape else 1 for one in scan.findings)
        one_file = "tif" if len(scan.findings) == 1 else "images"
        return Item(path, name, "png" if count == 1 else one_file, "image")
    suffixes = {"metaimage": "mha", "nrrd": "nrrd", "nifti": "nii.gz", "dicom": "dicom"}
    plain = first.path.lower().endswith(".nii")
    return Item(path, name, "nii" if plain else suffixes[first.format], "volume", scan.series)


def _in_folder(folder: Path, found: FolderScans, series: str) -> Input:
    dicom = [scan for scan in found.found if scan.is_series]
    volumes = [scan for scan in found.scans if scan.kind == "volume" and not scan.is_series]
    real = [scan for scan in dicom if scan.kind and not scan.synthetic]
    if dicom and (series or not volumes):
        found_input = _of_series(folder, dicom, series)
        results = sum(scan.synthetic and not scan.is_series for scan in found.found)
        notes = [_skipped(results, "file", "labeled as synthetic")] if results else []
        if volumes:
            notes.append(_skipped(len(volumes), "volume", "beside the series"))
        return replace(found_input, notes=(*found_input.notes, *notes))
    if real:
        held = f"{len(real)} DICOM series beside {_count(len(volumes), 'volume')}"
        remedy = "choose with --series NUMBER, --series UID or --series all, or give one file"
        raise AmbiguousInput(f"holds {held}", path=folder, remedy=remedy)
    if not found.scans:
        raise _fault(folder)
    _refuse_series(folder, series)
    together = not volumes
    notes = list(_left_out(found))
    items = [_item(scan, folder) for scan in found.scans]
    others = sum(scan.is_series for scan in found.unreadable)
    if others:
        notes.append(_skipped(others, "DICOM object", "without a series of slices"))
    for scan in found.unreadable:  # each fails by itself, with the reader's own error
        if scan.is_series:
            continue
        name = scan.path.relative_to(folder).with_name(without_suffix(scan.path.name))
        items.append(Item(scan.path, name, "png" if together else "nii.gz", "image"))
    return Input(folder, tuple(items), together, tuple(notes))


def _of_series(given: Path, dicom: Sequence[FoundScan], wanted: str) -> Input:
    series = [scan for scan in dicom if scan.kind == "volume"]
    if not series:
        raise _fault(given)
    name = Path(without_suffix(given.name))
    real = [scan for scan in series if not scan.synthetic] or series
    synthetic = len(series) - len(real)
    notes = (_skipped(synthetic, "series", "labeled as synthetic"),) if synthetic else ()
    if wanted != "all" and (wanted or len(real) > 1):
        uid = _choose(given, [scan.finding for scan in series], wanted)
        return Input(given, (Item(given, name, "dicom", "volume", uid),))
    items = (
        Item(
            given,
            Path(f"{name}_{number}") if len(real) > 1 else name,
            "dicom",
            "volume",
            scan.series,
        )
        for number, scan in enumerate(series, 1)
        if scan in real
    )
    return Input(given, tuple(items), notes=notes)


def _choose(given: Path, series: Sequence[Finding], wanted: str) -> str:
    if wanted.isdecimal() and 1 <= int(wanted) <= len(series):
        return series[int(wanted) - 1].series
    if wanted and wanted in (one.series for one in series):
        return wanted
    held = "; ".join(
        f"{number}: {one.modality or 'unknown modality'} {one.description!r}"
        f" {'x'.join(map(str, one.shape)) or one.error} ({one.series})"
        for number, one in enumerate(series, 1)
    )
    lacks = f"has no series {wanted!r} among" if wanted else f"holds {len(series)} series:"
    remedy = "choose with --series NUMBER, --series UID or --series all"
    raise AmbiguousInput(f"{lacks} {held}", path=given, remedy=remedy)


def _refuse_series(given: Path, series: str) -> None:
    if series:
        raise Unsupported(f"holds no DICOM, so no series {series!r}", path=given)


def _skipped(count: int, what: str, which: str) -> str:
    """Say that so many files are skipped: ``2 files labeled as synthetic are skipped``."""
    return f"{_count(count, what)} {which} {'is' if count == 1 else 'are'} skipped"


def _count(count: int, what: str) -> str:
    return f"{count} {what}s" if count > 1 and not what.endswith("s") else f"{count} {what}"


def _fault(given: Path) -> Exception:
    """Return the reader's own error about what cannot be read."""
    try:
        read(given)
    except Exception as error:
        return error
    return Unreadable("holds no scan that can be converted", path=given)
