"""Generators of junyanz/pytorch-CycleGAN-and-pix2pix, as generators of ours.

Both build the networks of the CycleGAN paper; only the names of their parameters differ. What a
file holds is told from those names and their shapes: the architecture, its width, its blocks, its
channels and whether it was trained with dropout (which is idle in a trained generator).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medtranslate.errors import ModelUnusable
from medtranslate.networks import GrayThroughRGB, ResNet9, UNet256
from medtranslate.packaging.foreign_file import State, read_state

_RESNET_FIRST, _UNET_FIRST = "model.1.weight", "model.model.0.weight"
_UNET_LEVELS = 7
"""Levels of U-Net-256 below the outermost one; each of the eight halves."""

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_NORMS = "only instance normalisation is imported, CycleGAN's default (--norm instance)"
_GENERATORS = "generators of resnet_9blocks, resnet_6blocks and unet_256 are imported"


@dataclass(frozen=True)
class ForeignGenerator:
    """A generator that another program trained.

    Parameters
    ----------
    network : nn.Module
        Float32 on the CPU; (N, 1, H, W) in [-1, 1] to the same shape in (-1, 1).
    spec : mapping
        Its ``_target_`` and arguments, for a bundle's config.
    """

    network: nn.Module
    spec: dict[str, Any]


def read_cyclegan(path: str | Path) -> ForeignGenerator:
    """Read ``latest_net_G_A.pth`` or ``latest_net_G_B.pth``.

    A generator of three channels is wrapped in `GrayThroughRGB`, so that it takes and makes grey.

    Raises
    ------
    InputMissing, ModelUnusable
        As `read_state`; and ModelUnusable if the weights are those of another network, or of one
        without instance normalisation.
    """
    path = Path(path)
    state = _without_statistics(read_state(path), path)
    kind, arguments, names = _recognise(state, path)
    with torch.device("meta"):
        network = kind(**arguments)
    _fill(network, names, state, path)
    spec = {"_target_": f"medtranslate.networks.{kind.__name__}", **arguments}
    if (network.in_channels, network.out_channels) != (1, 1):
        network = GrayThroughRGB(network)
        spec = {"_target_": "medtranslate.networks.GrayThroughRGB", "network": spec}
    return ForeignGenerator(network.eval().requires_grad_(False), spec)


def resnet_names(blocks: int, *, second: int = 5) -> dict[str, str]:
    """Name each convolution of `ResNet9` as the other program does.

    Parameters
    ----------
    blocks : int
        Residual blocks.
    second : int
        Where a block's second convolution stands: 5, or 6 behind a layer of dropout.

    Returns
    -------
    dict of str to str
        Our name to theirs, without ``.weight`` and ``.bias``.
    """
    after = 10 + blocks
    names = {
        "encoder.1.conv": "model.1",
        "encoder.4.0.conv": "model.4",
        "encoder.5.0.conv": "model.7",
        "decoder.0.0.conv": f"model.{after}",
        "decoder.1.0.conv": f"model.{after + 3}",
        "decoder.3.conv": f"model.{after + 7}",
    }
    for block in range(blocks):
        for ours, theirs in ((1, 1), (5, second)):
            names[f"body.{block}.residual.{ours}.conv"] = f"model.{10 + block}.conv_block.{theirs}"
    return names


def unet_names() -> dict[str, str]:
    """Name each convolution of `UNet256` as the other program does; see `resnet_names`."""
    names = {"encoder.conv": "model.model.0", "decoder.1.conv": "model.model.3"}
    for level in range(_UNET_LEVELS):
        ours, theirs = "inner" + level * ".path.3", "model.model.1" + level * ".model.3"
        up = 3 if level == _UNET_LEVELS - 1 else 5
        names[f"{ours}.path.1.conv"] = f"{theirs}.model.1"
        names[f"{ours}.path.{up}.conv"] = f"{theirs}.model.{up}"
    return names


def _recognise(state: State, path: Path) -> tuple[type[nn.Module], dict[str, int], dict[str, str]]:
    """Tell class, arguments and names from a state dict."""
    if any(name.endswith(("weight_orig", "weight_u", "weight_g")) for name in state):
        raise ModelUnusable("trained with spectral or weight normalisation", path=path)
    blocks = len({name.split(".")[1] for name in state if ".conv_block." in name})
    if _RESNET_FIRST in state and blocks:
        second = 6 if "model.10.conv_block.6.weight" in state else 5
        names = resnet_names(blocks, second=second)
        made = state.get(f"{names['decoder.3.conv']}.weight")
        arguments = _sizes(state[_RESNET_FIRST], made, 0, path)
        return ResNet9, {**arguments, "blocks": blocks}, names
    if _UNET_FIRST in state:
        _check_levels(state, path)
        arguments = _sizes(state[_UNET_FIRST], state.get("model.model.3.weight"), 1, path)
        return UNet256, arguments, unet_names()
    if "model.0.weight" in state:
        hint = "give latest_net_G_A.pth or latest_net_G_B.pth"
        raise ModelUnusable("is a discriminator, no generator", path=path, remedy=hint)
    fault = f"no generator of pytorch-CycleGAN-and-pix2pix (its first name is {next(iter(state))})"
    raise ModelUnusable(fault, path=path, remedy=_GENERATORS)


def _sizes(
    first: torch.Tensor, last: torch.Tensor | None, out_axis: int, path: Path
) -> dict[str, int]:
    """Tell width and channels from the first and the last convolution's weights."""
    if last is None or first.ndim != 4 or last.ndim != 4:
        raise ModelUnusable("its first or last convolution is missing", path=path)
    sizes = {
        "in_channels": first.shape[1],
        "out_channels": last.shape[out_axis],
        "width": first.shape[0],
    }
    for end in ("in_channels", "out_channels"):
        if sizes[end] not in (1, 3):
            raise ModelUnusable(f"has {sizes[end]} {end}, not 1 or 3", path=path)
    return sizes


