"""Workers as jobs of a queue, by dask-jobqueue: the settings file, and how jobs are submitted."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from dask.utils import parse_bytes
from distributed import Status
from pydantic import AfterValidator, Field, PositiveInt, ValidationInfo, model_validator

from medtranslate.errors import CohortFailed
from medtranslate.settings_file import SettingsPart, load_settings
from medtranslate.text import one_line


def memory_size(text: str) -> str:
    """Return a size such as ``"8 GB"`` as it is.

    Raises
    ------
    ValueError
        It is none, or less than 1 MB.
    """
    try:
        if parse_bytes(text) < 2**20:
            raise ValueError
    except (ValueError, AttributeError):
        raise ValueError(f"{text!r} is no amount of memory, such as 8 GB") from None
    return text


def _path(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", ""), path.expanduser()).absolute()


class ClusterSettings(SettingsPart):
    """Jobs of a queue whose workers convert scans: what ``--cluster FILE`` says.

    Examples
    --------
    >>> settings = ClusterSettings(kind="slurm", jobs=8, cores=4, memory="8 GB")
    >>> settings.walltime
    '01:00:00'
    """

    kind: Literal["slurm", "pbs", "sge", "lsf", "local"]
    """The queue; ``local`` starts the jobs on this machine, to try a file out."""
    jobs: PositiveInt
    """Jobs to ask for; each runs one worker. Those that start late join in."""
    cores: PositiveInt = 1
    """CPU cores of a job, the threads that a scan is converted in."""
    memory: Annotated[str, AfterValidator(memory_size)] = "4 GB"
    """Memory of a job; a worker that exceeds it is ended."""
    walltime: Annotated[str, Field(pattern=r"^\d+:\d\d(:\d\d)?$")] = "01:00:00"
    """Longest run time of a job; a scan that it cuts off is converted by another one."""
    queue: str = ""
    """Queue or partition; by default that of the site."""
    account: str = ""
    """Account, or project, that is charged."""
    directives: list[str] = []
    """More directives of the job script, such as ``--gres=gpu:1``."""
    prologue: list[str] = []
    """Commands of the job script before the worker starts, such as ``module load cuda``."""
    python: str = sys.executable
    """Python of the jobs, where medtranslate is installed; by default this one."""
    interface: str = ""
    """Network interface, such as ``ib0``, by which jobs reach this machine."""
    log_folder: Annotated[Path, AfterValidator(_path)] | None = None
    """Folder for the jobs' output; by default the queue decides."""

    @model_validator(mode="after")
    def _fitting(self) -> ClusterSettings:
        if self.kind == "local" and (self.queue or self.account or self.directives):
            raise ValueError("queue, account and directives are for queues, not for kind: local")
        return self

    def job_options(self) -> dict[str, Any]:
        """Return the settings as dask-jobqueue names them."""
        options: dict[str, Any] = {
            "cores": self.cores,
            "memory": self.memory,
            "processes": 1,
            "python": self.python,
            "interface": self.interface or None,
            "log_directory": str(self.log_folder) if self.log_folder else None,
            "job_script_prologue": self.prologue,
        }
        if self.kind == "local":
            return options
        charged = "account" if self.kind in ("slurm", "pbs") else "project"
        return {
            **options,
            "walltime": self.walltime,
            "queue": self.queue or None,
            charged: self.account or None,
            "job_extra_directives": self.directives,
        }


def load_cluster(path: str | Path) -> ClusterSettings:
    """Read and check a settings file of a queue.

    Raises
    ------
    InputMissing
        There is no such file.
    InvalidOption
        It is no YAML, or a key or value is wrong; the message names it in one line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "slurm.yaml")
    ...     _ = path.write_text("{kind: slurm, jobs: 8}")
    ...     load_cluster(path).memory
    '4 GB'
    """
    return load_settings(path, ClusterSettings)


@dataclass(frozen=True, eq=False)
class JobQueue:
    """A queue, and what it has refused.

    Parameters
    ----------
    settings : ClusterSettings
        What to submit.
    refused : dict of str to str
        Names of jobs that the queue has refused, each with the reason; filled by `start`.
    """

    settings: ClusterSettings
    refused: dict[str, str] = field(default_factory=dict)

    def start(self) -> Any:
        """Submit the jobs; return the cluster, a context that ends them.

        Raises
        ------
        CohortFailed
            Jobs of this queue cannot be submitted from here.
        """
        settings = self.settings
        try:
            import dask_jobqueue
            from dask_jobqueue.local import LocalCluster
        except ModuleNotFoundError as error:
            remedy = "pip install dask-jobqueue"
            raise CohortFailed(f"--cluster needs {error.name}", remedy=remedy) from error
        kinds: dict[str, Any] = {
            name: getattr(dask_jobqueue, f"{name.upper()}Cluster")
            for name in ("slurm", "pbs", "sge", "lsf")
        }
        kind = {**kinds, "local": LocalCluster}[settings.kind]
        command = getattr(kind.job_cls, "submit_command", None)
        if command and shutil.which(command.split()[0]) is None:
            fault = f"jobs cannot be submitted: there is no {command.split()[0]!r} on this machine"
            raise CohortFailed(fault, remedy=f"run it where {settings.kind} jobs are submitted")
        if settings.log_folder:
            settings.log_folder.mkdir(parents=True, exist_ok=True)
        cluster = kind(
            **settings.job_options(),
            job_cls=self._noting(kind.job_cls),
            scheduler_options={"dashboard_address": None},
        )
        cluster.scale(jobs=settings.jobs)
        return cluster

    def _noting(self, job_class: Any) -> Any:
        """Return a class of jobs that notes a refusal, where Dask prints a traceback and waits."""
        refused = self.refused

        async def start(job: Any) -> None:
            try:
                await job_class.start(job)
                refused.pop(job.name, None)
            except Exception as error:  # a program that fails, is missing or says something else
                refused[job.name] = _reason(error)
                job.status = Status.running  # so that the others are started

        return type(job_class.__name__, (job_class,), {"start": start})

    def tried_again(self, cluster: Any) -> None:
        """Let the cluster submit again what was refused, when it is scaled the next time."""
        for name in self.refused:
            job = cluster.workers.pop(name, None)
            if job is not None:
                job.status = Status.closed

    @property
    def failure(self) -> CohortFailed:
        """What to raise where no job is left because the queue refuses them."""
        reason = next(iter(self.refused.values()), "")
        fault = f"the queue refuses the jobs: {reason}"
        return CohortFailed(fault, remedy=f"check the file of --cluster ({self.settings.kind})")


def _reason(error: Exception) -> str:
    """Return in one line what a program of a queue has said, from dask-jobqueue's error."""
    text = str(error)
    said = text.partition("stderr:\n")[2].strip() or text
    return one_line(said)[:300] or type(error).__name__
