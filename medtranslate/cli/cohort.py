"""``medtranslate cohort``: any number of scans on several workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.cli.endings import say
from medtranslate.errors import InvalidOption

if TYPE_CHECKING:
    from medtranslate.cohort import Cohort

Source = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER|LIST",
        parser=shared.given_path,
        help="Folder with the scans, or a text file (.txt) that names one a line.",
    ),
]
Results = Annotated[str, shared.output("Folder of results, table and page.", metavar="FOLDER")]
Count = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes of this machine; by default one a GPU, or what cores and memory allow.",
    ),
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory of a worker, such as 6GB; by default an equal share of this machine's.",
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler", metavar="ADDRESS", help="Use the workers of this Dask scheduler instead."
    ),
]
Cluster = Annotated[
    Path | None,
    typer.Option(
        "--cluster",
        metavar="FILE",
        parser=shared.given_path,
        help="Start the workers as jobs of a queue instead: SLURM, PBS, SGE or LSF; YAML.",
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous", help="Name no file, folder or series in table and page: scans are numbered."
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try scans again that failed in an earlier call.")
]


def cohort(
    source: Source,
    to: shared.To,
    output: Results,
    contrast: shared.Contrast = None,
    grain: shared.Grain = 0.0,
    modality: shared.From = None,
    format: shared.Format = None,
    bundle: shared.Bundle = "",
    device: shared.Device = "auto",
    engine: shared.Engine = "torch",
    precision: shared.Precision = "auto",
    batch_size: shared.BatchSize = None,
    workers: Count = None,
    threads: shared.Threads = None,
    memory: Memory = "",
    scheduler: Scheduler = "",
    cluster: Cluster = None,
    untilt: shared.Untilt = False,
    regrid: shared.Regrid = False,
    uid_seed: shared.UidSeed = "",
    keep_private: shared.KeepPrivate = False,
    overwrite: shared.Overwrite = False,
    skip_existing: shared.SkipExisting = False,
    retry_failed: RetryFailed = False,
    part: shared.Part = "",
    force: shared.Force = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
    preview: shared.Preview = True,
    cycle: shared.Cycle = True,
    variation: shared.Variation = False,
    map: shared.Map = False,
    anonymous: Anonymous = False,
) -> None:
    """Convert a cohort on several workers. The same call goes on where an earlier one ended.

    Each scan is converted as by convert. A scan that fails, or that kills its worker twice, does
    not end the cohort. The folder of results gets a table (cohort.csv, cohort.parquet) and a page
    (cohort.html). Needs the extra 'cohort'.
    """
    from medtranslate.cli.console import Console

    try:
        from medtranslate.cohort import Workers, convert_cohort, load_cluster
    except ModuleNotFoundError as error:
        remedy = "pip install 'medtranslate[cohort]'"
        raise InvalidOption(f"a cohort needs {error.name}", remedy=remedy) from error
    chosen = Workers(workers, memory, scheduler, load_cluster(cluster) if cluster else None)
    options = shared.conversion_options(locals(), output="")
    with Console(quiet=quiet) as console:
        done = convert_cohort(
            source,
            output=output,
            options=options,
            workers=chosen,
            retry_failed=retry_failed,
            observer=console,
        )
    say(_summary(done), quiet=quiet)
    raise typer.Exit(done.exit_code)


def _summary(done: Cohort) -> str:
    """Say in one line what was converted, and where its figures are."""
    parts = [f"{done.converted} of {len(done.entries)} scans converted"]
    known = ((done.failed, "failed"), (done.skipped, "skipped"), (done.finished, "finished before"))
    parts += [f"{count} {what}" for count, what in known if count]
    return f"{', '.join(parts)}; figures: {done.written.page}, {done.written.csv}"
