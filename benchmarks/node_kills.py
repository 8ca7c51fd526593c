"""Kill the DICOM node at random moments, and count what its receiver got.

``python benchmarks/node_kills.py [--series 200] [--kills 20] [--seed 0]``: sends small CT series to
``medtranslate node`` on loopback with narrow, untrained networks, ends the node with SIGKILL again
and again while it receives, converts and sends, and starts it anew. Prints a table; exits with 1 if
a series is missing or two results of one source instance exist. With ``--kills 0`` it measures the
delay and the memory of the node.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt

from medtranslate.bundle import Networks, save_bundle
from medtranslate.files import shipped
from medtranslate.networks import Compact
from medtranslate.node import Spool, State
from medtranslate.phantom import Phantom

SHAPE, SPACING = (48, 52, 5), (4.5, 4.25, 26.0)
ROOT = "1.2.826.0.1.3680043.8.498.77."
QUIET = 0.3
WORK = 8.0
"""Longest time between the start of the node, or its listening, and a kill, seconds."""


@dataclass
class Archive:
    """A receiver that counts what it gets."""

    answers: Counter[str] = field(default_factory=Counter)
    first: dict[str, float] = field(default_factory=dict)
    sources: dict[str, set[str]] = field(default_factory=dict)
    series: dict[str, set[str]] = field(default_factory=dict)

    def start(self) -> int:
        """Listen, and return the port."""
        entity = AE(ae_title="ARCHIVE")
        entity.add_supported_context(MRImageStorage)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._stored)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        return int(server.server_address[1])

    def _stored(self, event: evt.Event) -> int:
        derived = event.dataset
        source = derived.SourceImageSequence[0].ReferencedSOPInstanceUID
        referenced = derived.ReferencedSeriesSequence[0].SeriesInstanceUID
        self.answers[derived.SOPInstanceUID] += 1
        self.first.setdefault(referenced, time.monotonic())
        self.sources.setdefault(source, set()).add(derived.SOPInstanceUID)
        self.series.setdefault(referenced, set()).add(derived.SeriesInstanceUID)
        return 0


def ct_series(number: int, voxels: np.ndarray) -> list[Dataset]:
    """Return the instances of one CT series; every series is the same head with other UIDs."""
    instances = []
    for index in range(SHAPE[2]):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID, one.Modality = CTImageStorage, "CT"
        one.StudyInstanceUID = f"{ROOT}{number}"
        one.SeriesInstanceUID = f"{ROOT}{number}.1"
        one.SOPInstanceUID = f"{ROOT}{number}.1.{index + 1}"
        one.FrameOfReferenceUID = f"{ROOT}{number}.2"
        one.PatientID, one.PatientPosition, one.BodyPartExamined = str(number), "HFS", "HEAD"
        one.PixelSpacing = [SPACING[1], SPACING[0]]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0, 0, SPACING[2] * index]
        one.SliceThickness, one.InstanceNumber = SPACING[2], index + 1
        one.RescaleIntercept, one.RescaleSlope, one.RescaleType = 0, 1, "HU"
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows, one.Columns = SHAPE[1], SHAPE[0]
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.PixelData = np.ascontiguousarray(voxels[..., index].T).astype("<i2").tobytes()
        one["PixelData"].VR = "OW"
        instances.append(one)
    return instances


def tiny_bundle(folder: Path) -> Path:
    """Write a bundle of narrow networks with random weights."""
    torch.manual_seed(0)
    spec = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}
    generators = {to: Compact(width=16, blocks=1) for to in ("mri", "ct")}
    networks = Networks(dict.fromkeys(generators, spec), generators)
    recipes = sorted(shipped("transforms").glob("*.yaml"))
    return save_bundle(folder, networks, recipes, name="tiny", version="0")


def free_port() -> int:
    """Return a TCP port that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Sender(threading.Thread):
    """Sends series as a scanner's queue does: again until every instance is acknowledged."""

    def __init__(self, port: int, series: Iterable[list[Dataset]]) -> None:
        super().__init__(daemon=True)
        self._port, self._series = port, series
        self._allowed = threading.Semaphore(0)
        self.associations = 0
        self.last: dict[str, float] = {}

    def allow(self, count: int) -> None:
        """Let so many more series go."""
        self._allowed.release(max(1, count))

    def run(self) -> None:
        """Send every series."""
        for instances in self._series:
            self._allowed.acquire()
            while not self._send(instances):
                time.sleep(0.2)

    def _send(self, instances: list[Dataset]) -> bool:
        entity = AE(ae_title="SCANNER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self._port, ae_title="SYNTH")
        if not association.is_established:
            return False
        self.associations += 1
        try:
            answers = [association.send_c_store(one) for one in instances]
        except (RuntimeError, ValueError):
            return False
        self.last[instances[0].SeriesInstanceUID] = time.monotonic()
        if association.is_established:
            association.release()
        return association.is_released and all(
            "Status" in answer and answer.Status == 0 for answer in answers
        )


@dataclass
class Child:
    """The node as a process of its own."""

    rules: Path
    port: int
    log: Path

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "medtranslate", "node", "run", str(self.rules)]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    def wait_until_it_listens(self) -> None:
        """Wait for the port to open."""
        while self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(self.log.read_text()[-2000:])

    @property
    def resident(self) -> float:
        """Resident memory, MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1e3

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.wait(60)


def run(series: int, kills: int, seed: int, folder: Path) -> dict[str, object]:
    """Send, kill and count; return the rows of the table."""
    drawn, archive, port = random.Random(seed), Archive(), free_port()
    rules, spool = folder / "node.yaml", Spool(folder / "spool")
    values = {
        "spool": str(spool.folder),
        "listen": {"ae_titles": ["SYNTH"], "port": port},
        "senders": [{"ae_title": "SCANNER"}],
        "receivers": {
            "archive": {
                "kind": "dicom",
                "host": "127.0.0.1",
                "port": archive.start(),
                "ae_title": "ARCHIVE",
            }
        },
        "rules": [{"name": "heads", "to": "mri", "send_to": ["archive"]}],
        "quiet": {"seconds": QUIET},
        "retry": {"first_seconds": 0.5},
        "model": {"bundle": str(tiny_bundle(folder / "tiny")), "device": "cpu"},
    }
    rules.write_text(yaml.safe_dump(values))
    voxels = Phantom(SHAPE, SPACING).volume().as_tensor()[0].numpy()
    sender = Sender(port, [ct_series(number, voxels) for number in range(1, series + 1)])
    child, hit, start = Child(rules, port, folder / "node.log"), Counter[str](), time.monotonic()
    sender.start()
    for number in range(kills):
        child.start()
        sender.allow(series * (number + 1) // kills - series * number // kills)
        if drawn.random() > 0.2:  # else it may be killed while it starts
            child.wait_until_it_listens()
        time.sleep(drawn.uniform(0, WORK))
        child.kill()
        counts = spool.counts()
        states = (State.RECEIVED, State.QUIET, State.CONVERTING, State.CONVERTED, State.SENDING)
        hit.update(state for state in states if counts[state])
        print(f"kill {number + 1}: {counts[State.SENT]} sent", file=sys.stderr, flush=True)
    child.start()
    if not kills:
        return undisturbed(series, spool, child, sender, archive)
    until = time.monotonic() + 1800
    while time.monotonic() < until and (
        sender.is_alive() or spool.counts()[State.SENT] + spool.counts()[State.QUARANTINE] < series
    ):
        time.sleep(0.5)
    child.stop()
    counts = spool.counts()
    twice = sum(len(derived) > 1 for derived in archive.sources.values())
    return {
        "series sent to the node": series,
        "kills (SIGKILL)": kills,
        "kills with a series in " + ", ".join(hit): " / ".join(map(str, hit.values())),
        "associations that the sender needed": sender.associations,
        "series converted and sent": len(archive.series),
        "series with two results": sum(len(one) > 1 for one in archive.series.values()),
        "source instances with a result": len(archive.sources),
        "source instances with two results": twice,
        "SOP instances that the receiver has": len(archive.answers),
        "of those sent a second time, with the same UID": sum(archive.answers.values())
        - len(archive.answers),
        "jobs in sent / in quarantine / elsewhere": (
            f"{counts[State.SENT]} / {counts[State.QUARANTINE]} / "
            f"{sum(counts.values()) - counts[State.SENT] - counts[State.QUARANTINE]}"
        ),
        "seconds": round(time.monotonic() - start),
    }


def undisturbed(
    series: int, spool: Spool, child: Child, sender: Sender, archive: Archive
) -> dict[str, object]:
    """Send one series after the other to a node that nobody kills; return the rows."""
    child.wait_until_it_listens()
    resident, start = {}, time.monotonic()
    for number in range(1, series + 1):
        sender.allow(1)
        while spool.counts()[State.SENT] < number:
            time.sleep(0.02)
        if number in (20, series // 2, series):
            resident[f"resident memory after {number} series, MB"] = round(child.resident)
    seconds = time.monotonic() - start
    child.stop()
    delays = sorted(archive.first[one] - sender.last[one] for one in archive.first)
    return {
        "series converted and sent": len(archive.series),
        "seconds from the last C-STORE in to the first one out, median": (
            f"{delays[len(delays) // 2]:.2f}"
        ),
        "the same, 95 % of the series below": f"{delays[int(len(delays) * 0.95)]:.2f}",
        "of these, the quiet time that the rules ask for": QUIET,
        **resident,
        "seconds": round(seconds),
    }


def main() -> int:
    """Run the test and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = run(given.series, given.kills, given.seed, Path(folder))
        log = (Path(folder) / "node.log").read_text()
    print("| what | count |\n| --- | --- |")
    for what, count in table.items():
        print(f"| {what} | {count} |")
    complete = table["series converted and sent"] == given.series
    once = not table.get("source instances with two results")
    if not (complete and once):
        print(log[-5000:], file=sys.stderr)
    return 0 if complete and once else 1


if __name__ == "__main__":
    sys.exit(main())
