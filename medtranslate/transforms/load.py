"""Read a recipe from its file, through an allow-list of classes.

A recipe is data, never code: ``ConfigParser`` runs it as it is, but only plain values and the
classes named here may appear in it; MONAI's parser would import whatever a ``_target_`` names.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import monai.transforms
import yaml
from monai.transforms import Compose, MapTransform

from medtranslate.errors import ModelUnusable
from medtranslate.transforms.base import KeyedTransform
from medtranslate.transforms.geometry import AxialSlicesd, ImageFramed, SliceGeometry
from medtranslate.transforms.head import FindTissue, FindTissued, HeadMask, HeadMaskd
from medtranslate.transforms.intensity import (
    N4BiasCorrectiond,
    Scale,
    ScaleGrayd,
    ScaleHeadPercentilesd,
    ScaleWindowd,
)
from medtranslate.transforms.recipe import IMAGE, Recipe
from medtranslate.transforms.units import ALL_HU, WINDOW_SHARE, ToUnitsd

OURS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        AxialSlicesd,
        FindTissued,
        HeadMaskd,
        ImageFramed,
        N4BiasCorrectiond,
        ScaleGrayd,
        ScaleHeadPercentilesd,
        ScaleWindowd,
    )
}
"""Our transforms that prepare an image."""

MONAIS = (
    "AdjustContrastd",
    "CenterSpatialCropd",
    "ClipIntensityPercentilesd",
    "EnsureChannelFirstd",
    "EnsureTyped",
    "Flipd",
    "GaussianSmoothd",
    "HistogramNormalized",
    "MedianSmoothd",
    "NormalizeIntensityd",
    "Orientationd",
    "ResizeWithPadOrCropd",
    "Resized",
    "Rotate90d",
    "ScaleIntensityRangePercentilesd",
    "ScaleIntensityRanged",
    "ScaleIntensityd",
    "ShiftIntensityd",
    "SpatialPadd",
    "ThresholdIntensityd",
)
"""MONAI's transforms that may stand beside them: none takes a function, a file or a dotted name."""

_FROM_MONAI = {name: getattr(monai.transforms, name) for name in ("Compose", *MONAIS)}
_PREPARING: dict[str, type] = {
    **{f"medtranslate.transforms.{name}": kind for name, kind in OURS.items()},
    **_FROM_MONAI,
    **{f"monai.transforms.{name}": kind for name, kind in _FROM_MONAI.items()},
}
_UNITS: dict[str, type] = {"medtranslate.transforms.ToUnitsd": ToUnitsd}
_PREPROCESSING = {"_target_": "Compose", "transforms": ["@geometry", "@intensity"]}
_FIRST = ("medtranslate.transforms.AxialSlices", "medtranslate.transforms.PictureFrame")
_SECTIONS = ("modality", "kind", "geometry", "intensity", "preprocessing", "units")

LARGEST = 4096
"""The largest whole number that an argument may be: a config from somebody else could otherwise
ask for a network that no machine can hold."""

_LARGEST_SIDE = 1024  # of a list, such as the sides that a volume is resized to


def load_recipe(path: str | Path) -> Recipe:
    """Read one recipe.

    Raises
    ------
    ModelUnusable
        If the file is missing, is no YAML, names a class or an argument that is not allowed, or
        holds a ``$`` expression; the message says where.

    Examples
    --------
    >>> from medtranslate.files import shipped
    >>> load_recipe(shipped("transforms/mr-volume.yaml")).written
    Limits(low=0.0, high=4095.0)
    """
    path = Path(path)
    content = read_yaml(path)
    if isinstance(content.get("geometry"), dict) and content["geometry"].get("_target_") in _FIRST:
        remedy = "write it as MONAI transforms: docs/reference/recipes.md"
        refuse(path, "geometry", "this recipe has the form of an earlier version", remedy)
    for key in content:
        if key not in _SECTIONS:
            refuse(path, str(key), f"is no section of a recipe ({', '.join(_SECTIONS)})")
    for key, known in (("modality", ("CT", "MR")), ("kind", ("volume", "image"))):
        value = build(content.get(key), {}, path, key)
        if value not in known:
            refuse(path, key, f"must be one of {', '.join(known)}")
    if content.get("preprocessing") != _PREPROCESSING:
        refuse(path, "preprocessing", 'must be a Compose of "@geometry" and "@intensity"')
    geometry = _section(content, "geometry", _PREPARING, path)
    if not isinstance(geometry, Compose):
        refuse(path, "geometry", "must be a Compose")
    recipe = Recipe(
        content["modality"],
        content["kind"],
        geometry,
        _section(content, "intensity", _PREPARING, path),
        _section(content, "units", _UNITS, path),
        content,
    )
    _check(recipe, path)
    return recipe


