"""The spool: a folder that is the only state of the node.

A job is one series on its way: a folder with its instances, its record and its results. The folder
in which it lies is its state, so a step is one atomic renaming, and a kill at any moment leaves
every job in exactly one state::

    received -> quiet -> converting -> converted -> sending -> sent
        |         |          |            |  ^          |
        +---------+----------+------------+--|----------+--> quarantine

A job that was being converted when the node died is quiet again at the next start. From quarantine
a person sends a job back: `retry` makes it quiet, `release` makes a held result converted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medtranslate.errors import InputMissing, InvalidOption, NodeFailed
from medtranslate.files import remove_leftovers, sync, sync_folder, whole_file
from medtranslate.node.jobs import (
    OPEN,
    REASON,
    RECORD,
    STEPS,
    WAITING,
    Attempts,
    InstanceInfo,
    Job,
    JobRecord,
    State,
    entries,
    key_of,
    names,
    number_of,
    remove,
    size_of,
    write_json,
)
from medtranslate.node.rules import NodeLimits
from medtranslate.text import escaped

_UID = re.compile(r"[0-9][0-9.]{0,63}")


class SpoolFull(Exception):
    """A limit of the spool is reached; the message says which."""


class NotStored(Exception):
    """An instance cannot be taken: the message says why."""


@dataclass
class _Contents:
    """What the spool knows in memory of the jobs that are being received."""

    receiving: dict[str, Job] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)
    records: dict[Path, tuple[int, JobRecord]] = field(default_factory=dict)


class Spool:
    """The jobs of a node, on disk.

    Safe to use from several threads of one process; a second process is locked out of `open`, but
    may list jobs, and retry or release them.

    Parameters
    ----------
    folder : Path
        The spool.
    limits : NodeLimits
        What is taken at most.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate.node.jobs import InstanceInfo
    >>> info = InstanceInfo(
    ...     instance="1.2.3.1",
    ...     series="1.2.3",
    ...     study="1.2",
    ...     modality="CT",
    ...     body_part="HEAD",
    ...     description="",
    ...     called="SYNTH",
    ...     calling="CT1",
    ...     host="127.0.0.1",
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spool = Spool(Path(folder, "spool"))
    ...     _ = spool.open()
    ...     _ = spool.store(info, b"the bytes of an instance", rule="heads")
    ...     [(job.name, job.state.value) for job in spool.jobs()]
    ...     spool.close()
    [('1.2.3@SYNTH.1', 'received')]
    """

    def __init__(self, folder: Path, limits: NodeLimits | None = None) -> None:
        self.folder, self.limits = folder, limits or NodeLimits()
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
            remove(left)
        interrupted = [self.move(job, State.QUIET) for job in self.jobs(State.CONVERTING)]
        for job in self.jobs():
            remove_leftovers(job.folder)
            if job.state is State.SENT:
                self._clear(job)
        for job in self.jobs(State.RECEIVED):
            self._contents.receiving[key_of(job.name)] = job
            self._contents.instances[job.name] = len(names(job.source))
        self.measure()
        return interrupted

    def close(self) -> None:
        """Let another node use the spool."""
        self._process.release()

    def jobs(self, *states: State) -> list[Job]:
        """Return the jobs in some states, the first received first."""
        found = []
        for state in states or tuple(State):
            for folder in entries(self.folder / state):
                with suppress(InputMissing):
                    found.append(self._job(folder))
        return sorted(found, key=lambda job: (job.record.received, job.name))

    def _job(self, folder: Path) -> Job:
        """Return the job in a folder; its record is read again only if it has changed."""
        path = folder / RECORD
        try:
            written = path.stat().st_mtime_ns
        except FileNotFoundError as error:
            self._contents.records.pop(path, None)
            raise InputMissing("no such job", path=folder) from error
        known = self._contents.records.get(path)
        if known is None or known[0] != written:
            known = self._contents.records[path] = (written, JobRecord.read(path))
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
        return {state: len(entries(self.folder / state)) for state in State}

    @property
    def size(self) -> int:
        """Bytes of everything in the spool, as of the last `measure` and what came since."""
        return self._size

    def measure(self) -> int:
        """Add up the bytes of everything in the spool."""
        self._size = sum(size_of(path) for path in self.folder.rglob("*"))
        return self._size

    def store(self, info: InstanceInfo, content: bytes, rule: str) -> bool:
        """Keep an instance; once this returns, it is on disk for good.

        Parameters
        ----------
        info : InstanceInfo
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
        if not all(_UID.fullmatch(one) for one in (info.instance, info.series, info.study)):
            raise NotStored("a UID of the instance is none")
        self._check_room(info, len(content))
        temporary = self.folder / "tmp" / f"{threading.get_ident()}-{info.instance}"
        try:
            temporary.write_bytes(content)
            sync(temporary)
            with self.lock:
                return self._place(info, temporary, content, rule)
        except OSError as error:
            raise SpoolFull(f"cannot be written: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, info: InstanceInfo, temporary: Path, content: bytes, rule: str) -> bool:
        job = self._contents.receiving.get(info.key) or self._new_job(info, rule)
        target = job.source / f"{info.instance}.dcm"
        if target.exists():
            if target.read_bytes() != content:
                raise NotStored("another instance with its UID is there")
            return False
        temporary.replace(target)
        sync_folder(job.source)
        self._contents.instances[job.name] = self._contents.instances.get(job.name, 0) + 1
        self._size += len(content)
        return True

    def _new_job(self, info: InstanceInfo, rule: str) -> Job:
        """Start a job; it appears with its record, marked as half-sent."""
        number = 1 + max((number_of(one.name) for one in self.of_series(info.key)), default=0)
        name, now = f"{info.key}.{number}", time.time()
        values = asdict(info)
        del values["instance"]
        record = JobRecord(**values, rule=rule, received=now, changed=now)
        making = self.folder / "tmp" / name
        remove(making)
        (making / "source").mkdir(parents=True)
        (making / OPEN).touch()
        write_json(making / RECORD, asdict(record))
        sync_folder(making)
        folder = self.folder / State.RECEIVED / name
        making.rename(folder)
        sync_folder(folder.parent)
        job = Job(folder, record)
        self._contents.receiving[info.key] = job
        return job

    def _check_room(self, info: InstanceInfo, size: int) -> None:
        limits = self.limits
        if size > limits.instance_mb * 1e6:
            raise SpoolFull(f"the instance has more than {limits.instance_mb:g} MB")
        if self._size + size > limits.spool_gb * 1e9:
            raise SpoolFull(f"the spool holds {limits.spool_gb:g} GB")
        if shutil.disk_usage(self.folder).free - size < limits.free_gb * 1e9:
            raise SpoolFull(f"less than {limits.free_gb:g} GB are free on the spool's disk")
        job = self._contents.receiving.get(info.key)
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
                    (job.folder / OPEN).touch()
                elif job is not None:
                    (job.folder / OPEN).unlink(missing_ok=True)

    def of_series(self, key: str) -> list[Job]:
        """Return the jobs of a series, received by one AE title, oldest first."""
        found = []
        for state in State:
            for folder in (self.folder / state).glob(f"{key}.*"):
                if key_of(folder.name) == key:
                    with suppress(InputMissing):
                        found.append(self._job(folder))
        return sorted(found, key=lambda job: number_of(job.name))

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
            record = replace(record, reason=escaped(record.reason))
            if job.state is State.RECEIVED:
                self._contents.receiving.pop(key_of(job.name), None)
                self._contents.instances.pop(job.name, None)
            if record.reason:
                with whole_file(job.folder / REASON, overwrite=True) as path:
                    path.write_text(f"{record.reason}\n", encoding="utf-8")
            write_json(job.folder / RECORD, asdict(record))
            target = self.folder / state / job.name
            job.folder.rename(target)
            sync_folder(target.parent)
            sync_folder(job.folder.parent)
            self._contents.records.pop(job.folder / RECORD, None)
            return Job(target, record)

    def quarantine(self, job: Job, reason: str, exit_code: int, *, held: bool = False) -> Job:
        """Put a job aside, with the reason, for somebody to look at."""
        return self.move(job, State.QUARANTINE, reason=reason, exit_code=exit_code, held=held)

    def begin(self, job: Job) -> Job:
        """Take a quiet job into conversion; what an earlier attempt left is removed first."""
        for name in ("results", "report.json"):
            remove(job.folder / name)
        return self.move(job, State.CONVERTING, attempts=job.record.attempts + 1)

    def finish(self, job: Job) -> Job:
        """Count a job as sent; its instances and results are removed, its record is kept."""
        done = self.move(job, State.SENT)
        self._clear(done)
        return done

    def retry(self, name: str) -> Job:
        """Send a job in quarantine back to be converted again."""
        job = self._in_quarantine(name)
        if not job.source.is_dir() or not names(job.source):
            raise InputMissing("has no instances any more", path=job.folder)
        remove(job.folder / OPEN)
        fresh = {"reason": "", "exit_code": 0, "held": False, "attempts": 0}
        return self._without_reason(self.move(job, State.QUIET, **fresh))

    def release(self, name: str) -> Job:
        """Send a result on that a verdict holds back, or that was not delivered."""
        job = self._in_quarantine(name)
        if not job.result_files or not job.record.results:
            raise InvalidOption("has no result to send", path=job.folder, remedy="retry it")
        for attempts in job.folder.glob("to-*.json"):
            remove(attempts)
        fresh = {"reason": "", "exit_code": 0, "held": False}
        return self._without_reason(self.move(job, State.CONVERTED, **fresh))

    def _in_quarantine(self, name: str) -> Job:
        job = self.find(name)
        if job.state is not State.QUARANTINE:
            raise InvalidOption(f"is {job.state}, not in quarantine", path=job.folder)
        return job

    def _without_reason(self, job: Job) -> Job:
        remove(job.folder / REASON)
        return job

    def remove(self, job: Job) -> None:
        """Forget a job."""
        with self.lock:
            if job.state is State.RECEIVED:
                self._contents.receiving.pop(key_of(job.name), None)
                self._contents.instances.pop(job.name, None)
            gone = self.folder / "tmp" / f"gone-{job.name}"
            remove(gone)
            job.folder.rename(gone)
            self._size -= remove(gone)

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
        write_json(self._folder(job) / f"to-{receiver}.json", asdict(attempts))

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
            self._size -= remove(job.folder / name)
