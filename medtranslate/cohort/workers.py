"""Workers: where the scans of a cohort are converted, and how a worker converts one.

By default the workers are processes of this machine; with a settings file they are jobs of a queue
(dask-jobqueue), with an address those of a Dask scheduler that runs already.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import distributed
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from medtranslate.cohort.journal import Entry, Journal, ScanState
from medtranslate.cohort.queue import ClusterSettings, JobQueue, memory_size
from medtranslate.conversion import Batch, Conversion, ConversionOptions, convert_many
from medtranslate.conversion.plan import PlannedScan
from medtranslate.errors import (
    CohortFailed,
    DeviceUnusable,
    InvalidOption,
    ModelUnusable,
    WorkerKilled,
)
from medtranslate.text import plain

if TYPE_CHECKING:
    from medtranslate.translation import Translator

ATTEMPTS = 2
"""How often a scan is begun: one whose worker dies is tried once more."""

WORKER_BYTES = 3 * 2**30
"""Memory that a worker is expected to need, where their number is not given."""

_CONNECT_SECONDS = 20.0
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 2.0, 10.0

_CONVERTING = threading.Lock()
"""A worker converts one scan at a time, however many threads Dask gives it: when it dies, it is
known of which."""


@dataclass(frozen=True)
class Workers:
    """Which workers convert a cohort.

    Parameters
    ----------
    count : int or None
        Processes of this machine; by default one a GPU where there are some, else as many as its
        cores and memory allow.
    memory : str
        Memory of one process, such as ``"6 GB"``; one that exceeds it is ended. By default an
        equal share of this machine's.
    scheduler : str
        Address of a Dask scheduler to use instead.
    cluster : ClusterSettings or None
        Jobs of a queue to start instead.

    Raises
    ------
    InvalidOption
        They contradict each other.

    Examples
    --------
    >>> Workers(count=4, memory="6 GB").local(ConversionOptions(to="mri", device="cpu"), 3).count
    3
    """

    count: int | None = None
    memory: str = ""
    scheduler: str = ""
    cluster: ClusterSettings | None = None

    def __post_init__(self) -> None:
        if self.scheduler and self.cluster:
            raise InvalidOption("--scheduler contradicts --cluster")
        elsewhere = "--scheduler" if self.scheduler else "--cluster" if self.cluster else ""
        if elsewhere and (self.count or self.memory):
            raise InvalidOption(f"--workers and --memory are for this machine, not {elsewhere}")
        if self.count is not None and self.count < 1:
            raise InvalidOption(f"{self.count} workers are not possible")
        if self.memory:
            try:
                memory_size(self.memory)
            except ValueError as error:
                raise InvalidOption(f"--memory: {error}") from None

    def local(self, options: ConversionOptions, scans: int) -> LocalShare | None:
        """Divide this machine among workers; None where they are elsewhere.

        Parameters
        ----------
        options : ConversionOptions
        scans : int
            Scans to convert: there are no more workers than that.
        """
        if self.scheduler or self.cluster:
            return None
        gpus = _gpus(options.device)
        fitting = max(1, min(CPU_COUNT // (options.threads or 1), MEMORY_LIMIT // WORKER_BYTES))
        count = min(self.count or gpus or fitting, scans)
        threads = options.threads or max(1, CPU_COUNT // count)
        return LocalShare(count, threads, gpus, self.memory or MEMORY_LIMIT // count)

    @contextmanager
    def connected(self, share: LocalShare | None) -> Iterator[distributed.Client]:
        """Give a client of the workers, which are started if need be, and end them after the block.

        Parameters
        ----------
        share : LocalShare or None
            From `local`.

        Raises
        ------
        CohortFailed
            There is no scheduler at the address, the jobs cannot be submitted, or a library is
            missing.
        """
        settings = {
            "distributed.scheduler.worker-saturation": 1.0,  # a scan waits for whoever is free
            "distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS} s",
            "distributed.nanny.pre-spawn-environ": _environment(),
        }
        with dask.config.set(settings), _no_tracebacks():
            if self.scheduler:
                with _client(self.scheduler) as client:
                    yield client
                return
            queue = JobQueue(self.cluster) if self.cluster else None
            started = queue.start() if queue else _processes(share)
            count = queue.settings.jobs if queue else share.count if share else 0
            with (
                started as cluster,
                _client(cluster) as client,
                _kept(cluster, client, count, queue),
            ):
                yield client


def _environment() -> dict[str, Any]:
    """Return the variables of a worker: Dask's, but freed memory stays with the process.

    Dask lets glibc give back all that is freed, and a network frees its features after each layer:
    a conversion took twice as long.
    """
    usual = dask.config.get("distributed.nanny.pre-spawn-environ")
    return {name: value for name, value in usual.items() if name != "MALLOC_TRIM_THRESHOLD_"}


@contextmanager
def _no_tracebacks() -> Iterator[None]:
    """Keep Dask's client from logging a traceback: that a scheduler is gone is said in one line."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _kept(
    cluster: Any, client: distributed.Client, count: int, queue: JobQueue | None
) -> Iterator[None]:
    """Start workers anew that are gone for good, as one that dies while it starts.

    Raises
    ------
    CohortFailed
        The queue refuses jobs, and none runs.
    """
    done, wait = threading.Event(), _FIRST_LOOK_SECONDS

    def keep() -> None:
        nonlocal wait
        while not done.wait(wait):
            wait = _LOOK_SECONDS
            if queue and queue.refused:
                if not client.scheduler_info()["workers"]:
                    client.close(timeout=5)  # ends what waits for results
                    return
                queue.tried_again(cluster)
            cluster.scale(count)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    except CohortFailed:
        if queue and queue.refused:
            raise queue.failure from None
        raise
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True)
class LocalShare:
    """How this machine is divided among `count` workers: threads, GPUs and memory in bytes."""

    count: int
    threads: int
    gpus: int
    memory: str | int


