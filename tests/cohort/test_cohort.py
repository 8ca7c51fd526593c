"""A cohort: every scan once, whatever happens on the way."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import dask
import pyarrow.parquet as pq
import pytest
from distributed import LocalCluster

from medtranslate import convert_many
from medtranslate.cohort import Entry, Journal, Workers, run
from medtranslate.cohort.journal import ScanState
from medtranslate.cohort.summary import row
from medtranslate.cohort.workers import Task, convert_task
from medtranslate.errors import (
    AmbiguousInput,
    CohortFailed,
    InputMissing,
    InvalidOption,
    ModelUnusable,
    OutputFailed,
    SomeFailed,
    Unreadable,
    WorkerKilled,
)

QUICK = {"cycle": False, "preview": False}


KILLER = """
import os
from medtranslate.cohort import workers
from medtranslate import errors
from medtranslate.conversion import Conversion

def kill(task, **options):
    if task.result == "a_mri.nii.gz":
        os.kill(os.getpid(), 9)
    (job,) = task.batch.jobs
    fault = errors.Unreadable("is not read here: that would import torch, which takes seconds")
    return Conversion(task.batch.given[0], job.item.path, error=fault)

workers._converted = kill
"""


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no worker be asked for anything."""
    monkeypatch.setattr(Workers, "connected", lambda *_: pytest.fail("workers were asked for"))


def states(cohort) -> dict[str, str]:
    return {entry.result: str(entry.state) for entry in cohort.entries}


def mtimes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}


def test_a_cohort_has_the_results_of_convert_a_table_and_a_page(
    cohort, scans, tmp_path, tiny_bundle
) -> None:
    # In bfloat16, threads of one process (as workers are here) differ in the last digits.
    exact = {"device": "cpu", "precision": "float32"}
    done = cohort(scans, **exact)
    whole = list(
        convert_many(scans, to="mri", bundle=tiny_bundle, output=tmp_path / "ref", **exact)
    )

    assert (done.converted, done.failed, done.finished) == (2, 1, 0)
    assert done.exit_code == Unreadable.exit_code
    results = [one.output.relative_to(tmp_path / "ref") for one in whole if one.output]
    assert [str(one) for one in results] == ["a_mri.nii.gz", "more/b_mri.nii.gz"]
    for one in results:
        assert (tmp_path / "out" / one).read_bytes() == (tmp_path / "ref" / one).read_bytes()
        preview = one.with_name(one.name.replace(".nii.gz", "_preview.png"))
        assert (tmp_path / "out" / preview).is_file()

    with done.written.csv.open(newline="", encoding="utf-8") as file:
        rows = {Path(one["scan"]).name: one for one in csv.DictReader(file)}
    shares = {
        one.path.name: one.checks["cycle_error"]["share_of_range"] for one in whole if not one.error
    }
    assert rows.keys() == {"a.nii.gz", "b.nii.gz", "bad.nii"}
    for name, share in shares.items():
        assert float(rows[name]["cycle_error_share"]) == pytest.approx(share, rel=1e-6)
        assert rows[name]["status"] == "converted" and rows[name]["attempts"] == "1"
    assert rows["bad.nii"]["status"] == "failed" and rows["bad.nii"]["exit_code"] == "4"
    table = pq.read_table(done.written.parquet).to_pylist()
    assert [row["scan"] for row in table] == [row["scan"] for row in rows.values()]
    assert {type(row["cycle_error_share"]) for row in table} == {float, type(None)}
    (entry, *_) = (entry for entry in done.entries if entry.state is ScanState.CONVERTED)
    made = entry.report["synthesis"] | {"source_contrast": "t2"}  # as of an MRI
    assert row(replace(entry, report=entry.report | {"synthesis": made}))["source_contrast"] == "t2"

    page = done.written.page.read_text(encoding="utf-8")
    assert "2 of 3 scans converted" in page and "Unreadable" in page
    assert page.count("bad.nii") == 1
    assert page.count("data:image/png") == 2 and "http" not in page.replace("http-equiv", "")


def test_an_anonymous_cohort_names_no_file_folder_series_or_worker(
    cohort, scans, two_series, tmp_path
) -> None:
    (tmp_path / "Smith").mkdir()
    scans.rename(tmp_path / "Smith" / "John")
    two_series.rename(tmp_path / "Smith" / "Smith^Mary")

    done = cohort(tmp_path / "Smith", cycle=False, anonymous=True)

    with done.written.csv.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(done.written.parquet).to_pylist()
    page = done.written.page.read_text(encoding="utf-8")
    uids = {entry.scan.partition("#")[2] for entry in done.entries} - {""}
    assert len(uids) == 2
    assert [row["scan"] for row in rows] == [f"scan {n}" for n in range(1, 6)]
    assert [row["scan"] for row in table] == [row["scan"] for row in rows]
    assert [row["status"] for row in rows].count("converted") == 3
    for text in (done.written.csv.read_text(encoding="utf-8"), str(table), page):
        assert [one for one in ("Smith", "John", ".nii", "tcp:", *uids) if one in text] == []
    assert Unreadable.__doc__.partition("\n")[0] in page
    assert page.count("data:image/png") == 3  # of the results, which keep their names

    again = cohort(tmp_path / "Smith", cycle=False)  # the journal knows the names

    assert (again.converted, again.finished) == (0, 5)
    assert "Smith^Mary" in again.written.csv.read_text(encoding="utf-8")


