"""The paper's table for any models: once as rows of text, for the terminal and for the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from medtranslate.evaluation.distances import Distances
from medtranslate.evaluation.lesions.results import LesionGroup
from medtranslate.evaluation.paired import Interval
from medtranslate.evaluation.results import DirectionResult, Evaluation
from medtranslate.evaluation.slices import FEW
from medtranslate.text import one_line

NOTHING = "–"
NARROWEST = 150
"""Columns that the widest table asks for; a narrower terminal folds cells, but no figure is cut."""
LESION_HEADERS = (
    "lesions", "n", "contrast (gray)", "survival", "seen in source", "seen", "inverted",
    "echo elsewhere", "reconstruction",
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """A table as text: a title, a sentence below it, headers and rows of the same length."""

    title: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(evaluation: Evaluation) -> list[Grid]:
    """Return the tables of an evaluation: distances, quality and cost, and paired errors."""
    found = [_distances(evaluation), _quality(evaluation)]
    if any(row.paired for row in evaluation.directions):
        found.append(_paired(evaluation))
    if any(row.lesions for row in evaluation.directions):
        found.append(_lesions(evaluation))
    return found


def show(evaluation: Evaluation, console: Console) -> None:
    """Print the tables and the warnings; into a file or a pipe as wide as they need."""
    if not console.is_terminal:
        console.width = max(console.width, NARROWEST)
    for grid in grids(evaluation):
        console.print(_table(grid))
    for warning in evaluation.warnings:
        console.print(one_line(f"Note: {warning}"), style="yellow", highlight=False, markup=False)


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, caption=grid.caption, title_justify="left")
    for number, header in enumerate(grid.headers):
        table.add_column(header, justify="left" if number < 2 else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    return table


def _distances(evaluation: Evaluation) -> Grid:
    return Grid(
        title=f"Distances to real images, protocol '{evaluation.protocol['name']}'",
        caption=(
            "n: translated/real images. FID on 8-bit slices; 'same n' has as many as the floor, "
            f"which is real against other real ones. KID is the figure to read under {FEW}."
            f"{_contrasts(evaluation)}{_grain(evaluation)}"
        ),
        headers=(
            "model", "direction", "n", "FID", "FID, paper", "FID, same n", "FID, floor (n)",
            "FID, no translation", "KID", "KID, floor", "KID, no translation",
        ),
        rows=tuple(_distance_row(evaluation, row) for row in evaluation.directions),
    )  # fmt: skip


def _contrasts(evaluation: Evaluation) -> str:
    """Return what contrasts MRI were taken to have, as sentences; none for models without."""
    sentences = [
        f" MRI of {model_label(row)}, {direction_label(row)}: "
        + ", ".join(f"{count} {name or 'not told'}" for name, count in row.mr_contrasts.items())
        + "."
        for row in evaluation.directions
        if row.mr_contrasts
    ]
    return "".join(sentences)


def _grain(evaluation: Evaluation) -> str:
    found = {row.grain for row in evaluation.directions if row.grain}
    return "".join(f" Noise of {each:g} HU was added to synthetic CT." for each in sorted(found))


def _distance_row(evaluation: Evaluation, row: DirectionResult) -> tuple[str, ...]:
    beside = evaluation.baselines[row.target]
    floor, ceiling, found = beside.floor, beside.ceiling, row.distances
    published = evaluation.protocol["name"] == "published"
    return (
        model_label(row),
        direction_label(row),
        _sizes(found),
        f"{found.fid:.2f}",
        _fixed(row.paper_fid if published else None, 2),
        _fixed(row.at_floor_size.fid if row.at_floor_size else None, 2),
        f"{floor.fid:.2f} ({_sizes(floor)})" if floor else NOTHING,
        f"{ceiling.fid:.2f}",
        _kid(found),
        _kid(floor) if floor else NOTHING,
        _kid(ceiling),
    )


def _quality(evaluation: Evaluation) -> Grid:
    rows = tuple(
        (
            model_label(row),
            direction_label(row),
            _fixed(row.distances.precision, 3),
            _fixed(row.distances.recall, 3),
            _interval(row.cycle_error, 2),
            _fixed(row.parameters / 1e6 if row.parameters else None, 1),
            _fixed(row.gflop, 1),
            f"{row.seconds_per_slice:.3f}",
        )
        for row in evaluation.directions
    )
    return Grid(
        title="What distances leave out, and what a slice costs",
        caption=(
            "Cycle error: gray levels of 255 inside the head, 95 % bootstrap interval. "
            f"Timed on {evaluation.machine['device']}, "
            f"{evaluation.machine['torch threads']} thread(s)."
        ),
        headers=(
            "model", "direction", "precision", "recall", "cycle error", "parameters (M)", "GFLOP",
            "s/slice",
        ),
        rows=rows,
    )  # fmt: skip


def _paired(evaluation: Evaluation) -> Grid:
    rows = []
    for row in evaluation.directions:
        if row.paired is None:
            continue
        scale = row.paired.scale
        rows.append((
            model_label(row),
            direction_label(row),
            str(row.paired.cases),
            f"{_interval(row.paired.mae, 2)} {scale.unit}",
            _interval(row.paired.psnr, 2),
            _interval(row.paired.ssim, 4),
            _interval(row.paired.ms_ssim, 4),
            f"{scale.low:g} to {scale.high:g} {scale.unit}",
        ))  # fmt: skip
    return Grid(
        title="Against the paired truth, inside the head",
        caption="Means over cases with 95 % bootstrap intervals.",
        headers=("model", "direction", "cases", "MAE", "PSNR (dB)", "SSIM", "MS-SSIM", "range"),
        rows=tuple(rows),
    )


def _lesions(evaluation: Evaluation) -> Grid:
    rows = tuple(
        (model_label(row), direction_label(row), *lesion_cells(group))
        for row in evaluation.directions
        if row.lesions
        for group in row.lesions.groups
        if group.sorts < 2
    )
    tests = [row.lesions for row in evaluation.directions if row.lesions]
    spots = ", ".join(
        f"{model_label(row)} {direction_label(row)} {_interval(row.lesions.invented, 2)}"
        for row in evaluation.directions
        if row.lesions
    )
    return Grid(
        title="Lesions put into real slices: what is left of them in the translation",
        caption=(
            f"Each kind in up to {max(test.slices for test in tests)} slices a direction, seed "
            f"{evaluation.seed}; means with 95 % bootstrap intervals over scans. Survival: "
            "contrast in the translation by contrast put in, each in its modality's own terms, "
            "without its sign; inverted: share of those seen whose contrast changed its sign. "
            "Reconstruction: share of "
            f"the contrast after both translations. Spots without a lesion, a slice: {spots}."
        ),
        headers=("model", "direction", *LESION_HEADERS),
        rows=rows,
    )


def lesion_cells(group: LesionGroup) -> tuple[str, ...]:
    """Return a group's cells, under `LESION_HEADERS`."""
    diameter = f"{group.diameter:g} mm" if group.diameter else ""
    return (
        " ".join(filter(None, (group.shape, group.contrast, diameter))) or "all",
        str(group.lesions),
        f"{group.planted:.0f}",
        _interval(group.survival, 2),
        _percent(group.seen_in_source),
        _percent(group.seen),
        _percent(group.inverted),
        _percent(group.echoed),
        _interval(group.reconstruction, 2),
    )


def model_label(row: DirectionResult) -> str:
    """Return the model's name and version."""
    return f"{row.model} {row.version}".strip()


def direction_label(row: DirectionResult) -> str:
    """Return "CT to MRI" or "MRI to CT"."""
    return f"{row.source.upper()} to {row.target.upper()}"


def _sizes(found: Distances) -> str:
    return f"{found.sizes[0]}/{found.sizes[1]}"


def _kid(found: Distances) -> str:
    return f"{found.kid:.4f} ± {found.kid_deviation:.4f}"


def _fixed(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _percent(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return NOTHING
    mean, low, high = (f"{100 * x:.0f}" for x in (interval.mean, interval.low, interval.high))
    return f"{mean} % [{low}, {high}]"


def _interval(interval: Interval, digits: int) -> str:
    mean, low, high = (f"{x:.{digits}f}" for x in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
