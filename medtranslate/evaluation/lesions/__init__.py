"""The lesion test: how much of a lesion survives in the translated picture.

A slice goes through ``kinds``, ``brain``, ``shapes`` and ``planting`` into ``trial``, which
translates it and has ``measure`` and ``summary`` say what is left.
"""

from medtranslate.evaluation.lesions.results import LesionGroup, LesionResult, LesionTest
from medtranslate.evaluation.lesions.trial import lesion_test

__all__ = ["LesionGroup", "LesionResult", "LesionTest", "lesion_test"]
