"""The domain check: whether a scan is a head, in this modality, upright, as the model knows it."""

from medtranslate.assurance.domain.calibration import Effort, Slices, calibrate
from medtranslate.assurance.domain.check import DomainCheck
from medtranslate.assurance.domain.judgement import Judgement, refusal
from medtranslate.assurance.domain.looks import halved
from medtranslate.assurance.domain.store import as_bytes, load_domain

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
