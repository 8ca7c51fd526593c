"""A bundle of tiny generators: the whole way in a second."""

from __future__ import annotations

from pathlib import Path

import torch

from medtranslate.bundle import Networks, save_bundle
from medtranslate.files import shipped
from medtranslate.networks import Compact, draw_weights

SPEC = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}


def tiny_networks(targets: tuple[str, ...] = ("mri", "ct")) -> Networks:
    """Generators with drawn weights, another draw a target."""
    generators = {}
    for seed, to in enumerate(targets):
        torch.manual_seed(seed)
        generators[to] = draw_weights(Compact(width=16, blocks=1), 0.2)
    return Networks({to: dict(SPEC) for to in targets}, generators)


def shipped_recipes() -> list[Path]:
    """The four recipes that medtranslate ships."""
    names = ("ct-volume", "mr-volume", "ct-image", "mr-image")
    return [shipped(f"transforms/{name}.yaml") for name in names]


def tiny_bundle(folder: Path, networks: Networks | None = None) -> Path:
    """Write a bundle and give its folder."""
    return save_bundle(
        folder, networks or tiny_networks(), shipped_recipes(), name="tiny", version="0.7"
    )
