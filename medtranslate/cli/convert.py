"""``medtranslate convert``: scans from file to file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.files import check_present

STDOUT = "-"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        parser=shared.given,
        help="NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG or TIFF; a folder or a zip of them.",
    ),
]
Output = Annotated[str, shared.output("File, or folder of results; by default beside the source.")]
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


def convert(
    inputs: Inputs,
    to: shared.To,
    output: Output = "",
    contrast: shared.Contrast = None,
    grain: shared.Grain = 0.0,
    modality: shared.From = None,
    format: shared.Format = None,
    bundle: shared.Bundle = "",
    device: shared.Device = "auto",
    engine: shared.Engine = "torch",
    precision: shared.Precision = "auto",
    batch_size: shared.BatchSize = None,
    series: Series = "",
    template: Template = "",
    untilt: shared.Untilt = False,
    regrid: shared.Regrid = False,
    uid_seed: shared.UidSeed = "",
    keep_private: shared.KeepPrivate = False,
    overwrite: shared.Overwrite = False,
    skip_existing: shared.SkipExisting = False,
    part: shared.Part = "",
    threads: shared.Threads = None,
    force: shared.Force = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
    report: Reports = None,
    anonymous: Anonymous = False,
    viewer: Viewer = True,
    preview: shared.Preview = True,
    cycle: shared.Cycle = True,
    variation: shared.Variation = False,
    map: shared.Map = False,
) -> None:
    """Convert scans: CT to MRI or MRI to CT, from file to file.

    Without -o a result is written beside its source: scan.nii.gz becomes scan_mri.nii.gz. Shape,
    affine and slice positions are those of the source. Results are synthetic and labeled so: not
    for diagnosis, dose or attenuation.
    """
    if len(inputs) == 1 and not report:
        check_present(Path(inputs[0]))  # before what takes seconds to import
    from medtranslate.cli.console import ConversionConsole
    from medtranslate.conversion import convert_many

    files = [one for one in report or () if one != STDOUT]
    options = shared.conversion_options(locals(), reports=files)
    to_stdout = STDOUT in (report or ())
    with ConversionConsole(quiet=quiet, verbose=verbose, results_on_stderr=to_stdout) as console:
        conversions = convert_many(inputs, options=options, observer=console)
        for one in conversions:
            console.show(one)
        console.close(len(inputs))
    if to_stdout:
        from medtranslate.text import as_json

        sys.stdout.write(as_json(conversions.report))
    raise typer.Exit(conversions.exit_code)
