"""The page of an evaluation: tables, plots and images in one HTML file."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from medtranslate import html
from medtranslate.evaluation.lesions.planting import SHAPES
from medtranslate.evaluation.results import DirectionResult, Evaluation, Gallery
from medtranslate.evaluation.table import Grid, direction_label, grids, model_label

_SHOWN_SIDE = 160


def page(evaluation: Evaluation) -> str:
    """Return the whole page as HTML."""
    protocol = evaluation.protocol
    plots = (
        (_fid_plot(evaluation), "FID between the floor and no translation; lower is nearer"),
        (_cycle_plot(evaluation), "Cycle errors, gray levels of 255 inside the head"),
    )
    return html.render(
        "evaluation",
        title=f"Evaluation, protocol '{protocol['name']}'",
        description=f"{protocol['description']}. Images: {protocol['sizing']}.",
        warnings=evaluation.warnings,
        grids=grids(evaluation),
        plots=[{"uri": html.figure_uri(plot), "caption": caption} for plot, caption in plots],
        survival=[_survival_table(row) for row in evaluation.directions if row.lesions],
        galleries=[_gallery(gallery) for gallery in evaluation.galleries],
        record=_record(evaluation).items(),
    )


def _survival_table(row: DirectionResult) -> Grid:
    assert row.lesions is not None
    found = {(g.shape, g.contrast, g.diameter): g for g in row.lesions.groups if g.sorts == 3}
    contrasts = [str(contrast) for contrast in row.lesions.contrasts]
    return Grid(
        title=f"Survival by size, {model_label(row)}, {direction_label(row)}",
        caption="In brackets: share of these lesions that is seen in the translation.",
        headers=("contrast", "shape", *(f"{d:g} mm" for d in row.lesions.diameters)),
        rows=tuple(
            (
                contrast,
                shape,
                *(
                    f"{group.survival.mean:.2f} ({100 * group.seen.mean:.0f} %)"
                    for group in (found[shape, contrast, d] for d in row.lesions.diameters)
                ),
            )
            for contrast in contrasts
            for shape in SHAPES
        ),
    )


def _gallery(gallery: Gallery) -> dict[str, str]:
    title = (
        f"{gallery.model}, {gallery.source.upper()} to {gallery.target.upper()}: {gallery.choice}"
    )
    listed = "; ".join(
        f"{name} ({caption})" for name, caption in zip(gallery.names, gallery.captions, strict=True)
    )
    # One image a column of the grid: cases run from left to right, steps from top to bottom.
    grid = np.concatenate([np.concatenate(list(case), axis=0) for case in gallery.rows], axis=1)
    image = Image.fromarray(grid)
    shrink = _SHOWN_SIDE / gallery.rows.shape[-1]
    size = (round(image.width * shrink), round(image.height * shrink))
    return {
        "title": title,
        "uri": html.image_uri(image.resize(size)),
        "caption": f"From top to bottom: {', '.join(gallery.columns)}. {listed}",
    }


def _record(evaluation: Evaluation) -> dict[str, str]:
    return {
        "Seed": str(evaluation.seed),
        "Extractor": ", ".join(f"{k} {v}" for k, v in evaluation.extractor.items()),
        "Machine and versions": ", ".join(f"{k} {v}" for k, v in evaluation.machine.items()),
        "Time": ", ".join(f"{k} {v:.0f} s" for k, v in evaluation.seconds.items()),
        **{
            f"{each.modality.upper()} {each.role} set": (
                f"{each.images} images, {each.folder or 'in memory'}, sha256 {each.sha256}"
            )
            for each in evaluation.sets
        },
        **{
            f"Weights of {model_label(row)}, {direction_label(row)}": row.weights_sha256
            for row in evaluation.directions
            if row.weights_sha256
        },
    }


def _fid_plot(evaluation: Evaluation) -> Figure:
    labels, values, colors = [], [], []
    for target, beside in evaluation.baselines.items():
        rows = [row for row in evaluation.directions if row.target == target]
        bars = [("floor", beside.floor.fid, "#8a97a6")] if beside.floor else []
        bars += [(model_label(row), row.distances.fid, "#2f6fb0") for row in rows]
        if evaluation.protocol["name"] == "published":
            bars += [
                (f"{model_label(row)}, paper's", row.paper_fid, "#7fb2df")
                for row in rows
                if row.paper_fid is not None
            ]
        bars.append(("no translation", beside.ceiling.fid, "#8a97a6"))
        for label, value, color in bars:
            labels.append(f"{direction_label(rows[0])}: {label}")
            values.append(value)
            colors.append(color)
    figure = Figure(figsize=(9, 0.6 + 0.32 * len(labels)), layout="constrained")
    axes = figure.subplots()
    bars_drawn = axes.barh(labels, values, color=colors)
    axes.bar_label(bars_drawn, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("FID")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _cycle_plot(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, source in zip(panels, ("ct", "mri"), strict=True):
        for row in evaluation.directions:
            if row.source == source:
                errors = [case.cycle_error for case in row.cases]
                axes.hist(errors, bins=30, alpha=0.6, label=model_label(row))
        axes.set_title(f"{source.upper()} and back")
        axes.set_xlabel("cycle error")
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("images")
    return figure
