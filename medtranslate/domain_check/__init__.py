"""The domain check: whether a scan is a head, in its modality, upright, as the model knows it."""

from medtranslate.domain_check.check import (
    DomainCheck,
    Judgment,
    load_domain,
    quality_record,
)
from medtranslate.domain_check.classifier import half_resolution

__all__ = [
    "DomainCheck",
    "Judgment",
    "half_resolution",
    "load_domain",
    "quality_record",
]
