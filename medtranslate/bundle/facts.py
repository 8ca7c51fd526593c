"""What people say of a model: the words in ``configs/metadata.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

METADATA_FILE = Path("configs/metadata.json")


@dataclass(frozen=True)
class Facts:
    """The part of a bundle's metadata that does not follow from its networks.

    Each parameter is the key of its name in ``configs/metadata.json``, where it may be edited;
    a bundle that is written anew keeps it.

    Parameters
    ----------
    title : str
        Name for people; the key is ``name``.
    task, description, intended_use, authors, copyright, license, data_source : str
        As MONAI's bundle specification has them.
    references : sequence of str
        Publications.
    changelog : mapping of str to str
        What each version brought.
    eval_metrics : mapping
        Figures, by name.
    training : mapping
        How it was trained, in builtins; ``settings`` are those of `medtranslate.training.Settings`
        and go into ``train.yaml``.
    """

    title: str = ""
    task: str = "Unpaired translation between brain CT and brain MRI, slice by slice"
    description: str = "Generators of a CycleGAN for brain CT and MRI, trained with medtranslate."
    intended_use: str = (
        "Research. The images are synthetic: not for diagnosis, dose, attenuation or bone."
    )
    authors: str = "not stated"
    copyright: str = "not stated"
    license: str = "not stated"
    data_source: str = "not stated"
    references: Sequence[str] = (
        "Zhu, Park, Isola, Efros. Unpaired Image-to-Image Translation using Cycle-Consistent "
        "Adversarial Networks. ICCV 2017. https://arxiv.org/abs/1703.10593",
    )
    changelog: Mapping[str, str] = field(default_factory=dict)
    eval_metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Facts:
        """Take the words from a bundle's metadata; what it does not say is left as it is here."""
        words = {key: metadata[key] for key in _KEYS if key in metadata}
        return cls(title=str(metadata.get("name", "")), **words)

    def as_metadata(self) -> dict[str, Any]:
        """Give the words under the keys of the metadata."""
        return {key: getattr(self, key) for key in _KEYS}


_KEYS = tuple(each.name for each in fields(Facts) if each.name != "title")
