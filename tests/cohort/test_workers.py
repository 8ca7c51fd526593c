"""Which workers convert a cohort, and what is wrong with those that were asked for."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import dask
import pytest

from medtranslate import ConversionOptions
from medtranslate.cohort import ClusterSettings, Workers, load_cluster, workers
from medtranslate.errors import CohortFailed, InvalidOption

OPTIONS = ConversionOptions(to="mri", device="cpu")


def written(folder: Path, text: str) -> Path:
    path = folder / "slurm.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kind: slurm\njbos: 4\n", "jobs is missing; jbos: no such key (did you mean 'jobs'?)"),
        ("kind: slrum\njobs: 4\n", "kind: input should be 'slurm', 'pbs', 'sge', 'lsf' or 'local'"),
        ("kind: slurm\njobs: 0\n", "jobs: input should be greater than 0, not 0"),
        ("kind: slurm\njobs: 1\nmemory: lots\n", "memory: 'lots' is no amount of memory"),
        ("kind: slurm\njobs: 1\nwalltime: 2 hours\n", "walltime: string should match pattern"),
        ("kind: local\njobs: 1\nqueue: fast\n", "queue, account and directives are for queues"),
        ("kind: [slurm\n", "not readable as YAML"),
    ],
)
def test_a_mistake_in_a_cluster_file_is_one_line_that_names_it(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(InvalidOption) as met:
        load_cluster(written(tmp_path, text))

    assert fault in str(met.value) and "slurm.yaml" in str(met.value)
    assert "\n" not in str(met.value)


def test_a_cluster_file_becomes_what_dask_jobqueue_takes(tmp_path: Path) -> None:
    text = """
kind: slurm
jobs: 8
cores: 4
memory: 8 GB
account: neuro
directives: ["--gres=gpu:1"]
log_folder: logs
"""
    settings = load_cluster(written(tmp_path, text))
    options = settings.job_options()
    charged = settings.model_copy(update={"kind": "sge"}).job_options()

    assert (options["cores"], options["memory"], options["processes"]) == (4, "8 GB", 1)
    assert options["job_extra_directives"] == ["--gres=gpu:1"]
    assert options["log_directory"] == str(tmp_path / "logs")
    assert options["account"] == charged["project"] == "neuro"


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_a_job_script_asks_for_what_the_file_says(kind: str) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    settings = ClusterSettings(
        kind=kind, jobs=1, cores=3, memory="5 GB", account="neuro", queue="fast", walltime="02:00"
    )
    cluster = getattr(jobqueue, f"{kind.upper()}Cluster")
    job = cluster.job_cls(scheduler="tcp://here:1", name="one", **settings.job_options())

    script = job.job_script()

    for asked in ("neuro", "fast", "02:00", "--nthreads 3"):
        assert asked in script


def test_a_queue_that_is_not_on_this_machine_is_named(monkeypatch) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr("shutil.which", lambda name: None)
    asked = Workers(cluster=ClusterSettings(kind="slurm", jobs=1))

    with pytest.raises(CohortFailed, match="there is no 'sbatch'"), asked.connected(None):
        pass


def test_a_queue_that_refuses_the_jobs_ends_the_cohort_with_its_own_words(
    cohort, scans, tmp_path, monkeypatch, capfd
) -> None:
    pytest.importorskip("dask_jobqueue")
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: gpu' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(workers, "_FIRST_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.2)
    asked = Workers(cluster=ClusterSettings(kind="slurm", jobs=2, queue="gpu"))

    with pytest.raises(CohortFailed) as met:
        cohort(scans, workers=asked)

    said = "the queue refuses the jobs: sbatch: error: invalid partition: gpu"
    assert said in str(met.value) and "\n" not in str(met.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch) -> None:
    monkeypatch.setattr(workers, "_CONNECT_SECONDS", 0.3)
    asked = Workers(scheduler="tcp://127.0.0.1:9")

    with (
        pytest.raises(CohortFailed, match=r"answers at tcp://127\.0\.0\.1:9"),
        asked.connected(None),
    ):
        pass


def test_workers_keep_the_memory_that_a_network_frees(monkeypatch) -> None:
    """Dask lets glibc give it back after each layer: a conversion took twice as long."""
    given: dict[str, object] = {}

    def processes(share):
        given.update(dask.config.get("distributed.nanny.pre-spawn-environ"))
        return nullcontext()

    monkeypatch.setattr(workers, "_processes", processes)
    monkeypatch.setattr(workers, "_client", nullcontext)
    monkeypatch.setattr(workers, "_kept", lambda *given: nullcontext())

    with Workers().connected(None):
        pass

    assert given["OMP_NUM_THREADS"] == 1 and "MALLOC_TRIM_THRESHOLD_" not in given


@pytest.mark.parametrize(
    "fields",
    [
        {"scheduler": "tcp://x:1", "cluster": ClusterSettings(kind="slurm", jobs=1)},
        {"scheduler": "tcp://x:1", "count": 2},
        {"cluster": ClusterSettings(kind="slurm", jobs=1), "memory": "4 GB"},
        {"count": 0},
        {"memory": "much"},
    ],
)
def test_workers_that_contradict_each_other_are_refused(fields) -> None:
    with pytest.raises(InvalidOption):
        Workers(**fields)


def test_a_machine_is_divided_by_cores_and_memory(monkeypatch) -> None:
    monkeypatch.setattr(workers, "CPU_COUNT", 16)
    monkeypatch.setattr(workers, "MEMORY_LIMIT", 5 * workers.WORKER_BYTES)

    share = Workers().local(OPTIONS, scans=100)
    few = Workers().local(OPTIONS, scans=2)
    given = Workers(count=4, memory="6 GB").local(
        ConversionOptions(to="mri", device="cpu", threads=2), scans=100
    )

    assert (share.count, share.threads, share.memory) == (5, 3, workers.WORKER_BYTES)
    assert (few.count, few.threads) == (2, 8)
    assert (given.count, given.threads, given.memory) == (4, 2, "6 GB")
    assert Workers(scheduler="tcp://x:1").local(OPTIONS, scans=3) is None


def test_each_worker_has_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(workers, "_of_worker", lambda get, otherwise: 3)

    share = Workers().local(ConversionOptions(to="mri"), scans=9)

    assert (share.count, share.gpus) == (2, 2)
    assert workers._device("auto", share.gpus) == "cuda:1"
    assert workers._device("cpu", share.gpus) == "cpu" and workers._device("auto", 0) == "auto"
