"""The numbers of a domain check: safetensors, nothing that runs.

By modality: the weights of a few networks of some 60,000 numbers each, and their scales; no picture
and no slice is kept. Under the metadata key ``medtranslate``: format, limits, how many networks.
"""

from __future__ import annotations

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from medtranslate.bundle import Bundle
from medtranslate.domain_check.check import Calibrated, DomainCheck
from medtranslate.domain_check.classifier import Namer, Namers
from medtranslate.domain_check.scale import Scale
from medtranslate.errors import ModelUnusable

FORMAT = 2
_KEY = "medtranslate"
_ANEW = "remove the bundle in its run and go on with `train --resume`, which makes it anew"
_SCALES = ("faults", "slice", "scan")


def as_bytes(check: DomainCheck) -> bytes:
    """Give a check as a safetensors file; weights in 16 bit."""
    tensors = {}
    for modality, part in check.modalities.items():
        for name, value in part.namers.state_dict().items():
            tensors[f"{modality}.namers.{name}"] = value.to(torch.float16).contiguous()
        for name in _SCALES:
            tensors[f"{modality}.{name}"] = getattr(part, name).knots.contiguous()
    about = {
        "format": FORMAT,
        "limits": list(check.limits),
        "namers": {name: len(part.namers.each) for name, part in check.modalities.items()},
    }
    return save(tensors, metadata={_KEY: json.dumps(about)})


def load_domain(bundle: Bundle) -> DomainCheck | None:
    """Load a bundle's domain check; None where it carries none.

    Raises
    ------
    ModelUnusable
        If the file is damaged or of another format.
    """
    if bundle.domain is None:
        return None
    try:
        with safe_open(bundle.domain, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            fault = f"a domain check of format {about['format']}, but this version reads {FORMAT}"
            raise ModelUnusable(fault, path=bundle.domain, remedy=_ANEW)
        warn, refuse = (float(limit) for limit in about["limits"])
        parts = {name: _part(tensors, name, about["namers"][name]) for name in ("CT", "MR")}
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise ModelUnusable("not the numbers of a domain check", path=bundle.domain) from error
    return DomainCheck(parts, (warn, refuse))


def _part(tensors: dict[str, torch.Tensor], modality: str, count: int) -> Calibrated:
    prefix = f"{modality}.namers."
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("numbers that are not finite")
    state = {
        name.removeprefix(prefix): value.float()
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    namers = Namers(Namer() for _ in range(count))
    namers.load_state_dict(state)
    scales = [Scale(tensors[f"{modality}.{name}"].float()) for name in _SCALES]
    return Calibrated(namers.eval().requires_grad_(False), *scales)
