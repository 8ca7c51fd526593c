"""The files that MONAI runs, written for a model: ``inference.yaml``, ``train.yaml`` and so on.

They say how the parts go together; which networks, weights and recipes those are stays in
``model.yaml`` alone, which they read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medtranslate.bundle.facts import Facts
from medtranslate.networks import generator_name

_TEMPLATES = Path(__file__).parent / "templates"
_EPOCHS = 200  # the paper's
_NEEDS_MORE = (
    "trained_generators",
    "anchor_weight",
    "anchored_generators",
    "cuda_graph",
)


def workflow_files(content: Mapping[str, Any], facts: Facts) -> dict[Path, str]:
    """Write the workflows of a model.

    Parameters
    ----------
    content : mapping
        Of its ``model.yaml``. The first generator is the direction that is taken unless another
        is asked for.
    facts : Facts
        Where its training settings are.

    Returns
    -------
    dict of Path to str
        Texts, by the file's place in the bundle. A model whose network cannot be trained here (an
        imported colour generator) has no ``train.yaml``.
    """
    to = next(iter(content["generators"]))
    fields = {"to": to}
    names = ["inference.yaml", "evaluate.yaml", "logging.conf"]
    settings = _settings(content["generators"][to]["network"], facts)
    if settings:
        names += ["train.yaml", "multi_gpu_train.yaml"]
        fields |= {
            "epochs": str(settings.pop("epochs", _EPOCHS)),
            "settings": _block(settings),
            "name": json.dumps(str(content["name"])),
            "version": json.dumps(str(content["version"])),
        }
    return {Path("configs") / name: _filled(name, fields) for name in names}


def _settings(spec: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Give the settings that the model was trained with, or as much as its network tells.

    Without what only serves a training that starts from other weights or runs on one GPU.
    """
    name = generator_name(spec)
    if not name:
        return {}
    implied = ("_target_", "spatial_dims", "in_channels", "out_channels")
    arguments = {key: value for key, value in spec.items() if key not in implied}
    known = dict(facts.training.get("settings", {}))
    network = {"network": name, "network_arguments": arguments}
    settings = network | known | network
    return {name: value for name, value in settings.items() if name not in _NEEDS_MORE}


def _block(settings: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(settings))  # tuples are lists in YAML
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None)
    return "".join(f"  {line}\n" for line in text.splitlines()).rstrip("\n")


def _filled(name: str, fields: Mapping[str, str]) -> str:
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    for field, value in fields.items():
        text = text.replace(f"{{{field}}}", value)
    return text
