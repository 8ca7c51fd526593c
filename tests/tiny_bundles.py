"""A bundle of tiny generators: the whole way in a second."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from medtranslate.bundle import Networks, attach, save_bundle
from medtranslate.files import shipped
from medtranslate.networks import Compact, draw_weights
from medtranslate.quality import ErrorPredictors
from medtranslate.quality.expected_error import ErrorPredictor
from medtranslate.transforms.load import with_range

SPEC = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}


def tiny_networks(targets: tuple[str, ...] = ("mri", "ct")) -> Networks:
    """Generators with drawn weights, another draw a target."""
    generators = {}
    for seed, to in enumerate(targets):
        torch.manual_seed(seed)
        generators[to] = draw_weights(Compact(width=16, blocks=1), 0.2)
    return Networks({to: dict(SPEC) for to in targets}, generators)


def constant_error(error: float) -> ErrorPredictor:
    """A network that expects one error everywhere, for values in [-1, 1]."""
    network = ErrorPredictor().eval()
    torch.nn.init.zeros_(network.network[-1].weight)
    torch.nn.init.constant_(network.bias, math.log(error))
    return network


def with_constant_error(bundle: Path, copy: Path, error: float = 0.125) -> Path:
    """Copy a bundle, and have the copy expect one error everywhere."""
    shutil.copytree(bundle, copy)
    networks = {to: constant_error(error) for to in ("mri", "ct")}
    attach(copy, "expected_error", ErrorPredictors(networks, {"slices": 2}).to_bytes())
    return copy


def shipped_recipes() -> list[Path]:
    """The four recipes that medtranslate ships."""
    names = ("ct-volume", "mr-volume", "ct-image", "mr-image")
    return [shipped(f"transforms/{name}.yaml") for name in names]


def tiny_bundle(folder: Path, networks: Networks | None = None) -> Path:
    """Write a bundle and give its folder."""
    return save_bundle(
        folder, networks or tiny_networks(), shipped_recipes(), name="tiny", version="0.7"
    )


def all_hu_bundle(folder: Path, networks: Networks | None = None) -> Path:
    """Write a bundle whose generator of CT makes all HU, and give its folder."""
    recipes = []
    for shipped_one in shipped_recipes():
        text = shipped_one.read_text("utf-8")
        recipes.append(folder.with_name(folder.name + "-recipes") / shipped_one.name)
        recipes[-1].parent.mkdir(exist_ok=True)
        recipes[-1].write_text(
            with_range(text, full=True) if "ct" in shipped_one.stem else text, "utf-8"
        )
    networks = networks or tiny_networks()
    return save_bundle(folder, networks, recipes, name="tiny-all-hu", version="0.7")


def contrast_networks(
    contrasts: tuple[str, ...] = ("t1", "flair"), told: tuple[str, ...] = ("mri",)
) -> Networks:
    """Return generators of which some, by default that of MRI, take several contrasts."""
    plain = tiny_networks()
    specs, generators = dict(plain.specs), dict(plain.generators)
    for to in told:
        specs[to] = {**SPEC, "contrasts": list(contrasts)}
        coded = Compact(width=16, blocks=1, contrasts=contrasts)
        coded.load_state_dict(plain.generators[to].state_dict(), strict=False)
        with torch.no_grad():
            for name, weight in coded.named_parameters():
                if ".contrast." in name:
                    weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
        generators[to] = coded
    return Networks(specs, generators)
