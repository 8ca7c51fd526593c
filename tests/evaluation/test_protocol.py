"""Protocols choose files by their lists."""

from __future__ import annotations

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


@pytest.mark.data
def test_clean_lists_of_the_papers_set(shared_data: Path) -> None:
    folder = shared_data / "brain-ct-mri"
    assert len(CLEAN.names(folder / "testB", "mri") or []) == 274
    assert len(CLEAN.names(folder / "trainB", "mri") or []) == 1009
