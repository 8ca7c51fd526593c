"""Bundles: a model with its recipes, as a folder that MONAI and medtranslate both read."""

from medtranslate.bundle.load import Bundle, Generator, default_bundle
from medtranslate.bundle.save import Networks, attach, save_bundle

__all__ = [
    "Bundle",
    "Generator",
    "Networks",
    "attach",
    "default_bundle",
    "save_bundle",
]
