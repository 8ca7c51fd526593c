"""``medtranslate inspect``: what a file, folder or zip is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtranslate.files import check_present

Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="A file, a folder or a zip, as convert takes it.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for machines.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show tracebacks.")]


def inspect(path: Input, json: Json = False, verbose: Verbose = False) -> None:
    """Say what an input is: format, modality, shape, spacing, orientation, values, series, faults.

    A single scan is read whole; of several, the headers alone. Series are numbered as convert's
    --series takes them.
    """
    if not path:  # which as a path would be the current folder
        raise typer.BadParameter("INPUT is empty; is a variable unset?")
    check_present(Path(path))  # before what takes seconds to import
    from medtranslate.cli.inspect_output import as_json, show
    from medtranslate.conversion.inspection import look

    seen = look(Path(path))
    if json:
        typer.echo(as_json(seen))
    else:
        show(seen)
    if seen.refusal is not None:
        raise seen.refusal
