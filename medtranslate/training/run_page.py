"""The run page: one HTML file that says what was trained, on what, and how it went."""

from __future__ import annotations

import base64
import csv
import html
import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medtranslate.files import whole_file
from medtranslate.training.run_folder import RunFolder

_CURVES = {
    "cycle, identity and anchor (L1)": ("cycle_", "identity_", "anchor_"),
    "adversarial": ("adversarial_",),
    "discriminators": ("discriminator_",),
}
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}"
    "img{max-width:100%}table{border-collapse:collapse}td{border:1px solid #ccc;padding:.2em .6em}"
)


def write_page(run: RunFolder, about: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the page from the files of the run's folder; images are embedded."""
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>Training run</title>"]
    parts += [f"<style>{_STYLE}</style><h1>Training run</h1>"]
    losses = _rows(run.losses)
    if losses:
        last = losses[-1]
        parts.append(
            f"<p>Step {last['step']}, epoch {last['epoch']}, "
            f"{float(last['seconds']) / 3600:.2f} h, "
            f"{float(last['pairs_per_second']):.2f} pairs per second.</p>"
        )
        parts.append(_image(_curves(losses, _rows(run.validation))))
    grids = sorted(run.samples.glob("step-*.png"))
    if grids:
        parts.append(
            "<h2>Images</h2><p>From left to right: CT, MRI made of it, back to CT; MRI, CT made "
            f"of it, back to MRI. {html.escape(grids[-1].stem)}.</p>"
        )
        parts.append(_image(grids[-1].read_bytes()))
    parts.append("<h2>Data</h2>" + _data_table(report))
    parts.append("<h2>Settings</h2>" + _table(about["settings"]))
    parts.append("<h2>Versions</h2>" + _table(about["versions"]))
    with whole_file(run.page, overwrite=True) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _curves(losses: list[dict[str, str]], validation: list[dict[str, str]]) -> bytes:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(_CURVES) + bool(validation), squeeze=False)[0]
    steps = [int(row["step"]) for row in losses]
    for axis, (title, starts) in zip(axes, _CURVES.items(), strict=False):
        for name in losses[0]:
            if name.startswith(starts):
                axis.plot(steps, [float(row[name]) for row in losses], label=name, linewidth=0.9)
        axis.set_title(title)
    if validation:
        steps = [int(row["step"]) for row in validation]
        for name in ("kid_mri", "kid_ct"):
            axes[-1].plot(steps, [float(row[name]) for row in validation], label=name)
        axes[-1].set_title("validation (KID, lower is better)")
    for axis in axes:
        axis.set_xlabel("step")
        axis.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _data_table(report: dict[str, Any]) -> str:
    parts = []
    for name, part in report.items():
        reasons: dict[str, int] = {}
        for each in part["left_out"]:
            reasons[each["reason"]] = reasons.get(each["reason"], 0) + 1
        said = "; ".join(f"{count} left out: {reason}" for reason, count in reasons.items())
        doubtful = len(part["look_like_the_other_modality"])
        parts.append(
            (name, f"{part['scans']} scans, {part['slices']} slices; "
             f"{part['empty_slices_left_out']} empty slices left out; {doubtful} scans look like "
             f"the other modality{'; ' if said else ''}{said}")
        )  # fmt: skip
    return _table(dict(parts))


def _table(values: dict[str, Any]) -> str:
    cells = (
        f"<tr><td>{html.escape(name)}<td>{html.escape(str(value))}"
        for name, value in values.items()
    )
    return f"<table>{''.join(cells)}</table>"


def _image(png: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