@contextmanager
def _client(target: Any) -> Iterator[distributed.Client]:
    try:
        client = distributed.Client(target, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        where = target if isinstance(target, str) else "this machine"
        fault = f"no Dask scheduler answers at {where}"
        raise CohortFailed(fault, remedy="check the address, tcp://HOST:PORT") from error
    try:
        yield client
    finally:
        with suppress(OSError, TimeoutError):  # the scheduler may be gone
            client.close(timeout=5)


def _processes(share: LocalShare | None) -> distributed.LocalCluster:
    assert share is not None
    return distributed.LocalCluster(
        n_workers=share.count,
        threads_per_worker=1,
        memory_limit=share.memory,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,  # what happens to a worker is said of its scan
        host="127.0.0.1",
        security=True,  # other users of this machine do not get in
    )


def _gpus(device: str) -> int:
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count()


@dataclass(frozen=True, eq=False)
class Task:
    """One scan for a worker.

    Parameters
    ----------
    batch : Batch
        The scan.
    options : ConversionOptions
    results : Path
        The folder of results, which the worker sees under the same path.
    result : str
        The name of the result in the journal.
    weights : mapping of str to str
        SHA-256 of the model's weights by target, which the worker's model must have.
    gpus : int
        GPUs of this machine that its workers share; 0 elsewhere.
    run : str
        The call that hands it out. Dask runs a task again whose worker died before its outcome was
        collected: what this call has finished is not done twice.
    """

    batch: Batch
    options: ConversionOptions
    results: Path
    result: str
    weights: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    run: str = ""

    @property
    def scan(self) -> str:
        """The scan, as the journal names it."""
        (job,) = self.batch.jobs
        return scan_name(job)

    def __repr__(self) -> str:
        return f"<Task {self.scan}>"


def scan_name(job: PlannedScan) -> str:
    """Return the name of a job's scan in the journal: its path and its series."""
    return str(plain(f"{job.item.path}#{job.item.series}"))


def convert_task(task: Task) -> Entry:
    """Convert one scan in this process, and write into the journal what became of it.

    A scan that was begun before and not finished has ended the process that converted it; it is
    begun once more, and its result, if there is one, is replaced.

    Raises
    ------
    OutputFailed
        The journal cannot be written.
    """
    journal = Journal(task.results)
    with _CONVERTING:
        before = journal.read(task.scan)
        if before is not None and before.report and before.run == task.run != "":
            return before
        begun = before is not None and before.is_begun(task.result)
        attempts = before.attempts if before is not None and begun else 0
        worker = _address()
        if attempts >= ATTEMPTS:
            assert before is not None
            entry = killed(task, before)
            journal.write(entry)
            return entry
        journal.write(
            Entry(task.scan, task.result, ScanState.BEGUN, attempts + 1, worker, run=task.run)
        )
        done = _converted(task, overwrite=task.options.overwrite or begun)
        state = ScanState.FAILED if done.error else ScanState.CONVERTED
        report = done.as_builtins()
        entry = Entry(task.scan, task.result, state, attempts + 1, worker, report, task.run)
        journal.write(entry)
        return entry


def killed(task: Task, before: Entry) -> Entry:
    """Return what is known of a scan that has ended its worker every time."""
    (job,) = task.batch.jobs
    times = "twice" if before.attempts == 2 else f"{before.attempts} times"
    fault = f"its worker was killed {times} while converting it: out of memory, or a crash"
    error = WorkerKilled(
        fault, path=job.item.path, remedy="give more --memory, or convert it alone"
    )
    done = Conversion(task.batch.given[0], job.item.path, error=error)
    return replace(before, state=ScanState.FAILED, report=done.as_builtins())


def _converted(task: Task, *, overwrite: bool) -> Conversion:
    options = replace(task.options, overwrite=overwrite, skip_existing=False, part="")
    (job,) = task.batch.jobs
    try:
        options = replace(options, device=_device(options.device, task.gpus))
        translator = _translator(
            options.bundle,
            options.device,
            options.precision,
            options.batch_size,
            options.contrast,
            options.engine,
            tuple(sorted(task.weights.items())),
        )
    except (ModelUnusable, DeviceUnusable) as error:
        return Conversion(task.batch.given[0], job.item.path, error=error)
    if options.threads is None:
        options = replace(options, threads=_threads())
    (done,) = convert_many(task.batch, options=options, translator=translator)
    return done


@functools.lru_cache(maxsize=1)
def _translator(
    bundle: str,
    device: str,
    precision: str,
    batch_size: int | None,
    contrast: str,
    engine: str,
    weights: tuple[tuple[str, str], ...],
) -> Translator:
    """Load the model, once in a process."""
    from medtranslate.translation import Translator  # torch and MONAI, not before they are needed

    loaded = Translator.load(
        bundle or None,
        device=device,
        precision=precision,
        batch_size=batch_size,
        contrast=contrast,
        engine=engine,
    )
    generators = loaded.bundle.generators
    if weights and weights != tuple(sorted((to, one.sha256) for to, one in generators.items())):
        fault = "is another model on the worker than where the cohort was started"
        raise ModelUnusable(fault, path=loaded.bundle.folder, remedy="give both the same --bundle")
    return loaded


def _device(device: str, gpus: int) -> str:
    """Return the device of this worker: of several GPUs one of its own."""
    if not gpus or device not in ("auto", "cuda"):
        return device
    return f"cuda:{_of_worker(lambda worker: int(worker.name), 0) % gpus}"


def _threads() -> int | None:
    threads: int | None = _of_worker(lambda worker: worker.state.nthreads, None)
    return threads


def _address() -> str:
    return f"{_of_worker(lambda worker: worker.address, '')} pid {os.getpid()}".strip()


def _of_worker(get: Callable[[Any], Any], otherwise: Any) -> Any:
    """Return something of the worker that this runs on, or another value where it is none."""
    try:
        return get(distributed.get_worker())
    except (ValueError, TypeError):
        return otherwise
