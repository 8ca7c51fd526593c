"""``medtranslate evaluate``: the paper's table for any bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options
from medtranslate.cli.endings import say
from medtranslate.modality import CONTRASTS


def _path(name: str, help: str, metavar: str = "FOLDER") -> object:
    return typer.Option(name, metavar=metavar, help=help)


Bundles = Annotated[
    list[str],
    typer.Argument(metavar="BUNDLE...", parser=options.given, help="Bundles to evaluate."),
]
Ct = Annotated[Path, _path("--ct", "Real CT test images or volumes.")]
Mri = Annotated[Path, _path("--mri", "Real MRI test images or volumes.")]
CtReference = Annotated[
    Path | None, _path("--ct-reference", "Other real CT (the training set), for the floor.")
]
MriReference = Annotated[
    Path | None, _path("--mri-reference", "Other real MRI (the training set), for the floor.")
]
Paired = Annotated[
    bool,
    typer.Option("--paired", help="Images of the same name show the same slice: errors as well."),
]
Output = Annotated[Path | None, options.output("Report folder: JSON, CSV and HTML.", "FOLDER")]
Weights = Annotated[
    Path | None,
    _path("--inception-weights", "Weights of the Inception network; found if left out.", "FILE"),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]
Cache = Annotated[Path | None, _path("--cache", "Folder for the features of real images.")]
Include = Annotated[
    list[Path] | None, _path("--include", "List of the test files to take; repeatable.", "FILE")
]
Lesions = Annotated[
    int,
    typer.Option(
        "--lesions", min=0, help="Slices per direction to put lesions of every kind into."
    ),
]
Contrast = Annotated[
    str | None,
    options.choice(
        CONTRASTS,
        "--contrast",
        help="Contrast of all MRI, made and given; by default as the real ones' are told.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Take modalities and units as given.")]
Protocol = Annotated[
    str,
    options.choice(
        ("published", "clean"),
        "--protocol",
        help="published: every image, as in the paper; clean: MRI without near copies.",
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
    contrast: Contrast = None,
    grain: options.Grain = 0.0,
    protocol: Protocol = "published",
    output: Output = None,
    overwrite: options.Overwrite = False,
    inception_weights: Weights = None,
    device: options.Device = "auto",
    seed: Seed = 2020,
    cache: Cache = None,
    force: Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure how good translations are: FID, KID, cycle error, cost; with --paired, errors too.

    FID is printed beside its floor (real images against as many other real ones) and beside the
    distance without any translation; with --lesions, also how much is left of lesions put into the
    test slices. Needs no network access.
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
        contrast=contrast or "",
        grain=grain,
        protocol=protocol,
        inception_weights=inception_weights,
        device=device,
        seed=seed,
        cache=cache,
        trust_modality=force,
    )
    with ProgressDisplay(quiet=quiet) as display:
        evaluation = plan.run(display.step)
    show(evaluation, Console(quiet=quiet))
    if output is not None:
        for path in write_report(evaluation, output, overwrite=overwrite):
            say(f"wrote {path}", quiet=quiet)
