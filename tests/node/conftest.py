"""A node on loopback, who sends to it, and archives that it sends to."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    EnhancedSRStorage,
    MRImageStorage,
    ParametricMapStorage,
    Verification,
)
from scan_fixtures import SHAPE, SPACING, write_head

from medtranslate.node import Job, Node, NodeRules, State, converter, receiver, service
from medtranslate.node.jobs import InstanceInfo
from medtranslate.phantom import Phantom
from medtranslate.translation import Translator

INFO = InstanceInfo(
    instance="1.2.3.1",
    series="1.2.3",
    study="1.2",
    modality="CT",
    body_part="HEAD",
    description="head",
    called="A.B",
    calling="CT1",
    host="127.0.0.1",
)
"""What is known of one image of a head CT."""


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the spool often, and let no idle association hold a test up."""
    monkeypatch.setattr(service, "_TICK", 0.01)
    monkeypatch.setattr(receiver, "_IDLE", 5.0)
    # Servers look every half second whether they are to end.
    monkeypatch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.02,))


_LOADED: dict[Any, Translator] = {}


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load each model once for all nodes."""
    load = Translator.load

    def loaded(bundle: Any, **options: Any) -> Translator:
        if bundle not in _LOADED:
            _LOADED[bundle] = load(bundle, **options)
        return _LOADED[bundle]

    monkeypatch.setattr(converter.Translator, "load", loaded)


@pytest.fixture
def ct_files(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write a CT series that shows a head, numbered as asked; five instances."""

    voxels = Phantom(SHAPE, SPACING).volume().as_tensor()[0].numpy().astype(np.int16)

    def write(number: int = 1, **attributes: Any) -> list[Path]:
        folder = tmp_path / f"series{number}"
        return sorted(write_head(folder, "CT", voxels, number, **attributes).iterdir())

    return write


@pytest.fixture
def make_rules(tmp_path: Path, tiny_bundle: Path) -> Callable[..., NodeRules]:
    """Return rules that take heads by CT1, for a folder; keywords replace parts of them."""

    def make(**parts: Any) -> NodeRules:
        (tmp_path / "out").mkdir(exist_ok=True)
        values: dict[str, Any] = {
            "spool": tmp_path / "spool",
            "listen": {"ae_titles": ["SYNTH"], "port": 0},
            "senders": [{"ae_title": "CT1"}],
            "receivers": {"files": {"kind": "folder", "path": tmp_path / "out"}},
            "quiet": {"seconds": 0.0},
            "limits": {"free_gb": 0},
            "retry": {"first_seconds": 0.02, "longest_seconds": 0.05},
            "model": {"bundle": tiny_bundle, "device": "cpu"},
        } | parts
        send_to = list(values["receivers"])
        values.setdefault("rules", [{"name": "heads", "to": "mri", "send_to": send_to}])
        return NodeRules.model_validate(values)

    return make


@dataclass
class Running:
    """A node that runs in a thread."""

    node: Node

    def wait_for(self, state: State, count: int = 1, seconds: float = 60.0) -> list[Job]:
        """Wait until so many jobs are in a state."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.node.spool.counts()[state] >= count:
                return self.node.spool.jobs(state)
            time.sleep(0.005)
        counts = {str(one): n for one, n in self.node.spool.counts().items() if n}
        raise AssertionError(f"no {count} {state} after {seconds} s: {counts}")


@contextmanager
def running(rules: NodeRules) -> Iterator[Running]:
    """Run a node in a thread for the length of the block."""
    faults: list[BaseException] = []

    def run(node: Node) -> None:
        try:
            node.run()
        except BaseException as error:
            faults.append(error)

    with Node(rules) as node:
        thread = threading.Thread(target=run, args=(node,))
        thread.start()
        try:
            while not node.port and thread.is_alive():
                time.sleep(0.002)
            yield Running(node)
        finally:
            node.stop()
            thread.join(30)
    assert not faults, faults


def associate(port: int, calling: str = "CT1", called: str = "SYNTH", tls: Any = None) -> Any:
    """Ask a node for an association."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    for storage in (CTImageStorage, MRImageStorage):
        entity.add_requested_context(storage, ExplicitVRLittleEndian)
    entity.add_requested_context(Verification)
    return entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)


def send(port: int, files: list[Path], **titles: Any) -> list[int]:
    """Send files in one association; return the status of each."""
    association = associate(port, **titles)
    assert association.is_established
    try:
        return [association.send_c_store(pydicom.dcmread(one)).Status for one in files]
    finally:
        association.release()


@dataclass
class Archive:
    """A C-STORE receiver that keeps what it gets; `answer` may refuse, or raise to drop out."""

    port: int = 0
    got: list[pydicom.Dataset] = field(default_factory=list)
    answer: Callable[[int, Any], int] = lambda number, event: 0

    def stored(self, event: evt.Event) -> int:
        status = self.answer(len(self.got), event)
        if status == 0:
            self.got.append(event.dataset)
        return status

    @property
    def receiver(self) -> dict[str, Any]:
        """How a rules file names it."""
        return {"kind": "dicom", "host": "127.0.0.1", "port": self.port, "ae_title": "PACS"}


@pytest.fixture
def archive() -> Iterator[Archive]:
    kept = Archive()
    entity = AE(ae_title="PACS")
    for storage in (CTImageStorage, MRImageStorage, ParametricMapStorage, EnhancedSRStorage):
        entity.add_supported_context(storage)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, kept.stored)]
    )
    assert server is not None
    kept.port = server.server_address[1]
    yield kept
    server.shutdown()
    entity.shutdown()
