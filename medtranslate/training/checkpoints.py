"""Checkpoints: everything a run needs to go on exactly, in one safetensors file.

Weights, averages, Adam's moments and image pools are tensors; the rest is JSON in the metadata.
Nothing in the file is code, and it is written under a temporary name, synced to the disk, and only
then renamed, so an earlier checkpoint is lost neither to a full disk nor to a crash.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from medtranslate.errors import InputMissing, OutputFailed, TrainingFailed, Unreadable
from medtranslate.files import whole_file
from medtranslate.training.models import SIDES, Models
from medtranslate.training.run_folder import RunFolder
from medtranslate.training.settings import WHICH
from medtranslate.transforms import load_recipe

FORMAT = 2
_KEY = "medtranslate"
_NETWORKS = ("generators", "averages", "discriminators", "anchors")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes
    ----------
    tensors : dict of str to Tensor
        On the CPU, by dotted names: ``generators.mri.fold.1.weight``,
        ``optimizers.generators.0.exp_avg``, ``pools.0.ct`` (by process), and what a recorder adds.
    about : dict
        Builtins: step, settings, data, versions.
    """

    tensors: Tensors
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Steps taken when it was written."""
        return int(self.about["step"])

    def part(self, name: str) -> Tensors:
        """Return the tensors whose names begin so, without that beginning."""
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, in place of an earlier one.

        Raises
        ------
        OutputFailed
            Full disk, no permission, vanished folder; an earlier file is as it was.
        """
        with whole_file(path, overwrite=True) as temporary:
            metadata = {_KEY: json.dumps({"format": FORMAT, **self.about})}
            try:
                save_file(self.tensors, temporary, metadata=metadata)
            except SafetensorError as error:
                raise OutputFailed(f"cannot be written: {error}", path=path) from error
            with temporary.open("rb") as written:
                os.fsync(written.fileno())

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file.

        Raises
        ------
        InputMissing, Unreadable
            No such file, or no checkpoint of this format.
        """
        if not path.is_file():
            raise InputMissing("no such checkpoint", path=path)
        try:
            with safe_open(path, framework="pt") as opened:
                about = json.loads((opened.metadata() or {})[_KEY])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise Unreadable("not a checkpoint, or a damaged one", path=path) from error
        if (found := about.pop("format", None)) != FORMAT:
            raise Unreadable(
                f"a checkpoint of format {found}; this medtranslate reads format {FORMAT}",
                path=path,
                remedy="make a bundle of it with the version that wrote it",
            )
        return cls(tensors, about)


def whole_state(models: Models, pools: list[Tensors]) -> Tensors:
    """Return copies on the CPU of everything that goes on training.

    Parameters
    ----------
    models : Models
    pools : list of dict of str to Tensor
        What each process's image pools keep.
    """
    found = network_state(models)
    for name, optimizer in models.optimizers.items():
        for place, state in optimizer.state_dict()["state"].items():
            found.update({f"optimizers.{name}.{place}.{k}": v for k, v in state.items()})
    for rank, kept in enumerate(pools):
        found.update({f"pools.{rank}.{name}": images for name, images in kept.items()})
    return {name: _plain(tensor) for name, tensor in found.items()}


def network_state(models: Models) -> Tensors:
    """Return copies on the CPU of all networks' weights."""
    found: Tensors = {}
    for name in _NETWORKS:
        if name == "averages" and models.average is None:
            continue
        state = getattr(models, name).state_dict()
        found.update({f"{name}.{k}": _plain(v) for k, v in state.items()})
    return found


def restore(models: Models, checkpoint: Checkpoint, rank: int, path: Path) -> None:
    """Bring models to where the checkpoint was taken, bit for bit.

    Raises
    ------
    TrainingFailed
        The checkpoint is of other networks.
    """
    for name in _NETWORKS:
        if name == "averages" and models.average is None:
            continue
        load_weights(getattr(models, name), checkpoint.part(name), path)
    for name, optimizer in models.optimizers.items():
        _restore_adam(optimizer, checkpoint.part(f"optimizers.{name}"))
    for name, kept in checkpoint.part(f"pools.{rank}").items():
        models.pools[name].kept = kept.to(models.device)


def load_weights(network: nn.Module, weights: Tensors, path: Path) -> None:
    """Copy weights into a network of the same shape.

    Raises
    ------
    TrainingFailed
        Names or shapes differ; the message gives the first that does.
    """
    own = network.state_dict()
    for name in [*own, *weights]:
        have, want = weights.get(name), own.get(name)
        if have is None or want is None or have.shape != want.shape:
            raise TrainingFailed(
                f"is of another network: {name} is {_shape(have)} there and {_shape(want)} here",
                path=path,
                remedy="give the network, width and blocks that it was trained with",
            )
    network.load_state_dict(weights)


