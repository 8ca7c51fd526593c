"""The journal of a cohort: one small file a scan, which says what became of it.

It lies in the hidden folder ``.cohort`` of the folder of results. Each file is written complete or
not at all, by the worker that converts the scan: when it begins, so that a worker that dies is
noticed, and when it is done. What is not in the journal is not done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medtranslate.errors import INSTALLATION, CohortFailed, InvalidOption, OutputFailed
from medtranslate.files import remove_leftovers, whole_file
from medtranslate.text import as_json, plain

_FORMAT = 1
_LATER = {"grain": 0.0}  # settings that earlier journals lack, and what they were then
_TRANSIENT = frozenset(kind.__name__ for kind in INSTALLATION)


class ScanState(StrEnum):
    """What became of a scan."""

    BEGUN = "begun"
    CONVERTED = "converted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Entry:
    """What the journal says of one scan.

    Parameters
    ----------
    scan : str
        The scan: its path, ``#``, and the UID of its DICOM series.
    result : str
        The result, relative to the folder of results, with forward slashes; empty where it has no
        place.
    state : ScanState
    attempts : int
        How often the scan was begun in this run of the cohort.
    worker : str
        Address of the worker that has it, or had it last.
    report : mapping
        The conversion as in the report of ``convert`` (`medtranslate.report.ScanReport`); empty
        until it is done.
    run : str
        The call of the cohort that began it.

    Examples
    --------
    >>> Entry("/scans/head.nii.gz#", "head_mri.nii.gz", ScanState.BEGUN, attempts=1).finished
    False
    """

    scan: str
    result: str
    state: ScanState
    attempts: int = 0
    worker: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""

    @property
    def finished(self) -> bool:
        """Whether another run would come to the same: converted, or failed by the scan's fault."""
        if self.state is ScanState.FAILED:
            return self.error.get("kind") not in _TRANSIENT
        return self.state is ScanState.CONVERTED

    def is_begun(self, result: str) -> bool:
        """Tell whether the scan was begun with this result, so that what is there is its own."""
        return self.state is ScanState.BEGUN and self.result == result

    @property
    def error(self) -> Mapping[str, Any]:
        """Kind, exit code and message of what went wrong; empty where nothing did."""
        return self.report.get("error") or {}

    def __repr__(self) -> str:
        return f"<Entry {self.scan}: {self.state}>"


class Journal:
    """The journal of one folder of results.

    Parameters
    ----------
    results : Path
        The folder of results.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = Journal(Path(folder))
    ...     journal.open({"to": "mri"})
    ...     journal.write(Entry("/scans/head.nii.gz#", "head_mri.nii.gz", ScanState.BEGUN))
    ...     journal.entries()
    [<Entry /scans/head.nii.gz#: begun>]
    """

    def __init__(self, results: Path) -> None:
        self.results = results.absolute()
        self._folder = self.results / ".cohort"
        self._entries = self._folder / "scans"

    def __repr__(self) -> str:
        return f"<Journal of {self.results}>"

    def open(self, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Create the journal, or check that it is of a cohort with the same settings.

        Parameters
        ----------
        settings : mapping
            Everything that changes results, in builtins.
        overwrite : bool
            Begin anew: nothing is finished, and results that are there will be replaced.

        Raises
        ------
        InvalidOption
            Results of other settings lie there.
        OutputFailed
            It cannot be written.
        """
        self._create()
        named = self._folder / "cohort.json"
        content = json.loads(as_json({"format": _FORMAT, "settings": settings}))
        remove_leftovers(self._entries)
        if overwrite:
            for entry in self.entries():  # what is there is replaced, also by a call after this one
                self.write(Entry(entry.scan, entry.result, ScanState.BEGUN))
        elif named.is_file():
            self._check(named, content)
        with whole_file(named, overwrite=True) as temporary:
            temporary.write_text(as_json(content), encoding="utf-8")

    def _create(self) -> None:
        try:
            self._entries.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fault = f"cannot be created: {error.strerror}"
            raise OutputFailed(fault, path=self._folder) from error

    def _check(self, named: Path, content: Mapping[str, Any]) -> None:
        remedy = "choose another -o, or --overwrite to convert all scans again"
        before = _read(named)
        if before is None or before.get("format") != _FORMAT:
            raise InvalidOption("is no journal that can be read", path=named, remedy=remedy)
        old, new = before.get("settings", {}), content["settings"]
        changed = [name for name in new if old.get(name, _LATER.get(name)) != new[name]]
        if changed:
            fault = f"holds a cohort that was converted with another {', '.join(changed)}"
            raise InvalidOption(fault, path=self.results, remedy=remedy)

    @contextmanager
    def locked(self, name: str = "") -> Iterator[None]:
        """Keep other calls away from this cohort, or from the part of it called `name`.

        Raises
        ------
        CohortFailed
            Another call works on it.
        OutputFailed
            The folder of the journal cannot be created.
        """
        self._create()
        lock = FileLock(self._folder / f"lock{name}", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            fault = "is being worked on by another call"
            raise CohortFailed(fault, path=self.results, remedy="wait for it to end") from None
        try:
            yield
        finally:
            lock.release()

    def name(self, result: Path) -> str:
        """Return the name of a result in the journal, relative to the folder of results."""
        return str(plain(result.absolute().relative_to(self.results).as_posix()))

    def read(self, scan: str) -> Entry | None:
        """Return what is known of a scan, None if nothing is."""
        return _entry(_read(self._file(scan)))

    def write(self, entry: Entry) -> None:
        """Write what is known of a scan, complete or not at all.

        Raises
        ------
        OutputFailed
            It cannot be written.
        """
        with whole_file(self._file(entry.scan), overwrite=True) as temporary:
            temporary.write_text(as_json(asdict(entry)), encoding="utf-8")

    def entries(self) -> list[Entry]:
        """Return all that is known, by the names of scans."""
        files = self._entries.glob("*.json") if self._entries.is_dir() else ()
        found = (_entry(_read(file)) for file in files)
        return sorted((one for one in found if one is not None), key=lambda one: one.scan)

    def _file(self, scan: str) -> Path:
        digest = hashlib.sha256(scan.encode()).hexdigest()
        return self._entries / f"{digest[:20]}.json"


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _entry(content: Mapping[str, Any] | None) -> Entry | None:
    if content is None:
        return None
    try:
        return Entry(**{**content, "state": ScanState(content["state"])})
    except (KeyError, TypeError, ValueError):
        return None  # of no version that this one knows: not done
