"""The report as an HTML page: one file that contains its images and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from medtranslate import html
from medtranslate.files import whole_file
from medtranslate.quality.cycle import GrayImage, WorstSlice
from medtranslate.report.text import MEANINGS, findings


def write_page(
    content: Mapping[str, Any],
    worst: Sequence[Sequence[WorstSlice]],
    path: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write a report as a page, complete or not at all.

    Parameters
    ----------
    content : mapping
        From `report`.
    worst : sequence of sequences of WorstSlice
        For each of ``content["conversions"]`` the slices to show; may be empty.
    path : Path
        The file to write.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page(content, worst), encoding="utf-8")


def page(content: Mapping[str, Any], worst: Sequence[Sequence[WorstSlice]]) -> str:
    """Return a report as HTML; parameters as for `write_page`."""
    conversions = content["conversions"]
    failed = sum(one["status"] == "failed" for one in conversions)
    return html.render(
        "conversion_report",
        title=f"medtranslate: {len(conversions) - failed} of {len(conversions)} converted",
        call=_call(content),
        scans=[_scan(one, slices) for one, slices in zip(conversions, worst, strict=True)],
        meanings=MEANINGS.items(),
        json=json.dumps(content, indent=1, ensure_ascii=False),
    )


def _call(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, device, software = (content[key] for key in ("model", "device", "software"))
    rows = [
        ("Made", content["created"]),
        ("Exit code", str(content["exit_code"])),
        ("Time", f"{content['seconds']['total']:.1f} s"),
        ("Software", f"medtranslate {software.get('medtranslate', '')}, torch {software['torch']}"),
    ]
    if model:
        rows.append(("Model", f"{model['name']} {model['version']}"))
    if device:
        rows.append(("Device", f"{device['name']}, {device['precision']}"))
    return rows


def _scan(one: Mapping[str, Any], worst: Sequence[WorstSlice]) -> dict[str, Any]:
    cycle = one["cycle_error"]
    return {
        "name": Path(one["input"]["path"]).name,
        "error": one["error"]["message"] if one["error"] else "",
        "label": one["synthesis"]["label"] if one["output"] else "",
        "files": list(_files(one)),
        "findings": list(findings(one)),
        "chart": _chart(cycle) if cycle and len(cycle["slices"]) > 1 else None,
        "worst": [_worst_slice(each, one) for each in worst],
    }


def _files(one: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Scan", one["input"]["path"]
    names = {
        "output": "Result",
        "preview": "Preview",
        "error_map": "Cycle error map",
        "variation_map": "Variation map",
    }
    for key, name in names.items():
        if one[key]:
            yield name, one[key]["path"]


def _chart(cycle: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bars of each slice: its peak, and over it its mean; heights in percent."""
    slices = cycle["slices"]
    highest = max(max(one["error"], one["peak"] or 0.0) for one in slices) or 1.0
    return {
        "units": cycle["units"],
        "slices": len(slices),
        "highest": highest,
        "bars": [
            {"x": x, "height": 100 * value / highest, "value": value, "name": name, "kind": kind}
            for x, one in enumerate(slices)
            for kind, name, value in _bars(one, set(cycle["worst_slices"][:4]))
        ],
    }


def _bars(one: Mapping[str, Any], worst: set[int]) -> Iterator[tuple[str, str, float]]:
    name = f"slice {one['index']}"
    if one["peak"] is not None:
        kind = "worst" if one["index"] in worst else "peak"
        yield kind, f"{name}, largest at one place", one["peak"]
    yield "mean", f"{name}, mean", one["error"]


def _worst_slice(shown: WorstSlice, one: Mapping[str, Any]) -> dict[str, Any]:
    units = one["cycle_error"]["units"]
    low, high = one["cycle_error"]["range"]
    where = f"Slice {shown.index}: " if one["source"]["kind"] == "volume" else ""
    peak = "" if shown.peak is None else f", {shown.peak:.1f} {units} at the worst place"
    images = (
        (shown.source, f"source {one['source']['modality']}"),
        (shown.result, f"synthetic {one['synthesis']['modality']}"),
        (shown.reconstruction, "reconstruction"),
        (_overlay(shown), f"cycle error: white is {(high - low) / 2:g} {units} or more"),
    )
    return {
        "text": f"{where}{shown.error:.1f} {units} on average{peak}",
        "images": [{"uri": html.image_uri(image), "caption": caption} for image, caption in images],
    }


def _overlay(shown: WorstSlice) -> GrayImage:
    """Lay the cycle error, in colors, over the dimmed scan."""
    colors = colormaps["inferno"](shown.difference)[..., :3] * 255
    opacity = np.minimum(1.0, shown.difference[..., None] / 96)  # opaque from a fifth of the range
    dimmed = shown.source[..., None] * 0.5
    blended: GrayImage = (dimmed * (1 - opacity) + colors * opacity).astype(np.uint8)
    return blended
