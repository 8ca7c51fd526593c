"""All scans of one call: found, placed, divided into parts, and checked before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medtranslate.conversion.inputs import Input, find, find_each
from medtranslate.conversion.interface import UNKNOWN, Conversion, ConversionOptions, Trace
from medtranslate.conversion.plan import (
    FOLDERS,
    Plan,
    PlannedScan,
    check_options,
    files_apart,
    parents_apart,
    place,
)
from medtranslate.errors import (
    InvalidOption,
    MedTranslateError,
    OutputExists,
    OutputFailed,
    WrongModality,
)
from medtranslate.files import check_target, check_target_folder
from medtranslate.imaging.scans import vote
from medtranslate.modality import Modality

PathLike = str | os.PathLike[str]

_REPORT_STARTS = (b"{", b"<", b"")


@dataclass(frozen=True, eq=False)
class Batch:
    """The scans of one call and where their results go: what `convert_many` works through.

    It can be pickled, and split for workers that convert one scan each.

    Parameters
    ----------
    given : tuple of Path
        The inputs, as given.
    plans : tuple of Plan
        For each input with scans, what will be written where; of one part alone where
        ``options.part`` asks for one.
    refused : tuple of Conversion
        Inputs that could not be searched for scans, each with its error.
    clashes : mapping of PlannedScan to MedTranslateError
        Jobs whose results have no place of their own.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate import ConversionOptions, write
    >>> from medtranslate.phantom import Phantom
    >>> folder = tempfile.TemporaryDirectory()
    >>> head = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    >>> scans = [write(head, f"{folder.name}/{name}.nii.gz") for name in "ab"]
    >>> options = ConversionOptions(to="mri")
    >>> batch = Batch.find([folder.name], options)
    >>> [one.jobs[0].output.name for one in batch.split(options)]
    ['a_mri.nii.gz', 'b_mri.nii.gz']
    """

    given: tuple[Path, ...]
    plans: tuple[Plan, ...]
    refused: tuple[Conversion, ...] = ()
    clashes: Mapping[PlannedScan, MedTranslateError] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        paths: Iterable[PathLike],
        options: ConversionOptions,
        note: Callable[[str], None] = lambda message: None,
        *,
        each: bool = False,
    ) -> Batch:
        """Find the scans of all inputs and place their results, from headers alone.

        Parameters
        ----------
        paths : iterable of paths
            Files, folders and zips.
        options : ConversionOptions
        note : function
            Called with what was skipped in a folder, a sentence each.
        each : bool
            Take every DICOM series of a folder where it lies, beside any volumes, instead of
            letting the caller choose one.

        Raises
        ------
        InvalidOption
            Options contradict each other, or ``output`` names one file for several scans.
        OutputExists, OutputFailed
            A report cannot be written.
        """
        check_options(options)
        check_reports(options.report_files, overwrite=options.overwrite)
        given = tuple(Path(path) for path in paths)
        refused: list[Conversion] = []
        sources: list[Input] = []
        inputs = list(_once(given))
        for path in inputs:
            try:
                found = find_each(path) if each else find(path, options.series)
                sources.append(found)
            except Exception as error:
                refused.append(Conversion(path, path, error=error))
        placed: list[Plan] = []
        for source, folder in zip(sources, parents_apart(sources), strict=True):
            for message in source.notes:
                note(f"{source.given}: {message}")
            alone = len(inputs) == 1 and (source.together or not each)  # ``each`` keeps names
            try:
                placed.append(place(source, options, alone=alone, below=folder))
            except InvalidOption:
                raise
            except Exception as error:
                refused.append(Conversion(source.given, source.given, error=error))
        plans = files_apart(placed)
        check_apart(options.report_files, plans)
        clashes = check_collisions(plans)  # of all parts, so that no two write to one place
        return cls(given, *_part(plans, refused, options.part), clashes)

    @property
    def jobs(self) -> tuple[PlannedScan, ...]:
        """All scans to convert."""
        return tuple(job for plan in self.plans for job in plan.jobs)

    def checked(
        self, options: ConversionOptions
    ) -> Iterator[tuple[Plan, list[PlannedScan], list[Conversion]]]:
        """Yield for each plan the jobs to do, and the outcomes of those that are not done.

        A job is not done where its result cannot be written, or exists and is to be skipped.
        """
        for plan in self.plans:
            todo: list[PlannedScan] = []
            settled: list[Conversion] = []
            try:
                if plan.sheet and options.skip_existing and plan.sheet.is_file():
                    plan = replace(plan, sheet=None)
                check_sheet(plan, overwrite=options.overwrite)
            except Exception as error:
                yield plan, todo, [outcome(plan, None, error)]
                continue
            for job in plan.jobs:
                try:
                    if job in self.clashes:
                        raise self.clashes[job]
                    if options.skip_existing and exists_already(job):
                        settled.append(_skipped(plan, job))
                        continue
                    check_free(job, overwrite=options.overwrite)
                    todo.append(job)
                except Exception as error:
                    settled.append(outcome(plan, job, error))
            yield plan, todo, settled

    def split(self, options: ConversionOptions) -> Iterator[Batch]:
        """Yield a batch for each scan, which holds no more than that scan needs.

        2D images of a folder keep what the folder shows, and have no contact sheet.

        Raises
        ------
        WrongModality
            2D images of a folder disagree, or are of the target modality already.
        """
        for plan in self.plans:
            plan = with_modality(plan, options)
            for job in plan.jobs:
                source = replace(plan.source, items=(job.item,), notes=())
                alone = replace(plan, source=source, jobs=(job,), sheet=None)
                clash = {job: self.clashes[job]} if job in self.clashes else {}
                yield Batch((plan.source.given,), (alone,), clashes=clash)

    def __repr__(self) -> str:
        return f"<Batch: {len(self.jobs)} scans, {len(self.refused)} inputs refused>"


def with_modality(plan: Plan, options: ConversionOptions) -> Plan:
    """Return a plan that says what its folder of 2D images shows; others as they are.

    Raises
    ------
    WrongModality
        The 2D images disagree, or are of the target modality already.
    """
    if not plan.source.together or options.modality or plan.modality != UNKNOWN:
        return plan
    folder = plan.source.given
    # Of all its images, also those that are not converted now: every part decides alike.
    modality, basis = vote(folder, [item.path for item in plan.source.items])
    if modality == Modality.parse(options.to):
        remedy = f"if they are not, say so with --from {Modality(modality).other.target}"
        raise WrongModality(f"is {modality} already ({basis})", path=folder, remedy=remedy)
    return replace(plan, modality=(modality, basis))


def outcome(
    plan: Plan, job: PlannedScan | None, error: Exception | None, trace: Trace | None = None
) -> Conversion:
    """Return what is known of a scan, or of a whole plan, before or after it was converted."""
    trace = trace or Trace()
    source = {key: value for key, value in trace.source.items() if key != "header"}  # is large
    return Conversion(
        plan.source.given,
        job.item.path if job else plan.source.given,
        source=source,
        checks=trace.found,
        seconds=trace.seconds,
        error=error,
        folder=plan.home,
        of=len(plan.jobs),
    )


def check_free(job: PlannedScan, *, overwrite: bool) -> None:
    """Refuse, before any work, an output that is in the way or cannot be written.

    Parameters
    ----------
    job : PlannedScan
        What is to be written.
    overwrite : bool
        Whether existing outputs are replaced.

    Raises
    ------
    OutputExists
        The output exists.
    OutputFailed
        It cannot be written there.
    """
    folders = {job.output} if job.format in FOLDERS else set()
    folders.update(job.maps if job.format == "images" else ())
    for path in job.targets:
        if job.home is None or not will_be_made(path.parent):
            check_path(path, overwrite=overwrite, folder=path in folders)


def exists_already(job: PlannedScan) -> bool:
    """Tell whether the result of a job exists: a file of its name, or a folder that is not empty.

    What lies beside it does not count: a result is written first, complete or not at all.
    """
    try:
        check_path(job.output, overwrite=False, folder=job.format in FOLDERS)
    except OutputExists:
        return True
    except OutputFailed:
        return False
    return False


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
    """Refuse an output that exists or cannot be written; the remedy names the option.

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

    Nothing but an earlier report is replaced, whatever `overwrite` says.

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
    """Refuse, before any work, a report whose place is that of a result.

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
    """Tell whether a folder of results is still missing, so that nothing can be in the way there.

    Raises
    ------
    OutputFailed
        It cannot be created or written into: a file is in its place, or there is no permission.
    """
    existing = _first_existing(folder)
    if not existing.is_dir():
        raise OutputFailed("is a file, a folder was to be written", path=existing)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputFailed("cannot be written: no permission in this folder", path=existing)
    return not folder.exists()


def check_collisions(plans: Sequence[Plan]) -> dict[PlannedScan, MedTranslateError]:
    """Find the jobs that would write where an earlier job writes, or over a source."""
    sources = {job.item.path.resolve() for plan in plans for job in plan.jobs}
    taken: dict[Path, PlannedScan] = {}
    clashes: dict[PlannedScan, MedTranslateError] = {}
    for job in (job for plan in plans for job in plan.jobs):
        for path in job.targets:
            first = taken.setdefault(path.resolve(), job)
            if first is not job and job not in clashes:
                fault = f"is the result of {first.item.path}: {job.item.path} needs another name"
                remedy = "convert them apart, or without -o"
                clashes[job] = OutputExists(fault, path=path, remedy=remedy)
        for path in job.targets:
            if path.resolve() in sources and job not in clashes:
                remedy = "choose another -o"
                clashes[job] = OutputExists("is a source itself", path=path, remedy=remedy)
    return clashes


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) in _REPORT_STARTS
    except OSError as error:
        fault = f"cannot be replaced, as it cannot be read: {error.strerror}"
        raise OutputFailed(fault, path=path) from error


def _first_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if os.path.lexists(one))


def _skipped(plan: Plan, job: PlannedScan) -> Conversion:
    missing = [one.name for one in job.targets[1:] if not one.exists()]
    notes = [
        f"{name} is missing beside the result; --overwrite converts the scan again"
        for name in missing
    ]
    done = outcome(plan, job, None)
    return replace(done, output=job.output, skipped=True, notes=tuple(notes))


def _part(
    plans: Sequence[Plan], refused: Sequence[Conversion], part: str
) -> tuple[tuple[Plan, ...], tuple[Conversion, ...]]:
    """Return one part of several: every n-th scan, sorted by path whatever order it came in."""
    if not part:
        return tuple(plans), tuple(refused)
    number, count = map(int, part.split("/"))
    every: list[PlannedScan | Conversion] = [
        *refused,
        *(job for plan in plans for job in plan.jobs),
    ]
    chosen = set(map(id, sorted(every, key=_key)[number - 1 :: count]))
    divided = (
        replace(plan, jobs=tuple(job for job in plan.jobs if id(job) in chosen)) for plan in plans
    )
    return (
        tuple(plan for plan in divided if plan.jobs),
        tuple(one for one in refused if id(one) in chosen),
    )


def _key(one: PlannedScan | Conversion) -> tuple[str, str, str]:
    if isinstance(one, Conversion):
        return str(one.path.resolve()), "", ""
    return str(one.item.path.resolve()), one.item.series, str(one.output)


def _once(given: Iterable[Path]) -> Iterable[Path]:
    """Leave out what was given before, under whatever name."""
    first: dict[Path, Path] = {}
    for path in given:
        first.setdefault(path.resolve(), path)
    return first.values()
