"""The conformance page says what the program does: each rule, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medtranslate.imaging.dicom.attributes import RULES

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "reference" / "dicom-conformance.md"


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text()


def test_every_rule_stands_on_the_page_and_no_other(page):
    rows = re.findall(r"^\| (\w+) \| (\dC?) \| (C?[\d.]+) \| ([\w ]+) \| (.+) \|$", page, re.M)
    told = {(keyword, kind, section, targets) for keyword, kind, section, targets, _ in rows}
    ruled = {(r.keyword, r.kind, r.section, " and ".join(r.targets)) for r in RULES}
    assert told == ruled
    constants = {r.keyword: r.value for r in RULES if r.origin == "constant" and len(r.targets) > 1}
    for keyword, _, _, _, value in rows:
        if keyword in constants:
            assert value == f"`{constants[keyword]}`"


def test_every_test_named_on_the_page_exists(page):
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert named and named <= there
