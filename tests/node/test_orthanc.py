"""The node and the plug-in with programs of others: Orthanc, and storescu of dcmtk."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from node.conftest import running
from tools import tool

from medtranslate.node import State

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = Path("/usr/share/orthanc/plugins")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Orthanc:
    """An Orthanc on loopback."""

    def __init__(self, folder: Path, plugins: list[str], **settings: Any) -> None:
        self.http, self.dicom, self.log = free_port(), free_port(), folder / "orthanc.log"
        config = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [tool(PLUGINS / name) for name in plugins],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "StableAge": 1,
            **settings,
        }
        (folder / "orthanc.json").write_text(json.dumps(config))
        with self.log.open("w") as log:
            command = [tool("Orthanc"), str(folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait_for(lambda: self._process.poll() is None and self.get("/system"))

    def get(self, path: str, accept: str = "application/json") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", headers={"Accept": accept}
        )
        with OPENER.open(request, timeout=20) as answer:
            return json.loads(answer.read())

    def series(self) -> list[dict[str, Any]]:
        return [self.get(f"/series/{one}") for one in self.get("/series")]

    def wait_for(self, found: Callable[[], Any], seconds: float = 60.0) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if value := found():
                    return value
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    started: list[Orthanc] = []

    def run(plugins: list[str], **settings: Any) -> Orthanc:
        folder = tmp_path / "orthanc"
        folder.mkdir()
        started.append(Orthanc(folder, plugins, **settings))
        return started[-1]

    yield run
    for one in started:
        one.stop()


def storescu(port: int, files: list[Path], calling: str, called: str) -> None:
    command = [tool("storescu"), "-R", "-aet", calling, "-aec", called, "127.0.0.1", str(port)]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_storescu_sends_to_the_node_is_found_in_an_archive(make_rules, ct_files, start):
    orthanc = start(["libOrthancDicomWeb.so"])
    web = f"http://127.0.0.1:{orthanc.http}/dicom-web"
    receivers = {
        "pacs": {
            "kind": "dicom",
            "host": "127.0.0.1",
            "port": orthanc.dicom,
            "ae_title": "ORTHANC",
        },
        "web": {"kind": "stow", "url": web},
    }
    rules = [
        {"name": f"to {one}", "to": "mri", "send_to": [one], "when": {"called": [called]}}
        for one, called in (("pacs", "SYNTH"), ("web", "WEB"))
    ]
    listen = {"ae_titles": ["SYNTH", "WEB"], "port": 0}
    with running(make_rules(receivers=receivers, rules=rules, listen=listen)) as node:
        for number, called in ((1, "SYNTH"), (2, "WEB")):
            files = ct_files(number)
            storescu(orthanc.dicom, files, "CT1", "ORTHANC")
            storescu(node.node.port, files, "CT1", called)
        jobs = node.wait_for(State.SENT, 2, 60)

    study = pydicom.dcmread(files[0]).StudyInstanceUID
    [found] = [orthanc.get(f"/studies/{name}") for name in orthanc.get("/studies")]
    assert found["MainDicomTags"]["StudyInstanceUID"] == study
    by_rest = [one for one in orthanc.series() if one["MainDicomTags"]["Modality"] == "MR"]
    assert sorted(len(one["Instances"]) for one in by_rest) == [5, 5]
    by_web = orthanc.get(f"/dicom-web/studies/{study}/series", "application/dicom+json")
    assert len(by_web) == 4
    for job in jobs:
        [uid] = {
            one["MainDicomTags"]["SeriesInstanceUID"]
            for one in by_rest
            for instance in one["Instances"]
            if orthanc.get(f"/instances/{instance}")["MainDicomTags"]["SOPInstanceUID"]
            in job.record.results
        }
        listed = orthanc.get(
            f"/dicom-web/studies/{study}/series/{uid}/instances", "application/dicom+json"
        )
        assert {one["00080018"]["Value"][0] for one in listed} == set(job.record.results)


def test_the_plug_in_stores_the_result_in_the_study_of_its_source(ct_files, start, tiny_bundle):
    orthanc = start(
        ["libOrthancPython.so"],
        PythonScript=str(ROOT / "docs" / "examples" / "orthanc_plugin.py"),
        PythonVerbose=False,
        MedTranslate={
            "Command": [sys.executable, "-m", "medtranslate"],
            "Convert": {"CT": "mri"},
            "Options": ["--bundle", str(tiny_bundle), "--device", "cpu", "--no-cycle"],
        },
    )
    files = ct_files()
    storescu(orthanc.dicom, files, "CT1", "ORTHANC")
    orthanc.wait_for(lambda: "converted to mri" in orthanc.log.read_text(), 120)

    assert len(orthanc.get("/studies")) == 1
    series = {one["MainDicomTags"]["Modality"]: one for one in orthanc.series()}
    assert {name: len(one["Instances"]) for name, one in series.items()} == {"CT": 5, "MR": 5}
    assert series["MR"]["MainDicomTags"]["Manufacturer"] == "medtranslate"
    first = orthanc.get(f"/instances/{series['MR']['Instances'][0]}/simplified-tags")
    assert first["SeriesDescription"].startswith("SYNTHETIC MR")
