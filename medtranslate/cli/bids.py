"""``medtranslate bids``: a BIDS app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.errors import InvalidOption, common_exit_code
from medtranslate.files import check_present

LEVELS = ("participant",)

Dataset = Annotated[
    Path,
    typer.Argument(metavar="BIDS", parser=shared.given_path, help="Folder of the raw dataset."),
]
Out = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        parser=shared.given_path,
        help="Folder of the derivative dataset, such as BIDS/derivatives/medtranslate.",
    ),
]
Level = Annotated[str, typer.Argument(metavar="participant", help="Level of the analysis.")]
Participants = Annotated[
    list[str] | None,
    typer.Option(
        "--participant-label", metavar="LABEL", help="Participant to convert; by default all."
    ),
]
Sessions = Annotated[
    list[str] | None,
    typer.Option("--session-label", metavar="LABEL", help="Session to convert; by default all."),
]
Suffixes = Annotated[
    list[str] | None,
    typer.Option(
        "--suffix",
        metavar="SUFFIX",
        help="Suffix of the scans to convert; by default ct, or T1w, T2w, PDw and FLAIR.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Convert what the domain check refuses, too.")]
Viewer = Annotated[
    bool,
    typer.Option("--viewer/--no-viewer", help="Put a viewer, with the volumes, into reports."),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous", help="Name no source, file or folder in sidecars, reports and pages."
    ),
]


def bids(
    dataset: Dataset,
    output: Out,
    level: Level,
    to: shared.To,
    participant_label: Participants = None,
    session_label: Sessions = None,
    suffix: Suffixes = None,
    contrast: shared.Contrast = None,
    grain: shared.Grain = 0.0,
    bundle: shared.Bundle = "",
    device: shared.Device = "auto",
    engine: shared.Engine = "torch",
    precision: shared.Precision = "auto",
    batch_size: shared.BatchSize = None,
    skip_existing: shared.SkipExisting = False,
    overwrite: shared.Overwrite = False,
    force: Force = False,
    variation: shared.Variation = False,
    map: shared.Map = False,
    viewer: Viewer = True,
    anonymous: Anonymous = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Convert the scans of a BIDS dataset into a BIDS derivative dataset. Needs the extra 'bids'.

    The raw dataset is only read. Results have desc-synthetic in their names and a JSON sidecar that
    names scan, model and weights, with what the checks found. Each participant has a page.
    """
    if level not in LEVELS:
        raise InvalidOption(f"there is no analysis level {level!r}", remedy="say participant")
    check_present(dataset)
    from medtranslate.bids import convert_dataset
    from medtranslate.cli.console import ConversionConsole

    options = shared.conversion_options(
        locals(),
        modality="ct" if to == "mri" else "mri",
        output="",
        format="nii.gz",
        skip_existing=False,
    )
    codes = []
    with ConversionConsole(quiet=quiet, verbose=verbose) as console:
        conversions = convert_dataset(
            dataset,
            output,
            options=options,
            participants=participant_label or (),
            sessions=session_label or (),
            suffixes=suffix or (),
            skip_existing=skip_existing,
            observer=console,
        )
        for one in conversions:
            console.show(one)
            codes.append(one.exit_code)
        console.close(len(codes))
    raise typer.Exit(common_exit_code(codes))
