"""Which scans lie at an input: a file, a folder or a zip."""

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
        What the result is called after: without suffix, relative to the folder of results.
    format : str
        In which the result is written unless another is asked for: as ``Request.format``, or
        ``"pictures"`` for a stack of pictures that becomes a folder.
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
    """What lies at one argument.

    Parameters
    ----------
    given : Path
        The argument.
    items : tuple of Item
        Its scans.
    together : bool
        True for a folder of pictures, which become a folder of pictures.
    notes : tuple of str
        What was left out, a sentence each.
    """

    given: Path
    items: tuple[Item, ...]
    together: bool = False
    notes: tuple[str, ...] = ()


def find(given: Path, series: str = "") -> Input:
    """Find the scans of one argument, from headers alone.

    Parameters
    ----------
    given : Path
        File, folder or zip.
    series : str
        UID or number (from 1, as ``inspect`` lists them) of a DICOM series, or ``"all"``.

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
    """Name a file without the suffix of its format: ``scan`` for ``scan.nii.gz``."""
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
    pictures = [one for one in found if one.kind == "picture"]
    if dicom or not (volumes or pictures):
        raise _fault(folder)
    _refuse_series(folder, series)
    unknown = [one for one in found if not one.kind]
    together = not volumes
    kept, passed = _pass_over_synthetic(volumes or pictures)
    notes = [f"{passed} files that say they are synthetic are passed over"] if passed else []
    if volumes and pictures:
        notes.append(f"{len(pictures)} pictures beside the volumes are passed over")
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
    real, passed = _pass_over_synthetic(series)
    notes = (f"{passed} series that say they are synthetic are passed over",) if passed else ()
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


def _pass_over_synthetic(found: Sequence[Finding]) -> tuple[list[Finding], int]:
    """Leave out earlier results that lie among real scans; count them."""
    real = [one for one in found if not one.description.startswith(_LABEL)]
    return (real, len(found) - len(real)) if real else (list(found), 0)


def _fault(given: Path) -> Exception:
    """Give the reader's own word on what cannot be read."""
    try:
        read(given)
    except Exception as error:
        return error
    return Unreadable("holds no scan that can be converted", path=given)