def test_a_second_call_does_nothing_for_what_is_finished(cohort, scans, tmp_path, request) -> None:
    cohort(scans, **QUICK)
    before = mtimes(tmp_path / "out")
    request.getfixturevalue("no_workers")

    again = cohort(scans, **QUICK)

    assert (again.converted, again.failed, again.finished) == (0, 0, 3)
    assert again.exit_code == Unreadable.exit_code
    assert mtimes(tmp_path / "out") == before


def test_what_is_new_missing_or_mended_is_converted_alone(
    cohort, scans, save, ct_voxels, tmp_path
) -> None:
    cohort(scans, **QUICK)
    (tmp_path / "out" / "a_mri.nii.gz").unlink()
    save(ct_voxels, "scans/new.nii.gz")
    save(ct_voxels, "scans/bad.nii")

    second = cohort(scans, **QUICK)

    assert (second.converted, second.failed, second.finished) == (3, 0, 1)
    assert second.exit_code == 0 and set(states(second).values()) == {"converted"}
    assert len(second.entries) == 4  # one of them was another result when it failed


def test_what_failed_is_tried_again_on_request(cohort, scans) -> None:
    cohort(scans, **QUICK)

    again, retried = cohort(scans, **QUICK), cohort(scans, **QUICK, retry_failed=True)

    assert (again.failed, again.finished) == (0, 3)
    assert (retried.failed, retried.finished) == (1, 2)


def test_a_scan_that_was_begun_is_converted_again_and_nothing_else_is_replaced(
    cohort, scans, tmp_path
) -> None:
    out = tmp_path / "out"
    (out / "more").mkdir(parents=True)
    (out / "a_mri.nii.gz").write_bytes(b"written just before the kill")
    (out / "more" / "b_mri.nii.gz").write_bytes(b"of somebody else")
    journal = Journal(out)
    (out / ".cohort" / "scans").mkdir(parents=True)
    journal.write(Entry(f"{scans}/a.nii.gz#", "a_mri.nii.gz", ScanState.BEGUN, attempts=2))

    done = cohort(scans, **QUICK)

    assert states(done)["a_mri.nii.gz"] == "converted"
    assert (out / "a_mri.nii.gz").stat().st_size > 100
    assert (out / "more" / "b_mri.nii.gz").read_bytes() == b"of somebody else"
    assert states(done)["more/b_mri.nii.gz"] == "failed"
    assert done.exit_code == SomeFailed.exit_code
    assert cohort(scans, **QUICK, skip_existing=True).skipped == 1


def test_a_scan_that_ended_two_workers_is_reported_without_a_third(
    cohort, scans, tmp_path, monkeypatch
) -> None:
    tasks = []
    monkeypatch.setattr(run, "_collected", lambda client, given: tasks.extend(given) or iter(()))
    cohort(scans, **QUICK)
    task = next(one for one in tasks if one.result == "a_mri.nii.gz")
    journal = Journal(task.results)
    journal.write(Entry(task.scan, task.result, ScanState.BEGUN, attempts=2))

    entry = convert_task(task)

    assert entry.state is ScanState.FAILED and entry.error["exit_code"] == WorkerKilled.exit_code
    assert "killed twice" in entry.error["message"] and "a.nii.gz" in entry.error["message"]
    assert journal.read(task.scan) == entry and not (tmp_path / "out/a_mri.nii.gz").exists()

    journal.write(Entry(task.scan, task.result, ScanState.BEGUN, attempts=1))
    assert convert_task(task).state is ScanState.CONVERTED


def test_a_scan_that_kills_its_worker_is_tried_once_more_and_ends_no_cohort(
    cohort, scans, tmp_path
) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    with dask.config.set({"distributed.worker.preload": [str(tmp_path / "killer.py")]}):
        done = cohort(scans, **QUICK, workers=Workers(count=1))

    codes = {entry.result: entry.error["exit_code"] for entry in done.entries}
    assert codes == {
        "a_mri.nii.gz": WorkerKilled.exit_code,
        "bad_mri.nii.gz": Unreadable.exit_code,
        "more/b_mri.nii.gz": Unreadable.exit_code,
    }
    (dead,) = (entry for entry in done.entries if entry.result == "a_mri.nii.gz")
    assert dead.attempts == 2


def test_what_a_call_has_finished_is_not_done_twice(cohort, scans, monkeypatch) -> None:
    tasks = []
    monkeypatch.setattr(run, "_collected", lambda client, given: tasks.extend(given) or iter(()))
    cohort(scans, **QUICK)
    task = replace(next(one for one in tasks if one.result == "a_mri.nii.gz"), run="this")

    first, again = convert_task(task), convert_task(task)

    assert first.state is ScanState.CONVERTED and again == first
    assert convert_task(replace(task, run="other")).error["kind"] == "OutputExists"