def _check_levels(state: State, path: Path) -> None:
    # The innermost level holds none, but its transposed convolution stands in the same place.
    levels = max(name.count(".model.3") for name in state)
    if levels != _UNET_LEVELS:
        fault = f"a U-Net of {levels + 1} halvings, not {_UNET_LEVELS + 1} as unet_256 has"
        raise ModelUnusable(fault, path=path)


def _without_statistics(state: State, path: Path) -> State:
    """Drop the running statistics that torch before 0.4 kept for instance normalisation.

    They were never used there, and the other program drops them too. Those of batch normalisation
    were, and come with weights of their own.
    """
    for name in state:
        if name.endswith("running_mean") and name.replace("running_mean", "weight") in state:
            raise ModelUnusable("trained with batch normalisation", path=path, remedy=_NORMS)
    return {name: value for name, value in state.items() if not name.endswith(_STATISTICS)}


def _fill(network: nn.Module, names: dict[str, str], state: State, path: Path) -> None:
    """Give a network on the meta device its weights, every one of them and no other."""
    filled = {}
    for ours, theirs, shape in _parameters(network, names):
        value = state.pop(theirs, None)
        if value is None:
            raise ModelUnusable(f"{theirs} is missing", path=path, remedy=_NORMS)
        if value.shape != shape:
            fault = f"{theirs} has shape {list(value.shape)}, not {list(shape)}"
            raise ModelUnusable(fault, path=path)
        filled[ours] = value.to(torch.float32, copy=True).contiguous()
    if state:
        raise ModelUnusable(f"{next(iter(state))} has no place in this network", path=path)
    network.load_state_dict(filled, assign=True)


def _parameters(network: nn.Module, names: dict[str, str]) -> Iterator[tuple[str, str, torch.Size]]:
    for ours, parameter in network.named_parameters():
        module, end = ours.rsplit(".", 1)
        yield ours, f"{names[module]}.{end}", parameter.shape
