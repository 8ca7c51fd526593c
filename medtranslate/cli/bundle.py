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
