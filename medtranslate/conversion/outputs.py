"""Where each result goes, in which format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from medtranslate.conversion.inputs import Input, Item
from medtranslate.conversion.options import Request
from medtranslate.errors import Unsupported

SUFFIXES = {
    ".nii.gz": "nii.gz",
    ".nii": "nii",
    ".mha": "mha",
    ".nrrd": "nrrd",
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".tif": "tif",
    ".tiff": "tif",
}
"""What the name of an output says about its format."""

PICTURES = ("png", "jpg", "tif")
FOLDERS = ("dicom", "pictures")

_MAP_FORMATS = {"dicom": "nii.gz", "jpg": "png"}
"""Where a map cannot have the result's format: JPEG changes values, and no DICOM object that
viewers show holds them."""


@dataclass(frozen=True)
class Job:
    """One scan, where its result goes and what goes beside it.

    Parameters
    ----------
    item : Item
        The scan.
    output : Path
        The file or folder to be.
    format : str
        As ``Item.format``.
    home : Path or None
        A folder of results, made if it is missing.
    preview : Path or None
        The picture to be; None where none is asked for, or one sheet shows all of a folder.
    error_map, variation_map : Path or None
        The maps to be; None where none is asked for. A folder for a folder of pictures.
    beside : tuple of Path
        Preview and maps, whether asked for or not.
    """

    item: Item
    output: Path
    format: str
    home: Path | None
    preview: Path | None
    error_map: Path | None = None
    variation_map: Path | None = None
    beside: tuple[Path, ...] = ()

    @property
    def maps(self) -> tuple[Path, ...]:
        """The maps to be."""
        return tuple(one for one in (self.error_map, self.variation_map) if one is not None)

    @property
    def targets(self) -> tuple[Path, ...]:
        """All that is to be written."""
        preview = () if self.preview is None else (self.preview,)
        return (self.output, *preview, *self.maps)

    @property
    def outdated(self) -> tuple[Path, ...]:
        """What lies beside the result and is not of it, but of an earlier one of its name."""
        return tuple(one for one in self.beside if one not in self.targets and one.exists())


@dataclass(frozen=True)
class Plan:
    """The jobs of one input.

    Parameters
    ----------
    source : Input
        The input.
    jobs : tuple of Job
        Its scans.
    home : Path or None
        For a folder of pictures, the folder of results.
    sheet : Path or None
        For a folder of pictures, the contact sheet to be.
    """

    source: Input
    jobs: tuple[Job, ...]
    home: Path | None = None
    sheet: Path | None = None


def format_by_name(output: str) -> str:
    """Return the format that an output's name says, ``""`` where it names a folder.

    Raises
    ------
    Unsupported
        It ends like a file of a format that is not written.
    """
    path, name = Path(output), output.lower()
    if not output or output.endswith(("/", os.sep)) or path.is_dir():
        return ""
    for suffix, format in SUFFIXES.items():
        if name.endswith(suffix):
            return format
    if path.suffix:
        known = " ".join(SUFFIXES)
        hint = f"{known}, or a folder" if path.suffix != ".dcm" else "a DICOM result is a folder"
        raise Unsupported(f"no file is written as {path.suffix}", path=output, remedy=hint)
    return ""


def check_options(request: Request) -> None:
    """Refuse options that contradict one another.

    Raises
    ------
    typer.BadParameter
        They do.
    Unsupported
        The output's name ends like no format that is written.
    """
    named = format_by_name(request.output)
    if named and request.format and named != request.format:
        raise typer.BadParameter(f"--format {request.format} contradicts -o {request.output}")
    format = named or request.format
    moved = [name for name in ("untilt", "regrid") if getattr(request, name)]
    if moved and (format == "dicom" or request.template):
        raise typer.BadParameter(f"--{moved[0]} makes a grid that no DICOM slice has")
    if request.map and not (request.cycle or request.variation):
        raise typer.BadParameter("--map draws the round trip, which --no-cycle leaves out")
    dicom_only = [n for n in ("template", "uid_seed", "keep_private") if getattr(request, n)]
    if dicom_only and (moved or format not in ("", "dicom")):
        option = dicom_only[0].replace("_", "-")
        raise typer.BadParameter(f"--{option} is for results in DICOM")


def place(source: Input, request: Request, *, alone: bool) -> Plan:
    """Say where the results of an input go.

    Parameters
    ----------
    source : Input
        The input with its scans.
    request : Request
        What was asked for.
    alone : bool
        It is the only input, so that ``-o`` may name its result.

    Raises
    ------
    typer.BadParameter
        ``-o`` names one file for several results.
    """
    named = format_by_name(request.output)
    single = alone and len(source.items) == 1 and not source.together
    if named and not single:
        raise typer.BadParameter(f"-o {request.output} names one file, but there are several scans")
    home = _home(source, request, alone)
    jobs = tuple(_job(item, source, request, home, single=single) for item in source.items)
    if not source.together:
        return Plan(source, jobs)
    sheet = _preview(home) if request.preview else None
    return Plan(source, jobs, home, sheet)


def _home(source: Input, request: Request, alone: bool) -> Path:
    given = source.given
    own = f"{given.name}_{request.to}"
    if request.output:
        out = Path(request.output)
        return out / own if source.together and not alone else out
    if source.together:
        return given.with_name(own)
    one_scan = all(item.path == given for item in source.items)
    return given.parent if one_scan else given


def _job(item: Item, source: Input, request: Request, home: Path, *, single: bool) -> Job:
    format = _format(item, request)
    check_pair(item, format, request)
    series_itself = format in FOLDERS
    if single and request.output and (format_by_name(request.output) or series_itself):
        output, made = Path(request.output), None
    else:
        last = item.name.name if source.together else f"{item.name.name}_{request.to}"
        ending = "" if format in FOLDERS else f".{format}"
        output, made = home / item.name.with_name(last + ending), home
    together = home if source.together else None
    preview = None if together else _preview(output)
    error, variation = (_map(output, format, what, together) for what in ("error", "variation"))
    return Job(
        item,
        output,
        format,
        made,
        preview if request.preview else None,
        error if request.map and request.cycle else None,
        variation if request.map and request.variation else None,
        beside=tuple(one for one in (preview, error, variation) if one is not None),
    )


def _format(item: Item, request: Request) -> str:
    asked = format_by_name(request.output) or request.format
    if asked:
        return asked
    if request.template:
        return "dicom"
    return "nii.gz" if request.untilt or request.regrid else item.format


def check_pair(item: Item, format: str, request: Request) -> None:
    """Refuse a format that cannot hold a scan.

    Raises
    ------
    Unsupported
        A volume as a picture, a picture as DICOM, or DICOM without headers to derive from.
    """
    if item.kind == "volume" and format in PICTURES:
        fault = "a volume would lose its spacing and its units in a picture"
        raise Unsupported(fault, path=item.path, remedy="write nii.gz, nii, mha, nrrd or dicom")
    if item.kind == "picture" and format == "dicom":
        raise Unsupported("a picture has no place in space, which DICOM asks for", path=item.path)
    if item.format == "pictures" and format in ("png", "jpg"):
        fault = "several pictures do not fit into one file of this format"
        raise Unsupported(fault, path=item.path, remedy="write a folder or a .tif")
    dicom_only = [n for n in ("uid_seed", "keep_private") if getattr(request, n)]
    if format != "dicom" and dicom_only:
        option = dicom_only[0].replace("_", "-")
        raise Unsupported(f"--{option} is for results in DICOM", path=item.path)
    if format == "dicom" and item.format != "dicom" and not request.template:
        fault = "has no DICOM headers that a series can be derived from"
        raise Unsupported(fault, path=item.path, remedy="give the --template series")


def _preview(output: Path) -> Path:
    return _beside(output, "preview", ".png")


def _map(output: Path, format: str, what: str, folder: Path | None) -> Path:
    """Name a map: beside the result, or for the results of one folder in a folder beside it."""
    ending = f".{_MAP_FORMATS.get(format, format)}" if format != "pictures" else ""
    if folder is None:
        return _beside(output, what, ending)
    inside = output.relative_to(folder)
    return _beside(folder, what, "") / inside.with_suffix(ending)


def _beside(output: Path, what: str, ending: str) -> Path:
    suffix = next((s for s in SUFFIXES if output.name.lower().endswith(s)), "")
    return output.with_name(f"{output.name[: len(output.name) - len(suffix)]}_{what}{ending}")
