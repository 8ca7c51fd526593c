"""The rules file: what it says, and what a typo in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medtranslate.errors import DeviceUnusable, InputMissing, InvalidOption
from medtranslate.node import load_rules, rules
from medtranslate.settings_file import parts_of

MINIMAL = """
spool: spool
listen: {ae_titles: [SYNTH, SYNTHCT]}
senders: [{ae_title: CT1}]
receivers:
  pacs: {kind: dicom, host: 10.0.0.2, port: 104, ae_title: PACS}
rules:
  - {name: heads, to: mri, send_to: [pacs]}
"""
RULE = {"name": "a", "to": "mri", "send_to": ["pacs"]}


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(**parts: object) -> str:
    return yaml.safe_dump({**yaml.safe_load(MINIMAL), **parts})


def test_a_minimal_file_listens_on_loopback_and_admits_loopback_alone(tmp_path: Path) -> None:
    loaded = load_rules(write(tmp_path, MINIMAL))

    assert (loaded.listen.host, loaded.listen.port) == ("127.0.0.1", 11112)
    assert loaded.spool == tmp_path / "spool"
    [sender] = loaded.senders
    assert sender.admits("CT1", "127.0.0.1") and sender.admits("CT1", "::ffff:127.0.0.1")
    assert not sender.admits("CT1", "10.0.0.7") and not sender.admits("CT2", "127.0.0.1")
    assert loaded.status is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (changed(sender=[]), "sender: no such key (did you mean 'senders'?)"),
        (
            changed(rules=[{"name": "a", "to": "mri", "sendto": ["pacs"], "send_to": ["pacs"]}]),
            "rules.0.sendto: no such key (did you mean 'send_to'?)",
        ),
        (
            changed(rules=[{"name": "a", "to": "mri", "send_to": ["pac"]}]),
            "rules.0.send_to: no receiver 'pac' (did you mean 'pacs'?)",
        ),
        (
            changed(rules=[{"name": "a", "to": "pet", "send_to": ["pacs"]}]),
            "rules.0.to: modality must be one of ct, mri (or CT, MR), got 'pet'",
        ),
        (
            changed(rules=[{**RULE, "contrast": "T3"}]),
            "rules.0: contrast must be one of t1, t1c, t2, flair, pd, got 't3'",
        ),
        (
            changed(rules=[{**RULE, "when": {"called": "X"}}]),
            "rules.0.when.called: input should be a valid list, not 'X'",
        ),
        (
            changed(
                rules=[
                    {
                        "name": "a",
                        "to": "mri",
                        "send_to": ["pacs"],
                        "when": {"called": ["SYNTHCTS"]},
                    }
                ]
            ),
            "rules.0.when.called: the node does not listen as 'SYNTHCTS' (did you mean 'SYNTHCT'?)",
        ),
        (
            changed(
                rules=[{"name": "a", "to": "mri", "send_to": ["pacs"], "when": {"modality": "MR"}}]
            ),
            "rules.0: when.modality MR cannot be converted to mri",
        ),
        (
            changed(
                rules=[
                    {"name": "a", "to": "mri", "send_to": ["pacs"], "when": {"description": "("}}
                ]
            ),
            "rules.0.when.description: is no regular expression: missing ), unterminated subpattern"
            " at position 0",
        ),
        (
            changed(receivers={"pacs": {"kind": "dicom", "host": "x", "prt": 1, "ae_title": "P"}}),
            "receivers.pacs.port is missing; receivers.pacs.prt: no such key"
            " (did you mean 'port'?)",
        ),
        (
            changed(senders=[{"ae_title": "CT1", "hosts": ["10.0.0.300"]}]),
            "senders.0.hosts.0: '10.0.0.300' does not appear to be an IPv4 or IPv6 network",
        ),
        (changed(senders=[]), "senders: list should have at least 1 item after validation, not 0"),
        (
            changed(listen={"ae_titles": ["A" * 17]}),
            "listen.ae_titles.0: an AE title is 1 to 16 printable ASCII characters without a"
            " backslash",
        ),
        (
            changed(listen={"ae_titles": ["SYNTH", "SYNTHCT"], "tls": {"certificate": "no.pem"}}),
            "listen.tls.certificate: there is no file {folder}/no.pem",
        ),
        ("spool: [", "not readable as YAML: while parsing a flow node"),
        (f"{MINIMAL}spool: again\n", "the key 'spool' is there twice"),
    ],
)
def test_a_typo_is_one_line_that_names_the_key(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        load_rules(write(tmp_path, text))

    assert fault.format(folder=tmp_path) in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'node.yaml'}: ")
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_the_engine_is_named_in_any_case_and_fits_the_device(tmp_path: Path) -> None:
    text = changed(model={"engine": "OpenVINO"})
    assert load_rules(write(tmp_path, text)).model.engine == "openvino"
    with pytest.raises(DeviceUnusable, match="not on 'cuda'"):
        load_rules(write(tmp_path, changed(model={"engine": "openvino", "device": "cuda"})))
    with pytest.raises(InvalidOption, match="engine must be one of torch, openvino"):
        load_rules(write(tmp_path, changed(model={"engine": "onnx"})))


def test_a_missing_file_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        load_rules(tmp_path / "node.yaml")


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    when = {"body_part": ["Head", "BRAIN"], "description": "(?i)angio", "called": ["SYNTH"]}
    loaded = load_rules(
        write(
            tmp_path,
            changed(
                rules=[
                    {"name": "angio", "to": "mri", "send_to": ["pacs"], "when": when},
                    {"name": "any", "to": "MR", "send_to": ["pacs"]},
                    {"name": "back", "to": "ct", "send_to": ["pacs"], "when": {"calling": ["M1"]}},
                ]
            ),
        )
    )

    def matched(**changes: str) -> str:
        series = {
            "modality": "CT",
            "body_part": "HEAD ",
            "description": "CT Angio",
            "called": "SYNTH",
            "calling": "CT1",
        }
        rule = loaded.match(**(series | changes))
        return rule.name if rule else ""

    assert matched() == "angio"
    assert matched(called="SYNTHCT") == "any"
    assert matched(description="plain") == "any"
    assert matched(body_part="") == "any"
    assert matched(modality="MR") == ""
    assert matched(modality="MR", calling="M1") == "back"


def test_every_key_is_in_the_reference() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "node-rules.md"
    text = page.read_text(encoding="utf-8")
    keys = {key for part in parts_of(rules.NodeRules) for key in part.model_fields}

    assert {key for key in keys if f"`{key}`" not in text} == set()
