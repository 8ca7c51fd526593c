"""The program ``medtranslate``: its commands, gathered from the files beside this one."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated

import typer

import medtranslate

COMMANDS = (
    "convert",
    "inspect",
    "view",
    "demo",
    "train",
    "evaluate",
    "data",
    "bundle",
    "node",
    "bids",
    "cohort",
)
"""In the order of the help; each is a module with a function, or a `typer.Typer`, of its name."""

app = typer.Typer(
    name="medtranslate",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medtranslate {medtranslate.__version__}")
        raise typer.Exit


@app.callback()
def medtranslate_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Turn a brain CT into an MRI and an MRI into a CT. Results are synthetic: not for diagnosis.

    Exit codes are listed in docs/reference/exit-codes.md.
    """


def _gather() -> None:
    for name in COMMANDS:
        module = f"medtranslate.cli.{name}"
        if importlib.util.find_spec(module) is None:
            continue
        command = getattr(importlib.import_module(module), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)


_gather()
