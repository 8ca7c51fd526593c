"""``medtranslate demo``: a made head, converted with the shipped model; no download."""

from __future__ import annotations

from typing import Annotated

import typer

Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files will be.")
]
BundleOption = Annotated[
    str, typer.Option("--bundle", metavar="FOLDER", help="A model; by default the shipped one.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show tracebacks.")]


def demo(
    output: Output = "medtranslate-demo",
    bundle: BundleOption = "",
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> None:
    """Make a head phantom (a CT volume and a picture), convert it to MRI, say where the files are.

    Nothing is downloaded; the phantom is computed and shows nobody.
    """
    from pathlib import Path

    from medtranslate.conversion.demo import demonstrate

    for line in demonstrate(Path(output), bundle, overwrite=overwrite):
        typer.echo(line)
