"""Results to keep: everything as JSON, a row a case as CSV, and a page to look at."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from medtranslate.errors import OutputExists, OutputFailed
from medtranslate.evaluation.lesions import LesionResult
from medtranslate.evaluation.page import page
from medtranslate.evaluation.paired import PairedErrors
from medtranslate.evaluation.results import Evaluation
from medtranslate.files import whole_folder
from medtranslate.text import plain

EVERYTHING = "evaluation.json"
CASES = "cases.csv"
LESIONS = "lesions.csv"
PAGE = "evaluation.html"
OURS = {EVERYTHING, CASES, LESIONS, PAGE}


def write_report(
    evaluation: Evaluation, folder: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write `evaluation.json`, `cases.csv` and `evaluation.html` into a folder, all or none.

    With a lesion test also `lesions.csv`.

    Raises
    ------
    OutputExists
        The folder holds something already, and overwriting was not asked for.
    OutputFailed
        No permission, no space, no parent folder, or the folder to overwrite holds other things.
    """
    folder = Path(folder)
    check_report_folder(folder, overwrite=overwrite)
    with whole_folder(folder, overwrite=overwrite) as partial:
        text = json.dumps(plain(as_json(evaluation)), indent=2, allow_nan=False)
        (partial / EVERYTHING).write_text(text + "\n", encoding="utf-8")
        _write_cases(evaluation, partial / CASES)
        if any(row.lesions for row in evaluation.directions):
            _write_lesions(evaluation, partial / LESIONS)
        (partial / PAGE).write_text(page(evaluation), encoding="utf-8")
        written = sorted(each.name for each in partial.iterdir())
    return [folder / name for name in written]


def check_report_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that no report can go to: worth knowing before an hour of translation.

    A folder that holds anything but an earlier report is refused even with `overwrite`, which
    would remove what it holds.

    Raises
    ------
    OutputExists, OutputFailed
        As `write_report`.
    """
    if folder.is_dir():
        held = {each.name for each in folder.iterdir()}
        foreign = sorted(held - OURS)
        if foreign:
            raise OutputFailed(
                f"holds other things than a report, such as '{foreign[0]}'",
                path=folder,
                remedy="name a folder of its own",
            )
        if held and not overwrite:
            raise OutputExists("holds a report already", path=folder, remedy="--overwrite")
    elif not folder.absolute().parent.is_dir():
        raise OutputFailed("its parent folder does not exist", path=folder)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything but the images, in builtins; what is not finite becomes null."""
    content = {
        field.name: getattr(evaluation, field.name)
        for field in fields(evaluation)
        if field.name != "galleries"
    }
    plain: dict[str, Any] = _plain({"format": 2, **content})
    return plain


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(each) for name, each in asdict(value).items()}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_cases(evaluation: Evaluation, path: Path) -> None:
    measures = [field.name for field in fields(PairedErrors)]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        header = ["model", "version", "source", "target", "name", "case", "cycle_error", "unit"]
        rows.writerow([*header, *measures])
        for row in evaluation.directions:
            unit = row.paired.scale.unit if row.paired else ""
            for case in row.cases:
                paired = [getattr(case.paired, name) if case.paired else "" for name in measures]
                rows.writerow([
                    row.model, row.version, row.source, row.target,
                    case.name, case.case, case.cycle_error, unit, *paired,
                ])  # fmt: skip


def _write_lesions(evaluation: Evaluation, path: Path) -> None:
    measures = [field.name for field in fields(LesionResult)]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "version", "source", "target", *measures, "reconstruction"])
        for row in evaluation.directions:
            for lesion in row.lesions.lesions if row.lesions else ():
                rows.writerow([
                    row.model, row.version, row.source, row.target,
                    *(getattr(lesion, name) for name in measures), lesion.reconstruction,
                ])  # fmt: skip
