"""``medtranslate node``: check, run --once, list, retry and release."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from node.conftest import INFO

from medtranslate.node import NodeRules, Spool, State, load_rules
from medtranslate.node.jobs import InstanceInfo


@pytest.fixture
def rules(tmp_path: Path, tiny_bundle: Path) -> Path:
    """Write a rules file whose results go into a folder."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "node.yaml"
    values = {
        "spool": "spool",
        "listen": {"ae_titles": ["SYNTH"]},
        "senders": [{"ae_title": "CT1"}],
        "receivers": {"files": {"kind": "folder", "path": "out"}},
        "rules": [{"name": "heads", "to": "mri", "send_to": ["files"]}],
        "limits": {"free_gb": 0},
        "model": {"bundle": str(tiny_bundle), "device": "cpu"},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def fill(rules: Path, files: list[Path]) -> NodeRules:
    """Receive files into the spool of a rules file."""
    loaded = load_rules(rules)
    spool = Spool(loaded.spool, loaded.limits)
    spool.open()
    for number, one in enumerate(files):
        info = InstanceInfo(**{**vars(INFO), "called": "SYNTH", "instance": f"1.2.3.{number}"})
        spool.store(info, one.read_bytes(), "heads")
    spool.close()
    return loaded


def test_check_says_what_a_rules_file_says(command, rules):
    done = command("node", "check", rules)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "listens as SYNTH on 127.0.0.1:11112",
        "takes from CT1 at 127.0.0.1, ::1",
        "rule 'heads': CT to mri, sent to files",
    ]


def test_a_typo_ends_in_one_line_and_code_2(command, rules):
    rules.write_text(rules.read_text().replace("senders:", "sender:"))
    done = command("node", "run", rules)
    assert done.code == 2
    assert done.err.count("\n") == 1 and "did you mean 'senders'?" in done.err


def test_the_example_of_the_documentation_is_a_rules_file():
    example = Path(__file__).resolve().parents[2] / "docs" / "examples" / "node.yaml"
    assert [rule.to for rule in load_rules(example).rules] == ["mri", "ct"]


def test_once_converts_and_sends_what_the_spool_holds(command, rules, ct_series, tmp_path):
    fill(rules, sorted(ct_series.iterdir()))
    done = command("node", "run", rules, "--once")
    assert done.code == 0, done.err
    [series] = (tmp_path / "out").iterdir()
    assert len(list(series.iterdir())) == 5
    assert "sent to files: 5 instances" in done.err
    assert command("node", "list", rules).out == ""
    assert command("node", "list", rules, "--all").out == "sent       1.2.3@SYNTH.1\n"


def test_what_goes_into_quarantine_is_listed_and_retried(command, rules, ct_series):
    fill(rules, sorted(ct_series.iterdir())[:1])
    assert command("node", "run", rules, "--once", "--quiet").code == 5
    listed = command("node", "list", rules).out
    assert listed.startswith("quarantine 1.2.3@SYNTH.1: ")
    done = command("node", "release", rules, "1.2.3@SYNTH.1")
    assert done.code == 2 and "has no result to send (retry it)" in done.err
    assert command("node", "retry", rules, "1.2.3@SYNTH.1").code == 0
    assert command("node", "list", rules).out == "quiet      1.2.3@SYNTH.1\n"
    done = command("node", "retry", rules, "1.2.3@SYNTH.2")
    assert done.code == 3 and "has no job '1.2.3@SYNTH.2'" in done.err


def test_a_result_that_cannot_be_sent_stays_in_the_spool(command, rules, ct_series, tmp_path):
    loaded = fill(rules, sorted(ct_series.iterdir()))
    (tmp_path / "out").rmdir()
    done = command("node", "run", rules, "--once")
    assert done.code == 9 and "there is no folder" in done.err
    (tmp_path / "out").mkdir()
    assert command("node", "run", rules, "--once").code == 0
    assert len(Spool(loaded.spool).jobs(State.SENT)) == 1
