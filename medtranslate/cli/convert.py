"""``medtranslate convert``: scans from file to file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.files import FORMATS, check_present

STDOUT = "-"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        parser=shared.given,
        help="NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG or TIFF; a folder or a zip of them.",
    ),
]
To = Annotated[str, shared.modality("--to", help="Modality to make.")]
From = Annotated[
    str | None,
    shared.modality("--from", help="Modality of the source; by default its DICOM tag, or a guess."),
]
Output = Annotated[str, shared.output("File, or folder of results; by default beside the source.")]
Format = Annotated[
    str | None,
    shared.choice(
        FORMATS,
        "--format",
        "-f",
        help="Format of results; by default that of the source.",
    ),
]
Series = Annotated[
    str,
    typer.Option(
        "--series",
        metavar="SERIES",
        help="DICOM series: its number as inspect lists it, its UID, or all.",
    ),
]
Template = Annotated[
    str,
    typer.Option(
        "--template",
        metavar="FOLDER",
        help="DICOM series on the same grid, whose headers a DICOM result takes.",
    ),
]
Untilt = Annotated[bool, typer.Option("--untilt", help="Undo a gantry tilt, slice by slice.")]
Regrid = Annotated[
    bool, typer.Option("--regrid", help="Resample unevenly spaced DICOM slices to even steps.")
]
UidSeed = Annotated[
    str,
    typer.Option("--uid-seed", metavar="TEXT", help="Derive DICOM UIDs from TEXT: repeatable."),
]
KeepPrivate = Annotated[
    bool, typer.Option("--keep-private", help="Copy private DICOM attributes into results.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Believe --from over a header, and convert what the domain check refuses."
    ),
]
Reports = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="PATH",
        help="Write a report: a page if PATH ends in .html, else JSON; - for JSON on stdout.",
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous", help="Name no file, folder or series in reports: scans are numbered."
    ),
]
Viewer = Annotated[
    bool,
    typer.Option(
        "--viewer/--no-viewer", help="Put a viewer, with the volumes, into a report's page."
    ),
]
Cycle = Annotated[
    bool,
    typer.Option("--cycle/--no-cycle", help="Translate back and measure the cycle error."),
]
Variation = Annotated[
    bool,
    typer.Option(
        "--variation",
        help="Translate mirrored and shifted too, and measure the variation; adds 2.5 conversions.",
    ),
]
Map = Annotated[
    bool, typer.Option("--map", help="Write cycle error and variation as images beside the result.")
]
Preview = Annotated[
    bool,
    typer.Option(
        "--preview/--no-preview", help="Write an image of source and result side by side."
    ),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out scans whose result exists.")
]
Part = Annotated[
    str,
    typer.Option(
        "--part", metavar="I/N", help="Convert part I of N of the scans: one call for each part."
    ),
]


def convert(
    inputs: Inputs,
    to: To,
    output: Output = "",
    contrast: shared.Contrast = None,
    source: From = None,
    format: Format = None,
    bundle: shared.Bundle = "",
    device: shared.Device = "auto",
    precision: shared.Precision = "auto",
    batch_size: shared.BatchSize = None,
    series: Series = "",
    template: Template = "",
    untilt: Untilt = False,
    regrid: Regrid = False,
    uid_seed: UidSeed = "",
    keep_private: KeepPrivate = False,
    overwrite: shared.Overwrite = False,
    skip_existing: SkipExisting = False,
    part: Part = "",
    threads: shared.Threads = None,
    force: Force = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
    report: Reports = None,
    anonymous: Anonymous = False,
    viewer: Viewer = True,
    preview: Preview = True,
    cycle: Cycle = True,
    variation: Variation = False,
    map: Map = False,
) -> None:
    """Convert scans: CT to MRI or MRI to CT, from file to file.

    Without -o a result is written beside its source: scan.nii.gz becomes scan_mri.nii.gz. Shape,
    affine and slice positions are those of the source. Results are synthetic and labeled so: not
    for diagnosis, dose or attenuation.
    """
    reports = report or []
    if len(inputs) == 1 and not reports:
        check_present(Path(inputs[0]))  # before what takes seconds to import
    from medtranslate.cli.console import ConversionConsole
    from medtranslate.conversion import ConversionOptions, convert_many

    options = ConversionOptions(
        to=to,
        output=output,
        modality=source or "",
        contrast=contrast or "",
        format=format or "",
        series=series,
        template=template,
        untilt=untilt,
        regrid=regrid,
        uid_seed=uid_seed,
        keep_private=keep_private,
        overwrite=overwrite,
        skip_existing=skip_existing,
        part=part,
        threads=threads,
        force=force,
        preview=preview,
        cycle=cycle,
        variation=variation,
        map=map,
        anonymous=anonymous,
        viewer=viewer,
        reports=[one for one in reports if one != STDOUT],
        bundle=bundle,
        device=device,
        precision=precision,
        batch_size=batch_size,
    )
    to_stdout = STDOUT in reports
    with ConversionConsole(quiet=quiet, verbose=verbose, results_on_stderr=to_stdout) as console:
        conversions = convert_many(inputs, options=options, observer=console)
        for one in conversions:
            console.show(one)
        console.close(len(inputs))
    if to_stdout:
        from medtranslate.text import as_json

        sys.stdout.write(as_json(conversions.report))
    raise typer.Exit(conversions.exit_code)
