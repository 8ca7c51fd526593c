"""``medtranslate bundle``: what a model is, whether it is whole, and how it goes elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared

bundle = typer.Typer(no_args_is_help=True, help="Look into, check and export bundles.")

Folder = Annotated[
    Path | None, typer.Argument(metavar="BUNDLE", help="Its folder; by default the shipped one.")
]


Existing = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Its folder.")]
NewBundle = Annotated[
    Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The folder to make.")
]
Name = Annotated[str, typer.Option("--name", help="Of the model; kept where left out.")]
Version = Annotated[str, typer.Option("--model-version", help="Of the model; kept if left out.")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Also run its inference.yaml through MONAI, which executes what that brings.",
    ),
]
Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A run, a checkpoint or another bundle.")
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="SOURCE", help="Run, checkpoint or bundle to take them of."),
]
Note = Annotated[str, typer.Option("--note", help="What the version brings, for the changelog.")]
License = Annotated[
    Path | None, typer.Option("--license", metavar="FILE", help="Licence of the weights.")
]
ModelZoo = Annotated[bool, typer.Option("--model-zoo", help="In the layout of MONAI's Model Zoo.")]
Serves = Annotated[
    str | None,
    shared.modality("--to", help="Modality that its configs make; by default that of the source."),
]


@bundle.command()
def info(folder: Folder = None) -> None:
    """Say what a bundle holds: networks, weights, recipes, training, licence."""
    from medtranslate.bundle import Bundle
    from medtranslate.packaging.describe import describe

    for name, value in describe(Bundle.load(folder)):
        typer.echo(f"{name:<18}{value}")


@bundle.command()
def verify(folder: Folder = None, trust_code: TrustCode = False) -> None:
    """Check that a bundle is whole and still gives what it gave; exit 10 where it does not.

    Nothing that the bundle brings as code is run, unless --trust-code is given.
    """
    from medtranslate.bundle import default_bundle
    from medtranslate.errors import ModelUnusable
    from medtranslate.packaging.verify import verify as checks

    checked = folder or default_bundle()
    faults = 0
    for check in checks(checked, trust_code=trust_code):
        typer.echo(f"{check.result:<13}{check.name}: {check.detail}")
        faults += check.result == "fault"
    if faults:
        raise ModelUnusable(f"{faults} of its checks failed", path=checked)


@bundle.command()
def export(
    source: Source,
    output: NewBundle,
    name: Name = "",
    version: Version = "",
    to: Serves = None,
    license: License = None,
    model_zoo: ModelZoo = False,
) -> None:
    """Write a bundle that stands alone, from a run, one of its checkpoints or another bundle."""
    from medtranslate.packaging.export import Handover, hand_over

    wanted = Handover(name, version, to or "", license, model_zoo)
    large = hand_over(source, output, wanted)
    typer.echo(f"{output}: written")
    if model_zoo:
        for path in large:
            typer.echo(f"note: {path} is over 25 MB: the Zoo wants a link in large_files.yml")


@bundle.command()
def refresh(
    folder: Existing, weights: Weights = None, version: Version = "", note: Note = ""
) -> None:
    """Write the generated files of a bundle anew: hashes, metadata, workflows, reference.

    With --weights, also its weights, recipes and training facts. Its card, its licence and the
    words in configs/metadata.json stay; figures of evaluation go with the weights they were of.
    """
    from medtranslate.packaging.export import renew

    for gone in renew(folder, weights, version=version, note=note):
        typer.echo(f"gone: {gone}")
    typer.echo(f"{folder}: written anew")


CtToMri = Annotated[
    Path | None,
    typer.Option("--ct-to-mri", metavar="FILE", help="The generator that makes MRI."),
]
MriToCt = Annotated[
    Path | None,
    typer.Option("--mri-to-ct", metavar="FILE", help="The generator that makes CT."),
]
ForeignRecipes = Annotated[
    Path | None,
    typer.Option(
        "--recipes", metavar="FOLDER", help="Other recipes than whole pictures and usual volumes."
    ),
]


@bundle.command()
def import_cyclegan(
    output: NewBundle,
    ct_to_mri: CtToMri = None,
    mri_to_ct: MriToCt = None,
    name: Name = "",
    version: Version = "1.0.0",
    recipes: ForeignRecipes = None,
) -> None:
    """Make a bundle of generators trained with junyanz/pytorch-CycleGAN-and-pix2pix.

    That program calls them latest_net_G_A.pth, which makes B of A, and latest_net_G_B.pth. Say
    which makes what: if its folder A held CT, --ct-to-mri is latest_net_G_A.pth.
    """
    given = {"mri": ct_to_mri, "ct": mri_to_ct}
    files = {to: file for to, file in given.items() if file is not None}
    if not files:
        raise typer.BadParameter("give --ct-to-mri FILE, --mri-to-ct FILE or both")

    from medtranslate.packaging.cyclegan_import import import_cyclegan as make
    from medtranslate.packaging.cyclegan_import import recipes_in
    from medtranslate.packaging.reference import write_reference

    own = None if recipes is None else recipes_in(recipes)
    make(files, output, name=name, version=version, recipes=own, finish=write_reference)
    typer.echo(f"{output}: makes {' and '.join(files)}")


To = Annotated[str, shared.modality("--to", help="Generator to export, by what it makes.")]
NetworkFile = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A .ts, .pt2 (torch.export) or .onnx file.",
    ),
]


@bundle.command()
def export_network(
    to: To, output: NetworkFile, folder: Folder = None, overwrite: shared.Overwrite = False
) -> None:
    """Write one generator as TorchScript, torch.export or ONNX, and how far the results differ.

    Slices in and out, (batch, 1, 256, 256) in [-1, 1], float32. What prepares a scan is in the
    file's metadata, as a description: the file runs without medtranslate, the recipes do not.
    """
    from medtranslate.bundle import Bundle
    from medtranslate.packaging.formats import export_network as write

    found = write(Bundle.load(folder), to, output, overwrite=overwrite)
    typer.echo(
        f"{output}: differs by at most {found.largest:.4f}, on average {found.mean:.5f} of 255 "
        f"gray levels from float32, over {found.slices} slices of a synthetic head phantom"
    )
