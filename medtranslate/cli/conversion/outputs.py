"""Where each result goes, in which format; what cannot be written is refused before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from medtranslate.cli.conversion.inputs import Input, Item
from medtranslate.cli.conversion.request import Request
from medtranslate.errors import MedTranslateError, OutputExists, OutputFailed, Unsupported
from medtranslate.imaging.whole import check_target, check_target_folder

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


@dataclass(frozen=True)
class Job:
    """One scan, where its result goes and where the result's preview goes.

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
    """

    item: Item
    output: Path
    format: str
    home: Path | None
    preview: Path | None


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
    preview = _preview(output) if request.preview and not source.together else None
    return Job(item, output, format, made, preview)


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


def check_free(job: Job, *, overwrite: bool, sources: Sequence[Path]) -> None:
    """Refuse, before any work, an output that is in the way or cannot be written.

    Parameters
    ----------
    job : Job
        What is to be written.
    overwrite : bool
        Outputs that exist are replaced.
    sources : sequence of Path
        All files and folders that are converted in this run.

    Raises
    ------
    OutputExists
        The output exists, or is a source.
    OutputFailed
        It cannot be written there.
    """
    resolved = job.output.resolve()
    if any(resolved == source.resolve() for source in sources):
        raise OutputExists("is a source itself", path=job.output, remedy="choose another -o")
    if job.home is not None and will_be_made(job.output.parent):
        return
    check_path(job.output, overwrite=overwrite, folder=job.format in FOLDERS)
    if job.preview is not None:
        check_path(job.preview, overwrite=overwrite)


def check_sheet(plan: Plan, *, overwrite: bool) -> None:
    """Refuse, before any work, a contact sheet that is in the way or cannot be written.

    Raises
    ------
    OutputExists, OutputFailed
        As `check_free`.
    """
    if plan.sheet is not None and not will_be_made(plan.sheet.parent):
        check_path(plan.sheet, overwrite=overwrite)


def check_path(path: Path, *, overwrite: bool, folder: bool = False) -> None:
    """Refuse an output that exists, or cannot be written, in the words of the command line.

    Raises
    ------
    OutputExists, OutputFailed
        As `check_free`.
    """
    try:
        (check_target_folder if folder else check_target)(path, overwrite)
    except OutputExists as error:
        remedy = "give --overwrite to replace it"
        raise OutputExists(error.fault, path=path, remedy=remedy) from error


def will_be_made(folder: Path) -> bool:
    """Say whether a folder of results is still missing, so that nothing can be in the way there.

    Raises
    ------
    OutputFailed
        It cannot be made or written into: there is a file, or no permission.
    """
    existing = _first_existing(folder)
    if not existing.is_dir():
        raise OutputFailed("is a file, a folder was to be written", path=existing)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputFailed("cannot be written: no permission in this folder", path=existing)
    return not folder.exists()


def check_collisions(plans: Sequence[Plan]) -> dict[Job, MedTranslateError]:
    """Find the jobs whose output or preview is another job's already."""
    taken: dict[Path, Job] = {}
    clashes: dict[Job, MedTranslateError] = {}
    for job in (job for plan in plans for job in plan.jobs):
        for path in filter(None, (job.output, job.preview)):
            first = taken.setdefault(path.resolve(), job)
            if first is not job:
                fault = f"is for {first.item.path} already: {job.item.path} needs another name"
                clashes[job] = OutputExists(fault, path=path)
    return clashes


def _first_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if os.path.lexists(one))


def _preview(output: Path) -> Path:
    ending = next((s for s in SUFFIXES if output.name.lower().endswith(s)), "")
    return output.with_name(f"{output.name[: len(output.name) - len(ending)]}_preview.png")
