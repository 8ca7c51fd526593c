"""Recipes from YAML: data, never code.

A recipe file is in MONAI's config syntax, but only plain values and the classes named here may
appear in it; MONAI's own parser would import whatever a ``_target_`` names.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any, NoReturn

import yaml

from medtranslate.errors import ModelUnusable
from medtranslate.transforms.bias import N4
from medtranslate.transforms.geometry import AxialSlices, PictureFrame
from medtranslate.transforms.head import FixedThreshold, OtsuThreshold
from medtranslate.transforms.intensity import Grey, Percentiles, Window
from medtranslate.transforms.recipe import Recipe

PARTS: dict[str, dict[str, type]] = {
    name: {f"medtranslate.transforms.{kind.__name__}": kind for kind in kinds}
    for name, kinds in {
        "geometry": (AxialSlices, PictureFrame),
        "intensity": (Window, Percentiles, Grey),
        "head": (FixedThreshold, OtsuThreshold),
        "bias": (N4,),
    }.items()
}
"""The classes that each part of a recipe may be."""

LARGEST = 4096
"""The largest whole number that an argument may be: a config from somebody else could otherwise
ask for a network that no machine can hold."""


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
    built = {str(key): _part(value, path, str(key)) for key, value in content.items()}
    for key, allowed in (("modality", ("CT", "MR")), ("kind", ("volume", "picture"))):
        if built.get(key) not in allowed:
            refuse(path, key, f"must be one of {', '.join(allowed)}")
    return _call(Recipe, built, path, "")


def _part(value: Any, path: Path, name: str) -> Any:
    allowed = PARTS.get(name, {})
    part = build(value, allowed, path, name)
    if allowed and not isinstance(part, tuple(allowed.values())):
        refuse(path, name, f"needs a _target_: {', '.join(allowed)}")
    return part


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


def refuse(path: Path, where: str, fault: str) -> NoReturn:
    """Raise ModelUnusable with the file, the line and the keys that lead to the fault."""
    found = line_of(path, where)
    line = f"line {found}: " if found else ""
    raise ModelUnusable(f"{line}{where}: {fault}", path=path)


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
    parameters = inspect.signature(kind).parameters
    for name, value in arguments.items():
        place = f"{where}.{name}".lstrip(".")
        if name not in parameters:
            refuse(path, place, f"{kind.__name__} has no such argument")
        wanted = _unfit(value, str(parameters[name].annotation))
        if wanted:
            refuse(path, place, f"{value!r} is not {wanted}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            refuse(path, f"{where}.{name}".lstrip("."), "is missing")
    try:
        return kind(**arguments)
    except ValueError as error:
        refuse(path, where, str(error))


def _unfit(value: Any, annotation: str) -> str:
    """Say what a value should have been; nothing if it fits what a signature says."""
    if annotation == "int":
        return "" if _whole(value) else f"a whole number from 1 to {LARGEST}"
    if annotation == "float":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if number and math.isfinite(value) else "a number"
    if annotation == "tuple[int, ...]":
        fits = isinstance(value, tuple) and value and all(_whole(each) for each in value)
        return "" if fits else f"a list of whole numbers from 1 to {LARGEST}"
    return ""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST
