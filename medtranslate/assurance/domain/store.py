"""The numbers of a domain check: safetensors, nothing that runs.

By modality: the weights of a network of some 60,000 numbers and its scales; no picture and no slice
is kept. Under the metadata key ``medtranslate``: format, limits.
"""

from __future__ import annotations

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from medtranslate.assurance.domain.check import Calibrated, DomainCheck
from medtranslate.assurance.domain.network import Namer
from medtranslate.assurance.domain.scale import Scale
from medtranslate.bundle import Bundle
from medtranslate.errors import ModelUnusable

FORMAT = 1
_KEY = "medtranslate"
_ANEW = "remove the bundle in its run and go on with `train --resume`, which makes it anew"
_SCALES = ("faults", "slice", "scan")


def as_bytes(check: DomainCheck) -> bytes:
    """Give a check as a safetensors file; weights in 16 bit."""
    tensors = {}
    for modality, part in check.modalities.items():
        for name, value in part.namer.state_dict().items():
            tensors[f"{modality}.namer.{name}"] = value.to(torch.float16).contiguous()
        for name in _SCALES:
            tensors[f"{modality}.{name}"] = getattr(part, name).knots.contiguous()
    about = {"format": FORMAT, "limits": list(check.limits), "modalities": list(check.modalities)}
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
        parts = {modality: _part(tensors, modality) for modality in ("CT", "MR")}
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise ModelUnusable("not the numbers of a domain check", path=bundle.domain) from error
    return DomainCheck(parts, (warn, refuse))


def _part(tensors: dict[str, torch.Tensor], modality: str) -> Calibrated:
    prefix = f"{modality}.namer."
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("numbers that are not finite")
    state = {
        name.removeprefix(prefix): value.float()
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    namer = Namer()
    namer.load_state_dict(state)
    scales = [Scale(tensors[f"{modality}.{name}"].float()) for name in _SCALES]
    return Calibrated(namer.eval().requires_grad_(False), *scales)
