"""The domain check: whether a scan is a head, in this modality, upright, as the model knows it."""

from medtranslate.quality.domain.calibration import Effort, Slices, calibrate
from medtranslate.quality.domain.check import DomainCheck
from medtranslate.quality.domain.features import halved
from medtranslate.quality.domain.judgement import Judgement, refusal
from medtranslate.quality.domain.store import as_bytes, load_domain

__all__ = [
    "DomainCheck",
    "Effort",
    "Judgement",
    "Slices",
    "as_bytes",
    "calibrate",
    "halved",
    "load_domain",
    "refusal",
]
