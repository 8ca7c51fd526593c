"""``medtranslate bundle``: what a model is, whether it is whole, and how it goes elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

bundle = typer.Typer(no_args_is_help=True, help="Look into, check and export bundles.")

Folder = Annotated[
    Path | None, typer.Argument(metavar="BUNDLE", help="Its folder; by default the shipped one.")
]


@bundle.command()
def info(folder: Folder = None) -> None:
    """Say what a bundle holds."""
    from medtranslate.bundle import Bundle

    found = Bundle.load(folder)
    typer.echo(f"{found.name} {found.version}: {found.folder}")


CtToMri = Annotated[
    Path | None,
    typer.Option("--ct-to-mri", metavar="FILE", help="The generator that makes MRI."),
]
MriToCt = Annotated[
    Path | None,
    typer.Option("--mri-to-ct", metavar="FILE", help="The generator that makes CT."),
]
NewBundle = Annotated[
    Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The folder to make.")
]
Name = Annotated[str, typer.Option("--name", help="Of the model; by default the folder's.")]
Version = Annotated[str, typer.Option("--model-version", help="Of the model.")]
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
    version: Version = "1.0",
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

    from medtranslate.bundle.foreign import import_cyclegan as make
    from medtranslate.bundle.foreign import recipes_in

    own = None if recipes is None else recipes_in(recipes)
    make(files, output, name=name, version=version, recipes=own)
    typer.echo(f"{output}: makes {' and '.join(files)}")