def test_a_list_names_scans_and_one_that_is_gone_is_reported(cohort, scans, tmp_path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("# heads\nscans/more/b.nii.gz\n\nscans/gone.nii\n")

    done = cohort(listed, **QUICK)

    assert (done.converted, done.failed) == (1, 1) and done.exit_code == InputMissing.exit_code
    assert (tmp_path / "out" / "b_mri.nii.gz").is_file()


def test_each_series_of_a_folder_is_converted_beside_its_volumes(
    cohort, two_series, save, ct_voxels, tmp_path
) -> None:
    save(ct_voxels, "both/c/scan.nii.gz")

    done = cohort(two_series, **QUICK)

    assert states(done) == {
        "a_mri": "converted",
        "b_mri": "failed",  # is MR already
        "c/scan_mri.nii.gz": "converted",
    }
    assert len(list((tmp_path / "out" / "a_mri").iterdir())) == 5


def test_2d_images_are_judged_as_a_folder_and_shown_on_the_page(cohort, images) -> None:
    done = cohort(images, cycle=False)

    bases = {entry.report["source"]["modality_basis"] for entry in done.entries}
    assert done.converted == 3 and len(bases) == 1 and "of 3 images" in bases.pop()
    page = done.written.page.read_text(encoding="utf-8")
    assert page.count("data:image/png") == 6


def test_parts_fill_one_folder_of_results_and_its_table(cohort, scans) -> None:
    parts = [cohort(scans, **QUICK, part=f"{i}/3") for i in (1, 2, 3)]

    assert [one.converted + one.failed for one in parts] == [1, 1, 1]
    assert len(parts[-1].entries) == 3


@pytest.mark.usefixtures("no_workers")
def test_what_cannot_be_started_is_refused_before_any_worker(cohort, scans, tmp_path) -> None:
    with pytest.raises(ModelUnusable):
        cohort(scans, bundle=tmp_path)
    with pytest.raises(InvalidOption, match="lies among the scans"):
        cohort(scans, output=scans / "out")
    with pytest.raises(AmbiguousInput, match="no list of scans"):
        cohort(scans / "a.nii.gz")
    with pytest.raises(InputMissing):
        cohort(tmp_path / "gone")
    with pytest.raises(InvalidOption, match="reports is for convert"):
        cohort(scans, reports="r.json")
    with pytest.raises(InvalidOption, match="output is missing"):
        cohort(scans, output="")
    with pytest.raises(InvalidOption, match="contrast"):
        cohort(scans, contrast="flair")
    (tmp_path / "file").touch()
    with pytest.raises(OutputFailed, match="cannot be created"):
        cohort(scans, output=tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"scans", "file"}


def test_other_options_in_the_same_folder_are_refused(cohort, scans) -> None:
    cohort(scans, **QUICK)

    with pytest.raises(InvalidOption, match="with another cycle"):
        cohort(scans, preview=False)

    assert cohort(scans, preview=False, overwrite=True).converted == 2


def hang(task: Task) -> None:
    (task.results / "begun").touch()
    time.sleep(1)


def test_a_scheduler_that_goes_away_ends_the_cohort_in_one_line(
    cohort, scans, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(run, "convert_task", hang)
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0")
    workers = Workers(scheduler=cluster.scheduler_address)

    def close() -> None:
        while not (tmp_path / "out" / "begun").exists():
            time.sleep(0.01)
        cluster.close()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()

    with pytest.raises(CohortFailed, match="scheduler is gone") as met:
        cohort(scans, **QUICK, workers=workers)

    closing.join()
    assert str(met.value).count("\n") == 0
    assert (tmp_path / "out" / "cohort.html").is_file()


def test_a_command_that_is_killed_leaves_no_worker_and_goes_on_where_it_ended(
    cohort, scans, save, ct_voxels, tmp_path, tiny_bundle
) -> None:
    for number in range(4):
        save(ct_voxels, f"scans/more/{number}.nii.gz")
    arguments = ["--to", "mri", "-o", "out", "--bundle", tiny_bundle, "--device", "cpu"]
    quick = ["--workers", "1", "--no-cycle", "--no-preview"]
    command = [sys.executable, "-m", "medtranslate", "cohort", "scans", *arguments, *quick]
    running = subprocess.Popen([*map(str, command)], cwd=tmp_path, stderr=subprocess.PIPE)
    journal = Journal(tmp_path / "out")

    deadline = time.monotonic() + 900  # however busy the machine
    while not (begun := [e for e in journal.entries() if e.state is ScanState.CONVERTED]):
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    worker = int(begun[0].worker.rpartition(" ")[2])
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    kept = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "out" / entry.result for entry in journal.entries()
                     if entry.state is ScanState.CONVERTED)
    }  # fmt: skip

    done = cohort(scans, **QUICK)

    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert done.finished >= len(kept) and done.exit_code == Unreadable.exit_code
    assert list(states(done).values()).count("converted") == 6
    assert list((tmp_path / "out").rglob("*.part")) == []
