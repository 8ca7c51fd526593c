"""``medtranslate inspect``: what a file, folder or zip is; a table, or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.files import check_present
from medtranslate.modality import Modality
from medtranslate.text import as_json, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from medtranslate.conversion.inspection import Inspection
    from medtranslate.imaging import Finding

_PIPE_WIDTH = 200

_ROWS = 40
"""More scans than this are counted by kind instead of listed."""

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", parser=shared.given, help="A file, a folder or a zip, as convert takes it."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def inspect(
    path: Input,
    json: Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Show format, modality, shape, spacing, orientation, values and faults of scans.

    A single scan is read whole; of several, the headers alone. Series are numbered as the option
    --series of convert takes them.
    """
    check_present(Path(path))  # before what takes seconds to import
    from medtranslate.conversion.inspection import inspect as look

    seen = look(path)
    if json:
        typer.echo(as_json(seen.as_builtins()), nl=False)
    elif not quiet:
        _show(seen)
    if seen.refusal is not None:
        raise seen.refusal


def _show(seen: Inspection) -> None:
    """Print a table on stdout: by property for one scan, by scan for several."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    if len(seen.findings) == 1:
        console.print(_one(seen.findings[0], seen))
    elif len(seen.findings) <= _ROWS:
        console.print(_several(seen))
        for finding in seen.findings:
            for fault in finding.faults:
                line = f"{_name(finding, seen.path)}: {fault}"
                console.print(one_line(line), markup=False)
    else:
        console.print(_counted(seen.findings))
    if seen.folder_modality[1]:
        console.print(
            f"all: {seen.folder_modality[0] or 'unknown modality'} ({seen.folder_modality[1]})"
        )


def _one(finding: Finding, seen: Inspection) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "path": finding.path,
        "format": " ".join(dict.fromkeys(filter(None, (finding.format, finding.kind)))),
        "modality": _modality(finding),
        "contrast": _contrast(finding),
        "series": finding.series,
        "description": finding.description,
        "shape": _by(finding.shape),
        "spacing": f"{_by(finding.spacing)} mm" if finding.spacing else "",
    }
    if seen.values is not None:
        low, high = seen.values.low, seen.values.high
        rows |= {
            "orientation": seen.values.orientation,
            "values": f"{low:g} to {high:g}, stored as {seen.values.dtype}",
        }
    for number, fault in enumerate(finding.faults):
        rows[f"note{f' {number + 1}' if number else ''}"] = fault
    rows["fault"] = finding.error
    for key, value in rows.items():
        if value:
            table.add_row(key, escape(one_line(value)))
    return table


def _several(seen: Inspection) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("no.", "scan", "format", "modality", "contrast", "shape", "spacing mm", "fault")
    for column in columns:
        table.add_column(column, overflow="fold")
    numbers = seen.series_numbers
    for finding in seen.findings:
        table.add_row(
            str(numbers.get(finding.series, "")),
            escape(one_line(_name(finding, seen.path))),
            finding.format,
            finding.modality,
            finding.contrast if finding.modality != Modality.CT else "",
            _by(finding.shape),
            _by(finding.spacing),
            escape(one_line(finding.error)),
        )
    return table


def _counted(findings: Sequence[Finding]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("scans", "format", "modality", "shape", "fault"):
        table.add_column(column, overflow="fold")
    kinds = Counter((one.format, one.modality, _by(one.shape), one.error) for one in findings)
    most = kinds.most_common(_ROWS)
    rest = len(findings) - sum(count for _, count in most)
    for (format, modality, shape, error), count in most:
        table.add_row(str(count), format, modality, shape, escape(one_line(error)))
    if rest:
        table.add_row(str(rest), "others")
    return table


def _name(finding: Finding, root: Path) -> str:
    if finding.series:
        return f"{finding.description or 'series'} {finding.series}"
    path = Path(finding.path)
    return str(path.relative_to(root)) if path.is_relative_to(root) else finding.path


def _contrast(finding: Finding) -> str:
    if finding.modality != Modality.MR or not finding.contrast:
        return ""
    return f"{finding.contrast} ({finding.contrast_basis})"


def _modality(finding: Finding) -> str:
    basis = f" ({finding.modality_basis})" if finding.modality_basis else ""
    return f"{finding.modality or 'unknown'}{basis}"


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.4g}" if number % 1 else f"{number:g}" for number in numbers)
