"""``medtranslate demo``: a synthetic head phantom and its conversion; no download."""

from __future__ import annotations

from typing import Annotated

import typer

from medtranslate.cli import options as shared

Output = Annotated[str, shared.output("Folder to write.", metavar="FOLDER")]


def demo(
    output: Output = "medtranslate-demo",
    bundle: shared.Bundle = "",
    overwrite: shared.Overwrite = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Convert a synthetic head phantom (a CT volume and a 2D image) to MRI, and list the files.

    Nothing is downloaded; the phantom is computed and shows nobody.
    """
    from medtranslate.conversion.demo import demo as make

    for path, what in make(output, bundle=bundle, overwrite=overwrite).items():
        if not quiet:
            typer.echo(f"{path}: {what}")
