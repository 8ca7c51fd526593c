"""Damaged files end in the right volume or a named error: failures of old again, and new damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .harness import RIGHT, fuzzer, run
from .seeds import seeds

FAILURES = Path(__file__).with_name("failures.jsonl")


def test_damaged_copies_are_right_or_named(request: pytest.FixtureRequest) -> None:
    ends, failures = run(10**9, request.config.getoption("--fuzz-seconds"), start=0)
    assert failures == [], ends
    assert ends["named"] and ends["right"]


def test_what_failed_once_is_right_or_named() -> None:
    made = {seed.name: seed for seed in seeds()}
    failures = [json.loads(line) for line in FAILURES.read_text(encoding="utf-8").splitlines()]
    with fuzzer() as one:
        for failure in failures:
            edits = [(at, taken, bytes.fromhex(put)) for at, taken, put in failure["edits"]]
            assert one.judge(made[failure["seed"]], edits).end in RIGHT, failure
