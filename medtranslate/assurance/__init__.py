"""How far to trust a result: the preview to look at, the report to keep."""

from medtranslate.assurance.preview import Panel, panels, save_preview
from medtranslate.assurance.report import report, write_report

__all__ = ["Panel", "panels", "report", "save_preview", "write_report"]
