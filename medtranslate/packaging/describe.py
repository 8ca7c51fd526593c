"""A bundle described in lines of text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from medtranslate.bundle.load import Bundle
from medtranslate.bundle.metadata import SIDE
from medtranslate.bundle.save import content_of, facts_of
from medtranslate.modality import Modality

_SHOWN = ("steps", "pairs", "seconds", "processes", "precision")


def describe(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Yield what a loaded bundle holds: name and value, line by line."""
    facts, content = facts_of(bundle.folder), content_of(bundle.folder)
    yield "model", f"{bundle.name} {bundle.version}"
    yield "folder", str(bundle.folder)
    for to in content["generators"]:
        network, spec = bundle.generator(to).network, content["generators"][to]
        parameters = sum(each.numel() for each in network.parameters())
        work = f"{parameters / 1e6:.2f} M parameters, {gigaflops(network):.1f} GFLOP a slice"
        yield Modality.parse(to).direction, f"{_kind(spec['network'])}, {work}"
        yield "", f"{spec['weights']}, SHA-256 {bundle.generator(to).sha256}"
    yield "MR contrasts", ", ".join(bundle.contrasts) or "no choice"
    for key, recipe in bundle.recipes.items():
        yield f"recipe {key}", ", ".join(type(each).__name__ for each in recipe.transforms)
    yield "classifier", "of MR contrasts" if bundle.contrast_classifier else "none"
    yield "domain check", "yes" if bundle.domain else "no"
    yield "expected error", "yes" if bundle.expected_error else "no"
    yield "training", _training(facts.training) or "not stated"
    yield "data", facts.data_source
    yield "license", _license(bundle.folder) or facts.license
    yield "intended use", facts.intended_use


def gigaflops(network: torch.nn.Module) -> float:
    """Count the work of one slice, a multiplication and an addition as two, in GFLOP."""
    with warnings.catch_warnings(), FlopCounterMode(display=False) as counter:
        warnings.simplefilter("ignore")
        with torch.inference_mode():
            network(torch.zeros(1, 1, SIDE, SIDE))
    return float(counter.get_total_flops()) / 1e9


def _kind(network: dict[str, Any]) -> str:
    """Name a network with its arguments, and the network that it wraps."""
    arguments = [
        _kind(value) if isinstance(value, dict) else f"{key} {value}"
        for key, value in network.items()
        if key not in ("_target_", "spatial_dims", "in_channels", "out_channels")
    ]
    return f"{network['_target_'].rpartition('.')[2]} ({', '.join(arguments)})"


def _training(training: Any) -> str:
    return ", ".join(f"{training[key]} {key}" for key in _SHOWN if key in training)


def _license(folder: Path) -> str:
    """The first two lines of the license that are not empty."""
    path = folder / "LICENSE"
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return ", ".join([line.strip() for line in lines if line.strip()][:2])
