"""A job: one series on its way through the node, its states, its record, and its folder on disk.

What lies in a job's folder: ``record.json``, ``source/`` (an instance a file, named by its UID),
``open`` (an association that touched it has not ended in order), ``results/``, ``report.json``, and
for each receiver ``to-NAME.json`` (attempts) and ``to-NAME.log`` (UIDs that it took).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from medtranslate.errors import InputMissing
from medtranslate.files import whole_file

RECORD, OPEN, REASON = "record.json", "open", "reason.txt"


class State(StrEnum):
    """Where a job is on its way; the name of a folder of the spool.

    Examples
    --------
    >>> State("sending") in WAITING, sorted(STEPS[State.SENDING])
    (True, [<State.QUARANTINE: 'quarantine'>, <State.SENT: 'sent'>])
    """

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


@dataclass(frozen=True, kw_only=True)
class SeriesInfo:
    """What the node needs to know of a series.

    Parameters
    ----------
    series, study : str
        UIDs.
    modality, body_part, description : str
        Modality, BodyPartExamined and SeriesDescription.
    called, calling, host : str
        The association: AE titles, and the address of the sender.
    """

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


@dataclass(frozen=True, kw_only=True)
class InstanceInfo(SeriesInfo):
    """What the node needs to know of an instance.

    Parameters
    ----------
    instance : str
        SOPInstanceUID.
    """

    instance: str


@dataclass(frozen=True, kw_only=True)
class JobRecord(SeriesInfo):
    """What is remembered of a job.

    Parameters
    ----------
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
    def read(cls, path: Path) -> JobRecord:
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
    record : JobRecord
        What is remembered of it.

    Examples
    --------
    >>> job = Job(Path("spool/sent/1.2.3@SYNTH.1"), record=None)
    >>> job.name, job.state
    ('1.2.3@SYNTH.1', <State.SENT: 'sent'>)
    """

    folder: Path
    record: JobRecord

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
        return (self.folder / OPEN).exists()

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


def instance_uids(job: Job) -> tuple[str, ...]:
    """Return the SOPInstanceUIDs of the instances that a job holds."""
    return tuple(name.removesuffix(".dcm") for name in names(job.source))


def key_of(name: str) -> str:
    """Return the key of the series (`SeriesInfo.key`) that a job of some name holds."""
    return name.rpartition(".")[0]


def number_of(name: str) -> int:
    """Return the number of a job of some name among those of its series, from 1."""
    return int(name.rpartition(".")[2])


def entries(folder: Path) -> list[Path]:
    """Return what a folder holds but for hidden files; nothing where it has gone meanwhile."""
    try:
        return [one for one in folder.iterdir() if not one.name.startswith(".")]
    except FileNotFoundError:
        return []


def names(folder: Path) -> list[str]:
    """Return the names of `entries`, sorted."""
    return sorted(one.name for one in entries(folder))


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 for a folder, and where it has gone meanwhile."""
    try:
        return path.lstat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def remove(path: Path) -> int:
    """Remove a file or a folder, if it is there, and return its bytes."""
    if not path.is_dir():
        size = size_of(path)
        path.unlink(missing_ok=True)
        return size
    size = sum(size_of(one) for one in path.rglob("*"))
    shutil.rmtree(path, ignore_errors=True)
    return size


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object, complete or not at all, over an earlier one."""
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
