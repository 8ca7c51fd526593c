"""``medtranslate convert``: the main job, from file to file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medtranslate.files import check_present
from medtranslate.modality import Modality


class Target(StrEnum):
    """What to make."""

    MRI = "mri"
    CT = "ct"


class Format(StrEnum):
    """What results are written as."""

    NII_GZ = "nii.gz"
    NII = "nii"
    MHA = "mha"
    NRRD = "nrrd"
    PNG = "png"
    JPG = "jpg"
    TIF = "tif"
    DICOM = "dicom"


class Precision(StrEnum):
    """What a network computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG or TIFF; a folder or a zip of them.",
    ),
]
To = Annotated[Target, typer.Option("--to", help="What to make.")]
Output = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="PATH", help="File, or folder of results; beside the source."
    ),
]
From = Annotated[
    Target | None,
    typer.Option("--from", help="What the source is; by default its DICOM tag, or a guess."),
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Of results; by default that of the source.")
]
BundleOption = Annotated[
    str, typer.Option("--bundle", metavar="FOLDER", help="A model; by default the shipped one.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Of the network.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Slices at once; 4 on a CPU, 32 on a GPU.")
]
Series = Annotated[
    str,
    typer.Option(
        "--series", metavar="SERIES", help="DICOM series: number as in inspect, UID, or all."
    ),
]
Template = Annotated[
    str,
    typer.Option(
        "--template", metavar="FOLDER", help="DICOM series on the same grid, for DICOM results."
    ),
]
Untilt = Annotated[bool, typer.Option("--untilt", help="Undo a gantry tilt, slice by slice.")]
Regrid = Annotated[bool, typer.Option("--regrid", help="Lay uneven DICOM slices at even steps.")]
UidSeed = Annotated[
    str, typer.Option("--uid-seed", metavar="TEXT", help="The same DICOM UIDs at each run.")
]
KeepPrivate = Annotated[
    bool, typer.Option("--keep-private", help="Copy private DICOM attributes into results.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Believe --from over a header, and convert what the domain check refuses."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say every note; show tracebacks.")]
ReportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="PATH",
        help="Write a JSON report, or a page if PATH ends in .html; - for JSON on stdout.",
    ),
]
Cycle = Annotated[
    bool,
    typer.Option("--cycle/--no-cycle", help="Translate back and say what the round trip lost."),
]
Variation = Annotated[
    bool,
    typer.Option(
        "--variation", help="Translate mirrored and shifted too; takes 2.5 conversions more."
    ),
]
Map = Annotated[
    bool, typer.Option("--map", help="Write where the round trip lost what, as an image beside.")
]
Preview = Annotated[
    bool, typer.Option("--preview/--no-preview", help="A picture of source beside result.")
]


def convert(
    inputs: Inputs,
    to: To,
    output: Output = "",
    source: From = None,
    format: FormatOption = None,
    bundle: BundleOption = "",
    device: Device = "auto",
    precision: PrecisionOption = Precision.AUTO,
    batch_size: BatchSize = None,
    series: Series = "",
    template: Template = "",
    untilt: Untilt = False,
    regrid: Regrid = False,
    uid_seed: UidSeed = "",
    keep_private: KeepPrivate = False,
    overwrite: Overwrite = False,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportOption = None,
    preview: Preview = True,
    cycle: Cycle = True,
    variation: Variation = False,
    map: Map = False,
) -> None:
    """Convert scans: CT to MRI or MRI to CT, from file to file.

    Without -o a result lies beside its source: scan.nii.gz becomes scan_mri.nii.gz. Shape, affine
    and slice positions are those of the source. Results are synthetic and say so: not for
    diagnosis, dose or attenuation.
    """
    if "" in inputs:  # which as a path would be the current folder
        raise typer.BadParameter("an INPUT is empty; is a variable unset?")
    if len(inputs) == 1 and not report:
        check_present(Path(inputs[0]))  # before what takes seconds to import
    from medtranslate.conversion.convert import Model, call
    from medtranslate.conversion.options import Request

    request = Request(
        to=to.value,
        output=output,
        modality=Modality.parse(source).value if source else "",
        format=format.value if format else "",
        series=series,
        template=template,
        untilt=untilt,
        regrid=regrid,
        uid_seed=uid_seed,
        keep_private=keep_private,
        overwrite=overwrite,
        force=force,
        preview=preview,
        cycle=cycle,
        variation=variation,
        map=map,
        reports=tuple(report or ()),
    )
    model = Model(bundle, device, precision.value, batch_size)
    code = call(inputs, request, model, quiet=quiet, verbose=verbose)
    raise typer.Exit(code)
