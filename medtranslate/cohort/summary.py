"""The figures of a cohort: a table with one row a scan, and one page with its worst cases."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from medtranslate import html
from medtranslate.cohort.journal import Entry, ScanState
from medtranslate.errors import MedTranslateError
from medtranslate.files import whole_file
from medtranslate.imaging import read_scan
from medtranslate.report.page import MEANINGS, findings
from medtranslate.report.record import anonymous_scan
from medtranslate.text import escaped

WORST = 12
"""Scans that the page shows."""

_MEANT = ("Expected error", "Cycle error", "Domain check", "Coverage")

LISTED = 500
"""Scans that the page lists; the table has all."""

_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64()}

Getter = Callable[[Mapping[str, Any]], Any]


def _of(check: str, key: str) -> Getter:
    return lambda report: (report.get(check) or {}).get(key)


def _peak(report: Mapping[str, Any]) -> float | None:
    slices = (report.get("cycle_error") or {}).get("slices", [])
    return max((one["peak"] for one in slices if one["peak"] is not None), default=None)


def _listed(check: str, key: str, join: str) -> Getter:
    return lambda report: join.join(map(str, (report.get(check) or {}).get(key) or ()))


_COLUMNS: dict[str, tuple[type, Getter]] = {
    "scan": (str, lambda report: report["input"]["path"]),
    "status": (str, lambda report: report["status"]),
    "exit_code": (int, lambda report: (report["error"] or {}).get("exit_code", 0)),
    "error": (str, _of("error", "message")),
    "result": (str, _of("output", "path")),
    "format": (str, _of("source", "format")),
    "kind": (str, _of("source", "kind")),
    "modality": (str, _of("source", "modality")),
    "modality_basis": (str, _of("source", "modality_basis")),
    "shape": (str, _listed("source", "shape", "x")),
    "spacing_mm": (str, _listed("source", "spacing_mm", "x")),
    "model": (str, _of("synthesis", "model")),
    "model_version": (str, _of("synthesis", "version")),
    "contrast": (str, _of("synthesis", "contrast")),
    "source_contrast": (str, _of("synthesis", "source_contrast")),
    "domain": (str, _of("domain", "verdict")),
    "anomaly_score": (float, _of("domain", "score")),
    "domain_reasons": (str, _listed("domain", "reasons", "; ")),
    "expected_error": (float, _of("expected_error", "error")),
    "expected_error_units": (str, _of("expected_error", "units")),
    "expected_error_share": (float, _of("expected_error", "share_of_range")),
    "cycle_error": (float, _of("cycle_error", "error")),
    "cycle_error_units": (str, _of("cycle_error", "units")),
    "cycle_error_share": (float, _of("cycle_error", "share_of_range")),
    "cycle_error_peak": (float, _peak),
    "variation": (float, _of("variation", "error")),
    "variation_share": (float, _of("variation", "share_of_range")),
    "outside_field_voxels": (int, _of("unseen", "outside_field_voxels")),
    "above_window_share": (float, _of("unseen", "above_window_share")),
    "below_window_share": (float, _of("unseen", "below_window_share")),
    "warnings": (int, lambda report: len(report["warnings"])),
    "seconds": (float, lambda report: round(sum(report["seconds"].values()), 3)),
}
"""The columns of the table, each with its type and where in the report it comes from."""


@dataclass(frozen=True)
class Written:
    """The files that summarize a cohort."""

    csv: Path
    parquet: Path
    page: Path


def write_summary(
    entries: Sequence[Entry], folder: Path, *, to: str, anonymous: bool = False
) -> Written:
    """Write the table and the page of a cohort, each complete or not at all.

    Parameters
    ----------
    entries : sequence of Entry
        One a scan.
    folder : Path
        Gets ``cohort.csv``, ``cohort.parquet`` and ``cohort.html``, which are replaced.
    to : str
        ``"mri"`` or ``"ct"``.
    anonymous : bool
        Number the scans instead of naming files, folders, series and workers.

    Raises
    ------
    OutputFailed
        One cannot be written.
    """
    written = Written(*(folder / f"cohort.{end}" for end in ("csv", "parquet", "html")))
    done = [entry for entry in entries if entry.report]
    files = {entry.scan: entry.report for entry in done}
    if anonymous:
        named = {f"scan {number}": entry for number, entry in enumerate(done, 1)}
        files = {name: entry.report for name, entry in named.items()}
        done = [_anonymous(name, entry) for name, entry in named.items()]
    rows = [row(entry) for entry in done]
    with (
        whole_file(written.csv, overwrite=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        table = csv.DictWriter(file, [*_COLUMNS, "attempts", "worker"])
        table.writeheader()
        table.writerows(rows)
    with whole_file(written.parquet, overwrite=True) as temporary:
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema=_schema()), temporary)
    with whole_file(written.page, overwrite=True) as temporary:
        temporary.write_text(page(done, rows, files, to=to), encoding="utf-8")
    return written


def _anonymous(name: str, entry: Entry) -> Entry:
    return replace(entry, scan=name, worker="", report=anonymous_scan(name, entry.report))


def row(entry: Entry) -> dict[str, Any]:
    """Return the row of a scan: what is unknown of it is None."""
    values: dict[str, Any] = {}
    for name, (kind, get) in _COLUMNS.items():
        value = get(entry.report)
        if value in (None, ""):
            values[name] = None
        else:
            values[name] = escaped(str(value)) if kind is str else kind(value)
    return {**values, "attempts": entry.attempts, "worker": escaped(entry.worker) or None}


def _schema() -> pa.Schema:
    fields = [(name, _TYPES[kind]) for name, (kind, _) in _COLUMNS.items()]
    return pa.schema([*fields, ("attempts", pa.int64()), ("worker", pa.string())])


def page(
    entries: Sequence[Entry],
    rows: Sequence[Mapping[str, Any]],
    files: Mapping[str, Mapping[str, Any]],
    *,
    to: str,
) -> str:
    """Return the page of a cohort as HTML.

    Parameters
    ----------
    entries, rows : sequence
        One a scan: what is known of it, and its row of the table.
    files : mapping
        For each scan, by its name in `entries`, the report that names its images.
    to : str
        ``"mri"`` or ``"ct"``.
    """
    states = Counter(entry.state for entry in entries)
    failed = [one for one in rows if one["status"] == "failed"]
    kinds = {entry.error["exit_code"]: entry.error["kind"] for entry in entries if entry.error}
    codes = Counter(int(one["exit_code"]) for one in failed)
    ranked = _ranked(entries)
    measured = sorted(_share(entry) for entry in ranked if _share(entry) >= 0)
    return html.render(
        "cohort",
        title=f"medtranslate: cohort to {to.upper()}, {states[ScanState.CONVERTED]} of "
        f"{len(entries)} scans converted",
        figures=list(_figures(rows, states, measured)),
        kinds=[(kinds[code], code, count) for code, count in codes.most_common()],
        failed=[
            (one["scan"], one["error"].removeprefix(f"{one['scan']}: ")) for one in failed[:LISTED]
        ],
        bars=_bars(measured),
        worst=[_shown(entry, files[entry.scan]) for entry in ranked[:WORST]],
        meanings=[(name, MEANINGS[name]) for name in _MEANT],
        left_out=max(0, len(failed) - LISTED),
    )


def _figures(
    rows: Sequence[Mapping[str, Any]], states: Mapping[ScanState, int], measured: Sequence[float]
) -> Iterator[tuple[str, str]]:
    yield "Made", datetime.now(UTC).isoformat(timespec="seconds")
    yield "Scans", str(len(rows))
    for state in (ScanState.CONVERTED, ScanState.FAILED, ScanState.SKIPPED):
        if states[state] or state is not ScanState.SKIPPED:
            yield state.capitalize(), str(states[state])
    models = Counter(f"{one['model']} {one['model_version']}" for one in rows if one["model"])
    if models:
        yield "Model", ", ".join(sorted(models))
    verdicts = Counter(one["domain"] for one in rows if one["domain"])
    if verdicts:
        found = (f"{count} {verdict}" for verdict, count in verdicts.most_common())
        yield "Domain check", ", ".join(found)
    if measured:
        middle, high = np.percentile(measured, (50, 95))
        shares = f"median {middle:.1%}, 95th percentile {high:.1%}, highest {measured[-1]:.1%}"
        yield "Cycle error, of the range", shares
    seconds = sorted(one["seconds"] for one in rows if one["status"] == "converted")
    if seconds:
        total = f"{sum(seconds):.0f} s of workers in all"
        yield "Time of a scan", f"median {seconds[len(seconds) // 2]:.1f} s, {total}"


def _ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Return the converted scans, that with the largest cycle error or anomaly score first."""
    converted = [entry for entry in entries if entry.state is ScanState.CONVERTED]
    return sorted(converted, key=lambda one: (-_share(one), -_score(one), one.scan))


