"""medtranslate: a brain CT to an MRI and an MRI to a CT, learnt from unpaired scans.

Public names load on first use, so that ``import medtranslate`` stays light::

    from medtranslate import Translator
    mri = Translator.load().translate("head-ct.nii.gz", to="mri")
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "convert": "medtranslate.conversion",
    "convert_many": "medtranslate.conversion",
    "Conversion": "medtranslate.conversion",
    "ConversionOptions": "medtranslate.conversion",
    "inspect": "medtranslate.conversion.inspection",
    "Translator": "medtranslate.translation",
    "TranslateModality": "medtranslate.translation",
    "TranslateModalityd": "medtranslate.translation",
    "RandTranslateModalityd": "medtranslate.translation",
    "Bundle": "medtranslate.bundle",
    "Recipe": "medtranslate.transforms",
    "read": "medtranslate.imaging",
    "write": "medtranslate.imaging",
    "survey": "medtranslate.imaging",
    "networks": "medtranslate",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medtranslate' has no attribute {name!r}")
    if name == "networks":
        return importlib.import_module("medtranslate.networks")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
