"""Preprocessing as MONAI transforms, each with its inverse, and recipes made of them in YAML."""

from medtranslate.transforms.dictionary import (
    AxialSlicesd,
    CompressHUd,
    FindTissued,
    HeadMaskd,
    ImageFramed,
    N4BiasCorrectiond,
    ScaleGrayd,
    ScaleHeadPercentilesd,
    ScaleWindowd,
    ToUnitsd,
    Untiltd,
)
from medtranslate.transforms.geometry import AxialSlices, ImageFrame
from medtranslate.transforms.head import FindTissue, HeadMask
from medtranslate.transforms.intensity import (
    CompressHU,
    Limits,
    N4BiasCorrection,
    ScaleGray,
    ScaleHeadPercentiles,
    ScaleWindow,
    ToUnits,
)
from medtranslate.transforms.load import build, line_of, load_recipe, read_yaml, refuse
from medtranslate.transforms.placement import Placement
from medtranslate.transforms.recipe import Prepared, Recipe, prepare_pair
from medtranslate.transforms.traced import head_of
from medtranslate.transforms.untilt import Untilt

__all__ = [
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
    "build",
    "head_of",
    "line_of",
    "load_recipe",
    "prepare_pair",
    "read_yaml",
    "refuse",
]
