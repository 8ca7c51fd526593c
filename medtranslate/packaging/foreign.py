"""Bundles from weights that another program trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from medtranslate.bundle.facts import Facts
from medtranslate.bundle.load import file_hash
from medtranslate.bundle.save import Networks, save_bundle
from medtranslate.errors import InputMissing
from medtranslate.files import shipped
from medtranslate.packaging.foreign_cyclegan import read_cyclegan

_PROGRAM = "junyanz/pytorch-CycleGAN-and-pix2pix"


def import_cyclegan(
    files: Mapping[str, Path],
    folder: str | Path,
    *,
    name: str = "",
    version: str = "1.0.0",
    recipes: list[Path] | None = None,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Make a bundle of generators trained with junyanz/pytorch-CycleGAN-and-pix2pix.

    Parameters
    ----------
    files : mapping of str to Path
        By target, ``"mri"`` and ``"ct"``, one of them or both: the generator that makes it.
    folder : path
        The bundle; must not exist.
    name, version : str
        Which model this is; the name is the folder's where none is given.
    recipes : list of Path, optional
        How scans are prepared; by default `whole_picture_recipes`.
    finish : callable
        As `save_bundle`.

    Returns
    -------
    Path
        The folder. Weights are float32, so that the generators give what they gave.

    Raises
    ------
    InputMissing, ModelUnusable
        As `read_cyclegan`.
    OutputExists, OutputFailed
        As `save_bundle`; nothing is left behind.
    """
    folder = Path(folder)
    read = {to: read_cyclegan(file) for to, file in files.items()}
    networks = Networks(
        {to: generator.spec for to, generator in read.items()},
        {to: generator.network for to, generator in read.items()},
        dtype=torch.float32,
    )
    return save_bundle(
        folder,
        networks,
        whole_picture_recipes() if recipes is None else recipes,
        name=name or folder.resolve().name,
        version=version,
        facts=_facts(files, version),
        finish=finish,
    )


def whole_picture_recipes() -> list[Path]:
    """Recipes that give a picture to the network whole, as that program does; volumes as shipped.

    A picture of 256x256 goes through unchanged.
    """
    names = ("ct-volume", "mr-volume", "whole-picture/ct-picture", "whole-picture/mr-picture")
    return [shipped(f"transforms/{name}.yaml") for name in names]


def recipes_in(folder: Path) -> list[Path]:
    """List the recipes in a folder; InputMissing where there is none."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InputMissing("no recipes (*.yaml) there", path=folder)
    return paths


def _facts(files: Mapping[str, Path], version: str) -> Facts:
    """Say where the weights are from."""
    origin = {to: {"file": file.name, "sha256": file_hash(file)} for to, file in files.items()}
    named = " and ".join(file.name for file in files.values())
    return Facts(
        description=f"Generators of a CycleGAN, trained with {_PROGRAM} and imported.",
        changelog={version: f"Imported from {named} of {_PROGRAM}."},
        training={"program": _PROGRAM, "imported": origin},
    )
