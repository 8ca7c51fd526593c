"""The page of an evaluation: tables, plots and pictures in one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from medtranslate.evaluation.lesions.planting import SHAPES
from medtranslate.evaluation.results import DirectionResult, Evaluation, Gallery
from medtranslate.evaluation.table import Grid, direction_label, grids, model_label

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem;
       color: #1c2430; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d5dae1; text-align: right }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
figure { margin: 1rem 0 } figcaption, .note { color: #5a6675; font-size: .9em }
.warning { background: #fff4d6; padding: .5rem .8rem; border-left: 4px solid #e0a800 }
.pictures { overflow-x: auto } img { max-width: 100%; image-rendering: auto }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere }
"""

_SHOWN_SIDE = 160


def page(evaluation: Evaluation) -> str:
    """Return the whole page as HTML."""
    protocol = evaluation.protocol
    title = f"Evaluation, protocol '{protocol['name']}'"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(protocol['description'])}. Pictures: {escape(protocol['sizing'])}.</p>",
        "<p class='warning'>Synthetic pictures. Not for diagnosis.</p>",
        *(f"<p class='warning'>{escape(warning)}</p>" for warning in evaluation.warnings),
        *(_table(grid) for grid in grids(evaluation)),
        _figure(_fid_plot(evaluation), "FID between the floor and no translation; lower is nearer"),
        _figure(_cycle_plot(evaluation), "Cycle errors, grey levels of 255 inside the head"),
        *(_survival_table(row) for row in evaluation.directions if row.lesions),
        *(_gallery(gallery) for gallery in evaluation.galleries),
        _record(evaluation),
    ]
    return (
        "<!doctype html>\n<html lang='en'>\n<head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(grid: Grid) -> str:
    head = "".join(f"<th scope='col'>{escape(header)}</th>" for header in grid.headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows
    )
    return (
        f"<table><caption>{escape(grid.title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p class='note'>{escape(grid.caption)}</p>"
    )


def _survival_table(row: DirectionResult) -> str:
    assert row.lesions is not None
    found = {(g.shape, g.contrast, g.diameter): g for g in row.lesions.groups if g.sorts == 3}
    contrasts = [str(contrast) for contrast in row.lesions.contrasts]
    return _table(
        Grid(
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
    )


def _gallery(gallery: Gallery) -> str:
    heading = (
        f"{gallery.model}, {gallery.source.upper()} to {gallery.target.upper()}: {gallery.choice}"
    )
    listed = "; ".join(
        f"{name} ({caption})" for name, caption in zip(gallery.names, gallery.captions, strict=True)
    )
    # One picture a column of the grid: cases run from left to right, steps from top to bottom.
    grid = np.concatenate([np.concatenate(list(case), axis=0) for case in gallery.rows], axis=1)
    picture = Image.fromarray(grid)
    shrink = _SHOWN_SIDE / gallery.rows.shape[-1]
    size = (round(picture.width * shrink), round(picture.height * shrink))
    return (
        f"<h2>{escape(heading)}</h2><div class='pictures'>"
        f"<img alt='{escape(heading)}' src='{_inline(picture.resize(size))}'></div>"
        f"<p class='note'>From top to bottom: {', '.join(gallery.columns)}. {escape(listed)}</p>"
    )


def _record(evaluation: Evaluation) -> str:
    entries = {
        "Seed": str(evaluation.seed),
        "Extractor": ", ".join(f"{k} {v}" for k, v in evaluation.extractor.items()),
        "Machine and versions": ", ".join(f"{k} {v}" for k, v in evaluation.machine.items()),
        "Time": ", ".join(f"{k} {v:.0f} s" for k, v in evaluation.seconds.items()),
        **{
            f"{each.modality.upper()} {each.role} set": (
                f"{each.pictures} pictures, {each.folder or 'in memory'}, sha256 {each.sha256}"
            )
            for each in evaluation.sets
        },
        **{
            f"Weights of {model_label(row)}, {direction_label(row)}": row.weights_sha256
            for row in evaluation.directions
            if row.weights_sha256
        },
    }
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries.items())
    return f"<h2>How this was made</h2><dl>{listed}</dl>"


def _fid_plot(evaluation: Evaluation) -> Figure:
    labels, values, colours = [], [], []
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
        for label, value, colour in bars:
            labels.append(f"{direction_label(rows[0])}: {label}")
            values.append(value)
            colours.append(colour)
    figure = Figure(figsize=(9, 0.6 + 0.32 * len(labels)), layout="constrained")
    axes = figure.subplots()
    bars_drawn = axes.barh(labels, values, color=colours)
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
    panels[0].set_ylabel("pictures")
    return figure


def _figure(figure: Figure, caption: str) -> str:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    source = f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"
    return (
        f"<figure><img alt='{escape(caption)}' src='{source}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _inline(picture: Image.Image) -> str:
    drawn = io.BytesIO()
    picture.save(drawn, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"
