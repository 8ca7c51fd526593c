"""How far to trust a result: expected error, cycle error, variation and coverage."""

from medtranslate.quality.coverage import Coverage, mark_unseen, measure_coverage
from medtranslate.quality.cycle import CycleError, WorstSlice, cycle_error, worst_slices
from medtranslate.quality.error_map import ErrorMap, SliceError, write_map
from medtranslate.quality.expected_error import (
    ErrorPredictors,
    ExpectedError,
    expected_error,
    load_error_predictors,
)
from medtranslate.quality.variation import Variation, variation

__all__ = [
    "Coverage",
    "CycleError",
    "ErrorMap",
    "ErrorPredictors",
    "ExpectedError",
    "SliceError",
    "Variation",
    "WorstSlice",
    "cycle_error",
    "expected_error",
    "load_error_predictors",
    "mark_unseen",
    "measure_coverage",
    "variation",
    "worst_slices",
    "write_map",
]
