"""``medtranslate cohort``: what it prints, and its exit codes."""

from __future__ import annotations

import pytest
from distributed import LocalCluster

from medtranslate.cohort import workers


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler whose worker is a thread of this process."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def cohort(command, scheduler, tiny_bundle, tmp_path):
    """Run ``cohort`` on the scans in ``tmp_path / "scans"`` with the tiny bundle."""
    quick = ["--no-cycle", "--no-preview", "--device", "cpu", "--bundle", tiny_bundle]
    return lambda *more: command(
        *("cohort", tmp_path / "scans", "--to", "mri", "-o", tmp_path / "out"),
        *(*quick, "--scheduler", scheduler, *more),
    )


def test_one_line_sums_up_a_cohort_and_one_names_each_failure(
    cohort, save, ct_voxels, tmp_path
) -> None:
    save(ct_voxels, "scans/a.nii.gz")
    (tmp_path / "scans" / "bad.nii").write_bytes(b"no header")
    page, table = (tmp_path / "out" / f"cohort.{end}" for end in ("html", "csv"))

    first, second = cohort(), cohort()

    figures = f"figures: {page}, {table}\n"
    assert first.code == 4 and first.out == f"1 of 2 scans converted, 1 failed; {figures}"
    assert first.err.count("medtranslate: error: ") == 1 and "bad.nii: " in first.err
    assert second.code == 4 and second.err == ""
    assert second.out == f"0 of 2 scans converted, 2 finished before; {figures}"


def test_what_ends_a_cohort_is_one_line(cohort, command, save, ct_voxels, tmp_path, monkeypatch):
    save(ct_voxels, "scans/a.nii.gz")
    monkeypatch.setattr(workers, "_CONNECT_SECONDS", 0.3)
    asked = ["cohort", tmp_path / "scans", "--to", "mri", "-o", tmp_path / "o"]
    (tmp_path / "slurm.yaml").write_text("kind: slurm\njobs: 2\nqueu: fast\n")

    gone = command(*asked, "--scheduler", "tcp://127.0.0.1:9", "--device", "cpu")
    typo = command(*asked, "--cluster", tmp_path / "slurm.yaml")
    both = command(*asked, "--scheduler", "tcp://127.0.0.1:9", "--workers", "2")

    assert gone.code == 17 and "no Dask scheduler answers at tcp://127.0.0.1:9" in gone.err
    assert typo.code == 2 and "queu: no such key (did you mean 'queue'?)" in typo.err
    assert both.code == 2 and "--workers and --memory are for this machine" in both.err
    assert [one.err.count("\n") for one in (gone, typo, both)] == [1, 1, 1]
