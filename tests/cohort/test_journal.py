"""The journal: what is finished stays finished, and what is not in it is not done."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.cohort import Entry, Journal
from medtranslate.cohort.journal import ScanState
from medtranslate.errors import CohortFailed, InvalidOption
from medtranslate.text import plain


def failed(kind: str) -> Entry:
    report = {"error": {"kind": kind, "exit_code": 4, "message": "m"}}
    return Entry("a", "a_mri", ScanState.FAILED, report=report)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal")


@given(
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    state=st.sampled_from(ScanState),
    attempts=st.integers(0, 5),
)
def test_an_entry_is_read_as_it_was_written(
    folder: Path, name: str, state: ScanState, attempts: int
) -> None:
    journal = Journal(folder)
    journal.open({})
    name = plain(name)
    entry = Entry(f"/{name}#uid", name, state, attempts, "worker", {"error": None})

    journal.write(entry)

    assert journal.read(entry.scan) == entry
    assert entry in journal.entries()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "later"}', b'{"new": 1}'])
def test_a_damaged_entry_is_a_scan_that_is_not_done(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    journal.open({})
    journal.write(Entry("a", "a_mri", ScanState.CONVERTED))
    (file,) = (tmp_path / ".cohort" / "scans").iterdir()

    file.write_bytes(content)

    assert journal.read("a") is None and journal.entries() == []


def test_a_failure_of_the_installation_is_not_final() -> None:
    assert failed("Unreadable").finished and failed("WorkerKilled").finished
    assert not failed("ModelUnusable").finished and not failed("OutputFailed").finished
    assert (
        Entry("a", "a_mri", ScanState.CONVERTED).finished
        and not Entry("a", "a_mri", ScanState.BEGUN).finished
    )


def test_results_of_other_settings_are_refused_and_overwriting_begins_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open({"to": "mri", "model": {"mri": "1"}})
    journal.write(Entry("a", "a_mri", ScanState.CONVERTED))
    journal.open({"to": "mri", "model": {"mri": "1"}})

    with pytest.raises(InvalidOption, match="was converted with another to, model"):
        journal.open({"to": "ct", "model": {"mri": "2"}})

    assert journal.read("a") is not None
    journal.open({"to": "mri", "model": {"mri": "1"}, "grain": 0.0})  # as it was without the option
    with pytest.raises(InvalidOption, match="was converted with another grain"):
        journal.open({"to": "mri", "model": {"mri": "1"}, "grain": 4.0})
    journal.open({"to": "ct"}, overwrite=True)
    assert journal.read("a") == Entry("a", "a_mri", ScanState.BEGUN)


def test_two_calls_do_not_work_on_one_cohort(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    with (
        journal.locked(),
        pytest.raises(CohortFailed, match="by another call"),
        Journal(tmp_path).locked(),
    ):
        pass
    with journal.locked("-1of2"), journal.locked("-2of2"):
        pass