def with_range(text: str, *, full: bool) -> str:
    """Return the text of a CT's recipe with units for a generator of all HU, or of the window.

    For all HU, what the recipe wrote -1 and 1 as becomes the window, and takes `WINDOW_SHARE` of
    the range. In a 2D image, which shows the window alone, what lies beyond it is black or white.

    Parameters
    ----------
    text : str
        With or without a window; as it is where it is such a recipe already.
    full : bool
        Whether the generator makes all HU.

    Examples
    --------
    >>> from medtranslate.files import shipped
    >>> plain = shipped("transforms/ct-volume.yaml").read_text("utf-8")
    >>> units = yaml.safe_load(with_range(plain, full=True))["units"]
    >>> units["low"], units["window"], units["high"]
    (-1024.0, [-20.0, 100.0], 2000.0)
    """
    content = yaml.load(text, _PlainLoader)
    given = content["units"]
    units = {name: each for name, each in given.items() if name not in ("window", "share")}
    units["low"], units["high"] = given.get("window") or (given["low"], given["high"])
    if full:
        units["window"], units["share"] = [units["low"], units["high"]], WINDOW_SHARE
        if content["kind"] == "volume":
            units["low"], units["high"] = ALL_HU
    if units == given:
        return text
    content["units"] = units
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def prepares_alike(one: str, other: str) -> bool:
    """Tell whether two recipes' texts say the same of preparing a scan, whatever they write.

    Examples
    --------
    >>> from medtranslate.files import shipped
    >>> plain = shipped("transforms/ct-volume.yaml").read_text("utf-8")
    >>> prepares_alike(plain, with_range(plain, full=True))
    True
    """
    if one == other:
        return True
    try:
        contents = [yaml.load(text, _PlainLoader) for text in (one, other)]
    except (ValueError, RecursionError, yaml.YAMLError):
        return False
    if not all(isinstance(content, dict) for content in contents):
        return False
    first, second = ({**content, "units": None} for content in contents)
    return first == second


def _section(content: dict[str, Any], name: str, allowed: dict[str, type], path: Path) -> Any:
    built = build(content.get(name), allowed, path, name)
    if not isinstance(built, (Compose, MapTransform)):
        refuse(path, name, "needs a _target_")
    return built


def _check(recipe: Recipe, path: Path) -> None:
    """Refuse a recipe that no image could go through."""
    for section, key in (("geometry", IMAGE), ("intensity", IMAGE), ("units", "pred")):
        for each in _flat(getattr(recipe, section)):
            if isinstance(each, MapTransform) and each.keys != (key,):
                refuse(path, section, f"the keys of {type(each).__name__} are not {key!r}")
    in_geometry = [each.transform for each in _flat(recipe.geometry) if _ours(each)]
    if sum(isinstance(each, SliceGeometry) for each in in_geometry) != 1:
        refuse(path, "geometry", "holds not exactly one AxialSlicesd or ImageFramed")
    if sum(isinstance(each, Scale) for each in recipe.transforms) != 1:
        refuse(path, "intensity", "holds not exactly one transform that scales to [-1, 1]")
    if recipe.modality != "CT" and recipe.share < 1:
        refuse(path, "units", "a window is one in HU, and this is no CT")
    order = [type(each) for each in recipe.transforms]
    if HeadMask in order and FindTissue not in order[: order.index(HeadMask)]:
        refuse(path, "geometry", "HeadMaskd needs a FindTissued before it")


def _flat(transform: Any) -> Iterable[Any]:
    return transform.flatten().transforms if isinstance(transform, Compose) else (transform,)


def _ours(transform: Any) -> bool:
    return isinstance(transform, KeyedTransform)


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is there twice: readers differ in which of the two they believe."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                fault = f"the key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, fault, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; ModelUnusable if it is missing or is none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError as error:
        raise ModelUnusable("no such file", path=path) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "")
        raise ModelUnusable(f"not readable as YAML: {reason}", path=path) from error
    if not isinstance(content, dict):
        raise ModelUnusable("holds no mapping", path=path)
    return content


