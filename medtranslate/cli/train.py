"""``medtranslate train``: two folders of unpaired scans to a bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtranslate.cli import options
from medtranslate.cli.endings import say
from medtranslate.device import ALIASES

if TYPE_CHECKING:
    from medtranslate.training import Outcome


def _print_config(wanted: bool) -> None:
    if wanted:
        from medtranslate.training.settings import Cadence, Settings, dump_config

        typer.echo(dump_config(Settings(), Cadence()), nl=False)
        raise typer.Exit


Ct = Annotated[
    Path | None,
    typer.Argument(metavar="[CT]", help="Folder of CT scans, or a file of prepared slices."),
]
Mri = Annotated[
    Path | None,
    typer.Argument(metavar="[MRI]", help="Folder of MR scans, or a file of prepared slices."),
]
Paired = Annotated[
    Path | None,
    typer.Option(
        "--paired",
        metavar="FOLDER",
        help="Registered scans to learn from besides: equal names in its folders ct and mri.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="PATH",
        help="Label maps of whole heads to render pairs from: a folder, or a file of data labels.",
    ),
]
Contrasts = Annotated[
    Path | None,
    typer.Option(
        "--contrasts",
        metavar="FILE",
        help="Contrasts of MR scans, a NAME,CONTRAST a line, with --set contrasts=[t1,t2,flair].",
    ),
]
Output = Annotated[Path, options.output("Folder for the run and its bundle.", "FOLDER")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of settings, as --print-config has."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any setting, such as learning_rate=1e-4; repeatable."
    ),
]
PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config",
        is_eager=True,
        callback=_print_config,
        help="Print every setting with its default, and exit.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="resnet9 (the default), unet256, compact, or a MONAI network such as BasicUNet.",
        autocompletion=lambda: ["resnet9", "unet256", "compact"],
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(help="By default 200; the second half decays the rate to zero.", min=1),
]
MaxMinutes = Annotated[
    float | None, typer.Option(help="Save and stop after this time; --resume goes on.", min=0)
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images of each modality per step and process; by default 1.", min=1),
]
Precision = Annotated[
    str | None,
    options.choice(
        options.PRECISIONS,
        "--precision",
        help="Precision that the networks compute in.",
        aliases=ALIASES,
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of every random choice; by default 0.")]
Include = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="List of the files to take; repeatable.")
]
Validate = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="List of files to keep out of training and choose the best weights by."
    ),
]
Recipes = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Recipes to use instead of the shipped ones.")
]
Cache = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for prepared slices.")]
InceptionWeights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights of the Inception network for KID.")
]
Workers = Annotated[int, typer.Option(help="Processes that prepare scans.", min=0)]
InitFrom = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Bundle, run or checkpoint to take initial weights from."),
]
Name = Annotated[str, typer.Option(help="Name of the bundle.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run that exists.")]
Force = Annotated[bool, typer.Option("--force", help="Take modalities and units as given.")]


def train(
    output: Output,
    ct: Ct = None,
    mri: Mri = None,
    paired: Paired = None,
    labels: Labels = None,
    contrasts: Contrasts = None,
    config: Config = None,
    assignments: Assignments = None,
    network: Network = None,
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    batch_size: BatchSize = None,
    device: options.Device = "auto",
    precision: Precision = None,
    seed: Seed = None,
    include: Include = None,
    validate: Validate = None,
    recipes: Recipes = None,
    cache: Cache = None,
    inception_weights: InceptionWeights = None,
    workers: Workers = 2,
    init_from: InitFrom = None,
    name: Name = "trained",
    resume: Resume = False,
    overwrite: Overwrite = False,
    force: Force = False,
    quiet: options.Quiet = False,
    print_config: PrintConfig = False,
) -> None:
    """Learn CT to MRI and MRI to CT from unpaired scans, registered pairs, label maps, or a mix.

    The defaults are the CycleGAN paper's recipe; --config and --set change any setting. The run's
    folder holds checkpoints, losses.csv, TensorBoard logs, sample grids, run.html and at the end
    the bundle that convert takes. Stopped by a signal or --max-minutes, the run saves and ends;
    the same command with --resume goes on exactly. Under torchrun it uses all processes.
    """
    from rich.console import Console

    from medtranslate.cli.progress import ProgressDisplay
    from medtranslate.evaluation import KidScore
    from medtranslate.packaging import RunPackager
    from medtranslate.training import Training, load_config
    from medtranslate.training.handlers import ProgressBar

    settings, cadence = load_config(
        config,
        assignments or (),
        network=network,
        epochs=epochs,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
    )
    # Of the processes that torchrun starts, the first one prints.
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    console = Console(stderr=True, quiet=quiet)
    with ProgressDisplay(quiet=quiet) as display:
        outcome = Training(
            ct=ct,
            mri=mri,
            output=output,
            paired=paired,
            labels=labels,
            contrast_list=contrasts,
            settings=settings,
            include=include or (),
            validate=validate or (),
            recipes=recipes,
            cache=cache,
            device=device,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            init_from=init_from,
            max_minutes=max_minutes,
            trusted=force,
            cadence=cadence,
            score=KidScore.find(inception_weights, device=device) if validate else None,
            handlers=[ProgressBar(console)],
            preparing=display.counter("preparing scans"),
            on_finished=RunPackager(name),
        ).run()
    say(_summary(outcome), quiet=quiet)


def _summary(outcome: Outcome) -> str:
    if outcome.finished:
        return f"finished after {outcome.step} steps: {outcome.folder / 'bundle'}"
    return (
        f"stopped at step {outcome.step} of {outcome.steps} ({outcome.stopped}); "
        "the same command with --resume goes on"
    )
