"""Translate a brain CT to an MRI and an MRI to a CT, with models learned from unpaired scans.

Public names load on first use, so that ``import medtranslate`` stays light.

Examples
--------
>>> from medtranslate import Translator
>>> mri = Translator.load().translate("head-ct.nii.gz", to="mri")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtranslate import errors, networks, transforms
    from medtranslate.bundle import Bundle
    from medtranslate.conversion import Conversion, ConversionOptions, convert, convert_many
    from medtranslate.conversion.inspection import inspect
    from medtranslate.imaging import as_image, read, survey, write
    from medtranslate.imaging.scans import find_scans
    from medtranslate.modality import Modality
    from medtranslate.transforms import Recipe
    from medtranslate.translation import (
        RandTranslateModalityd,
        TranslateModality,
        TranslateModalityd,
        Translator,
    )

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "medtranslate.bundle",
    "Conversion": "medtranslate.conversion",
    "ConversionOptions": "medtranslate.conversion",
    "Modality": "medtranslate.modality",
    "RandTranslateModalityd": "medtranslate.translation",
    "Recipe": "medtranslate.transforms",
    "TranslateModality": "medtranslate.translation",
    "TranslateModalityd": "medtranslate.translation",
    "Translator": "medtranslate.translation",
    "as_image": "medtranslate.imaging",
    "convert": "medtranslate.conversion",
    "convert_many": "medtranslate.conversion",
    "errors": "medtranslate",
    "find_scans": "medtranslate.imaging.scans",
    "inspect": "medtranslate.conversion.inspection",
    "networks": "medtranslate",
    "read": "medtranslate.imaging",
    "survey": "medtranslate.imaging",
    "transforms": "medtranslate",
    "write": "medtranslate.imaging",
}

__all__ = [
    "Bundle",
    "Conversion",
    "ConversionOptions",
    "Modality",
    "RandTranslateModalityd",
    "Recipe",
    "TranslateModality",
    "TranslateModalityd",
    "Translator",
    "__version__",
    "as_image",
    "convert",
    "convert_many",
    "errors",
    "find_scans",
    "inspect",
    "networks",
    "read",
    "survey",
    "transforms",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medtranslate' has no attribute {name!r}")
    if _HOMES[name] == __name__:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
