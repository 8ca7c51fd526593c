"""Pages escape what they show, contain their images and refuse to leave out what they need."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image

from medtranslate.html import figure_uri, image_uri, render


def decoded(uri: str) -> np.ndarray:
    kind, content = uri.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_text_is_escaped_and_the_style_is_not() -> None:
    page = render("base", title="<script>a & b</script>")

    assert "<script" not in page and "&lt;script&gt;a &amp; b" in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    assert "th:nth-child(-n+2), table.grid" in page


def test_a_name_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base")


def test_images_are_inline_and_lossless() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)

    assert np.array_equal(decoded(image_uri(pixels)), pixels)
    assert decoded(figure_uri(Figure(figsize=(1, 1)))).shape == (110, 110, 4)
