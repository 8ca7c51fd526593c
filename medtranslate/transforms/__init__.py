"""Recipes: geometry, head and intensity of one kind of input, each with its inverse."""

from medtranslate.transforms.bias import N4
from medtranslate.transforms.geometry import AxialSlices, PictureFrame, Placement
from medtranslate.transforms.head import FixedThreshold, OtsuThreshold, heads
from medtranslate.transforms.intensity import Grey, Limits, Percentiles, Window
from medtranslate.transforms.load import build, line_of, load_recipe, read_yaml, refuse
from medtranslate.transforms.recipe import Prepared, Recipe

__all__ = [
    "N4",
    "AxialSlices",
    "FixedThreshold",
    "Grey",
    "Limits",
    "OtsuThreshold",
    "Percentiles",
    "PictureFrame",
    "Placement",
    "Prepared",
    "Recipe",
    "Window",
    "build",
    "heads",
    "line_of",
    "load_recipe",
    "read_yaml",
    "refuse",
]
