"""What cannot be written is refused before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from pathlib import Path

from medtranslate.conversion.outputs import FOLDERS, Job, Plan
from medtranslate.errors import MedTranslateError, OutputExists, OutputFailed
from medtranslate.files import check_target, check_target_folder

_REPORT_STARTS = (b"{", b"<", b"")


def check_free(job: Job, *, overwrite: bool, sources: Set[Path]) -> None:
    """Refuse, before any work, an output that is in the way or cannot be written.

    Parameters
    ----------
    job : Job
        What is to be written.
    overwrite : bool
        Outputs that exist are replaced.
    sources : set of Path
        All files and folders that are converted in this run, resolved.

    Raises
    ------
    OutputExists
        The output exists, or is a source.
    OutputFailed
        It cannot be written there.
    """
    for path in job.targets:
        if path.resolve() in sources:
            raise OutputExists("is a source itself", path=path, remedy="choose another -o")
    folders = {job.output} if job.format in FOLDERS else set()
    folders.update(job.maps if job.format == "pictures" else ())
    for path in job.targets:
        if job.home is None or not will_be_made(path.parent):
            check_path(path, overwrite=overwrite, folder=path in folders)


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


def check_reports(reports: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse, before any work, reports that cannot be written, or that would replace a scan.

    Only what looks like a report, JSON or a page, is replaced, whatever `overwrite` says.

    Raises
    ------
    OutputExists, OutputFailed
        As `check_free`.
    """
    for number, path in enumerate(reports):
        check_path(path, overwrite=overwrite)
        if path.resolve() in (other.resolve() for other in reports[:number]):
            raise OutputExists("is asked for twice as a report", path=path)
        if path.is_file() and not _is_report(path):
            remedy = "choose another --report"
            raise OutputExists("is no report, so none replaces it", path=path, remedy=remedy)


def check_apart(reports: Sequence[Path], plans: Sequence[Plan]) -> None:
    """Refuse, before any work, a report that is to be written where a result is.

    Raises
    ------
    OutputExists
        It has the name of a result, or lies in a folder that is one.
    """
    sheets = {plan.sheet.resolve() for plan in plans if plan.sheet is not None}
    results = {path.resolve() for plan in plans for job in plan.jobs for path in job.targets}
    for path in reports:
        if results.union(sheets) & {path.resolve(), *path.resolve().parents}:
            remedy = "choose another --report"
            raise OutputExists("is for a result already", path=path, remedy=remedy)


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
    """Find the jobs one of whose targets is another job's already."""
    taken: dict[Path, Job] = {}
    clashes: dict[Job, MedTranslateError] = {}
    for job in (job for plan in plans for job in plan.jobs):
        for path in job.targets:
            first = taken.setdefault(path.resolve(), job)
            if first is not job:
                fault = f"is for {first.item.path} already: {job.item.path} needs another name"
                clashes[job] = OutputExists(fault, path=path)
    return clashes


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) in _REPORT_STARTS


def _first_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if os.path.lexists(one))
