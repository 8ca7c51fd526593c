"""docs/reference/exit-codes.md says what medtranslate.errors does."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from medtranslate import errors
from medtranslate.errors import InvalidOption, MedTranslateError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "exit-codes.md"
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MedTranslateError)
]


def documented() -> dict[str, tuple[int, str]]:
    """Read the page's table: for each class its code and meaning."""
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return {name: (int(code), meaning) for code, name, meaning in rows}


def test_the_page_lists_every_error_with_its_code_and_meaning() -> None:
    told = documented()
    done = {kind.__name__: kind.exit_code for kind in KINDS}
    meanings = {
        kind.__name__: (kind.__doc__ or "").splitlines()[0]
        for kind in KINDS
        if kind is not MedTranslateError
    }

    assert {name: code for name, (code, _) in told.items()} == done
    assert {name: text for name, (_, text) in told.items() if name in meanings} == meanings


def test_no_two_errors_share_a_code_and_none_takes_a_reserved_one() -> None:
    codes = [kind.exit_code for kind in KINDS]

    assert len(set(codes)) == len(codes)
    assert InvalidOption.exit_code == 2  # as of a wrong command line
    assert 0 not in codes
    assert max(codes) < 126  # from there on the shell's own: not executable, not found, signals


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_one_line_and_survives_a_worker_process(kind: type[MedTranslateError]) -> None:
    error = kind("is empty", path="scan.nii", remedy="choose another file")

    back = pickle.loads(pickle.dumps(error))

    assert str(error) == "scan.nii: is empty (choose another file)"
    assert type(back) is kind
    assert (back.fault, back.path, back.remedy) == (error.fault, error.path, error.remedy)
    assert back.exit_code == kind.exit_code
