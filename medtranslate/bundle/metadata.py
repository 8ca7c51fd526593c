"""``configs/metadata.json`` and the model card of a bundle.

Metadata are checked by the rules of MONAI's bundle specification and of its schema of 2024-07-25,
which ``verify_metadata`` downloads; here without a network, and with the line of a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medtranslate.modality import Modality
from medtranslate.transforms.load import read_yaml, refuse

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
    supported_apps : mapping of str to str
        Programs that the bundle claims to serve, and their versions; often none.
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
    supported_apps: Mapping[str, str] = field(default_factory=dict)
    eval_metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Facts:
        """Read the descriptive part of a bundle's metadata; defaults where a key is missing."""
        words = {key: metadata[key] for key in _KEYS if key in metadata}
        return cls(title=str(metadata.get("name", "")), **words)

    def as_metadata(self) -> dict[str, Any]:
        """Return the descriptive part of the metadata, by key."""
        return {key: getattr(self, key) for key in _KEYS}


_KEYS = tuple(each.name for each in fields(Facts) if each.name != "title")


SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
SIDE = 256
"""Rows and columns of the slices that the recipes make."""

_REQUIRED: dict[str, type] = {
    "schema": str,
    "version": str,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
    "changelog": dict,
    "intended_use": str,
    "references": list,
}
_OPTIONAL: dict[str, type] = {
    "name": str,
    "license": str,
    "data_source": str,
    "data_type": str,
    "image_classes": str,
    "pred_classes": str,
    "eval_metrics": dict,
    "training": dict,
    "supported_apps": dict,
}
_KINDS: dict[type, str] = {str: "text", dict: "a mapping", list: "a list"}
_UNITS = {
    "CT": "CT from -1 to 1, windowed by the bundle's recipes",
    "MR": "MR from -1 to 1, scaled by the bundle's recipes",
}
_MADE = {**_UNITS, "CT": "CT from -1 to 1, HU by the units of the bundle's recipes"}


def make_metadata(content: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the metadata of a model.

    Parameters
    ----------
    content : mapping
        Of its ``model.yaml``.
    facts : Facts
        What people say of it.
    """
    targets = list(content["generators"])
    words = facts.as_metadata()
    mri = content["generators"].get(Modality.MR.target, {})
    named = mri.get("network", {}).get("contrasts", [])
    words["changelog"] = {str(content["version"]): "first version", **facts.changelog}
    return {
        "schema": SCHEMA,
        "version": str(content["version"]),
        "name": facts.title or str(content["name"]),
        **words,
        "monai_version": _installed("monai"),
        "pytorch_version": _installed("torch"),
        "numpy_version": _installed("numpy"),
        "required_packages_version": {
            name: _installed(name) for name in ("medtranslate", "pytorch-ignite", "safetensors")
        },
        "data_type": "NIfTI, MetaImage, NRRD, DICOM, PNG, JPEG or TIFF",
        "image_classes": "; ".join(_UNITS[Modality.parse(to).other] for to in targets),
        "pred_classes": "; ".join(_MADE[Modality.parse(to)] for to in targets),
        "network_data_format": data_format(targets[0]),
        **{f"{Modality.parse(to).direction}_data_format": data_format(to) for to in targets},
        **({"mr_contrasts": list(named)} if named else {}),
    }


def data_format(to: str) -> dict[str, Any]:
    """Return the data format of a generator's input and output, as MONAI's schema has it."""
    target = Modality.parse(to).value
    source = Modality.parse(to).other.value
    return {
        "inputs": {"image": _tensor(source, _UNITS[source])},
        "outputs": {"pred": _tensor(target, f"synthetic {_MADE[target]}")},
    }


def _tensor(modality: str, meaning: str) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "hounsfield" if modality == "CT" else "magnitude",
        "modality": modality,
        "num_channels": 1,
        "spatial_shape": [SIDE, SIDE],
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": False,
        "channel_def": {"0": meaning},
    }


def check_metadata(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Read a bundle's metadata and hold it to the rules.

    Parameters
    ----------
    folder : Path
        The bundle.
    content : mapping
        Of its ``model.yaml``, which the metadata must agree with.

    Returns
    -------
    dict
        The metadata.

    Raises
    ------
    ModelUnusable
        It is missing, no JSON, or breaks a rule; the message names the line and the key.
    """
    path = folder / METADATA_FILE
    metadata = read_yaml(path)  # JSON is YAML, and so a fault has its line
    for key in _REQUIRED:
        if key not in metadata:
            refuse(path, key, "is missing")
    for key, kind in {**_REQUIRED, **_OPTIONAL}.items():
        if key in metadata and not isinstance(metadata[key], kind):
            refuse(path, key, f"must be {_KINDS[kind]}")
    if metadata["version"] != str(content.get("version")):
        refuse(path, "version", f"is not model.yaml's, {content.get('version')}")
    if metadata["version"] not in metadata["changelog"]:
        refuse(path, "changelog", f"does not name version {metadata['version']}")
    for to in content["generators"]:
        if f"{Modality.parse(to).direction}_data_format" not in metadata:
            refuse(path, f"{Modality.parse(to).direction}_data_format", "is missing")
    for key in metadata:
        if re.fullmatch(r"\w+_data_format", key):
            _check_format(path, key, metadata[key])
    return metadata


def _check_format(path: Path, key: str, value: Any) -> None:
    for end, name in (("inputs", "image"), ("outputs", "pred")):
        where = f"{key}.{end}.{name}"
        found = value.get(end, {}).get(name) if isinstance(value, dict) else None
        if not isinstance(found, dict):
            refuse(path, where, "is missing")
        expected = _tensor("CT", "")
        for each in ("num_channels", "spatial_shape", "dtype", "value_range"):
            if found.get(each) != expected[each]:
                refuse(path, f"{where}.{each}", f"{found.get(each)!r} is not {expected[each]!r}")
        for each in ("type", "format"):
            if not isinstance(found.get(each), str):
                refuse(path, f"{where}.{each}", "must be text")


def _installed(package: str) -> str:
    """The version of a package, without the build that it came as."""
    return version(package).partition("+")[0]


_TEXT = """# {name}

{description}
**Synthetic. Not for diagnosis, dose, attenuation or bone.**

| | |
| --- | --- |
| version | {version} |
| makes | {makes} |
| network | {network} |
| data | {data} |
| training | {training} |
| license | {license} |

What the model is good at, where it fails and on whose scans it was measured is its maker's to say.

```
medtranslate convert SCAN --to {to} --bundle .
python -m monai.bundle run --config_file configs/inference.yaml --bundle_root . --input SCAN
```
"""


def model_card(content: Mapping[str, Any], facts: Facts) -> str:
    """Write the card of a model.

    Parameters
    ----------
    content : mapping
        Of its ``model.yaml``.
    facts : Facts
        What people say of it.
    """
    targets = list(content["generators"])
    return _TEXT.format(
        name=facts.title or content["name"],
        version=content["version"],
        description=facts.description,
        makes=", ".join(Modality.parse(to).direction for to in targets),
        network=content["generators"][targets[0]]["network"]["_target_"].rpartition(".")[2],
        data=facts.data_source,
        training=_training(facts.training),
        license=facts.license,
        to=targets[0],
    )


def _training(training: Mapping[str, Any]) -> str:
    known = [f"{value} {key}" for key, value in training.items() if key in ("steps", "epochs")]
    return ", ".join(known) or "not stated"