def build(value: Any, allowed: dict[str, type], path: Path, where: str) -> Any:
    """Build what a value of a config says, through an allow-list of classes.

    Parameters
    ----------
    value : plain YAML value
        A mapping with ``_target_`` becomes an instance; everything else stays as it is.
    allowed : dict of str to class
        Dotted names that ``_target_`` may have.
    path, where
        Named in errors: the file, and the keys that lead to the value, joined by dots.

    Raises
    ------
    ModelUnusable
        If the value holds an expression, another class, or arguments that the class does not take.
    """
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        refuse(path, where, f"the expression {value!r} is not allowed")
    if isinstance(value, list):
        return tuple(build(each, allowed, path, f"{where}.{i}") for i, each in enumerate(value))
    if not isinstance(value, dict):
        return value
    arguments = {str(k): build(v, allowed, path, f"{where}.{k}") for k, v in value.items()}
    if "_target_" not in arguments:
        return arguments
    name = arguments.pop("_target_")
    if not isinstance(name, str) or name not in allowed:
        refuse(path, where, f"the class {name!r} is not allowed")
    return _call(allowed[name], arguments, path, where)


def refuse(path: Path, where: str, fault: str, remedy: str | None = None) -> NoReturn:
    """Raise ModelUnusable with the file, the line and the keys that lead to the fault."""
    found = line_of(path, where)
    line = f"line {found}: " if found else ""
    raise ModelUnusable(f"{line}{where}: {fault}", path=path, remedy=remedy)


def line_of(path: Path, where: str) -> int | None:
    """Find the line of a value, or of what should have held it; None in an empty file."""
    node = yaml.compose(path.read_text(encoding="utf-8"), _PlainLoader)
    for key in where.split("."):
        below: yaml.Node | None = None
        if isinstance(node, yaml.SequenceNode):
            below = node.value[int(key)]
        elif isinstance(node, yaml.MappingNode):
            below = next((value for name, value in node.value if name.value == key), None)
        if below is None:
            break
        node = below
    return node.start_mark.line + 1 if node is not None else None


def _call(kind: type, arguments: dict[str, Any], path: Path, where: str) -> Any:
    """Build an instance from arguments of the types that its signature names."""
    if kind is Compose:
        return _compose(arguments, path, where)
    parameters = inspect.signature(kind).parameters
    for name, value in arguments.items():
        place = f"{where}.{name}".lstrip(".")
        if name not in parameters or parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            refuse(path, place, f"{kind.__name__} has no such argument")
        wanted = _unfit(value, str(parameters[name].annotation))
        if wanted:
            refuse(path, place, f"{value!r} is not {wanted}")
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        if required and name not in arguments:
            refuse(path, f"{where}.{name}".lstrip("."), "is missing")
    try:
        return kind(**arguments)
    except (ValueError, TypeError) as error:
        refuse(path, where, " ".join(str(error).split()))


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _compose(arguments: dict[str, Any], path: Path, where: str) -> Compose:
    transforms = arguments.pop("transforms", None)
    if arguments:
        refuse(path, f"{where}.{next(iter(arguments))}", "Compose takes transforms alone")
    if not isinstance(transforms, tuple) or not transforms:
        refuse(path, f"{where}.transforms", "is no list of transforms")
    for index, each in enumerate(transforms):
        if not isinstance(each, (Compose, MapTransform)):
            refuse(path, f"{where}.transforms.{index}", "needs a _target_")
    return Compose(transforms)


def _unfit(value: Any, annotation: str) -> str:
    """Say what a value should have been; nothing if it fits what a signature says."""
    if value is None and annotation.endswith("| None"):
        return ""
    kind = annotation.removesuffix("| None").strip()
    if kind == "int":
        return "" if _whole(value) else f"a whole number from 1 to {LARGEST}"
    if kind == "float":
        return "" if _number(value) else "a number"
    if kind == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if kind in ("tuple[int, ...]", "Sequence[int]"):
        fits = isinstance(value, tuple) and value and all(_whole(each) for each in value)
        return "" if fits else f"a list of whole numbers from 1 to {LARGEST}"
    if kind == "Sequence[float]":
        fits = isinstance(value, tuple) and value and all(_number(each) for each in value)
        return "" if fits else "a list of numbers"
    return "" if _plain(value) else "a plain value"


def _plain(value: Any) -> bool:
    """Tell whether a value is text, a number of modest size, a list of these, or was built."""
    if isinstance(value, tuple):
        sides = (each for each in value if isinstance(each, int))
        return all(_plain(each) for each in value) and all(each <= _LARGEST_SIDE for each in sides)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return math.isfinite(value) and abs(value) <= 1e9
    return not isinstance(value, dict)


def _number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST
