"""HTML pages: one look for the conversion report, the evaluation and the training run.

A page is one file that contains its images and loads nothing from elsewhere. Templates lie in
``templates/``; they extend ``base.html.j2``, which has the style (light, dark and print).
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from medtranslate.text import escaped

__all__ = ["figure_uri", "image_uri", "niivue", "png_uri", "render"]

_ENVIRONMENT = Environment(
    loader=PackageLoader("medtranslate.html"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    finalize=lambda value: escaped(value, lines=True) if type(value) is str else value,
)


def render(name: str, /, **context: Any) -> str:
    """Render a template.

    Parameters
    ----------
    name : str
        Of a file in ``templates/``, without ``.html.j2``.
    context
        What the template shows. Text is escaped; a name that the template needs and that is not
        given is an error.

    Examples
    --------
    >>> "<h1>a &lt; b</h1>" in render("base", title="a < b")
    True
    """
    return _ENVIRONMENT.get_template(f"{name}.html.j2").render(**context)


def niivue() -> tuple[bytes, str] | None:
    """Return NiiVue, one script compressed with gzip, and its license.

    The build of sdist and wheel fetches it; None where medtranslate was built without.

    Examples
    --------
    >>> found = niivue()
    >>> found is None or found[1].startswith("NiiVue")
    True
    """
    folder = Path(__file__).resolve().parent
    script = folder / "niivue.js.gz"
    if not script.is_file():
        return None
    return script.read_bytes(), (folder / "niivue.LICENSE.txt").read_text(encoding="utf-8")


def png_uri(content: bytes) -> str:
    """Return a PNG file as a ``data:`` URI, for the ``src`` of an image.

    Examples
    --------
    >>> png_uri(b"PNG")
    'data:image/png;base64,UE5H'
    """
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def image_uri(pixels: NDArray[np.uint8] | Image.Image) -> str:
    """Return an image as a ``data:`` URI.

    Parameters
    ----------
    pixels : uint8 array (rows, columns) or (rows, columns, 3), or PIL image

    Examples
    --------
    >>> image_uri(np.zeros((2, 2), dtype=np.uint8))[:22]
    'data:image/png;base64,'
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return png_uri(content.getvalue())


def figure_uri(figure: Figure) -> str:
    """Return a Matplotlib figure as a ``data:`` URI.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> figure_uri(Figure(figsize=(1, 1)))[:22]
    'data:image/png;base64,'
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return png_uri(content.getvalue())
