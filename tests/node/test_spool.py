"""The spool: steps, and what a kill at any moment leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from node.conftest import INFO, send

from medtranslate.errors import InputMissing, InvalidOption
from medtranslate.node import Node, Spool, State, converter
from medtranslate.node.jobs import STEPS, InstanceInfo
from medtranslate.node.receiver import Server
from medtranslate.node.spool import NotStored


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.limits = spool.limits.model_copy(update={"free_gb": 0})
    spool.open()
    return spool


def test_a_job_takes_only_the_steps_of_the_table(spool: Spool) -> None:
    spool.store(INFO, b"x", "rule")
    for state in State:
        for target in State:
            job = spool.jobs()[0]
            shutil.move(job.folder, spool.folder / state / job.name)
            job = spool.find(job.name)
            if target in STEPS[state]:
                assert spool.move(job, target).state is target
            else:
                with pytest.raises(InvalidOption, match=f"is {state} cannot become {target}"):
                    spool.move(job, target)


def test_every_state_but_sent_leads_on() -> None:
    assert [state for state in State if not STEPS[state]] == [State.SENT]
    assert {target for targets in STEPS.values() for target in targets} | {State.RECEIVED} == {
        *State
    }


def test_titles_with_a_dot_are_told_apart(spool: Spool) -> None:
    spool.store(INFO, b"x", "rule")
    other = InstanceInfo(**{**vars(INFO), "called": "A"})
    spool.store(other, b"x", "rule")

    assert {job.record.called for job in spool.jobs()} == {"A.B", "A"}
    assert [job.record.called for job in spool.of_series(other.key)] == ["A"]


@pytest.mark.parametrize("name", ["instance", "series", "study"])
@pytest.mark.parametrize("uid", ["", "..", ".1", "../../etc", "1/2", "1" * 65, "1.2\n"])
def test_a_uid_that_is_none_names_no_file(spool: Spool, uid: str, name: str) -> None:
    with pytest.raises(NotStored):
        spool.store(InstanceInfo(**{**vars(INFO), name: uid}), b"x", "rule")
    assert spool.jobs() == []


def test_a_line_that_a_kill_cut_short_does_not_count(spool: Spool) -> None:
    spool.store(INFO, b"x", "rule")
    job = spool.jobs()[0]
    spool.note_taken(job, "pacs", ["1.2"])
    with (job.folder / "to-pacs.log").open("ab") as log:
        log.write(b"1.2.3")
    assert spool.taken(job, "pacs") == {"1.2"}
    spool.note_taken(job, "pacs", ["1.2.34"])
    assert spool.taken(job, "pacs") == {"1.2", "1.2.3", "1.2.34"}


def test_what_is_not_in_quarantine_is_neither_retried_nor_released(spool: Spool) -> None:
    spool.store(INFO, b"x", "rule")
    [job] = spool.jobs()
    for act in (spool.retry, spool.release):
        with pytest.raises(InvalidOption, match="is received, not in quarantine"):
            act(job.name)
        with pytest.raises(InputMissing, match="has no job"):
            act("../received/x")


def test_sent_series_are_forgotten_after_their_time(spool: Spool) -> None:
    spool.store(INFO, b"x", "rule")
    [job] = spool.jobs()
    for state in (State.QUIET, State.CONVERTING, State.CONVERTED, State.SENDING):
        job = spool.move(job, state)
    spool.finish(job)
    spool.forget_sent()
    assert len(spool.jobs(State.SENT)) == 1
    spool.limits = spool.limits.model_copy(update={"keep_sent_days": 1e-12})
    spool.forget_sent()
    assert spool.jobs() == []


class Killed(BaseException):
    """The power fails."""


class Power:
    """Fails at the n-th thing that lasts: a renaming, a sync, a removal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.done = 10**9, 0
        for owner, name in (
            (Path, "rename"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "touch"),
            (os, "fsync"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.done += 1
            self.left -= 1
            if self.left < 0:  # and stays off
                raise Killed
            return act(*given, **named)

        return call


def test_a_power_cut_at_any_step_loses_nothing_and_delivers_nothing_twice(
    make_rules, ct_files, monkeypatch, tmp_path
):
    """Convert and deliver with a cut at every n-th step, restart, and count."""
    files = ct_files()[:1]
    source = {pydicom.dcmread(one).SOPInstanceUID for one in files}
    receivers = {
        "pacs": {"kind": "dicom", "host": "127.0.0.1", "port": 1, "ae_title": "PACS"},
        "files": {"kind": "folder", "path": tmp_path / "out"},
    }
    rules = make_rules(receivers=receivers, limits={"free_gb": 0, "conversions": 3})
    delivered: list[tuple[str, str]] = []

    def converted(source: Path, **options: Any) -> SimpleNamespace:
        folder = options["output"]
        folder.mkdir(parents=True)
        for one in source.iterdir():
            derived = pydicom.dcmread(one)
            derived.SOPInstanceUID += ".9"
            derived.save_as(folder / one.name)
        return SimpleNamespace(checks={}, source={})

    def to(receiver: Any, files: list[Path], title: str, taken: Any) -> None:
        for one in files:
            uid = str(pydicom.dcmread(one).SOPInstanceUID)
            delivered.append((receiver.kind, uid))
            taken([uid])

    monkeypatch.setattr(converter, "convert", converted)
    monkeypatch.setattr("medtranslate.node.service.deliver", to)
    monkeypatch.setattr(converter.Translator, "load", lambda *_, **__: None)
    received = tmp_path / "received"
    with Node(rules) as node:
        server = Server(rules, node.spool)
        assert send(server.port, files) == [0]
        server.close()
    shutil.copytree(tmp_path / "spool", received)

    power = Power(monkeypatch)
    for cut in count():
        shutil.rmtree(tmp_path / "spool")
        shutil.copytree(received, tmp_path / "spool")
        delivered.clear()
        power.left = cut
        try:
            with Node(rules) as node:
                node.run_once()
        except Killed:
            finished = False
        else:
            finished = True
        power.left = 10**9
        if not finished:
            with Node(rules) as node:
                assert node.run_once() == 0, f"cut {cut}"
        [job] = node.spool.jobs()
        assert job.state is State.SENT, f"cut {cut}"
        assert set(job.record.instances) == source
        expected = {(kind, f"{uid}.9") for kind in ("dicom", "folder") for uid in source}
        assert set(delivered) == expected, f"cut {cut}"
        # At most the one instance whose record the cut prevented goes out again.
        assert len(delivered) <= len(expected) + 1, f"cut {cut}"
        if finished:
            break
    assert cut > 30
