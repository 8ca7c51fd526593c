"""The report of a conversion: JSON, HTML page and preview."""

from medtranslate.report.model import ConversionReport, ScanReport, schema
from medtranslate.report.preview import Panel, panels, save_preview
from medtranslate.report.record import report, write_report

__all__ = [
    "ConversionReport",
    "Panel",
    "ScanReport",
    "panels",
    "report",
    "save_preview",
    "schema",
    "write_report",
]
