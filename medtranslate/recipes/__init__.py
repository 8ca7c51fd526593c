"""Recipes: geometry, head and intensity of one kind of input, each with its inverse."""

from medtranslate.recipes.bias import N4
from medtranslate.recipes.geometry import AxialSlices, PictureFrame, Placement
from medtranslate.recipes.head import FixedThreshold, OtsuThreshold, heads
from medtranslate.recipes.intensity import Grey, Limits, Percentiles, Window
from medtranslate.recipes.load import build, line_of, load_recipe, read_yaml, refuse
from medtranslate.recipes.recipe import Prepared, Recipe

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