def _share(entry: Entry) -> float:
    return float((entry.report["cycle_error"] or {}).get("share_of_range", -1))


def _score(entry: Entry) -> float:
    return float((entry.report["domain"] or {}).get("score", -1))


def _bars(measured: Sequence[float]) -> dict[str, Any] | None:
    """Return the bars of the cycle error, a scan or several to each; heights in percent."""
    if len(measured) < 2:
        return None
    step = -(-len(measured) // LISTED)
    shown = list(measured)[::-1][::step]
    highest = shown[0] or 1.0
    bars = [
        {"x": x, "height": 100 * share / highest, "value": f"{share:.1%}"}
        for x, share in enumerate(shown)
    ]
    return {"count": len(shown), "highest": f"{highest:.1%}", "worst": WORST // step, "bars": bars}


def _shown(entry: Entry, files: Mapping[str, Any]) -> dict[str, Any]:
    report = entry.report
    return {
        "name": Path(report["input"]["path"]).name,
        "files": [("Scan", report["input"]["path"]), ("Result", report["output"]["path"])],
        "label": report["synthesis"]["label"],
        "findings": list(findings(report)),
        "images": list(_images(files)),
    }


def _images(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the preview of a scan, or the 2D image and its result; nothing where they are gone."""
    if report["preview"]:
        try:
            uri = html.png_uri(Path(report["preview"]["path"]).read_bytes())
        except OSError:
            return
        yield uri, f"source {report['source']['modality']} beside the result"
    elif report["source"]["kind"] == "image":
        named = (("input", f"source {report['source']['modality']}"), ("output", "result"))
        for key, caption in named:
            try:
                voxels = read_scan(report[key]["path"]).voxels
            except MedTranslateError:
                continue
            pixels = np.clip(np.asarray(voxels)[..., 0].T, 0, 255).astype(np.uint8)
            yield html.image_uri(np.ascontiguousarray(pixels)), caption
