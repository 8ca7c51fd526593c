"""Protocols choose files by their lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medtranslate.errors import EvaluationFailed, InputMissing
from medtranslate.evaluation.protocol import CLEAN, PROTOCOLS, PUBLISHED


def test_published_takes_everything(tmp_path: Path) -> None:
    assert PUBLISHED.names(tmp_path, "mri") is None
    assert set(PROTOCOLS) == {"published", "clean"}


def test_clean_takes_the_listed_mri_and_every_ct(tmp_path: Path) -> None:
    (tmp_path / "clean-testB.txt").write_text("testB/a.jpg\n\ntestB/c.jpg\ntrainB/x.jpg\n")
    assert CLEAN.names(tmp_path / "testB", "mri") == ["a.jpg", "c.jpg"]
    assert CLEAN.names(tmp_path / "testA", "ct") is None


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"clean-testB\.txt: protocol 'clean' needs this list"):
        CLEAN.names(tmp_path / "testB", "mri")


def test_a_list_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "clean-testB.txt").write_text("other/a.jpg\n")
    with pytest.raises(EvaluationFailed, match="names no file of the folder testB"):
        CLEAN.names(tmp_path / "testB", "mri")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("testA/a.png", "testA/b.png", "testB/a.jpg", "testB/b.jpg", "testB/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_lists_choose_test_files_by_folder_or_by_bare_name(folders: Path) -> None:
    (folders / "one.txt").write_text("# chosen\ntestA/b.png\n\nc.jpg\n")
    (folders / "two.txt").write_text("data\\testB\\a.jpg\ntrainB/b.jpg\n")
    protocol = replace(PUBLISHED, include=(folders / "one.txt", folders / "two.txt"))
    assert protocol.test_names(folders / "testA", "ct") == ["b.png"]
    assert protocol.test_names(folders / "testB", "mri") == ["a.jpg", "c.jpg"]
    assert protocol.names(folders / "testB", "mri") is None  # a reference is whole
    assert PUBLISHED.test_names(folders / "testA", "ct") is None


def test_lists_choose_among_what_the_protocol_takes(folders: Path) -> None:
    (folders / "clean-testB.txt").write_text("testB/a.jpg\ntestB/b.jpg\n")
    (folders / "one.txt").write_text("testB/b.jpg\ntestB/c.jpg\n")
    (folders / "none.txt").write_text("testB/c.jpg\n")
    protocol = replace(CLEAN, include=(folders / "one.txt",))
    assert protocol.test_names(folders / "testB", "mri") == ["b.jpg"]
    with pytest.raises(EvaluationFailed, match=r"none\.txt: protocol 'clean' takes none"):
        replace(CLEAN, include=(folders / "none.txt",)).test_names(folders / "testB", "mri")


def test_a_list_that_is_missing_or_names_nothing_is_named(folders: Path) -> None:
    missing = replace(PUBLISHED, include=(folders / "no.txt",))
    with pytest.raises(InputMissing, match=r"no\.txt: not readable as a list"):
        missing.test_names(folders / "testA", "ct")
    (folders / "other.txt").write_text("trainA/a.png\n")
    other = replace(PUBLISHED, include=(folders / "other.txt",))
    with pytest.raises(EvaluationFailed, match="names no file of the folder testA"):
        other.test_names(folders / "testA", "ct")


@pytest.mark.data
def test_clean_lists_of_the_papers_set(shared_data: Path) -> None:
    folder = shared_data / "brain-ct-mri"
    assert len(CLEAN.names(folder / "testB", "mri") or []) == 274
    assert len(CLEAN.names(folder / "trainB", "mri") or []) == 1009
