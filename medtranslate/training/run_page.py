"""The run page: one HTML file that says what was trained, on what, and how it went."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medtranslate import html
from medtranslate.files import reading, whole_file
from medtranslate.training.run_folder import RunFolder

_CURVES = {
    "cycle, identity and anchor (L1)": ("cycle_", "identity_", "anchor_"),
    "pairs (L1)": ("paired_", "rendered_"),
    "adversarial": ("adversarial_",),
    "discriminators": ("discriminator_",),
}


def write_page(run: RunFolder, about: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the page from what the run's folder holds; images are inside it."""
    losses = _rows(run.losses)
    grids = sorted(run.samples.glob("step-*.png"))
    page = html.render(
        "training_run",
        title="Training run",
        progress=_progress(losses[-1]) if losses else "",
        curves=html.figure_uri(_curves(losses, _rows(run.validation))) if losses else "",
        images=_images(grids[-1]) if grids else None,
        data=_data(report).items(),
        settings=about["settings"].items(),
        versions=about["versions"].items(),
    )
    with whole_file(run.page, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _progress(last: dict[str, str]) -> str:
    return (
        f"Step {last['step']}, epoch {last['epoch']}, {float(last['seconds']) / 3600:.2f} h, "
        f"{float(last['pairs_per_second']):.2f} pairs per second."
    )


def _images(grid: Path) -> dict[str, str]:
    with reading(grid):
        content = grid.read_bytes()
    return {
        "uri": html.png_uri(content),
        "caption": "From left to right: CT, synthetic MRI, reconstructed CT; MRI, synthetic CT, "
        f"reconstructed MRI. {grid.stem}.",
    }


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with reading(path), path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _curves(losses: list[dict[str, str]], validation: list[dict[str, str]]) -> Figure:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    curves = {
        title: [name for name in losses[0] if name.startswith(starts)]
        for title, starts in _CURVES.items()
    }
    curves = {title: names for title, names in curves.items() if names}
    axes = figure.subplots(1, len(curves) + bool(validation), squeeze=False)[0]
    steps = [int(row["step"]) for row in losses]
    for axis, (title, names) in zip(axes, curves.items(), strict=False):
        for name in names:
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
    return figure


def _data(report: dict[str, Any]) -> dict[str, str]:
    parts = []
    for name, part in report.items():
        if "label_maps" in part:
            parts.append((name, f"{part['label_maps']} label maps, rendered while training"))
            continue
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
    return dict(parts)
