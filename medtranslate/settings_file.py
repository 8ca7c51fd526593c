"""Settings files: YAML that a pydantic model checks whole; a typo is one line that names it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medtranslate.errors import InvalidOption, ModelUnusable
from medtranslate.files import check_present


class SettingsPart(BaseModel):
    """A part of a settings file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Settings = TypeVar("Settings", bound=SettingsPart)


def load_settings(path: str | Path, model: type[Settings], kinds: Collection[str] = ()) -> Settings:
    """Read and check a settings file.

    Parameters
    ----------
    path : path
        YAML. The model's validators find its folder as ``info.context["folder"]``.
    model : type of SettingsPart
        What the file says; its parts are defined in the same module.
    kinds : collection of str
        Tags of unions, which pydantic puts into the place of a fault and no file has there.

    Raises
    ------
    InputMissing
        There is no such file.
    InvalidOption
        It is no YAML, or a key or value is wrong; the message names it in one line.

    Examples
    --------
    >>> import tempfile
    >>> class Trip(SettingsPart):
    ...     speed: int
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "trip.yaml")
    >>> _ = path.write_text("sped: 3")
    >>> try:
    ...     load_settings(path, Trip)
    ... except InvalidOption as error:
    ...     print(error.fault)
    speed is missing; sped: no such key (did you mean 'speed'?)
    """
    from medtranslate.transforms.load import read_yaml  # with MONAI, which a worker may do without

    path = Path(path)
    check_present(path)
    try:
        values = read_yaml(path)
    except ModelUnusable as error:
        raise InvalidOption(error.fault, path=path) from None
    try:
        return model.model_validate(values, context={"folder": path.absolute().parent})
    except ValidationError as error:
        keys = sorted({key for part in parts_of(model) for key in part.model_fields})
        faults = dict.fromkeys(_fault(dict(one), keys, kinds) for one in error.errors())
        raise InvalidOption("; ".join(faults), path=path) from None


def near(name: str, known: Iterable[str]) -> str:
    """Return the clause that suggests a known name for a misspelled one, ``""`` if none is near.

    Examples
    --------
    >>> near("sender", ["senders", "rules"])
    " (did you mean 'senders'?)"
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _fault(error: dict[str, Any], keys: Collection[str], kinds: Collection[str]) -> str:
    """Return one of pydantic's errors as a clause: where, and what is wrong."""
    parts = [str(part) for part in error["loc"]]
    where = ".".join(part for part in parts if part not in kinds or part == parts[-1])
    if error["type"] == "extra_forbidden":
        return f"{where}: no such key{near(parts[-1], keys)}"
    if error["type"] == "missing":
        return f"{where} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if not where:
        return message
    given = "" if isinstance(error["input"], dict | list) else f", not {error['input']!r}"
    if error["type"] == "value_error":
        return f"{where}: {message}"
    message = message[0].lower() + message[1:]
    return f"{where}: {message}{given}"


def parts_of(model: type[SettingsPart]) -> set[type[SettingsPart]]:
    """Return a model and all parts that its module defines.

    Examples
    --------
    >>> class Wheel(SettingsPart):
    ...     width: int
    >>> class Bicycle(SettingsPart):
    ...     bell: bool
    >>> {Wheel, Bicycle} <= parts_of(Bicycle)
    True
    """
    pending, parts = [SettingsPart], {model}
    while pending:
        kinds = pending.pop().__subclasses__()
        pending += kinds
        parts.update(kind for kind in kinds if kind.__module__ == model.__module__)
    return parts
