"""The report as an HTML page: one file that contains its images and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from medtranslate import html
from medtranslate.files import whole_file
from medtranslate.quality.cycle import GrayImage, WorstSlice
from medtranslate.report.viewer import NO_LIBRARY, ScanView, embedded, library

MEANINGS = {
    "Expected error": "A small network saw the scan and the result, and predicts how far the "
    "result lies from the truth. It has learned that from rendered pairs of CT and MRI, and shows "
    "where such a result is usually wrong: a large value is a reason not to trust the place, a "
    "small one is no proof that it is right.",
    "Cycle error": "The result, rounded as it is written and with a little noise over it, was "
    "translated back, and this reconstruction compared with the scan. A structure that the "
    "reconstruction lacks may be missing, moved or invented in the result. The reverse does not "
    "hold: a small error is no proof that the result is right, because both directions can be "
    "wrong together. The slices listed and shown are those with the largest error at one place of "
    "8 mm well inside the head: on average, skull and skin have the largest errors of a slice.",
    "Variation": "The scan was translated again, mirrored and shifted by a few pixels. Anatomy "
    "does not depend on that; what changed is uncertain. What did not change may still be wrong.",
    "Domain check": "Whether the scan looks like those that the model was trained on: the "
    "modality, a head, upright, with its usual contrast. A scan that passes can still show a "
    "disease that the model has never seen.",
    "Coverage": "Places that the model could not see, or was not trained on. What the result "
    "shows there is background or a guess.",
}
"""What each check of a conversion means."""


def write_page(
    content: Mapping[str, Any],
    worst: Sequence[Sequence[WorstSlice]],
    path: Path,
    *,
    views: Mapping[int, ScanView | str] | None = None,
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
    views : mapping of int to (ScanView or str), optional
        For conversions, by number, what their viewer shows, or why there is none.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page(content, worst, views), encoding="utf-8")


def page(
    content: Mapping[str, Any],
    worst: Sequence[Sequence[WorstSlice]],
    views: Mapping[int, ScanView | str] | None = None,
) -> str:
    """Return a report as HTML; parameters as for `write_page`."""
    views = views or {}
    niivue = library() if any(isinstance(one, ScanView) for one in views.values()) else None
    conversions = content["conversions"]
    converted = sum(one["status"] == "converted" for one in conversions)
    return html.render(
        "conversion_report",
        title=f"medtranslate: {converted} of {len(conversions)} converted",
        call=_call(content),
        scans=[
            _scan(one, slices) | _viewer(number, views.get(number, ""), shown=bool(niivue))
            for number, (one, slices) in enumerate(zip(conversions, worst, strict=True))
        ],
        niivue=niivue,
        meanings=MEANINGS.items(),
        json=json.dumps(content, indent=1, ensure_ascii=False),
    )


@dataclass(frozen=True)
class CollectedScan:
    """One scan of a page that collects the scans of several reports.

    Parameters
    ----------
    report : mapping
        The report that it is from, as `medtranslate.report.report` returns it.
    scan : mapping
        One of the report's ``"conversions"``.
    preview : Path or None
        Image to show.
    link : str
        Address of its own page, relative to the collecting one; ``""`` for none.
    """

    report: Mapping[str, Any]
    scan: Mapping[str, Any]
    preview: Path | None = None
    link: str = ""


def write_collected(title: str, scans: Sequence[CollectedScan], path: Path) -> None:
    """Write one page about the scans of several reports; an earlier one is replaced.

    Parameters
    ----------
    title : str
        What the scans have in common.
    scans : sequence of CollectedScan
    path : Path
        The file to write, complete or not at all.

    Raises
    ------
    OutputFailed
        It cannot be written.
    """
    converted = sum(one.scan["status"] == "converted" for one in scans)
    text = html.render(
        "conversion_report",
        title=f"medtranslate: {title}, {converted} of {len(scans)} converted",
        call=[],
        scans=[
            _scan(one.scan, ())
            | {"view": None, "no_view": "", "link": one.link}
            | {"call": _call(one.report), "images": list(_preview(one))}
            for one in scans
        ],
        niivue=None,
        meanings=MEANINGS.items(),
        json=json.dumps([one.scan for one in scans], indent=1, ensure_ascii=False),
    )
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _preview(one: CollectedScan) -> Iterator[tuple[str, str]]:
    if one.preview is not None:
        with suppress(OSError):
            uri = html.png_uri(one.preview.read_bytes())
            yield uri, f"source {one.scan['source']['modality']} beside the result"


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
        "label": _label(one),
        "files": list(_files(one)),
        "findings": list(findings(one)),
        "chart": _chart(cycle) if cycle and len(cycle["slices"]) > 1 else None,
        "worst": [_worst_slice(each, one) for each in worst],
        "call": [],
        "images": [],
        "link": "",
    }


def _viewer(number: int, view: ScanView | str, *, shown: bool) -> dict[str, Any]:
    if isinstance(view, str):
        return {"view": None, "no_view": view}
    if not shown:
        return {"view": None, "no_view": NO_LIBRARY}
    return {"view": embedded(view, f"view-{number}"), "no_view": ""}


def _label(one: Mapping[str, Any]) -> str:
    if one["status"] == "skipped":
        return "Skipped: its result exists."
    return str(one["synthesis"]["label"]) if one["output"] else ""


def _files(one: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Scan", one["input"]["path"]
    names = {
        "output": "Result",
        "preview": "Preview",
        "expected_error_map": "Expected error map",
        "error_map": "Cycle error map",
        "variation_map": "Variation map",
        "figures": "Figures of the checks (DICOM structured report)",
    }
    for key, name in names.items():
        if one.get(key):  # what came later is not in every report
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


def findings(conversion: Mapping[str, Any]) -> Iterator[str]:
    """Describe what the checks of a conversion found.

    Parameters
    ----------
    conversion : mapping
        One of the report's ``"conversions"``.

    Yields
    ------
    str
        A sentence each.
    """
    for key, describe in _DESCRIBE.items():
        if conversion.get(key):  # what came later is not in every report
            yield from describe(conversion[key])
    yield from conversion["warnings"]


def _domain(found: Mapping[str, Any]) -> Iterator[str]:
    reasons = "; ".join(found["reasons"])
    if found["verdict"] == "not checked":
        yield f"Domain check: not made, {reasons}."
        return
    limits = found["limits"]
    forced = " The conversion was forced." if found["forced"] else ""
    yield (
        f"Domain check: {found['verdict']}{f' ({reasons})' if reasons else ''}; anomaly score "
        f"{found['score']:.1f}, warned of from {limits['warn']:g}, refused from "
        f"{limits['refuse']:g}.{forced}"
    )


def _expected(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Expected error: the result is expected to lie {found['error']:.1f} {found['units']} from "
        f"the truth on average, {found['share_of_range']:.1%} of its range."
    )


def _cycle(found: Mapping[str, Any]) -> Iterator[str]:
    peaks = {one["index"]: one["peak"] for one in found["slices"]}
    worst = next(iter(found["worst_slices"]), None)
    most = ""
    if len(peaks) > 1 and worst is not None and peaks[worst] is not None:
        most = f"; largest at one place of slice {worst}: {peaks[worst]:.1f}"
    yield (
        f"Cycle error: the reconstruction differs from the scan by {found['error']:.1f} "
        f"{found['units']} on average, {found['share_of_range']:.1%} of the range that the model "
        f"was shown{most}."
    )


def _variation(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Variation: mirrored and shifted, the result changes by {found['error']:.1f} "
        f"{found['units']} on average, {found['share_of_range']:.1%} of its range."
    )


def _unseen(found: Mapping[str, Any]) -> Iterator[str]:
    if found["outside_field_voxels"]:
        count = found["outside_field_voxels"]
        yield f"{count} voxels that are not air lie outside the model's field of view."
    above, below = found["above_window_share"], found["below_window_share"]
    if above + below >= 0.0005:
        yield (
            f"In {above + below:.1%} of the head the model could see no structure: {above:.1%} is "
            f"plain white to it, {below:.1%} plain black."
        )
    base, unlike = found["below_skull_base_slices"], found["unlike_training_slices"]
    if base:
        yield f"{_listed(base)} below the skull base, where the model was hardly trained."
    if unlike:
        yield f"{_listed(unlike)} unlike those that the model was trained on."


def _listed(slices: list[int]) -> str:
    if len(slices) == 1:
        return f"Slice {slices[0]} is"
    whole = sorted(slices) == list(range(min(slices), max(slices) + 1))
    shown = f"{min(slices)} to {max(slices)}" if whole else ", ".join(map(str, sorted(slices)))
    return f"Slices {shown} are"


_DESCRIBE = {
    "domain": _domain,
    "expected_error": _expected,
    "cycle_error": _cycle,
    "variation": _variation,
    "unseen": _unseen,
}
