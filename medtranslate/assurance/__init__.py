"""How far to trust a result: the checks, the preview to look at, the report to keep."""

from medtranslate.assurance.cycle import CycleError, SliceError, cycle_error
from medtranslate.assurance.preview import Panel, panels, save_preview
from medtranslate.assurance.report import report, write_report

__all__ = [
    "CycleError",
    "Panel",
    "SliceError",
    "cycle_error",
    "panels",
    "report",
    "save_preview",
    "write_report",
]
