"""``medtranslate data render`` and ``data labels``: pairs of CT and MR, and files of label maps."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def labels(tmp_path):
    """A ball of brain in a shell of bone."""
    grid = np.stack(np.meshgrid(*(np.arange(60) - 29.5,) * 3, indexing="ij"))
    away = np.linalg.norm(grid, axis=0)
    voxels = np.select([away < 22, away < 25, away < 28], [2, 515, 507], 0).astype(np.int16)
    path = tmp_path / "labels.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 3.0, 1.0])), path)
    return path


def test_pairs_are_written_with_the_contrast_that_was_asked_for(command, labels, tmp_path) -> None:
    done = command("data", "render", labels, "-o", tmp_path / "out", "-n", 2, "--contrast", "Flair")

    assert done.code == 0, done.err
    assert done.out.strip() == f"2 pairs: {tmp_path / 'out'}"
    with (tmp_path / "out" / "pairs.csv").open(encoding="utf-8") as opened:
        assert [row["contrast"] for row in csv.DictReader(opened)] == ["FLAIR", "FLAIR"]


def test_a_label_map_that_is_not_there_is_exit_code_3(command, tmp_path) -> None:
    done = command("data", "render", tmp_path / "none.nii.gz", "-o", tmp_path / "out")

    assert done.code == 3
    assert done.err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_exit_code_8(command, labels, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()

    assert command("data", "render", labels, "-o", tmp_path / "out").code == 8


def test_a_path_with_brackets_is_shown_as_it_is(command, labels, tmp_path) -> None:
    output = tmp_path / "heads [red]of 3[dim].npz"

    done = command("data", "labels", labels, "-o", output)

    assert done.code == 0, done.err
    assert done.out == f"label maps: 1, {output}\n"
