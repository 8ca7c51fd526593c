"""Convert a cohort: find its scans, hand them to workers, and collect what becomes of them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

from medtranslate.bundle import Bundle
from medtranslate.cohort.journal import Entry, Journal, ScanState
from medtranslate.cohort.summary import Written, write_summary
from medtranslate.cohort.workers import ATTEMPTS, Task, Workers, convert_task, killed, scan_name
from medtranslate.conversion import Batch, Conversion, ConversionOptions, Observer
from medtranslate.conversion.plan import PlannedScan
from medtranslate.errors import (
    AmbiguousInput,
    CohortFailed,
    InvalidOption,
    MedTranslateError,
    common_exit_code,
)
from medtranslate.files import check_present
from medtranslate.imaging.scans import FileList

LISTS = (".txt", ".lst", ".list")
"""Suffixes of files that list scans, one path a line."""

_UNNOTICED = 5
"""Deaths of a worker with a scan that it had not begun, after which the scan is given up."""

_NO_SETTINGS = frozenset(
    {
        *("output", "reports", "anonymous", "overwrite", "skip_existing", "part"),
        *("device", "engine", "precision", "batch_size", "threads"),
        "bundle",  # the weights tell the model
    }
)
"""Options that do not tell one cohort from another."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """What became of a cohort.

    Parameters
    ----------
    entries : tuple of Entry
        What is known of each scan, in this run and in those before it.
    converted, failed, skipped : int
        What became of scans in this run.
    finished : int
        Scans that an earlier run had finished.
    written : Written
        The table and the page.

    Examples
    --------
    >>> from medtranslate.cohort import convert_cohort
    >>> done = convert_cohort("scans/", to="mri", output="results/")  # doctest: +SKIP
    >>> done.exit_code, done.written.csv  # doctest: +SKIP
    (0, PosixPath('/data/results/cohort.csv'))
    """

    entries: tuple[Entry, ...]
    converted: int
    failed: int
    skipped: int
    finished: int
    written: Written

    @property
    def exit_code(self) -> int:
        """0 where no scan failed, the code that all failures share, or 20."""
        return common_exit_code(int(one.error.get("exit_code", 0)) for one in self.entries)

    def __repr__(self) -> str:
        return (
            f"<Cohort of {len(self.entries)} scans: {self.converted} converted and {self.failed} "
            f"failed now, {self.finished} finished before>"
        )


def convert_cohort(
    source: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    to: str = "",
    options: ConversionOptions | None = None,
    workers: Workers | None = None,
    retry_failed: bool = False,
    observer: Observer | None = None,
    **fields: Any,
) -> Cohort:
    """Convert all scans of a cohort on several workers; a second call goes on where one ended.

    Parameters
    ----------
    source : path, or iterable of paths
        A folder, all scans of which are converted, each DICOM series on its own; a list of scans
        (`LISTS`), one path a line, relative to the list; or the paths themselves.
    output : path
        The folder of results, which workers must see under the same path. It gets the table
        ``cohort.csv`` and ``cohort.parquet``, and the page ``cohort.html``, too.
    to : str
        ``"mri"`` or ``"ct"``.
    options : ConversionOptions, optional
        All options in one object; `to` and `fields` replace its fields. `reports` has no meaning
        here: the figures of every report are in the table. `anonymous` is for table and page.
    workers : Workers, optional
        Which workers; by default processes of this machine.
    retry_failed : bool
        Try scans again that failed in an earlier call.
    observer : Observer, optional
        Receives progress, notes and failures.
    **fields
        Fields of `ConversionOptions`.

    Returns
    -------
    Cohort
        A scan that cannot be converted is among its entries and does not end the cohort.

    Raises
    ------
    InvalidOption
        Options contradict each other, or the results are of a cohort with other settings.
    InputMissing
        There is no such folder or list.
    ModelUnusable
        The model cannot be used.
    OutputFailed
        The folder of results cannot be written.
    CohortFailed
        The scheduler is gone, or another call works on the same results. What is finished stays
        finished.

    Examples
    --------
    >>> from medtranslate.cohort import convert_cohort
    >>> convert_cohort("scans/", to="mri", output="results/")  # doctest: +SKIP
    <Cohort of 60 scans: 58 converted and 2 failed now, 0 finished before>
    """
    asked = _options(options, to, output, fields)
    paths = _paths(source, Path(asked.output))
    bundle = Bundle.load(asked.bundle or None)
    if asked.contrast:
        bundle.contrast_code(asked.contrast)
    run = _CohortRun(asked, workers or Workers(), retry_failed, observer or Observer())
    batch = Batch.find(paths, asked, run.observer.note, each=True)
    part = asked.part.replace("/", "of")
    with run.journal.locked(f"-{part}" if part else ""):
        return run.convert(batch, bundle)


def _options(
    options: ConversionOptions | None, to: str, output: str | Path, fields: Mapping[str, Any]
) -> ConversionOptions:
    if not output or str(output) == "-":
        raise InvalidOption("output is missing: the folder of results")
    chosen = {**fields, "output": f"{Path(output).absolute()}/"}  # a folder, whatever its name
    if to:
        chosen["to"] = to
    if options is None and not to:
        raise InvalidOption("to is missing: 'mri' or 'ct'")
    asked = replace(options, **chosen) if options else ConversionOptions(**chosen)
    if asked.reports or asked.series or asked.template:
        given = next(one for one in ("reports", "series", "template") if getattr(asked, one))
        raise InvalidOption(f"{given} is for convert: a cohort takes every series, and has a table")
    if asked.bundle:
        asked = replace(asked, bundle=str(Path(asked.bundle).absolute()))  # as workers need it
    return asked


def _paths(source: str | Path | Iterable[str | Path], results: Path) -> list[Path]:
    """Return the inputs by the paths that workers find them under."""
    if not isinstance(source, str | Path):
        return [Path(one).absolute() for one in source]
    path = Path(source)
    check_present(path)
    if path.is_dir():
        if path.resolve() in (results.resolve(), *results.resolve().parents):
            fault = f"-o {results} lies among the scans"
            raise InvalidOption(fault, remedy="choose a folder beside them")
        return [path.absolute()]
    if path.suffix.lower() not in LISTS:
        kinds = ", ".join(LISTS)
        raise AmbiguousInput(f"is no folder, and no list of scans ({kinds})", path=path)
    folder = path.absolute().parent
    return [folder / line for line in FileList.read([path]).lines]


@dataclass(frozen=True, eq=False)
class _CohortRun:
    """One call of `convert_cohort`."""

    options: ConversionOptions
    workers: Workers
    retry_failed: bool
    observer: Observer
    now: dict[str, Entry] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        return Journal(Path(self.options.output))

    def convert(self, batch: Batch, bundle: Bundle) -> Cohort:
        options, journal = self.options, self.journal
        weights = {to: one.sha256 for to, one in bundle.generators.items()}
        settings = {k: v for k, v in asdict(options).items() if k not in _NO_SETTINGS}
        journal.open({**settings, "model": weights}, overwrite=options.overwrite)
        for one in batch.refused:
            self._refuse(one)
        waiting, finished = self._waiting(batch)
        tasks = [
            Task(one, options, journal.results, journal.name(one.jobs[0].output), weights)
            for one in waiting
        ]
        try:
            self._convert(tasks)
        finally:
            written = self._summarize()
        states = Counter(one.state for one in self.now.values())
        return Cohort(
            self._entries(),
            converted=states[ScanState.CONVERTED],
            failed=states[ScanState.FAILED],
            skipped=states[ScanState.SKIPPED],
            finished=finished,
            written=written,
        )

    def _waiting(self, batch: Batch) -> tuple[list[Batch], int]:
        """Return the scans to convert, and the number of those that are finished."""
        journal, options = self.journal, self.options
        waiting: list[Batch] = []
        finished = 0
        for plan in batch.plans:
            known = {job: journal.read(scan_name(job)) for job in plan.jobs}
            left = tuple(job for job in plan.jobs if not self._is_finished(job, known[job]))
            finished += len(plan.jobs) - len(left)
            if not left:
                continue
            try:
                pieces = list(replace(batch, plans=(replace(plan, jobs=left),)).split(options))
            except MedTranslateError as error:
                self._refuse(Conversion(plan.source.given, plan.source.given, error=error))
                continue
            for job, piece in zip(left, pieces, strict=True):
                entry = known[job]
                if entry is not None and entry.is_begun(journal.name(job.output)):
                    journal.write(replace(entry, attempts=0))  # whoever began it is gone
                    waiting.append(piece)
                    continue
                ((_, todo, settled),) = piece.checked(options)
                for one in settled:
                    self._refuse(one, job)
                if todo:
                    waiting.append(piece)
        return waiting, finished

    def _is_finished(self, job: PlannedScan, entry: Entry | None) -> bool:
        if entry is None or not entry.finished or entry.result != self.journal.name(job.output):
            return False
        if entry.state is ScanState.FAILED:
            return not self.retry_failed
        return job.output.exists()

    def _refuse(self, done: Conversion, job: PlannedScan | None = None) -> None:
        """Take a scan that is not handed to a worker: its input or its place is at fault."""
        state = ScanState.SKIPPED if done.skipped else ScanState.FAILED
        scan = scan_name(job) if job else str(done.path)
        result = self.journal.name(job.output) if job else ""
        self._take(Entry(scan, result, state, report=done.as_builtins()))

    def _take(self, entry: Entry) -> None:
        self.now[entry.scan] = entry
        if entry.error:
            self.observer.failure(str(entry.error["message"]))

    def _convert(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            return
        share = self.workers.local(self.options, len(tasks))
        if share:
            options = replace(self.options, threads=share.threads)
            tasks = [replace(task, options=options, gpus=share.gpus) for task in tasks]
        with self.workers.connected(share) as client:
            if not client.scheduler_info()["workers"]:
                self.observer.note("waiting for workers: none has joined yet")
            for number, entry in enumerate(_collected(client, tasks), 1):
                self._take(entry)
                self.observer.progress("cohort", number, len(tasks))

    def _entries(self) -> tuple[Entry, ...]:
        """Return what the journal holds, and what never came to a worker."""
        known = {one.scan: one for one in self.journal.entries()}
        known.update(self.now)
        return tuple(known[name] for name in sorted(known))

    def _summarize(self) -> Written:
        options = self.options
        return write_summary(
            self._entries(), Path(options.output), to=options.to, anonymous=options.anonymous
        )


def _collected(client: distributed.Client, tasks: Sequence[Task]) -> Iterator[Entry]:
    """Yield what became of each scan, in the order in which they are done."""
    run, deaths = uuid.uuid4().hex[:8], dict.fromkeys((task.scan for task in tasks), 0)

    tasks = [replace(task, run=run) for task in tasks]

    def submit(task: Task) -> distributed.Future[Entry]:
        key = f"convert-{run}-{task.scan}-{deaths[task.scan]}"
        return client.submit(convert_task, task, key=key, pure=False)

    pending = {future.key: (future, task) for task in tasks for future in [submit(task)]}
    futures = [future for future, _ in pending.values()]
    stream = distributed.as_completed(futures, loop=client.loop)
    for future in stream:
        _, task = pending.pop(future.key)
        try:
            yield future.result()
        except KilledWorker:
            deaths[task.scan] += 1
            entry = _after_death(task, deaths[task.scan])
            if entry is not None:
                yield entry
                continue
            again = submit(task)
            pending[again.key] = again, task
            stream.add(again)
        except MedTranslateError:
            raise
        except (distributed.CancelledError, OSError) as error:
            fault = "the Dask scheduler is gone"
            remedy = "the same command goes on where this one ended"
            raise CohortFailed(fault, remedy=remedy) from error
        except Exception as error:
            fault = f"the workers cannot convert: {type(error).__name__}: {error}"
            remedy = "they need the same version of medtranslate and its extra 'cohort'"
            raise CohortFailed(fault, remedy=remedy) from error
        finally:
            future.release()


def _after_death(task: Task, deaths: int) -> Entry | None:
    """Return what a scan comes to that Dask gives up, None where it is to be tried again.

    Dask counts for every scan that a dead worker held, also for one that was only waiting there;
    the journal knows which one was begun.
    """
    journal = Journal(task.results)
    before = journal.read(task.scan)
    if before is None or before.state is not ScanState.BEGUN:
        if deaths < _UNNOTICED:
            return None
        before = Entry(task.scan, task.result, ScanState.BEGUN, deaths)
    elif before.attempts < ATTEMPTS:
        return None
    entry = killed(task, before)
    with suppress(MedTranslateError):
        journal.write(entry)
    return entry
