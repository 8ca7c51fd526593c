"""The spool: a folder that is the only state of the node.

A job is one series on its way: a folder with its instances, its record and its results. The folder
in which it lies is its state, so a step is one atomic renaming, and a kill at any moment leaves
every job in exactly one state::

    received -> quiet -> converting -> converted -> sending -> sent
        |         |          |            |  ^          |
        +---------+----------+------------+--|----------+--> quarantine

A job that was being converted when the node died is quiet again at the next start. From quarantine
a person sends a job back: `retry` makes it quiet, `release` makes a held result converted.

What lies in a job: ``record.json``, ``source/`` (an instance a file, named by its UID), ``open``
(an association that touched it has not ended in order), ``results/``, ``report.json``, and for each
receiver ``to-NAME.json`` (attempts) and ``to-NAME.log`` (UIDs that it took).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from medtranslate.errors import InputMissing, InvalidOption, NodeFailed
from medtranslate.files import whole_file
from medtranslate.node.rules import Limits

_UID = re.compile(r"[0-9][0-9.]{0,63}")
_RECORD, _OPEN, _REASON = "record.json", "open", "reason.txt"


class State(StrEnum):
    """Where a job is on its way; the name of a folder of the spool."""

    RECEIVED = "received"
    QUIET = "quiet"
    CONVERTING = "converting"
    CONVERTED = "converted"
    SENDING = "sending"
    SENT = "sent"
    QUARANTINE = "quarantine"


STEPS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.RECEIVED: frozenset({State.QUIET, State.QUARANTINE}),
        State.QUIET: frozenset({State.CONVERTING, State.QUARANTINE}),
        State.CONVERTING: frozenset({State.CONVERTED, State.QUIET, State.QUARANTINE}),
        State.CONVERTED: frozenset({State.SENDING, State.QUARANTINE}),
        State.SENDING: frozenset({State.SENT, State.QUARANTINE}),
        State.SENT: frozenset(),
        State.QUARANTINE: frozenset({State.QUIET, State.CONVERTED}),
    }
)
"""The steps that a job may take."""

WAITING = (State.RECEIVED, State.QUIET, State.CONVERTING, State.CONVERTED, State.SENDING)
"""The states of jobs that are on their way."""


@dataclass(frozen=True)
class Header:
    """What the node needs to know of an instance.

    Parameters
    ----------
    instance, series, study : str
        UIDs.
    modality, body_part, description : str
        Modality, BodyPartExamined and SeriesDescription.
    called, calling, host : str
        The association: AE titles, and the address of the sender.
    """

    instance: str
    series: str
    study: str
    modality: str
    body_part: str
    description: str
    called: str
    calling: str
    host: str

    @property
    def key(self) -> str:
        """The series as received by one AE title, fit for a file name."""
        return f"{self.series}@{quote(self.called, safe='')}"


@dataclass(frozen=True)
class Record:
    """What is remembered of a job.

    Parameters
    ----------
    series, study, modality, body_part, description, called, calling, host : str
        Of its first instance; see `Header`.
    rule : str
        Name of the rule that takes it.
    received : float
        When its first instance came, seconds since 1970.
    changed : float
        When it came into its state.
    attempts : int
        How often its conversion was begun.
    send_to : tuple of str
        Names of its receivers.
    instances : tuple of str
        SOPInstanceUIDs of the source, known once it is quiet.
    results : tuple of str
        SOPInstanceUIDs of what is sent.
    reason : str
        Why it is in quarantine.
    exit_code : int
        Exit code of that reason.
    held : bool
        Whether it is in quarantine with a result, which a verdict of the checks holds back.
    """

    series: str
    study: str
    modality: str
    body_part: str
    description: str
    called: str
    calling: str
    host: str
    rule: str
    received: float
    changed: float
    attempts: int = 0
    send_to: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    reason: str = ""
    exit_code: int = 0
    held: bool = False

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record; InputMissing if the job has gone on meanwhile."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputMissing("no such job", path=path.parent) from error
        known = {each.name for each in fields(cls)}
        kept: dict[str, Any] = {name: value for name, value in values.items() if name in known}
        for name in ("send_to", "instances", "results"):
            kept[name] = tuple(kept.get(name, ()))
        return cls(**kept)


@dataclass(frozen=True)
class Job:
    """One series on its way.

    Parameters
    ----------
    folder : Path
        Where it lies.
    record : Record
        What is remembered of it.
    """

    folder: Path
    record: Record

    @property
    def name(self) -> str:
        """Its name, the same in every state."""
        return self.folder.name

    @property
    def state(self) -> State:
        """Its state."""
        return State(self.folder.parent.name)

    @property
    def source(self) -> Path:
        """The folder of its instances."""
        return self.folder / "source"

    @property
    def results(self) -> Path:
        """The folder of what is sent."""
        return self.folder / "results"

    @property
    def result_files(self) -> list[Path]:
        """The instances to send."""
        return sorted(self.results.rglob("*.dcm"))

    @property
    def half_sent(self) -> bool:
        """Whether an association that sent some of it has not ended in order."""
        return (self.folder / _OPEN).exists()

    @property
    def last_arrival(self) -> float:
        """When its last new instance came, seconds since 1970."""
        try:
            return self.source.stat().st_mtime
        except FileNotFoundError:
            return self.record.received


@dataclass(frozen=True)
class Attempts:
    """How the delivery of one job to one receiver stands.

    Parameters
    ----------
    failures, refusals : int
        Attempts that failed, and those of them in which the receiver refused an instance.
    next_try : float
        Not before this time, seconds since 1970.
    error : str
        Why the last one failed.
    done : bool
        Whether the receiver has everything.
    """

    failures: int = 0
    refusals: int = 0
    next_try: float = 0.0
    error: str = ""
    done: bool = False


class SpoolFull(Exception):
    """A limit of the spool is reached; the message says which."""


class NotStored(Exception):
    """An instance cannot be taken: the message says why."""


@dataclass
class _Contents:
    """What the spool knows in memory of the jobs that are being received."""

    receiving: dict[str, Job] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)
    records: dict[Path, tuple[int, Record]] = field(default_factory=dict)


class Spool:
    """The jobs of a node, on disk.

    Safe to use from several threads of one process; a second process is locked out of `open`, but
    may list jobs, and retry or release them.

    Parameters
    ----------
    folder : Path
        The spool.
    limits : Limits
        What is taken at most.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder, self.limits = folder, limits or Limits()
        self.lock = threading.RLock()
        self._contents = _Contents()
        self._process = FileLock(str(folder / "lock"))
        self._size = 0

    def __repr__(self) -> str:
        return f"<Spool {self.folder}>"

    def open(self) -> list[Job]:
        """Create the folders, lock other nodes out, and set right what a kill left behind.

        Returns
        -------
        list of Job
            Those whose conversion the end of an earlier node interrupted; they are quiet again.

        Raises
        ------
        NodeFailed
            Another node uses the spool, or it cannot be created.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in (*State, "tmp"):
                (self.folder / name).mkdir(exist_ok=True)
            self._process.acquire(timeout=0)
        except Timeout:
            raise NodeFailed("is in use by another node", path=self.folder) from None
        except OSError as error:
            fault = f"cannot be created: {error.strerror}"
            raise NodeFailed(fault, path=self.folder) from error
        for left in (self.folder / "tmp").iterdir():
            _remove(left)
        interrupted = [self.move(job, State.QUIET) for job in self.jobs(State.CONVERTING)]
        for job in self.jobs(State.SENT):
            self._clear(job)
        for job in self.jobs(State.RECEIVED):
            self._contents.receiving[_key(job.name)] = job
            self._contents.instances[job.name] = len(_names(job.source))
        self.measure()
        return interrupted

    def close(self) -> None:
        """Let another node use the spool."""
        self._process.release()

    def jobs(self, *states: State) -> list[Job]:
        """Return the jobs in some states, the first received first."""
        found = []
        for state in states or tuple(State):
            for folder in _entries(self.folder / state):
                with suppress(InputMissing):
                    found.append(self._job(folder))
        return sorted(found, key=lambda job: (job.record.received, job.name))

    def _job(self, folder: Path) -> Job:
        """Return the job in a folder; its record is read again only if it has changed."""
        path = folder / _RECORD
        try:
            written = path.stat().st_mtime_ns
        except FileNotFoundError as error:
            self._contents.records.pop(path, None)
            raise InputMissing("no such job", path=folder) from error
        known = self._contents.records.get(path)
        if known is None or known[0] != written:
            known = self._contents.records[path] = (written, Record.read(path))
        return Job(folder, known[1])

    def find(self, name: str) -> Job:
        """Return the job of a name.

        Raises
        ------
        InputMissing
            There is none.
        """
        for state in State:
            folder = self.folder / state / name
            if Path(name).name == name and folder.is_dir():
                return self._job(folder)
        raise InputMissing(f"has no job {name!r}", path=self.folder)

    def counts(self) -> dict[State, int]:
        """Return the number of jobs in each state."""
        return {state: len(_entries(self.folder / state)) for state in State}

    @property
    def size(self) -> int:
        """Bytes of everything in the spool, as of the last `measure` and what came since."""
        return self._size

    def measure(self) -> int:
        """Add up the bytes of everything in the spool."""
        self._size = sum(_size(path) for path in self.folder.rglob("*"))
        return self._size

    def store(self, header: Header, content: bytes, rule: str) -> bool:
        """Keep an instance; once this returns, it is on disk for good.

        Parameters
        ----------
        header : Header
        content : bytes
            The instance as a DICOM file.
        rule : str
            Name of the rule that takes its series.

        Returns
        -------
        bool
            False if the same instance was there.

        Raises
        ------
        SpoolFull
            A limit is reached.
        NotStored
            A UID is none, or another instance with the UID is there.
        """
        if not all(_UID.fullmatch(one) for one in (header.instance, header.series, header.study)):
            raise NotStored("a UID of the instance is none")
        self._check_room(header, len(content))
        temporary = self.folder / "tmp" / f"{threading.get_ident()}-{header.instance}"
        try:
            _write(temporary, content)
            with self.lock:
                return self._place(header, temporary, content, rule)
        except OSError as error:
            raise SpoolFull(f"cannot be written: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, header: Header, temporary: Path, content: bytes, rule: str) -> bool:
        job = self._contents.receiving.get(header.key) or self._new_job(header, rule)
        target = job.source / f"{header.instance}.dcm"
        if target.exists():
            if target.read_bytes() != content:
                raise NotStored("another instance with its UID is there")
            return False
        temporary.replace(target)
        _sync(job.source)
        self._contents.instances[job.name] = self._contents.instances.get(job.name, 0) + 1
        self._size += len(content)
        return True

    def _new_job(self, header: Header, rule: str) -> Job:
        """Start a job; it appears with its record, marked as half-sent."""
        number = 1 + max((_number(one.name) for one in self.of_series(header.key)), default=0)
        name, now = f"{header.key}.{number}", time.time()
        values = asdict(header)
        del values["instance"]
        record = Record(**values, rule=rule, received=now, changed=now)
        making = self.folder / "tmp" / name
        _remove(making)
        (making / "source").mkdir(parents=True)
        (making / _OPEN).touch()
        _write_json(making / _RECORD, asdict(record))
        _sync(making)
        folder = self.folder / State.RECEIVED / name
        making.rename(folder)
        _sync(folder.parent)
        job = Job(folder, record)
        self._contents.receiving[header.key] = job
        return job

    def _check_room(self, header: Header, size: int) -> None:
        limits = self.limits
        if size > limits.instance_mb * 1e6:
            raise SpoolFull(f"the instance has more than {limits.instance_mb:g} MB")
        if self._size + size > limits.spool_gb * 1e9:
            raise SpoolFull(f"the spool holds {limits.spool_gb:g} GB")
        if shutil.disk_usage(self.folder).free - size < limits.free_gb * 1e9:
            raise SpoolFull(f"less than {limits.free_gb:g} GB are free on the spool's disk")
        job = self._contents.receiving.get(header.key)
        if job is None:
            counts = self.counts()
            if sum(counts[state] for state in WAITING) >= limits.spool_series:
                raise SpoolFull(f"the spool holds {limits.spool_series} series")
        elif self._contents.instances.get(job.name, 0) >= limits.series_instances:
            raise SpoolFull(f"the series has more than {limits.series_instances} instances")

    def mark_open(self, keys: Collection[str], is_open: bool) -> None:
        """Record that an association is sending these series, or that it ended in order."""
        with self.lock:
            for key in keys:
                job = self._contents.receiving.get(key)
                if job is not None and is_open:
                    (job.folder / _OPEN).touch()
                elif job is not None:
                    (job.folder / _OPEN).unlink(missing_ok=True)

    def of_series(self, key: str) -> list[Job]:
        """Return the jobs of a series, received by one AE title, oldest first."""
        found = []
        for state in State:
            for folder in (self.folder / state).glob(f"{key}.*"):
                if _key(folder.name) == key:
                    with suppress(InputMissing):
                        found.append(self._job(folder))
        return sorted(found, key=lambda job: _number(job.name))

    def move(self, job: Job, state: State, **changes: Any) -> Job:
        """Take a job one step further.

        Parameters
        ----------
        job : Job
        state : State
            The next one; see `STEPS`.
        **changes
            Fields of its record.

        Returns
        -------
        Job
            The job in its new state.
        """
        if state not in STEPS[job.state]:
            raise InvalidOption(f"a job that is {job.state} cannot become {state}", path=job.folder)
        with self.lock:
            record = replace(job.record, changed=time.time(), **changes)
            if job.state is State.RECEIVED:
                self._contents.receiving.pop(_key(job.name), None)
                self._contents.instances.pop(job.name, None)
            if record.reason:
                with whole_file(job.folder / _REASON, overwrite=True) as path:
                    path.write_text(f"{record.reason}\n", encoding="utf-8")
            _write_json(job.folder / _RECORD, asdict(record))
            target = self.folder / state / job.name
            job.folder.rename(target)
            _sync(target.parent)
            _sync(job.folder.parent)
            self._contents.records.pop(job.folder / _RECORD, None)
            return Job(target, record)

    def quarantine(self, job: Job, reason: str, exit_code: int, *, held: bool = False) -> Job:
        """Put a job aside, with the reason, for somebody to look at."""
        return self.move(job, State.QUARANTINE, reason=reason, exit_code=exit_code, held=held)

    def begin(self, job: Job) -> Job:
        """Take a quiet job into conversion; what an earlier attempt left is removed first."""
        for name in ("results", "report.json"):
            _remove(job.folder / name)
        return self.move(job, State.CONVERTING, attempts=job.record.attempts + 1)

    def finish(self, job: Job) -> Job:
        """Count a job as sent; its instances and results are removed, its record is kept."""
        done = self.move(job, State.SENT)
        self._clear(done)
        return done

    def retry(self, name: str) -> Job:
        """Send a job in quarantine back to be converted again."""
        job = self._in_quarantine(name)
        if not job.source.is_dir() or not _names(job.source):
            raise InputMissing("has no instances any more", path=job.folder)
        _remove(job.folder / _OPEN)
        fresh = {"reason": "", "exit_code": 0, "held": False, "attempts": 0}
        return self._without_reason(self.move(job, State.QUIET, **fresh))

    def release(self, name: str) -> Job:
        """Send a result on that a verdict holds back, or that was not delivered."""
        job = self._in_quarantine(name)
        if not job.result_files or not job.record.results:
            raise InvalidOption("has no result to send", path=job.folder, remedy="retry it")
        for attempts in job.folder.glob("to-*.json"):
            _remove(attempts)
        fresh = {"reason": "", "exit_code": 0, "held": False}
        return self._without_reason(self.move(job, State.CONVERTED, **fresh))

    def _in_quarantine(self, name: str) -> Job:
        job = self.find(name)
        if job.state is not State.QUARANTINE:
            raise InvalidOption(f"is {job.state}, not in quarantine", path=job.folder)
        return job

    def _without_reason(self, job: Job) -> Job:
        _remove(job.folder / _REASON)
        return job

    def remove(self, job: Job) -> None:
        """Forget a job."""
        with self.lock:
            if job.state is State.RECEIVED:
                self._contents.receiving.pop(_key(job.name), None)
                self._contents.instances.pop(job.name, None)
            gone = self.folder / "tmp" / f"gone-{job.name}"
            _remove(gone)
            job.folder.rename(gone)
            self._size -= _remove(gone)

    def forget_sent(self) -> None:
        """Forget the jobs that were sent longer ago than the limit says."""
        oldest = time.time() - self.limits.keep_sent_days * 86400
        for job in self.jobs(State.SENT):
            if job.record.changed < oldest:
                self.remove(job)

    def attempts(self, job: Job, receiver: str) -> Attempts:
        """Return how the delivery of a job to a receiver stands."""
        try:
            path = job.folder / f"to-{receiver}.json"
            return Attempts(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Attempts()

    def note_attempts(self, job: Job, receiver: str, attempts: Attempts) -> None:
        """Record how the delivery of a job to a receiver stands."""
        _write_json(self._folder(job) / f"to-{receiver}.json", asdict(attempts))

    def taken(self, job: Job, receiver: str) -> set[str]:
        """Return the SOPInstanceUIDs of a job that a receiver has taken."""
        try:
            lines = (job.folder / f"to-{receiver}.log").read_text(encoding="ascii").split("\n")
        except FileNotFoundError:
            return set()
        return set(lines[:-1])  # behind the last newline is what a kill cut short

    def note_taken(self, job: Job, receiver: str, instances: Collection[str]) -> None:
        """Record for good that a receiver has taken instances of a job."""
        path = self._folder(job) / f"to-{receiver}.log"
        with path.open("ab") as log:
            # A line that a kill cut short is ended, so that the next one stands alone.
            start = b"\n" if log.tell() and not path.read_bytes().endswith(b"\n") else b""
            log.write(start + "".join(f"{one}\n" for one in instances).encode())
            log.flush()
            os.fsync(log.fileno())

    def _folder(self, job: Job) -> Path:
        """Return where a job lies now: one receiver may put it aside while another takes it."""
        return job.folder if job.folder.is_dir() else self.find(job.name).folder

    def _clear(self, job: Job) -> None:
        for name in ("source", "results"):
            self._size -= _remove(job.folder / name)


def instance_uids(job: Job) -> tuple[str, ...]:
    """Return the SOPInstanceUIDs of the instances that a job holds."""
    return tuple(name.removesuffix(".dcm") for name in _names(job.source))


def _key(name: str) -> str:
    return name.rpartition(".")[0]


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _entries(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if not one.name.startswith(".")]
    except FileNotFoundError:
        return []


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in _entries(folder))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _remove(path: Path) -> int:
    """Remove a file or a folder, if it is there, and return its bytes."""
    if not path.is_dir():
        size = _size(path)
        path.unlink(missing_ok=True)
        return size
    size = sum(_size(one) for one in path.rglob("*"))
    shutil.rmtree(path, ignore_errors=True)
    return size


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _sync(folder: Path) -> None:
    """Make renamings within a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
