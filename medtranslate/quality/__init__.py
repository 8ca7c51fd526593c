"""How far to trust a result: cycle error, variation and coverage."""

from medtranslate.quality.cycle import CycleError, cycle_error
from medtranslate.quality.error_map import Measure, SliceError
from medtranslate.quality.variation import Variation, variation

__all__ = ["CycleError", "Measure", "SliceError", "Variation", "cycle_error", "variation"]
