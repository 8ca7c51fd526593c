"""Deliveries by STOW-RS and into folders, and C-STORE over TLS."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from node.conftest import associate, running, send
from tools import tool

from medtranslate.node import State
from medtranslate.node.rules import FolderReceiver, StowReceiver
from medtranslate.node.sender import DeliveryFailed, deliver


@dataclass
class Web:
    """A STOW-RS service that keeps what it gets; `answer` gives status and what failed."""

    url: str = ""
    got: list[str] = field(default_factory=list)
    headers: list[str | None] = field(default_factory=list)
    answer: Callable[[list[str]], tuple[int, list[str]]] = lambda uids: (200, [])


@pytest.fixture
def web() -> Iterator[Web]:
    kept = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.headers.append(self.headers["Authorization"])
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            parts = [one.partition(b"\r\n\r\n")[2] for one in body.split(b"--" + boundary)[1:-1]]
            uids = [str(pydicom.dcmread(BytesIO(one)).SOPInstanceUID) for one in parts]
            status, failed = kept.answer(uids)
            if status < 400:
                kept.got += [uid for uid in uids if uid not in failed]
            item = {"00081155": {"vr": "UI"}}
            sequence = [{"00081155": {**item["00081155"], "Value": [uid]}} for uid in failed]
            told = {"00081198": {"vr": "SQ", "Value": sequence}} if failed else {}
            answer = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()


def uids(files: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(one).SOPInstanceUID) for one in files]


def stow(web: Web, **more: Any) -> StowReceiver:
    return StowReceiver.model_validate({"kind": "stow", "url": web.url, **more})


def test_a_result_goes_on_by_stow(make_rules, ct_files, web):
    with running(make_rules(receivers={"web": {"kind": "stow", "url": web.url}})) as node:
        send(node.node.port, ct_files())
        [job] = node.wait_for(State.SENT)
    assert sorted(web.got) == sorted(job.record.results)


def test_stow_reads_its_token_for_each_delivery(ct_files, web, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    receiver = stow(web, token_file=token)
    deliver(receiver, ct_files()[:1], "NODE", lambda taken: None)
    token.write_text("second\n")
    deliver(receiver, ct_files()[:1], "NODE", lambda taken: None)
    assert web.headers == ["Bearer first", "Bearer second"]


def test_an_instance_that_stow_refuses_is_named_and_the_others_count_as_taken(ct_files, web):
    files, taken = ct_files(), []
    bad = uids(files)[2]
    web.answer = lambda sent: (202, [bad])
    with pytest.raises(DeliveryFailed, match=f"refuses 1 of 5 instances, {bad}") as failed:
        deliver(stow(web), files, "NODE", taken.extend)
    assert failed.value.refused
    assert sorted(taken) == sorted(set(uids(files)) - {bad})


@pytest.mark.parametrize(("status", "refused"), [(409, True), (503, False), (401, False)])
def test_a_stow_service_that_answers_an_error_has_taken_nothing(ct_files, web, status, refused):
    taken = []
    web.answer = lambda sent: (status, [])
    with pytest.raises(DeliveryFailed, match=f"answers {status}") as failed:
        deliver(stow(web), ct_files(), "NODE", taken.extend)
    assert failed.value.refused is refused and not taken


def test_a_folder_that_is_not_there_is_no_success(ct_files, tmp_path):
    receiver = FolderReceiver(kind="folder", path=tmp_path / "unmounted")
    with pytest.raises(DeliveryFailed, match="there is no folder"):
        deliver(receiver, ct_files(), "NODE", lambda taken: None)
    assert not (tmp_path / "unmounted").exists()


def test_a_folder_gets_a_series_as_a_folder(ct_files, tmp_path):
    files, taken = ct_files(), []
    (tmp_path / "shelf").mkdir()
    receiver = FolderReceiver(kind="folder", path=tmp_path / "shelf")
    deliver(receiver, files, "NODE", taken.extend)
    deliver(receiver, files, "NODE", lambda again: None)  # the answer to the first was lost
    [series] = (tmp_path / "shelf").iterdir()
    assert series.name == pydicom.dcmread(files[0]).SeriesInstanceUID
    assert sorted(one.stem for one in series.iterdir()) == sorted(taken) == sorted(uids(files))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 and its key, in one file."""
    tool("openssl")
    path = tmp_path / "node.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN=node -addext subjectAltName=IP:127.0.0.1 "
        f"-keyout {tmp_path}/key -out {tmp_path}/certificate"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes((tmp_path / "certificate").read_bytes() + (tmp_path / "key").read_bytes())
    return path


def test_over_tls_a_sender_without_a_certificate_is_turned_away(
    make_rules, ct_files, certificate, tmp_path
):
    tls = {"certificate": certificate, "authority": tmp_path / "certificate"}
    rules = make_rules(listen={"ae_titles": ["SYNTH"], "port": 0, "tls": tls})
    known = ssl.create_default_context(cafile=str(tmp_path / "certificate"))
    bare = ssl.create_default_context(cafile=str(tmp_path / "certificate"))
    known.load_cert_chain(certificate)
    with running(rules) as node:
        assert not associate(node.node.port, tls=(bare, "127.0.0.1")).is_established
        assert not associate(node.node.port).is_established
        assert send(node.node.port, ct_files()[:1], tls=(known, "127.0.0.1")) == [0]


def test_a_node_sends_to_another_over_tls(make_rules, ct_files, certificate, tmp_path):
    tls = {"certificate": certificate, "authority": tmp_path / "certificate"}
    listen = {"ae_titles": ["OTHER"], "port": 0, "tls": tls}
    senders = [{"ae_title": "SYNTH"}]
    other = make_rules(spool=tmp_path / "other", listen=listen, senders=senders)
    with running(other) as second:
        target = {"kind": "dicom", "host": "127.0.0.1", "port": second.node.port}
        receiver = {**target, "ae_title": "OTHER", "tls": tls}
        with running(make_rules(receivers={"other": receiver})) as node:
            send(node.node.port, ct_files())
            [job] = node.wait_for(State.SENDING)
            while not node.node.spool.attempts(job, "other").refusals:
                time.sleep(0.005)
            error = node.node.spool.attempts(job, "other").error
    # It came through, and was refused as what it is.
    assert "refuses 5 of 5 instances" in error and "with status 0xC002" in error
