"""``medtranslate view``: the viewer of a result."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.errors import OutputFailed
from medtranslate.files import cache_folder, check_present

Result = Annotated[
    Path,
    typer.Argument(metavar="RESULT", parser=shared.given_path, help="A volume that convert wrote."),
]
Source = Annotated[
    str,
    typer.Option("--source", metavar="SCAN", help="Its scan; by default it is looked for."),
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="MAP", help="Error map; by default those beside the result."),
]
Output = Annotated[str, shared.output("Page to write; by default it is opened in the browser.")]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="Name no file in the page.")]


def view(
    result: Result,
    source: Source = "",
    map: Maps = None,
    output: Output = "",
    anonymous: Anonymous = False,
    overwrite: shared.Overwrite = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Look at a result beside its scan, with the error maps over both, in the browser.

    The page is one file, which opens from disk and loads nothing. Without -o it lies in the user's
    cache folder until the next view.
    """
    check_present(result)
    from medtranslate.report.view import write_view

    page = Path(output) if output else cache_folder("view", "view.html")
    if not output:
        page.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shown = write_view(
        result,
        page,
        source=source,
        maps=tuple(map or ()),
        anonymous=anonymous,
        overwrite=overwrite or not output,
    )
    if not quiet:
        typer.echo(f"{result} -> {page}: beside {shown.source}")
        for one in shown.maps:
            typer.echo(f"  map {one}")
    if not output and not webbrowser.open(page.resolve().as_uri()):
        raise OutputFailed("no browser to open it in", path=page, remedy="write a page with -o")
