"""The file of a domain check: safetensors, nothing that runs.

By modality: the weights of a few networks of some 60,000 numbers each, and their scales; no image
and no slice is stored. Under the metadata key ``medtranslate``: format, limits, number of networks.
"""

from __future__ import annotations

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from medtranslate.bundle import Bundle
from medtranslate.domain_check.check import DomainCheck, ModalityCheck, Scale
from medtranslate.domain_check.classifier import AnomalyClassifier, AnomalyEnsemble
from medtranslate.errors import ModelUnusable

FORMAT = 2
_KEY = "medtranslate"
_REMEDY = "remove the bundle in its run and go on with `train --resume`, which makes it anew"
# Names of format 2 in the file, by names in the code.
_SCALES = {"anomalies": "faults", "slice": "slice", "scan": "scan"}
_WEIGHTS = {
    "members": "each",
    "encoder": "see",
    "mean": "middle",
    "std": "spread",
    "orientation": "turn",
}


def to_bytes(check: DomainCheck) -> bytes:
    """Serialize a domain check as a safetensors file, with weights in 16 bit."""
    tensors = {}
    for modality, part in check.modalities.items():
        for name, value in part.classifiers.state_dict().items():
            stored = _renamed(name, _WEIGHTS)
            tensors[f"{modality}.namers.{stored}"] = value.to(torch.float16).contiguous()
        for name, stored in _SCALES.items():
            tensors[f"{modality}.{stored}"] = getattr(part, name).knots.contiguous()
    about = {
        "format": FORMAT,
        "limits": list(check.limits),
        "namers": {name: len(part.classifiers.members) for name, part in check.modalities.items()},
    }
    return save(tensors, metadata={_KEY: json.dumps(about)})


def load_domain(bundle: Bundle) -> DomainCheck | None:
    """Load a bundle's domain check; None where it carries none.

    Raises
    ------
    ModelUnusable
        If the file is damaged or of another format.

    Examples
    --------
    >>> from medtranslate import Bundle
    >>> load_domain(Bundle.load())
    DomainCheck(CT, MR; limits=(1.5, 2.2))
    """
    if bundle.domain is None:
        return None
    try:
        with safe_open(bundle.domain, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            fault = f"a domain check of format {about['format']}, but this version reads {FORMAT}"
            raise ModelUnusable(fault, path=bundle.domain, remedy=_REMEDY)
        warn, refuse = (float(limit) for limit in about["limits"])
        parts = {name: _part(tensors, name, about["namers"][name]) for name in ("CT", "MR")}
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise ModelUnusable("not the numbers of a domain check", path=bundle.domain) from error
    return DomainCheck(parts, (warn, refuse))


def _part(tensors: dict[str, torch.Tensor], modality: str, count: int) -> ModalityCheck:
    prefix = f"{modality}.namers."
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("numbers that are not finite")
    names = {stored: name for name, stored in _WEIGHTS.items()}
    state = {
        _renamed(name.removeprefix(prefix), names): value.float()
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    ensemble = AnomalyEnsemble(AnomalyClassifier() for _ in range(count))
    ensemble.load_state_dict(state)
    scales = [Scale(tensors[f"{modality}.{stored}"].float()) for stored in _SCALES.values()]
    return ModalityCheck(ensemble.eval().requires_grad_(False), *scales)


def _renamed(dotted: str, names: dict[str, str]) -> str:
    return ".".join(names.get(part, part) for part in dotted.split("."))
