"""Writing a bundle: whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save
from torch import nn

from medtranslate.bundle.card import model_card
from medtranslate.bundle.facts import METADATA_FILE, Facts
from medtranslate.bundle.load import FORMAT, MODEL_FILE, file_hash
from medtranslate.bundle.metadata import make_metadata
from medtranslate.bundle.workflows import workflow_files
from medtranslate.errors import OutputExists, OutputFailed
from medtranslate.modality import TARGETS, Modality
from medtranslate.networks import complete_spec
from medtranslate.transforms import load_recipe

_WEIGHTS = {to: f"models/{Modality.parse(to).direction}.safetensors" for to in TARGETS}
_DISCRIMINATORS = {to: f"discriminators/{to}.safetensors" for to in TARGETS}


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
    folder: str | Path,
    networks: Networks,
    recipes: list[Path],
    *,
    name: str,
    version: str,
    facts: Facts | None = None,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write a bundle: weights and recipes copied, so that it stands alone, and MONAI's files.

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
    facts : Facts, optional
        What its metadata say in words.
    finish : callable
        Given the folder under its temporary name, when all but what this adds is there.

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
    folder, facts = Path(folder), facts or Facts()
    for recipe in recipes:
        load_recipe(recipe)

    def fill(whole: Path) -> None:
        content = _fill(whole, networks, recipes, name, version)
        write_texts(whole, generated_files(content, facts))
        write_texts(whole, {Path("docs/README.md"): model_card(content, facts)})
        finish(whole)

    return new_folder(folder, fill)


def new_folder(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Make a folder whole or not at all.

    Parameters
    ----------
    folder : path
        Must not exist.
    fill : callable
        Makes the folder, under the temporary name that it is given, and what is in it.

    Raises
    ------
    OutputExists, OutputFailed
        As `save_bundle`.
    """
    if folder.exists():
        raise OutputExists("exists already", path=folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            whole = Path(made) / folder.name
            fill(whole)
            whole.rename(folder)
    except OSError as error:
        raise OutputFailed(error.strerror or str(error), path=folder) from error
    return folder


def generated_files(content: Mapping[str, Any], facts: Facts) -> dict[Path, str]:
    """Write what follows from ``model.yaml`` and a model's facts; texts by place in the bundle."""
    metadata = make_metadata(content, facts)
    return {
        MODEL_FILE: yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True),
        METADATA_FILE: json.dumps(metadata, indent=2, ensure_ascii=False) + "\n",
        **workflow_files(content, facts),
    }


def write_texts(folder: Path, texts: Mapping[Path, str]) -> None:
    """Write texts below a folder, each whole or not at all, replacing what is there."""
    for place, text in texts.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _fill(
    folder: Path, networks: Networks, recipes: list[Path], name: str, version: str
) -> dict[str, Any]:
    """Write weights and recipes, and give the content of ``model.yaml``."""
    for sub in ("configs/recipes", "models", *(["discriminators"] * bool(networks.discriminators))):
        (folder / sub).mkdir(parents=True)
    for to, discriminator in networks.discriminators.items():
        _save(discriminator, folder / _DISCRIMINATORS[to], networks.dtype)
    generators = {}
    for to, generator in networks.generators.items():
        _save(generator, folder / _WEIGHTS[to], networks.dtype)
        generators[to] = {
            "network": complete_spec(networks.specs[to]),
            "weights": _WEIGHTS[to],
            "sha256": file_hash(folder / _WEIGHTS[to]),
        }
    for recipe in recipes:
        shutil.copyfile(recipe, folder / "configs/recipes" / recipe.name)
    return {
        "format": FORMAT,
        "name": name,
        "version": version,
        "generators": generators,
        "recipes": {recipe.stem: f"recipes/{recipe.name}" for recipe in recipes},
    }


def _save(network: nn.Module, path: Path, dtype: torch.dtype) -> None:
    state = {key: _as_stored(value, dtype) for key, value in network.state_dict().items()}
    path.write_bytes(save(state))  # not `save_file`, which makes a file that only its owner reads


def _as_stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Copy a tensor: some of MONAI's networks hold a layer twice, and views are refused."""
    wanted = dtype if value.is_floating_point() else value.dtype
    return value.detach().to("cpu", wanted, copy=True).contiguous()
