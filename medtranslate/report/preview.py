"""The preview: an image of source and result side by side, to look at before a result is used.

Volumes are shown in radiological convention: axial, the patient's right on the left, anterior at
the top, square in millimeters, with letters at the edges. 2D images are shown as they are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from medtranslate.files import whole_file
from medtranslate.text import one_line

if TYPE_CHECKING:
    from monai.data import MetaTensor

SIDE = 240
"""Pixels of the longer side of a slice in the preview."""

SLICES = 6
"""Number of slices of a volume that are shown."""

BRAIN_WINDOW = (-20.0, 100.0)
"""HU from black to white for a CT volume (level 40, width 120)."""

_PAIRS_A_ROW = 3
_GAP, _HEAD, _CAPTION = 8, 30, 18
_AMBER, _GRAY, _DARK = (255, 190, 60), (200, 200, 200), (24, 24, 24)


@dataclass(frozen=True, eq=False)
class Panel:
    """One slice, source beside result.

    Parameters
    ----------
    source, result : uint8 array (rows, columns)
        As shown, the longer side `SIDE` pixels.
    source_name, result_name : str
        ``"CT"`` and ``"SYNTHETIC MR"``.
    caption : str
        Which slice or file it is.
    placed : bool
        True for a volume, whose orientation is known; letters are drawn only then.

    Examples
    --------
    >>> gray = np.zeros((SIDE, SIDE), dtype=np.uint8)
    >>> panel = Panel(gray, gray, "CT", "SYNTHETIC MR", "slice 3 of 8", placed=True)
    >>> draw([panel], "SYNTHETIC MR, NOT FOR DIAGNOSIS").mode
    'RGB'
    """

    source: NDArray[np.uint8]
    result: NDArray[np.uint8]
    source_name: str
    result_name: str
    caption: str
    placed: bool


def panels(source: MetaTensor, result: MetaTensor, count: int = SLICES) -> tuple[Panel, ...]:
    """Select slices of a scan and its translation, evenly spread over the head.

    Parameters
    ----------
    source, result : MetaTensor (1, X, Y, Z)
        In physical units, on the same grid; the result with ``meta["synthesis"]``.
    count : int
        Maximum number of slices.

    Returns
    -------
    tuple of Panel
        Inferior to superior.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> head = Phantom((64, 64, 4), (3.0, 3.0, 40.0)).volume()
    >>> result = head.clone()
    >>> result.meta["synthesis"] = {"modality": "MR", "background": -1000.0, "window": []}
    >>> shown = panels(head, result, count=2)
    >>> [(panel.source_name, panel.result_name) for panel in shown]
    [('CT', 'SYNTHETIC MR'), ('CT', 'SYNTHETIC MR')]
    """
    record, synthesis = result.meta["source"], result.meta["synthesis"]
    placed = record["kind"] == "volume"
    affine = np.asarray(source.affine, dtype=np.float64)
    before, spacing = _radiological(source, affine, placed)
    after, _ = _radiological(result, affine, placed)
    chosen = _choose(after, float(synthesis["background"]), count)
    low_high = _range_of_source(before[..., chosen], record)
    made = _range_of_result(after[..., chosen].astype(np.float32), record, synthesis)
    total = before.shape[2]
    return tuple(
        Panel(
            _shown(before[..., z], low_high, spacing),
            _shown(after[..., z], made, spacing),
            record["modality"],
            f"SYNTHETIC {synthesis['modality']}",
            _caption(record, z, total),
            placed,
        )
        for z in chosen
    )


def save_preview(
    shown: Sequence[Panel], path: Path, label: str, *, overwrite: bool = False
) -> None:
    """Write panels as one PNG, complete or not at all.

    Parameters
    ----------
    shown : sequence of Panel
        In reading order.
    path : Path
        The file to write.
    label : str
        What the result is, at the top of the image and in PNG's ``Description``.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> gray = np.zeros((SIDE, SIDE), dtype=np.uint8)
    >>> panel = Panel(gray, gray, "CT", "SYNTHETIC MR", "slice 3 of 8", placed=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_preview([panel], Path(folder, "preview.png"), "SYNTHETIC MR, NOT FOR DIAGNOSIS")
    ...     Image.open(Path(folder, "preview.png")).text["Description"]
    'SYNTHETIC MR, NOT FOR DIAGNOSIS; preview'
    """
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", f"{label}; preview")
    content = io.BytesIO()
    draw(shown, label).save(content, format="PNG", pnginfo=text)
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content.getbuffer())


def draw(shown: Sequence[Panel], label: str) -> Image.Image:
    """Draw panels in rows of three pairs, under a label."""
    across = min(_PAIRS_A_ROW, max(1, len(shown)))
    down = -(-len(shown) // _PAIRS_A_ROW)
    width = across * (2 * SIDE + _GAP) + _GAP
    canvas = Image.new("RGB", (width, _HEAD + down * (SIDE + _CAPTION + _GAP) + _GAP), _DARK)
    pen = ImageDraw.Draw(canvas)
    _fit(pen, (_GAP, 7), label, 15, _AMBER, width - 2 * _GAP)
    for number, panel in enumerate(shown):
        row, column = divmod(number, _PAIRS_A_ROW)
        x = _GAP + column * (2 * SIDE + _GAP)
        y = _HEAD + row * (SIDE + _CAPTION + _GAP)
        _draw_panel(canvas, pen, panel, x, y)
    return canvas


def _draw_panel(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, panel: Panel, x: int, y: int
) -> None:
    _fit(pen, (x, y), one_line(panel.caption), 12, _GRAY, 2 * SIDE)
    y += _CAPTION
    named = ((panel.source, panel.source_name, _GRAY), (panel.result, panel.result_name, _AMBER))
    for number, (pixels, name, color) in enumerate(named):
        left = x + number * SIDE
        pen.rectangle((left, y, left + SIDE - 1, y + SIDE - 1), fill=(0, 0, 0))
        rows, columns = pixels.shape
        place = (left + (SIDE - columns) // 2, y + (SIDE - rows) // 2)
        canvas.paste(Image.fromarray(pixels).convert("RGB"), place)
        pen.text((left + 4, y + 2), name, fill=color, font=ImageFont.load_default(13))
        if panel.placed:
            _letters(pen, left, y)


def _letters(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    far, half, font = SIDE - 9, SIDE // 2, ImageFont.load_default(12)
    for letter, place in (
        ("A", (half, 10)),
        ("P", (half, far)),
        ("R", (9, half)),
        ("L", (far, half)),
    ):
        pen.text((x + place[0], y + place[1]), letter, fill=_GRAY, font=font, anchor="mm")


def _fit(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    color: tuple[int, int, int],
    width: int,
) -> None:
    """Write a line, in a smaller size where it would not fit."""
    size = max(7, min(size, int(size * width / max(1.0, pen.textlength(text, font=_font(size))))))
    pen.text(place, text, fill=color, font=_font(size))


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _radiological(
    image: MetaTensor, affine: NDArray[np.float64], placed: bool
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return voxels (columns right to left, rows anterior to posterior, slices upwards)."""
    voxels = image.as_tensor()[0].cpu().numpy()
    if not placed:
        return voxels, (1.0, 1.0)
    labels = orientations.axcodes2ornt(("L", "P", "S"))
    turn = orientations.ornt_transform(orientations.io_orientation(affine), labels)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(turn[:, 0])]
    return orientations.apply_orientation(voxels, turn), (float(spacing[0]), float(spacing[1]))


