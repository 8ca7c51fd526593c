"""Preprocessing as MONAI transforms, each with its inverse, and recipes made of them in YAML.

`AddCTGrain` is no preprocessing: it adds noise to a CT that was made.
"""

from medtranslate.transforms.geometry import AxialSlices, AxialSlicesd, ImageFrame, ImageFramed
from medtranslate.transforms.grain import AddCTGrain, AddCTGraind
from medtranslate.transforms.head import FindTissue, FindTissued, HeadMask, HeadMaskd
from medtranslate.transforms.intensity import (
    N4BiasCorrection,
    N4BiasCorrectiond,
    ScaleGray,
    ScaleGrayd,
    ScaleHeadPercentiles,
    ScaleHeadPercentilesd,
    ScaleWindow,
    ScaleWindowd,
)
from medtranslate.transforms.load import load_recipe
from medtranslate.transforms.placement import Placement
from medtranslate.transforms.recipe import Prepared, Recipe
from medtranslate.transforms.units import CompressHU, CompressHUd, Limits, ToUnits, ToUnitsd
from medtranslate.transforms.untilt import Untilt, Untiltd

__all__ = [
    "AddCTGrain",
    "AddCTGraind",
    "AxialSlices",
    "AxialSlicesd",
    "CompressHU",
    "CompressHUd",
    "FindTissue",
    "FindTissued",
    "HeadMask",
    "HeadMaskd",
    "ImageFrame",
    "ImageFramed",
    "Limits",
    "N4BiasCorrection",
    "N4BiasCorrectiond",
    "Placement",
    "Prepared",
    "Recipe",
    "ScaleGray",
    "ScaleGrayd",
    "ScaleHeadPercentiles",
    "ScaleHeadPercentilesd",
    "ScaleWindow",
    "ScaleWindowd",
    "ToUnits",
    "ToUnitsd",
    "Untilt",
    "Untiltd",
    "load_recipe",
]
