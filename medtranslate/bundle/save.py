"""Writing a bundle: whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save
from torch import nn

from medtranslate.bundle.load import FORMAT, MODEL_FILE, file_hash
from medtranslate.errors import OutputExists, OutputFailed
from medtranslate.recipes import load_recipe

_WEIGHTS = {"mri": "models/ct_to_mri.safetensors", "ct": "models/mri_to_ct.safetensors"}
_DISCRIMINATORS = {"mri": "discriminators/mri.safetensors", "ct": "discriminators/ct.safetensors"}


@dataclass(frozen=True)
class Networks:
    """What a training run leaves.

    Parameters
    ----------
    specs : mapping of str to mapping
        By target, ``_target_`` and arguments of the generator.
    generators : mapping of str to nn.Module
        By target.
    discriminators : mapping of str to nn.Module
        By target; kept so that training can go on from the bundle; may be empty.
    dtype : torch.dtype
        Of the weights in the file. A network trained elsewhere keeps float32, so that it gives what
        it gave there.
    """

    specs: Mapping[str, Mapping[str, Any]]
    generators: Mapping[str, nn.Module]
    discriminators: Mapping[str, nn.Module] = field(default_factory=dict)
    dtype: torch.dtype = torch.float16


def save_bundle(
    folder: str | Path, networks: Networks, recipes: list[Path], *, name: str, version: str
) -> Path:
    """Write a bundle: weights and recipes copied, so that it stands alone.

    Parameters
    ----------
    folder : path
        Must not exist.
    networks : Networks
        Generators, and discriminators where they are kept.
    recipes : list of Path
        Recipe files to copy.
    name, version : str
        Which model this is.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputExists, OutputFailed
        If the folder exists or cannot be written; nothing is left behind.
    ModelUnusable
        If a recipe could not be loaded again.
    """
    folder = Path(folder)
    if folder.exists():
        raise OutputExists("exists already", path=folder)
    for recipe in recipes:
        load_recipe(recipe)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            whole = Path(made) / folder.name
            _fill(whole, networks, recipes, name, version)
            whole.rename(folder)
    except OSError as error:
        raise OutputFailed(error.strerror or str(error), path=folder) from error
    return folder


def _fill(folder: Path, networks: Networks, recipes: list[Path], name: str, version: str) -> None:
    for sub in ("configs/recipes", "models", "discriminators"):
        (folder / sub).mkdir(parents=True)
    for to, discriminator in networks.discriminators.items():
        _save(discriminator, folder / _DISCRIMINATORS[to], networks.dtype)
    generators = {}
    for to, generator in networks.generators.items():
        _save(generator, folder / _WEIGHTS[to], networks.dtype)
        generators[to] = {
            "network": dict(networks.specs[to]),
            "weights": _WEIGHTS[to],
            "sha256": file_hash(folder / _WEIGHTS[to]),
        }
    for recipe in recipes:
        shutil.copyfile(recipe, folder / "configs/recipes" / recipe.name)
    content = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "generators": generators,
        "recipes": {recipe.stem: f"recipes/{recipe.name}" for recipe in recipes},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / MODEL_FILE).write_text(text, encoding="utf-8")


def _save(network: nn.Module, path: Path, dtype: torch.dtype) -> None:
    state = {
        key: value.detach().to("cpu", dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    path.write_bytes(save(state))  # not `save_file`, which makes a file that only its owner reads
