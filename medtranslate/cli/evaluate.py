"""``medtranslate evaluate``: the paper's table for any bundles."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared

Bundles = Annotated[
    list[str], typer.Argument(parser=shared.given, help="Folders of the bundles to evaluate.")
]
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
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", "--out", metavar="FOLDER", help="Write the report: JSON, CSV and HTML."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--inception-weights", help="File of Inception weights, instead of finding them."),
]
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
    output: Output = None,
    overwrite: shared.Overwrite = False,
    inception_weights: Weights = None,
    device: shared.Device = "auto",
    seed: Seed = 2020,
    cache: Cache = None,
    force: Force = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Measure how good translations are: FID, KID, cycle error, cost; with --paired, errors too.

    FID is printed beside its floor (real pictures against other real ones, as many) and beside the
    distance without any translation; with --lesions, also what is left of lesions put into the
    test slices. Works without a network.
    """
    from rich.console import Console

    from medtranslate.cli.progress import ProgressDisplay
    from medtranslate.evaluation.folders import FolderEvaluation
    from medtranslate.evaluation.report import check_report_folder, write_report
    from medtranslate.evaluation.table import show

    if output is not None:
        check_report_folder(output, overwrite=overwrite)
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
    with ProgressDisplay(quiet=quiet) as display:
        evaluation = plan.run(display.step)
    console = Console(quiet=quiet)
    show(evaluation, console)
    if output is not None:
        for path in write_report(evaluation, output, overwrite=overwrite):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
