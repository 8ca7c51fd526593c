"""Convert scans from file to file, with checks, report and preview.

``interface`` (what is asked for, and what is given back) -> ``inputs`` (the scans of each input) ->
``plan`` (where results go; what cannot be written is refused before any work) -> ``batch`` (all
scans of a call) -> ``scan`` (one scan from file to file, with its checks) -> ``conversions``
(`convert` and `convert_many`: all scans with one model, and the report).
``inspection`` looks at an input without converting it; ``demo`` converts a synthetic head phantom.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medtranslate.conversion.interface import Conversion, ConversionOptions
from medtranslate.files import FORMATS

if TYPE_CHECKING:
    from medtranslate.conversion.batch import Batch
    from medtranslate.conversion.conversions import Conversions, Observer, convert, convert_many

_HOMES = {
    "Batch": "batch",
    **dict.fromkeys(("Conversions", "Observer", "convert", "convert_many"), "conversions"),
}

__all__ = [
    "FORMATS",
    "Batch",
    "Conversion",
    "ConversionOptions",
    "Conversions",
    "Observer",
    "convert",
    "convert_many",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
