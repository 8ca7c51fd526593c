"""The domain check: whether a scan is a head, in this modality, upright, as the model knows it."""

from medtranslate.domain_check.calibration import Effort, Slices, calibrate
from medtranslate.domain_check.check import DomainCheck
from medtranslate.domain_check.features import halved
from medtranslate.domain_check.judgement import Judgement, refusal
from medtranslate.domain_check.store import as_bytes, load_domain

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
