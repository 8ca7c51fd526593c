"""Translation: whole scans through a generator, slice by slice, on the best device there is."""

from medtranslate.device import Device
from medtranslate.translation.transforms import (
    RandTranslateModalityd,
    TranslateModality,
    TranslateModalityd,
)
from medtranslate.translation.translator import Translator

__all__ = [
    "Device",
    "RandTranslateModalityd",
    "TranslateModality",
    "TranslateModalityd",
    "Translator",
]