def _restore_adam(optimizer: torch.optim.Optimizer, saved: Tensors) -> None:
    """Fill Adam's state, in each weight's own memory layout: another could round differently."""
    for place, weight in enumerate(w for g in optimizer.param_groups for w in g["params"]):
        state = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = saved.get(f"{place}.{key}")
            if value is None:
                continue
            like = torch.empty_like(weight) if value.shape == weight.shape else value.clone()
            state[key] = like.copy_(value).detach()
        if "step" in state and weight.device.type == "cuda":
            state["step"] = state["step"].to(weight.device)
        if state:
            optimizer.state[weight] = state


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _shape(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


_CODES = ".contrast."
_FILES = {"mri": "ct_to_mri.safetensors", "ct": "mri_to_ct.safetensors"}


def start_from(models: Models, path: Path) -> str:
    """Load generators, and discriminators where they are kept, from earlier training.

    A checkpoint gives its averaged generators, where it has them: those are its result.

    Parameters
    ----------
    models : Models
        Fresh ones, of the same networks.
    path : path
        A bundle's folder, a run's folder, or a checkpoint file.

    Returns
    -------
    str
        What was found, for the user.

    Raises
    ------
    InputMissing, Unreadable
        There is no such thing at the path.
    TrainingFailed
        The weights are of other networks.
    """
    if path.is_file():
        return _from_checkpoint(models, path)
    if RunFolder(path).last.is_file():
        return _from_checkpoint(models, RunFolder(path).last)
    if (path / "models").is_dir():
        return _from_bundle(models, path)
    raise InputMissing("no bundle, run or checkpoint there", path=path)


def _from_checkpoint(models: Models, path: Path) -> str:
    checkpoint = Checkpoint.load(path)
    _check_range(models, checkpoint.about["settings"].get("ct_range") == "full", path)
    generators = checkpoint.part("averages") or checkpoint.part("generators")
    judges = checkpoint.part("discriminators")
    load_weights(models.generators, with_new_contrasts(models.generators, generators), path)
    load_weights(models.discriminators, with_new_contrasts(models.discriminators, judges), path)
    models.start_here()
    return f"generators and discriminators of step {checkpoint.step}"


def _from_bundle(models: Models, bundle: Path) -> str:
    recipes = map(load_recipe, (bundle / "configs/recipes").glob("ct-*.yaml"))
    _check_range(models, any(each.share < 1 for each in recipes), bundle)
    for side in SIDES:
        path = bundle / "models" / _FILES[side]
        _start(models.generators[side], path)
    models.start_here()
    judges = {side: bundle / "discriminators" / f"{side}.safetensors" for side in SIDES}
    if not all(path.is_file() for path in judges.values()):
        return "generators; the bundle has no discriminators, so those start fresh"
    for side, path in judges.items():
        _start(models.discriminators[side], path)
    return "generators and discriminators"


def _check_range(models: Models, full: bool, path: Path) -> None:
    """Refuse a generator of CT whose values a run would take for what they are not.

    One of the window may be taught all HU: then it is neither kept as it is, nor held to what it
    made.
    """
    settings = models.settings
    if full and settings.ct_range == "window":
        raise TrainingFailed(
            "its generator of CT makes all HU, not those of the window alone",
            path=path,
            remedy="--set ct_range=full",
        )
    if not full and settings.ct_range == "full":
        kept = "ct" not in WHICH[settings.trained_generators]
        if kept or "ct" in settings.anchored:
            raise TrainingFailed(
                "its generator of CT makes the window alone, and is to be "
                + ("kept as it is" if kept else "the anchor of one that makes all HU"),
                path=path,
                remedy="teach it all HU first: label maps, trained_generators=ct, no anchor",
            )


def with_new_contrasts(network: nn.Module, weights: Tensors) -> Tensors:
    """Return weights of a network without contrasts with those that the codes start from."""
    new = {n: w for n, w in network.state_dict().items() if _CODES in f".{n}" and n not in weights}
    return {**new, **weights}


def _start(network: nn.Module, path: Path) -> None:
    load_weights(network, with_new_contrasts(network, _weights(path)), path)


def _weights(path: Path) -> Tensors:
    if not path.is_file():
        raise InputMissing("no such weights", path=path)
    try:
        # A bundle may keep 16 bit; training goes on in 32.
        return {name: value.float() for name, value in load_file(path).items()}
    except SafetensorError as error:
        raise Unreadable("no safetensors, or damaged", path=path) from error
