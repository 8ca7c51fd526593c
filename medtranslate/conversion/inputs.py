"""The scans of an input: a file, a folder or a zip, from headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medtranslate.errors import AmbiguousInput, Unreadable, Unsupported
from medtranslate.imaging import Finding, read, survey

_VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_NAMES = (*_VOLUMES, ".zip", ".dcm", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
_LABEL = "SYNTHETIC"


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
        ``"pictures"`` for a stack of 2D images that becomes a folder.
    kind : str
        ``"volume"`` or ``"picture"``.
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
    found = survey(given)
    if given.is_dir():
        return _in_folder(given, found, series)
    dicom = [one for one in found if one.format == "dicom"]
    if dicom:
        return _of_series(given, dicom, series)
    if not found or all(one.error for one in found):
        raise _fault(given)
    _refuse_series(given, series)
    return Input(given, (_of_file(given, found),))


def stem(path: Path) -> str:
    """Return the name of a file without the suffix of its format: ``scan`` for ``scan.nii.gz``."""
    suffix = next((one for one in _NAMES if path.name.lower().endswith(one)), "")
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :]) or path.name


def _of_file(path: Path, found: Sequence[Finding]) -> Item:
    first = next(one for one in found if not one.error)
    count = sum(one.shape[2] if one.shape else 1 for one in found)
    name = Path(stem(path))
    if first.kind == "picture":
        one_file = "tif" if len(found) == 1 else "pictures"
        return Item(path, name, "png" if count == 1 else one_file, "picture")
    suffixes = {"metaimage": "mha", "nrrd": "nrrd", "nifti": "nii.gz"}
    plain = first.path.lower().endswith(".nii")
    return Item(path, name, "nii" if plain else suffixes[first.format], "volume")


def _in_folder(folder: Path, found: Sequence[Finding], series: str) -> Input:
    dicom = [one for one in found if one.format == "dicom"]
    volumes = [one for one in found if one.kind == "volume" and one.format != "dicom"]
    if dicom and not volumes:
        return _of_series(folder, dicom, series)
    images = [one for one in found if one.kind == "picture"]
    if dicom or not (volumes or images):
        raise _fault(folder)
    _refuse_series(folder, series)
    unknown = [one for one in found if not one.kind]
    together = not volumes
    kept, synthetic = _real(volumes or images)
    notes = [_skipped(synthetic, "file", "labeled as synthetic")] if synthetic else []
    if volumes and images:
        notes.append(_skipped(len(images), "2D image", "beside the volumes"))
    items = []
    for path in dict.fromkeys(Path(one.path.split("!/")[0]) for one in [*kept, *unknown]):
        mine = [one for one in found if Path(one.path.split("!/")[0]) == path]
        relative = path.relative_to(folder).with_name(stem(path))
        if all(one.error for one in mine):
            items.append(Item(path, relative, "png" if together else "nii.gz", "picture"))
        else:
            item = _of_file(path, mine)
            items.append(Item(path, relative, item.format, item.kind))
    return Input(folder, tuple(items), together, tuple(notes))


def _of_series(given: Path, dicom: Sequence[Finding], wanted: str) -> Input:
    series = [one for one in dicom if one.kind == "volume"]
    if not series:
        raise _fault(given)
    name = Path(stem(given))
    real, synthetic = _real(series)
    notes = (_skipped(synthetic, "series", "labeled as synthetic"),) if synthetic else ()
    if wanted != "all" and (wanted or len(real) > 1):
        uid = _choose(given, series, wanted)
        return Input(given, (Item(given, name, "dicom", "volume", uid),))
    numbered = [(number, one.series) for number, one in enumerate(series, 1) if one in real]
    items = (
        Item(given, Path(f"{name}_{number}") if len(real) > 1 else name, "dicom", "volume", uid)
        for number, uid in numbered
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
    several = f"{what}s" if count > 1 and not what.endswith("s") else what
    return f"{count} {several} {which} {'is' if count == 1 else 'are'} skipped"


def _real(found: Sequence[Finding]) -> tuple[list[Finding], int]:
    """Skip earlier results that lie among real scans; count them."""
    real = [one for one in found if not one.description.startswith(_LABEL)]
    return (real, len(found) - len(real)) if real else (list(found), 0)


def _fault(given: Path) -> Exception:
    """Return the reader's own error about what cannot be read."""
    try:
        read(given)
    except Exception as error:
        return error
    return Unreadable("holds no scan that can be converted", path=given)
