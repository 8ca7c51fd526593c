"""The report of a conversion: JSON, HTML page, preview and viewer. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtranslate.report.model import ConversionReport, ScanReport, schema
    from medtranslate.report.preview import Panel, panels, save_preview
    from medtranslate.report.record import report, write_report
    from medtranslate.report.view import write_view

_HOMES = {
    **dict.fromkeys(("ConversionReport", "ScanReport", "schema"), "model"),
    **dict.fromkeys(("Panel", "panels", "save_preview"), "preview"),
    **dict.fromkeys(("report", "write_report"), "record"),
    "write_view": "view",
}

__all__ = [
    "ConversionReport",
    "Panel",
    "ScanReport",
    "panels",
    "report",
    "save_preview",
    "schema",
    "write_report",
    "write_view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
