"""What a conversion reports: the JSON report, the HTML page, the preview."""

from medtranslate.report.preview import Panel, panels, save_preview
from medtranslate.report.record import report, write_report

__all__ = ["Panel", "panels", "report", "save_preview", "write_report"]