def _choose(result: NDArray[np.float32], background: float, count: int) -> list[int]:
    """Select slices evenly among those that show a head, without the first and last few."""
    holds = np.flatnonzero([np.any(result[..., z] != background) for z in range(result.shape[2])])
    if len(holds) == 0:
        holds = np.arange(result.shape[2])
    if len(holds) <= count:
        return [int(z) for z in holds]
    where = np.linspace(0.08, 0.92, count) * (len(holds) - 1)
    return [int(holds[round(one)]) for one in where]


def _range_of_source(values: NDArray[np.float32], record: dict[str, Any]) -> tuple[float, float]:
    if record["kind"] == "image":
        return 0.0, 65535.0 if record["dtype"] == "uint16" else 255.0
    return default_window(values, record["modality"])


def default_window(values: NDArray[np.float32], modality: str) -> tuple[float, float]:
    """Return black and white of a volume: the brain window of a CT, percentiles of an MR."""
    return BRAIN_WINDOW if modality == "CT" else _percentiles(values)


def _range_of_result(
    values: NDArray[np.float32], record: dict[str, Any], synthesis: dict[str, Any]
) -> tuple[float, float]:
    if record["kind"] == "image":
        return 0.0, 255.0
    if synthesis["window"]:
        low, high = synthesis["window"]
        return float(low), float(high)
    return _percentiles(values)


def _percentiles(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return black and white for MR: no signal, and nearly the brightest."""
    bright = values[values > values.min()]
    high = float(np.percentile(bright, 99.5)) if bright.size else 1.0
    return min(0.0, float(values.min())), max(high, 1e-6)


def _shown(
    plane: NDArray[np.float32], low_high: tuple[float, float], spacing: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return gray pixels of a plane (columns, rows), square in millimeters."""
    low, high = low_high
    plane = plane.astype(np.float32, copy=False)
    gray = np.clip((plane.T - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    size = np.array([gray.shape[1] * spacing[0], gray.shape[0] * spacing[1]])
    width, height = np.maximum(1, np.rint(size * (SIDE / size.max()))).astype(int)
    image = Image.fromarray(gray).resize((int(width), int(height)), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _caption(record: dict[str, Any], z: int, total: int) -> str:
    if record["kind"] == "volume":
        return f"slice {z + 1} of {total}, from below"
    files = record["files"]
    return Path(files[min(z, len(files) - 1)]).name if files else f"image {z + 1} of {total}"
