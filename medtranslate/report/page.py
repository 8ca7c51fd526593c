"""The report as a page to read: one HTML file that asks nothing of any network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from medtranslate.files import whole_file
from medtranslate.quality.worst_slices import Look, Picture
from medtranslate.report.text import MEANINGS, told

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;
color:#1c1c1e;background:#fff}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.5rem;
border-top:1px solid #ccc;padding-top:1rem;overflow-wrap:anywhere}h3{font-size:1rem}
.label{background:#ffe9b8;color:#5c3c00;padding:.4rem .8rem;border-radius:.3rem;
display:inline-block}
.bad{background:#ffd9d6;color:#7a0c05;padding:.4rem .8rem;border-radius:.3rem}
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.2rem .8rem .2rem 0;text-align:left;
vertical-align:top;overflow-wrap:anywhere}
.row{display:grid;grid-template-columns:repeat(4,1fr);gap:.5rem;margin:.3rem 0 1rem}
.row figure{margin:0}.row img{width:100%;background:#000;display:block}
figcaption{font-size:.8rem;color:#555}pre{overflow:auto;font-size:.75rem}
.chart{width:100%;height:9rem}.chart rect{fill:#8aa4c8}.chart rect.worst{fill:#d1495b}
.chart rect.mean{fill:#33507c}
dt{font-weight:600}dd{margin:0 0 .6rem}
@media(prefers-color-scheme:dark){body{background:#18181a;color:#e6e6e6}figcaption{color:#aaa}
h2{border-color:#444}}
"""

_CHOSEN = (
    "<p>Of the slices that show a good part of the head, lie above the skull base and are not "
    "unlike those that the model learnt from; there much is always lost.</p>"
)


def write_page(
    content: Mapping[str, Any],
    looks: Sequence[Sequence[Look]],
    path: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write a report as a page, whole or not at all.

    Parameters
    ----------
    content : mapping
        From `report`.
    looks : sequence of sequences of Look
        For each of ``content["conversions"]`` the slices to show; empty ones are fine.
    path : Path
        The file to be.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page(content, looks), encoding="utf-8")


def page(content: Mapping[str, Any], looks: Sequence[Sequence[Look]]) -> str:
    """Give a report as HTML; `write_page` has the parameters."""
    conversions = content["conversions"]
    failed = sum(one["status"] == "failed" for one in conversions)
    made = f"{len(conversions) - failed} of {len(conversions)} converted"
    sections = (_conversion(one, shown) for one, shown in zip(conversions, looks, strict=True))
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>medtranslate: {escape(made)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>medtranslate: {escape(made)}</h1>",
            '<p class="label">Every result is synthetic and not for diagnosis.</p>',
            _table(_call(content)),
            *sections,
            "<h2>What the figures mean</h2><dl>",
            *(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in MEANINGS.items()),
            "</dl><details><summary>The whole report, as JSON</summary><pre>",
            escape(json.dumps(content, indent=1, ensure_ascii=False)),
            "</pre></details></body></html>\n",
        ]
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


def _conversion(one: Mapping[str, Any], looks: Sequence[Look]) -> str:
    parts = [f"<h2>{escape(Path(one['input']['path']).name)}</h2>"]
    if one["error"]:
        parts.append(f'<p class="bad">{escape(one["error"]["message"])}</p>')
    if one["output"]:
        parts.append(f'<p class="label">{escape(one["synthesis"]["label"])}</p>')
    parts.append(_table(_files(one)))
    if lines := told(one):
        parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]
    cycle = one["cycle_error"]
    several = cycle and len(cycle["slices"]) > 1
    if several:
        parts.append(f"<h3>Round trip by slice, {escape(cycle['units'])}</h3>{_chart(cycle)}")
    if looks:
        parts.append(f"<h3>Where the round trip lost most</h3>{_CHOSEN if several else ''}")
        parts += [_row(look, one) for look in looks]
    return "\n".join(parts)


def _files(one: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Scan", one["input"]["path"]
    names = {
        "output": "Result",
        "preview": "Preview",
        "error_map": "Round-trip map",
        "variation_map": "Variation map",
    }
    for key, name in names.items():
        if one[key]:
            yield name, one[key]["path"]


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _chart(cycle: Mapping[str, Any]) -> str:
    """Draw a bar a slice, its peak, and its mean within; the worst slices stand out."""
    slices, worst = cycle["slices"], set(cycle["worst_slices"][:4])
    highest = max(max(one["error"], one["peak"] or 0.0) for one in slices) or 1.0
    bars = ""
    for place, one in enumerate(slices):
        name = f"slice {one['index']}"
        if one["peak"] is not None:
            kind = "worst" if one["index"] in worst else "peak"
            bars += _bar(place, one["peak"], highest, f"{name}, worst place", kind)
        bars += _bar(place, one["error"], highest, f"{name}, mean", "mean")
    return (
        f'<svg class="chart" viewBox="0 0 {len(slices)} 100" preserveAspectRatio="none">{bars}'
        "</svg><p>From below to above: the worst place of each slice, red in the worst slices, "
        f"and, dark, its mean; the tallest bar is {highest:.1f}. A slice with too little head has "
        "a mean only. Slices are numbered from 0 along the file's own axis.</p>"
    )


def _bar(place: int, value: float, highest: float, name: str, kind: str) -> str:
    height = 100 * value / highest
    return (
        f'<rect class={kind} x="{place}" width="0.9" y="{100 - height:.2f}" '
        f'height="{height:.2f}"><title>{name}: {value:g}</title></rect>'
    )


def _row(look: Look, one: Mapping[str, Any]) -> str:
    made, units = one["synthesis"]["modality"], one["cycle_error"]["units"]
    low, high = one["cycle_error"]["range"]
    pictures = (
        (look.source, f"source {one['source']['modality']}"),
        (look.result, f"synthetic {made}"),
        (look.back, "translated back"),
        (_hot(look), f"lost: white is {(high - low) / 2:g} {units} or more"),
    )
    figures = (
        f'<figure><img alt="{escape(name)}" src="{_png(picture)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for picture, name in pictures
    )
    where = f"Slice {look.index}: " if one["source"]["kind"] == "volume" else ""
    peak = "" if look.peak is None else f", {look.peak:.1f} {units} at the worst place"
    return (
        f"<p>{where}{look.error:.1f} {units} on average{peak}</p>"
        f"<div class=row>{''.join(figures)}</div>"
    )


def _hot(look: Look) -> Picture:
    """Lay what was lost, in colours, over the scan, dimmed."""
    colours = colormaps["inferno"](look.lost)[..., :3] * 255
    share = np.minimum(1.0, look.lost[..., None] / 96)  # opaque from a fifth of the range
    dimmed = look.source[..., None] * 0.5
    return (dimmed * (1 - share) + colours * share).astype(np.uint8)


def _png(picture: Picture) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
