"""Convert scans from file to file, with checks, report and preview.

``options`` (what is asked for) -> ``inputs`` (the scans of each input) -> ``outputs`` (where
results go; what cannot be written is refused before any work) -> ``scan`` (one scan from file to
file, with its ``checks``) -> ``conversions`` (`convert` and `convert_many`: all scans with one
model, and the report).
``inspection`` looks at an input without converting it; ``demo`` converts a synthetic head phantom.
"""

from medtranslate.conversion.conversions import Conversions, Observer, convert, convert_many
from medtranslate.conversion.options import ConversionOptions
from medtranslate.conversion.scan import Conversion
from medtranslate.files import FORMATS

__all__ = [
    "FORMATS",
    "Conversion",
    "ConversionOptions",
    "Conversions",
    "Observer",
    "convert",
    "convert_many",
]
