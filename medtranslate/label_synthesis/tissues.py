"""Tissues as data: which label means which tissue, and what each looks like in CT and MR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from medtranslate.errors import InputMissing, Unreadable

TABLE = Path(__file__).with_name("tissues.yaml")
"""The table that comes with medtranslate."""

RANDOM = "random"
"""The contrast whose signals are drawn anew for every slice."""

_KEYS = {"labels", "hu", "beside", "mr"}


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    Parameters
    ----------
    name : str
        Such as ``"white_matter"``.
    labels : tuple of int
        The labels of a map that mean it; empty for what is only put in by synthesis.
    hu : (low, high)
        HU that a head's mean for this tissue is drawn from; with `beside`, differences in HU.
    mr : tuple of float
        Signal for each contrast of the table, about 0 to 1; with `beside`, differences.
    beside : str
        The tissue that `hu` and `mr` are differences to; empty where they are values.

    Examples
    --------
    >>> air = Tissue("air", labels=(0,), hu=(-1000.0, -1000.0), mr=(0.0,))
    >>> fat = Tissue("fat", labels=(9,), hu=(-110.0, -90.0), mr=(0.9,))
    >>> TissueTable((air, fat), contrasts=("T1",)).classes(torch.tensor([0, 9]))
    tensor([0, 1], dtype=torch.uint8)
    """

    name: str
    labels: tuple[int, ...]
    hu: tuple[float, float]
    mr: tuple[float, ...]
    beside: str = ""


@dataclass(frozen=True)
class TissueTable:
    """All tissues. A tissue's class, as class maps hold it, is its place in the table.

    Parameters
    ----------
    tissues : tuple of Tissue
        The first is air. A tissue that another is given `beside` stands before it.
    contrasts : tuple of str
        The MR contrasts that the tissues' `mr` are for.

    Examples
    --------
    >>> table = TissueTable.read()
    >>> table["white_matter"].hu
    (32.0, 40.0)
    >>> table.contrasts
    ('T1', 'T1C', 'T2', 'FLAIR', 'PD')
    """

    tissues: tuple[Tissue, ...]
    contrasts: tuple[str, ...]

    @classmethod
    def read(cls, path: Path = TABLE) -> TissueTable:
        """Read a table (YAML).

        Raises
        ------
        InputMissing
            No such file.
        Unreadable
            No table, or one that contradicts itself; the message names the tissue.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputMissing("no such table of tissues", path=path) from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise Unreadable(f"no table of tissues: {error}", path=path) from error
        try:
            return _table(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreadable(f"no table of tissues: {error}", path=path) from error

    def __getitem__(self, name: str) -> Tissue:
        return self.tissues[self.index(name)]

    def __len__(self) -> int:
        return len(self.tissues)

    def index(self, name: str) -> int:
        """Return the class of a tissue.

        Raises
        ------
        KeyError
            There is no such tissue.
        """
        return self._places[name]

    def indices(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the classes of some tissues."""
        return tuple(self.index(name) for name in names)

    def is_any(self, classes: torch.Tensor, *names: str) -> torch.Tensor:
        """Return where a class map of any shape shows one of these tissues: bool, same shape."""
        chosen = torch.zeros(len(self), dtype=torch.bool, device=classes.device)
        chosen[list(self.indices(names))] = True
        return chosen[classes.int()]

    def classes(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the classes (uint8, same shape) that integer labels mean.

        Raises
        ------
        ValueError
            A label means no tissue of this table; the message names the labels.
        """
        flat = labels.long()
        known = torch.zeros(max(self._of_label) + 1, dtype=torch.bool)
        table = torch.zeros(len(known), dtype=torch.uint8)
        for label, place in self._of_label.items():
            known[label], table[label] = True, place
        within = (flat >= 0) & (flat < len(known))
        bounded = flat.clamp(0, len(known) - 1)
        wrong = ~(within & known.to(flat.device)[bounded])
        if wrong.any():
            names = ", ".join(str(label) for label in sorted(set(flat[wrong].tolist()))[:8])
            raise ValueError(f"labels without a tissue: {names}")
        return table.to(flat.device)[bounded]

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {tissue.name: place for place, tissue in enumerate(self.tissues)}

    @cached_property
    def _of_label(self) -> Mapping[int, int]:
        return {
            label: place for place, tissue in enumerate(self.tissues) for label in tissue.labels
        }


def _table(content: Mapping[str, Any]) -> TissueTable:
    contrasts = tuple(str(name) for name in content["contrasts"])
    tissues: list[Tissue] = []
    taken: set[int] = set()
    for name, entry in content["tissues"].items():
        tissue = _tissue(name, entry)
        if len(tissue.mr) != len(contrasts):
            raise ValueError(f"{name}: {len(tissue.mr)} signals for {len(contrasts)} contrasts")
        if tissue.beside and tissue.beside not in {each.name for each in tissues}:
            raise ValueError(f"{name}: {tissue.beside!r} does not stand above it")
        if taken & set(tissue.labels):
            raise ValueError(f"{name}: labels {sorted(taken & set(tissue.labels))} are taken")
        taken |= set(tissue.labels)
        tissues.append(tissue)
    if not tissues or tissues[0].name != "air" or len(tissues) > 255:
        raise ValueError("the first tissue must be air, and 255 are the most")
    return TissueTable(tuple(tissues), contrasts)


def _tissue(name: str, entry: Mapping[str, Any]) -> Tissue:
    if set(entry) - _KEYS:
        raise ValueError(f"{name}: unknown keys {sorted(set(entry) - _KEYS)}")
    low, high = (float(value) for value in entry["hu"])
    if low > high:
        raise ValueError(f"{name}: HU from {low} to {high}")
    return Tissue(
        name,
        tuple(int(label) for label in entry["labels"]),
        (low, high),
        tuple(float(value) for value in entry["mr"]),
        str(entry.get("beside", "")),
    )
