"""The lesion test: how much of a lesion survives in the translated image.

``planting`` defines lesions and puts them into slices; ``trial`` translates and measures;
``results`` summarizes.
"""

from medtranslate.evaluation.lesions.results import LesionGroup, LesionResult, LesionTest
from medtranslate.evaluation.lesions.trial import lesion_test

__all__ = ["LesionGroup", "LesionResult", "LesionTest", "lesion_test"]
