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


def contrast_networks(contrasts: tuple[str, ...] = ("t1", "flair")) -> Networks:
    """Return generators of which that of MRI makes several contrasts."""
    plain = tiny_networks()
    coded = Compact(width=16, blocks=1, contrasts=contrasts)
    coded.load_state_dict(plain.generators["mri"].state_dict(), strict=False)
    with torch.no_grad():
        for name, weight in coded.named_parameters():
            if ".contrast." in name:
                weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    specs = {**plain.specs, "mri": {**SPEC, "contrasts": list(contrasts)}}
    return Networks(specs, {**plain.generators, "mri": coded})
