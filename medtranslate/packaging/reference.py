"""A stored translation of a synthetic head phantom, to check that a copy of a model still works.

Each direction translates the phantom in float32 on a CPU. What comes out is kept as the means of
blocks in each slice, which any machine meets within one gray level of 255, and as the SHA-256 of
all voxels, which the machine that wrote it meets exactly.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medtranslate.bundle import Bundle
from medtranslate.bundle.save import REFERENCE_FILE, write_texts
from medtranslate.errors import MedTranslateError, ModelUnusable
from medtranslate.imaging.source import SourceRecord
from medtranslate.modality import Modality
from medtranslate.phantom import Phantom
from medtranslate.transforms import Recipe
from medtranslate.transforms.load import read_yaml, refuse
from medtranslate.translation import Translator

FORMAT = 1
GRAY_LEVELS = 255

_PHANTOM = Phantom((144, 144, 4), (1.6, 1.6, 28.0))
_BLOCK = 12  # voxels a side
_HU = (-1000.0, -500.0, -90.0, 6.0, 12.0, 30.0, 38.0, 60.0, 900.0)
_MR = (0.0, 0.0, 900.0, 150.0, 200.0, 620.0, 480.0, 430.0, 60.0)
"""What the phantom's HU become in an MR-like phantom: bright fat, dark fluid and bone, as in T1."""


@dataclass(frozen=True)
class Comparison:
    """How far a direction is from what is stored.

    Parameters
    ----------
    to : str
        Its target.
    equal : bool
        All voxels are the stored ones.
    worst : float
        The largest difference of a block's mean, in the target's units.
    tolerance : float
        One of 255 gray levels of the target, in its units.
    """

    to: str
    equal: bool
    worst: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.equal or self.worst <= self.tolerance


def write_reference(folder: Path) -> None:
    """Translate the phantom with a bundle and store the result in the bundle.

    A direction whose recipes do not take the phantom is left out.

    Raises
    ------
    ModelUnusable
        It cannot be loaded.
    """
    translator = reference_translator(Bundle.load(folder))
    targets = {}
    for to in translator.bundle.generators:
        with suppress(MedTranslateError):
            targets[to] = _measured(translator, to)
    content = {
        "format": FORMAT,
        "computed": "float32 on a CPU, medtranslate.phantom in, int16 voxels out",
        "block": _BLOCK,
        "targets": targets,
    }
    text = json.dumps(content)
    write_texts(folder, {REFERENCE_FILE: _wrapped(text) + "\n"})


def compare_reference(bundle: Bundle) -> list[Comparison]:
    """Translate the phantom and compare with what the bundle stores.

    Raises
    ------
    ModelUnusable
        The file is missing or not such a file, or the phantom is another one here.
    """
    path = bundle.folder / REFERENCE_FILE
    content = read_yaml(path)
    targets = content.get("targets")
    if content.get("format") != FORMAT or not isinstance(targets, dict):
        refuse(path, "format", f"is not the one that this version reads, {FORMAT}")
    translator = reference_translator(bundle)
    found = []
    for to in bundle.generators:
        stored = targets.get(to)
        if not isinstance(stored, dict):
            refuse(path, f"targets.{to}", "is missing")
        here = _measured(translator, to)
        if stored.get("source_sha256") != here["source_sha256"]:
            raise ModelUnusable("was made from another phantom than this version's", path=path)
        found.append(_compared(to, stored, here, path))
    return found


def compare_voxels(bundle: Bundle, to: str, made: np.ndarray, other: np.ndarray) -> Comparison:
    """Compare two translations of the phantom, (X, Y, Z) in the target's units."""
    recipe = _target(bundle, to, phantom_kind(bundle, to))
    worst = float(np.abs(_blocks(made, recipe) - _blocks(other, recipe)).max())
    return Comparison(to, bool(np.array_equal(made, other)), worst, _tolerance(recipe))


def reference_translator(bundle: Bundle) -> Translator:
    """Put a model where references are computed: float32 on a CPU."""
    return Translator.load(bundle, device="cpu", precision="float32")


def phantom_kind(bundle: Bundle, to: str) -> str:
    """Return the kind of phantom that a bundle's recipes take: a volume, else a 2D image."""
    pair = {f"{modality}-volume" for modality in Modality}
    return "volume" if pair <= set(bundle.recipes) else "image"


def phantom_scan(modality: str, kind: str) -> MetaTensor:
    """Return the phantom that references are made from.

    Parameters
    ----------
    modality : {"CT", "MR"}
    kind : {"volume", "image"}
    """
    scan = _PHANTOM.volume() if kind == "volume" else _PHANTOM.image_2d()
    if modality == "CT":
        return scan
    voxels = scan.as_tensor().numpy()
    if kind == "volume":
        made = np.rint(np.interp(voxels, _HU, _MR)).astype(np.float32)
    else:
        made = np.where(voxels > 0, 255 - 0.6 * voxels, 0).round().astype(np.float32)
    image = MetaTensor(torch.from_numpy(made), meta=dict(scan.meta))
    source = dict(scan.meta["source"]) | {"modality": "MR", "modality_basis": "given"}
    image.meta["source"] = SourceRecord.of(source)
    return image


def _compared(to: str, stored: dict[str, Any], here: dict[str, Any], path: Path) -> Comparison:
    blocks = np.asarray(stored.get("blocks", ()), dtype=float)
    if blocks.shape != np.shape(here["blocks"]):
        refuse(path, f"targets.{to}.blocks", f"is not of shape {np.shape(here['blocks'])}")
    worst = float(np.abs(blocks - np.asarray(here["blocks"])).max())
    return Comparison(to, stored.get("sha256") == here["sha256"], worst, here["tolerance"])


def _measured(translator: Translator, to: str) -> dict[str, Any]:
    """Translate the phantom and sum the result up."""
    kind = phantom_kind(translator.bundle, to)
    scan = phantom_scan(Modality.parse(to).other, kind)
    made = translator.translate(scan, to=to, check=False).as_tensor()[0].numpy()
    recipe = _target(translator.bundle, to, kind)
    return {
        "source_sha256": _hash(scan.as_tensor()[0].numpy()),
        "sha256": _hash(made),
        "tolerance": _tolerance(recipe),
        "blocks": _blocks(made, recipe).round(2).tolist(),
    }


def _target(bundle: Bundle, to: str, kind: str) -> Recipe:
    return bundle.recipe(Modality.parse(to), kind)


def _tolerance(recipe: Recipe) -> float:
    return round((recipe.shown.high - recipe.shown.low) / GRAY_LEVELS, 3)


def _blocks(voxels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Means of square blocks: (X, Y, Z) to (X / 12, Y / 12, Z); of CT of all HU in the window."""
    if recipe.shown != recipe.written:
        voxels = voxels.clip(recipe.shown.low, recipe.shown.high)
    x, y, z = voxels.shape
    shape = (x // _BLOCK, _BLOCK, y // _BLOCK, _BLOCK, z)
    means: np.ndarray = voxels.astype(np.float64).reshape(shape).mean(axis=(1, 3))
    return means


def _hash(voxels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(voxels, dtype="<i2").tobytes()).hexdigest()


def _wrapped(text: str) -> str:
    """Break long JSON after each row of numbers, so that a change can be read."""
    return text.replace("], [", "],\n[").replace('"targets": ', '"targets":\n')
