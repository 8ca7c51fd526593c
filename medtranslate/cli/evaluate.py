"""``medtranslate evaluate``: the paper's table for any bundles."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Bundles = Annotated[list[str], typer.Argument(help="Folders of the bundles to evaluate.")]
Ct = Annotated[Path, typer.Option("--ct", help="Folder of real CT test pictures or volumes.")]
Mri = Annotated[Path, typer.Option("--mri", help="Folder of real MRI test pictures or volumes.")]
CtReference = Annotated[
    Path | None,
    typer.Option(
        "--ct-reference", help="Other real CT pictures (the training set), for the floor."
    ),
]
MriReference = Annotated[
    Path | None,
    typer.Option(
        "--mri-reference", help="Other real MRI pictures (the training set), for the floor."
    ),
]
Paired = Annotated[
    bool,
    typer.Option("--paired", help="Pictures of the same name show the same slice: also errors."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for the report: JSON, CSV and HTML."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report.")]
Weights = Annotated[
    Path | None,
    typer.Option("--inception-weights", help="File of Inception weights, instead of finding them."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1...")]
Seed = Annotated[int, typer.Option("--seed", help="Of every random choice.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Folder for the features of real pictures.")
]
Include = Annotated[
    list[Path] | None,
    typer.Option("--include", help="List of the test files to take; may be given several times."),
]
Lesions = Annotated[
    int,
    typer.Option(
        "--lesions", min=0, help="Put lesions of every kind into so many slices a direction."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Take the folders' modalities as given.")]


class ProtocolName(StrEnum):
    """The protocols by name."""

    PUBLISHED = "published"
    CLEAN = "clean"


ProtocolOption = Annotated[
    ProtocolName,
    typer.Option(
        "--protocol",
        help="published: every picture, as in the paper; clean: MRI without near copies.",
    ),
]


def evaluate(
    bundles: Bundles,
    ct: Ct,
    mri: Mri,
    ct_reference: CtReference = None,
    mri_reference: MriReference = None,
    include: Include = None,
    paired: Paired = False,
    lesions: Lesions = 0,
    protocol: ProtocolOption = ProtocolName.PUBLISHED,
    out: Out = None,
    overwrite: Overwrite = False,
    inception_weights: Weights = None,
    device: Device = "auto",
    seed: Seed = 2020,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Measure how good translations are: FID, KID, cycle error, cost; with --paired, errors too.

    FID is printed beside its floor (real pictures against other real ones, as many) and beside the
    distance without any translation; with --lesions, also what is left of lesions put into the
    test slices. Works without a network.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from medtranslate.evaluation.folders import FolderEvaluation
    from medtranslate.evaluation.report import check_report_folder, write_report
    from medtranslate.evaluation.table import show

    if out is not None:
        check_report_folder(out, overwrite=overwrite)
    plan = FolderEvaluation(
        bundles=tuple(bundles),
        ct=ct,
        mri=mri,
        ct_reference=ct_reference,
        mri_reference=mri_reference,
        include=include or (),
        paired=paired,
        lesions=lesions,
        protocol=protocol.value,
        inception_weights=inception_weights,
        device=device,
        seed=seed,
        cache=cache,
        trust_modality=force,
    )
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done)  # type: ignore[arg-type]

        evaluation = plan.run(advance)
    console = Console()
    show(evaluation, console)
    if out is not None:
        for path in write_report(evaluation, out, overwrite=overwrite):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
