"""The domain check: is this a head, in this modality, upright, as the model knows it?"""

from medtranslate.assurance.domain.check import DomainCheck, load_domain
from medtranslate.assurance.domain.judgement import Judgement, refusal

__all__ = ["DomainCheck", "Judgement", "load_domain", "refusal"]
