"""How far to trust a result: the checks, the preview to look at, the report to keep."""

from medtranslate.assurance.cycle import CycleError, cycle_error
from medtranslate.assurance.exchange import Difference, export_network
from medtranslate.assurance.measure import Measure, SliceError
from medtranslate.assurance.preview import Panel, panels, save_preview
from medtranslate.assurance.report import report, write_report
from medtranslate.assurance.variation import Variation, variation

__all__ = [
    "CycleError",
    "Difference",
    "Measure",
    "Panel",
    "SliceError",
    "Variation",
    "cycle_error",
    "export_network",
    "panels",
    "report",
    "save_preview",
    "variation",
    "write_report",
]
