"""The layout of MONAI's Model Zoo: a plain state dict beside the safetensors, and a license.

The Zoo's checks and the programs that build on it look for ``models/model.pt``. It is a copy of the
weights that the bundle's configs serve, the first direction of ``model.yaml``; the other direction
is beside it under its own name. The bundle itself still runs from the safetensors.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from medtranslate.bundle.load import Bundle
from medtranslate.bundle.save import content_of
from medtranslate.errors import ModelUnusable
from medtranslate.modality import Modality

LICENSE_FILE = Path("LICENSE")
LARGEST_FILE = 25e6
"""Bytes that the Zoo allows a file to have; larger ones are linked to."""


def add_zoo_files(folder: Path) -> list[Path]:
    """Add the state dicts that the Zoo looks for.

    Parameters
    ----------
    folder : path
        A whole bundle.

    Returns
    -------
    list of Path
        Files larger than the Zoo allows, which must be uploaded elsewhere and linked.

    Raises
    ------
    ModelUnusable
        The bundle has no license, or cannot be loaded.
    """
    if not (folder / LICENSE_FILE).is_file():
        raise ModelUnusable(
            "has no LICENSE, which the Model Zoo asks for", path=folder, remedy="--license FILE"
        )
    bundle = Bundle.load(folder)
    for to, path in state_dicts(folder).items():
        content = io.BytesIO()  # torch.save to a file does not say that the disk is full
        torch.save(bundle.generator(to).network.state_dict(), content)
        path.write_bytes(content.getbuffer())
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.relative_to(folder) for path in files if path.stat().st_size > LARGEST_FILE]


def state_dicts(folder: Path) -> dict[str, Path]:
    """Return where the Zoo's layout has each direction's state dict, by target."""
    targets = list(content_of(folder)["generators"])
    names = {to: f"model_{Modality.parse(to).direction}.pt" for to in targets}
    return {to: folder / "models" / name for to, name in {**names, targets[0]: "model.pt"}.items()}


def check_state_dicts(folder: Path, bundle: Bundle) -> list[str]:
    """Compare the state dicts that are there with the bundle's weights.

    They are read without running what a pickle may bring.

    Returns
    -------
    list of str
        Names of the files that were compared.

    Raises
    ------
    ModelUnusable
        One is not a plain state dict, or holds other weights.
    """
    compared = []
    for to, path in state_dicts(folder).items():
        if not path.is_file():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ModelUnusable("is no plain state dict", path=path) from error
        expected = bundle.generator(to).network.state_dict()
        same = isinstance(state, dict) and state.keys() == expected.keys()
        if not same or any(not torch.equal(state[k].float(), expected[k]) for k in expected):
            raise ModelUnusable("holds other weights than the bundle's safetensors", path=path)
        compared.append(path.name)
    return compared
