"""Recipes from YAML: data, never code.

A recipe file is in MONAI's config syntax, but only plain values and the classes named here may
appear in it; MONAI's own parser would import whatever a ``_target_`` names.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import yaml

from medtranslate.errors import ModelUnusable
from medtranslate.recipes.bias import N4
from medtranslate.recipes.geometry import AxialSlices, PictureFrame
from medtranslate.recipes.head import FixedThreshold, OtsuThreshold
from medtranslate.recipes.intensity import Grey, Percentiles, Window
from medtranslate.recipes.recipe import Recipe

PARTS: dict[str, type] = {
    f"medtranslate.recipes.{part.__name__}": part
    for part in (
        AxialSlices, PictureFrame, FixedThreshold, OtsuThreshold, Window, Percentiles, Grey, N4
    )
}  # fmt: skip


def load_recipe(path: str | Path) -> Recipe:
    """Read one recipe.

    Raises
    ------
    ModelUnusable
        If the file is missing, is no YAML, names a class or an argument that is not allowed, or
        holds a ``$`` expression; the message says where.
    """
    path = Path(path)
    content = read_yaml(path)
    built = {key: build(value, PARTS, path, key) for key, value in content.items()}
    for key, allowed in (("modality", ("CT", "MR")), ("kind", ("volume", "picture"))):
        if built.get(key) not in allowed:
            raise ModelUnusable(f"{key} must be one of {', '.join(allowed)}", path=path)
    return _call(Recipe, built, path, "the recipe")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; ModelUnusable if it is missing or is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelUnusable("no such file", path=path) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
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
        Named in errors.
    """
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise ModelUnusable(f"{where}: the expression {value!r} is not allowed", path=path)
    if isinstance(value, list):
        return tuple(build(each, allowed, path, f"{where}[{i}]") for i, each in enumerate(value))
    if not isinstance(value, dict):
        return value
    arguments = {k: build(v, allowed, path, f"{where}.{k}") for k, v in value.items()}
    name = arguments.pop("_target_", None)
    if name is None:
        return arguments
    if name not in allowed:
        raise ModelUnusable(f"{where}: the class {name!r} is not allowed", path=path)
    return _call(allowed[name], arguments, path, where)


def _call(kind: type, arguments: dict[str, Any], path: Path, where: str) -> Any:
    """Build an instance from arguments of the types that its signature names."""
    signature = inspect.signature(kind)
    for name, value in arguments.items():
        if name not in signature.parameters:
            raise ModelUnusable(f"{where}: {kind.__name__} has no {name!r}", path=path)
        if isinstance(value, bool) or (
            signature.parameters[name].annotation in ("float", "int")
            and not isinstance(value, int | float)
        ):
            raise ModelUnusable(f"{where}.{name}: {value!r} is not a number", path=path)
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ModelUnusable(f"{where}: {error}", path=path) from error
