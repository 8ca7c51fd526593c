"""Bundles: a model with its recipes, as a folder that MONAI and medtranslate both read."""

from medtranslate.bundle.load import Bundle, Generator, default_bundle
from medtranslate.bundle.save import (
    Networks,
    attach_contrast_classifier,
    attach_domain,
    attach_expected_error,
    save_bundle,
)

__all__ = [
    "Bundle",
    "Generator",
    "Networks",
    "attach_contrast_classifier",
    "attach_domain",
    "attach_expected_error",
    "default_bundle",
    "save_bundle",
]
