"""The node from C-STORE to C-STORE, on loopback, in this process."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from node.conftest import associate, running, send

from medtranslate.errors import NodeFailed
from medtranslate.node import Node, Spool, State
from medtranslate.node.receiver import Server

REFUSED = 0xA700


def uids(files):
    return {pydicom.dcmread(one).SOPInstanceUID for one in files}


def test_a_series_comes_back_as_a_derived_series_of_its_study(make_rules, ct_files, archive):
    files = ct_files()
    with running(make_rules(receivers={"pacs": archive.receiver})) as node:
        assert send(node.node.port, files) == [0] * 5
        [job] = node.wait_for(State.SENT)
    source = [pydicom.dcmread(one) for one in files]
    assert len(archive.got) == 5
    assert {one.StudyInstanceUID for one in archive.got} == {source[0].StudyInstanceUID}
    assert {one.Modality for one in archive.got} == {"MR"}
    assert {one.SyntheticData for one in archive.got} == {"YES"}
    referenced = {one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in archive.got}
    assert referenced == {one.SOPInstanceUID for one in source}
    assert set(job.record.results) == {one.SOPInstanceUID for one in archive.got}
    assert not job.source.exists() and not job.results.exists()


def test_map_and_figures_go_along_if_a_rule_says_so(make_rules, ct_files, archive):
    rule = {"name": "heads", "to": "mri", "send_to": ["pacs"], "map": True}
    rules = make_rules(receivers={"pacs": archive.receiver}, rules=[rule])
    with running(rules) as node:
        send(node.node.port, ct_files())
        [job] = node.wait_for(State.SENT)
    names = Counter(one.SOPClassUID.name for one in archive.got)
    assert names == {
        "MR Image Storage": 5,
        "Parametric Map Storage": 1,
        "Enhanced SR Storage": 1,
    }
    assert len(set(job.record.results)) == 7


def test_a_listed_sender_is_answered_an_echo(make_rules):
    with running(make_rules()) as node:
        association = associate(node.node.port)
        assert association.send_c_echo().Status == 0
        association.release()


@pytest.mark.parametrize(
    ("titles", "source", "diagnostic"),
    [
        ({"calling": "STRANGER"}, "127.0.0.1", 3),
        ({"called": "OTHER"}, "127.0.0.1", 7),
        ({}, "10.0.0.0/8", 3),
    ],
    ids=["by a title that is not listed", "to another title", "from an address that is not listed"],
)
def test_an_association_is_rejected(make_rules, caplog, titles, source, diagnostic):
    rules = make_rules(senders=[{"ae_title": "CT1", "hosts": [source]}])
    with running(rules) as node, caplog.at_level("WARNING", "medtranslate.node"):
        association = associate(node.node.port, **titles)
        assert association.is_rejected
        assert association.acceptor.primitive.diagnostic == diagnostic
        assert not any(node.node.spool.counts().values())
    assert [one.message for one in caplog.records if one.message.startswith("rejected: ")]


def test_a_request_that_cannot_be_judged_is_rejected(make_rules, monkeypatch):
    def broken(*_):
        raise ValueError("no address")

    monkeypatch.setattr("medtranslate.node.rules.Sender.admits", broken)
    with running(make_rules()) as node:
        assert associate(node.node.port).is_rejected


def test_a_node_survives_what_it_did_not_expect(make_rules, ct_files, monkeypatch, caplog):
    moved, broken = Spool.move, []

    def move(self, job, state, **changes):
        if len(broken) < 2:
            broken.append(job)
            raise OSError("No space left on device")
        return moved(self, job, state, **changes)

    monkeypatch.setattr(Spool, "move", move)
    with running(make_rules()) as node:
        send(node.node.port, ct_files())
        node.wait_for(State.SENT)
    assert "No space left on device" in caplog.text


def test_nobody_else_reads_the_spool(make_rules):
    with Node(make_rules()) as node:
        assert node.spool.folder.stat().st_mode & 0o077 == 0


def test_the_same_series_sent_again_is_converted_and_sent_once(make_rules, ct_files, archive):
    files = ct_files()
    with running(make_rules(receivers={"pacs": archive.receiver})) as node:
        send(node.node.port, files)
        node.wait_for(State.SENT)
        assert send(node.node.port, files) == [0] * 5
        time.sleep(0.1)
        while node.node.spool.counts()[State.RECEIVED]:
            time.sleep(0.005)
        counts = node.node.spool.counts()
    assert len(archive.got) == 5
    assert {state: n for state, n in counts.items() if n} == {State.SENT: 1}


def test_instances_that_come_too_late_are_put_aside_until_the_whole_series_comes(
    make_rules, ct_files, tmp_path
):
    files = ct_files()
    with running(make_rules()) as node:
        send(node.node.port, files[:4])
        node.wait_for(State.SENT)
        send(node.node.port, files[4:])
        [late] = node.wait_for(State.QUARANTINE)
        assert late.record.reason.startswith("1 instances came after the series was converted")
        assert uids(late.source.iterdir()) == uids(files[4:])
        send(node.node.port, files)
        node.wait_for(State.SENT, 2)
        assert node.node.spool.counts()[State.QUARANTINE] == 0
    assert sorted(len(list(one.iterdir())) for one in (tmp_path / "out").iterdir()) == [4, 5]


def cut_off(node, files):
    """Send some of a series, and break the association off; return its job."""
    association = associate(node.node.port)
    for one in files:
        association.send_c_store(pydicom.dcmread(one))
    association.abort()
    [job] = node.node.spool.jobs(State.RECEIVED)
    return job


def test_a_series_whose_association_is_cut_off_waits_to_be_sent_again(make_rules, ct_files):
    files = ct_files()
    with running(make_rules(quiet={"seconds": 0, "half_sent_seconds": 60})) as node:
        job = cut_off(node, files[:2])
        assert job.half_sent
        assert send(node.node.port, files) == [0] * 5
        [sent] = node.wait_for(State.SENT)
    assert len(sent.record.instances) == 5


def test_a_series_that_stays_half_sent_goes_into_quarantine(make_rules, ct_files):
    files = ct_files()
    with running(make_rules(quiet={"seconds": 0, "half_sent_seconds": 60})) as node:
        job = cut_off(node, files[:2])
        while node.node._sending(job):
            time.sleep(0.005)
        os.utime(job.source, (0, 0))
        [job] = node.wait_for(State.QUARANTINE)
    assert job.record.reason.startswith("half-sent: its association was cut off after 2 instances")
    assert (job.folder / "reason.txt").read_text().strip() == job.record.reason
    assert uids(job.source.iterdir()) == uids(files[:2])


def test_a_series_that_never_goes_quiet_goes_into_quarantine(make_rules, ct_files):
    rules = make_rules(quiet={"seconds": 60, "longest_seconds": 0.05})
    with running(rules) as node:
        send(node.node.port, ct_files()[:1])
        [job] = node.wait_for(State.QUARANTINE)
    assert job.record.reason == "it was not quiet within 0.05 seconds of its first instance"


def test_a_series_waits_for_the_others_of_its_study(make_rules, ct_files):
    rules = make_rules(quiet={"seconds": 30, "wait_for": "study"})
    with running(rules) as node:
        send(node.node.port, ct_files(1))
        send(node.node.port, ct_files(2))
        first, second = node.node.spool.jobs(State.RECEIVED)
        os.utime(first.source, (0, 0))
        time.sleep(0.05)
        assert node.node.spool.counts()[State.RECEIVED] == 2
        os.utime(second.source, (0, 0))
        node.wait_for(State.SENT, 2)


def test_a_receiver_that_is_down_gets_everything_once_it_is_up(make_rules, ct_files, archive):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = {**archive.receiver, "port": free.getsockname()[1]}
    rules = make_rules(receivers={"pacs": down})
    with Node(rules) as node:
        receive(node, ct_files())
        assert node.run_once() == 9
        [job] = node.spool.jobs(State.SENDING)
        attempts = node.spool.attempts(job, "pacs")
        assert attempts.failures == 1 and "cannot be reached" in attempts.error
    with Node(make_rules(receivers={"pacs": archive.receiver})) as node:
        assert node.run_once() == 0
        assert node.spool.counts()[State.SENT] == 1
    assert len(archive.got) == 5


def test_a_receiver_that_drops_out_after_half_gets_the_rest_only(make_rules, ct_files, archive):
    dropped = []

    def answer(number, event):
        if number == 2 and not dropped:
            dropped.append(number)
            event.assoc.abort()
            return REFUSED
        return 0

    archive.answer = answer
    with running(make_rules(receivers={"pacs": archive.receiver})) as node:
        send(node.node.port, ct_files())
        node.wait_for(State.SENT)
    got = [one.SOPInstanceUID for one in archive.got]
    assert dropped and len(got) == len(set(got)) == 5


def test_a_result_that_a_receiver_refuses_goes_into_quarantine_and_can_be_released(
    make_rules, ct_files, archive
):
    archive.answer = lambda number, event: 0xA900
    rules = make_rules(
        receivers={"pacs": archive.receiver}, retry={"first_seconds": 0.01, "refusals": 2}
    )
    with running(rules) as node:
        send(node.node.port, ct_files())
        [job] = node.wait_for(State.QUARANTINE)
        assert "refuses 5 of 5 instances" in job.record.reason
        assert "with status 0xA900, 2 attempts" in job.record.reason
        archive.answer = lambda number, event: 0
        node.node.spool.release(job.name)
        node.wait_for(State.SENT)
    assert len(archive.got) == 5


def test_a_receiver_that_is_down_holds_up_no_other(make_rules, ct_files, archive, tmp_path):
    receivers = {
        "pacs": {**archive.receiver, "port": 1},
        "files": {"kind": "folder", "path": tmp_path / "out"},
    }
    with running(make_rules(receivers=receivers)) as node:
        send(node.node.port, ct_files())
        [job] = node.wait_for(State.SENDING)
        while not node.node.spool.attempts(job, "files").done:
            time.sleep(0.005)
    assert [len(list(one.iterdir())) for one in (tmp_path / "out").iterdir()] == [5]


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"spool_gb": 1e-9}, "the spool holds 1e-09 GB"),
        ({"instance_mb": 0.001}, "more than 0.001 MB"),
        ({"free_gb": 1e9}, "are free on the spool's disk"),
        ({"series_instances": 2, "free_gb": 0}, "more than 2 instances"),
        ({"spool_series": 1, "free_gb": 0}, "the spool holds 1 series"),
    ],
)
def test_a_full_spool_tells_the_sender_so(make_rules, ct_files, caplog, limits, fault):
    rules = make_rules(limits=limits, quiet={"seconds": 60})
    with running(rules) as node, caplog.at_level("WARNING", "medtranslate.node"):
        statuses = send(node.node.port, [*ct_files(1)[:3], *ct_files(2)[:1]])
        held = node.node.spool.jobs(State.RECEIVED)
        kept = sum(len(list(job.source.iterdir())) for job in held)
    assert REFUSED in statuses and set(statuses) <= {0, REFUSED}
    assert kept == statuses.count(0)
    assert fault in caplog.text


@pytest.mark.parametrize(("unmatched", "status"), [("refuse", 0xC001), ("discard", 0)])
def test_what_no_rule_takes_is_refused_or_discarded(make_rules, ct_files, unmatched, status):
    rule = {"name": "legs", "to": "mri", "send_to": ["files"], "when": {"body_part": ["LEG"]}}
    with running(make_rules(rules=[rule], unmatched=unmatched)) as node:
        assert send(node.node.port, ct_files()[:1]) == [status]
        assert node.node.spool.counts()[State.RECEIVED] == 0


def test_a_synthetic_series_that_comes_back_is_refused(make_rules, ct_files):
    with running(make_rules()) as node:
        assert send(node.node.port, ct_files(SyntheticData="YES")[:1]) == [0xC002]


def test_another_instance_with_a_uid_that_is_there_is_refused(make_rules, ct_files):
    files = ct_files()
    other = pydicom.dcmread(files[0])
    other.WindowCenter = "1"
    other.save_as(files[1])
    with running(make_rules(quiet={"seconds": 60})) as node:
        assert send(node.node.port, [files[0], files[0], files[1]]) == [0, 0, 0xC000]


def test_a_series_that_cannot_be_converted_goes_into_quarantine_with_the_reason(
    make_rules, ct_files
):
    with running(make_rules()) as node:
        send(node.node.port, ct_files(PixelSpacing=None))
        [job] = node.wait_for(State.QUARANTINE)
        assert "PixelSpacing" in job.record.reason
        assert job.record.exit_code in (4, 5)
        assert len(list(job.source.iterdir())) == 5
        node.node.spool.retry(job.name)
        again = node.wait_for(State.QUARANTINE)[0]
    assert again.record.attempts == 1


def test_a_verdict_holds_a_result_back_until_it_is_released(make_rules, ct_files, archive):
    rule = {"name": "strict", "to": "mri", "send_to": ["pacs"], "hold_if": {"cycle_error": 1e-6}}
    rules = make_rules(receivers={"pacs": archive.receiver}, rules=[rule])
    with running(rules) as node:
        send(node.node.port, ct_files())
        [job] = node.wait_for(State.QUARANTINE)
        assert job.record.held and "more than 1e-06" in job.record.reason
        assert (job.folder / "report.json").is_file() and not archive.got
        # The same series again does not go round the verdict.
        send(node.node.port, ct_files())
        time.sleep(0.1)
        assert node.node.spool.counts()[State.QUARANTINE] == 1 and not archive.got
        node.node.spool.release(job.name)
        node.wait_for(State.SENT)
    assert len(archive.got) == 5


def test_a_model_that_cannot_be_used_keeps_series_waiting(make_rules, ct_files, tmp_path):
    rules = make_rules(model={"bundle": tmp_path / "gone", "device": "cpu"})
    with running(rules) as node:
        send(node.node.port, ct_files())
        node.wait_for(State.QUIET)
        while not node.node._unusable:
            time.sleep(0.005)
    [job] = node.node.spool.jobs()
    assert (job.state, job.record.attempts) == (State.QUIET, 0)
    with Node(make_rules()) as node:
        assert node.run_once() == 0


def test_a_series_that_kills_the_node_again_and_again_goes_into_quarantine(make_rules, ct_files):
    rules = make_rules(limits={"conversions": 2, "free_gb": 0})
    with Node(rules) as node:
        receive(node, ct_files())
    for _ in range(2):
        with Node(rules) as node:
            for job in node.spool.jobs(State.RECEIVED):
                node._settle(job)
            node.spool.begin(node.spool.jobs(State.QUIET)[0])  # and the power fails
    with Node(rules) as node:
        assert node.run_once() == 1
        [job] = node.spool.jobs(State.QUARANTINE)
    assert job.record.reason == "the node died 2 times while converting it"


def test_two_nodes_cannot_share_a_spool(make_rules):
    with Node(make_rules()), pytest.raises(NodeFailed, match="in use by another node"):
        Node(make_rules()).__enter__()


def test_a_port_that_is_taken_is_one_line(make_rules):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = {"ae_titles": ["SYNTH"], "port": taken.getsockname()[1]}
        with (
            Node(make_rules(listen=listen)) as node,
            pytest.raises(NodeFailed, match=r"cannot listen on 127\.0\.0\.1:"),
        ):
            node.run()


def receive(node: Node, files: list[Path]) -> None:
    """Receive files into a node's spool without converting them."""
    server = Server(node.rules, node.spool)
    assert send(server.port, files) == [0] * len(files)
    server.close()
