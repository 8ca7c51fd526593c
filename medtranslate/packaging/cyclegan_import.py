"""Bundles of generators that junyanz/pytorch-CycleGAN-and-pix2pix trained.

Both build the networks of the CycleGAN paper; only the names of their parameters differ. What a
file holds is recognized from those names and their shapes: the architecture, its width, its blocks,
its channels and whether it was trained with dropout (which is idle in a trained generator). The
file is read as data: nothing in it is ever executed.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from medtranslate.bundle.metadata import Facts
from medtranslate.bundle.save import Networks, save_bundle
from medtranslate.errors import InputMissing, ModelUnusable
from medtranslate.files import file_hash, shipped
from medtranslate.networks import GrayThroughRGB, ResNet9, UNet256

_PROGRAM = "junyanz/pytorch-CycleGAN-and-pix2pix"


def import_cyclegan(
    files: Mapping[str, Path],
    folder: str | Path,
    *,
    name: str = "",
    version: str = "1.0.0",
    recipes: list[Path] | None = None,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Make a bundle of generators trained with junyanz/pytorch-CycleGAN-and-pix2pix.

    Parameters
    ----------
    files : mapping of str to Path
        By target, ``"mri"`` and ``"ct"``, one of them or both: the generator that makes it.
    folder : path
        The bundle; must not exist.
    name, version : str
        Which model this is; the name is the folder's where none is given.
    recipes : list of Path, optional
        How scans are prepared; by default `whole_image_recipes`.
    finish : callable
        As `save_bundle`.

    Returns
    -------
    Path
        The folder. Weights are float32, so that the generators give what they gave.

    Raises
    ------
    InputMissing, ModelUnusable
        As `read_cyclegan`.
    OutputExists, OutputFailed
        As `save_bundle`; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate.bundle import Bundle
    >>> network, names = ResNet9(1, 1, width=8, blocks=2), resnet_names(2)
    >>> theirs = {}
    >>> for name, tensor in network.state_dict().items():
    ...     convolution, end = name.rsplit(".", 1)
    ...     theirs[f"{names[convolution]}.{end}"] = tensor
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(theirs, f"{folder}/latest_net_G_A.pth")
    ...     files = {"mri": Path(folder) / "latest_net_G_A.pth"}
    ...     Bundle.load(import_cyclegan(files, f"{folder}/foreign"))
    Bundle('foreign', '1.0.0', makes mri)
    """
    folder = Path(folder)
    read = {to: read_cyclegan(file) for to, file in files.items()}
    networks = Networks(
        {to: generator.spec for to, generator in read.items()},
        {to: generator.network for to, generator in read.items()},
        dtype=torch.float32,
    )
    return save_bundle(
        folder,
        networks,
        whole_image_recipes() if recipes is None else recipes,
        name=name or folder.resolve().name,
        version=version,
        facts=_facts(files, version),
        finish=finish,
    )


def whole_image_recipes() -> list[Path]:
    """Return recipes that pass a 2D image whole, as that program does; volumes as shipped.

    An image of 256x256 goes through unchanged.
    """
    names = ("ct-volume", "mr-volume", "whole-image/ct-image", "whole-image/mr-image")
    return [shipped(f"transforms/{name}.yaml") for name in names]


def recipes_in(folder: Path) -> list[Path]:
    """List the recipes in a folder; InputMissing where there is none."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InputMissing("no recipes (*.yaml) there", path=folder)
    return paths


def _facts(files: Mapping[str, Path], version: str) -> Facts:
    """Record where the weights come from."""
    origin = {to: {"file": file.name, "sha256": file_hash(file)} for to, file in files.items()}
    named = " and ".join(file.name for file in files.values())
    return Facts(
        description=f"Generators of a CycleGAN, trained with {_PROGRAM} and imported.",
        changelog={version: f"Imported from {named} of {_PROGRAM}."},
        training={"program": _PROGRAM, "imported": origin},
    )


_RESNET_FIRST, _UNET_FIRST = "model.1.weight", "model.model.0.weight"
_UNET_LEVELS = 7
"""Levels of U-Net-256 below the outermost one; each of the eight halves."""

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_NORMS = "only instance normalization is imported, CycleGAN's default (--norm instance)"
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

    A generator of three channels is wrapped in `GrayThroughRGB`, so that it takes and makes gray.

    Raises
    ------
    InputMissing, ModelUnusable
        As `read_state`; and ModelUnusable if the weights are those of another network, or of one
        without instance normalization.
    """
    path = Path(path)
    state = _without_statistics(read_state(path), path)
    kind, arguments, names = _recognize(state, path)
    with torch.device("meta"):
        network = kind(**arguments)
    _fill(network, names, state, path)
    spec = {"_target_": f"medtranslate.networks.{kind.__name__}", **arguments}
    if any(getattr(network, end) != 1 for end in ("in_channels", "out_channels")):
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


def _recognize(state: State, path: Path) -> tuple[type[nn.Module], dict[str, int], dict[str, str]]:
    """Recognize class, arguments and names from a state dict."""
    if any(name.endswith(("weight_orig", "weight_u", "weight_g")) for name in state):
        raise ModelUnusable("trained with spectral or weight normalization", path=path)
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
    """Recognize width and channels from the first and the last convolution's weights."""
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
    """Drop the running statistics that torch before 0.4 kept for instance normalization.

    They were never used there, and the other program drops them too. Those of batch normalization
    were, and come with weights of their own.
    """
    for name in state:
        if name.endswith("running_mean") and name.replace("running_mean", "weight") in state:
            raise ModelUnusable("trained with batch normalization", path=path, remedy=_NORMS)
    return {name: value for name, value in state.items() if not name.endswith(_STATISTICS)}


def _fill(network: nn.Module, names: dict[str, str], state: State, path: Path) -> None:
    """Fill a network on the meta device with its weights, all of them and no other."""
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


_PREFIXES = ("module.", "_orig_mod.")
_PLAIN = "give the generator's state dict, as torch.save(network.state_dict(), PATH) writes it"

State = dict[str, torch.Tensor]


def read_state(path: str | Path) -> State:
    """Read a state dict that ``torch.save`` wrote.

    Parameters
    ----------
    path : path
        A ``.pth``, of any version of torch, in its zip or its older format.

    Returns
    -------
    dict of str to float tensor
        On the CPU, all finite, of the float type in the file. The prefixes that ``DataParallel``
        and ``torch.compile`` put before names are gone.

    Raises
    ------
    InputMissing
        If there is no such file.
    ModelUnusable
        If it is damaged, holds Python objects other than tensors, holds something that is no
        state dict, claims tensors larger than itself, or weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputMissing("no such file", path=path)
    _check_sums(path)
    content = _load(path)
    if not isinstance(content, dict) or not content:
        _refuse(path, f"holds a {type(content).__name__}, no state dict")
    for name, value in content.items():
        _check_entry(path, name, value)
    # torch.save compresses nothing; a claim beyond the file's size is a strided view or an attack.
    claimed = sum(value.numel() * value.element_size() for value in content.values())
    if claimed > path.stat().st_size:
        _refuse(path, "claims tensors larger than the file that holds them")
    for name, value in content.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            _refuse(path, f"{name} holds values that are NaN or infinite")
    return {_bare(name): value for name, value in content.items()}


def _check_sums(path: Path) -> None:
    """Refuse a zip of torch whose checksums are wrong, which torch itself does not look at."""
    if not zipfile.is_zipfile(path):
        return  # of torch before 1.6, which has none
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelUnusable("damaged, or no file that torch wrote", path=path) from error
    if wrong is not None:
        raise ModelUnusable(f"damaged: the checksum of {wrong} is wrong", path=path)


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are read all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fault = "holds Python objects, which could run code, or is no file of torch: not loaded"
        raise ModelUnusable(fault, path=path, remedy=_PLAIN) from error
    except Exception as error:  # damaged files fail anywhere in torch's reader
        raise ModelUnusable("damaged, or no file that torch wrote", path=path) from error


def _check_entry(path: Path, name: Any, value: Any) -> None:
    if isinstance(name, str) and isinstance(value, torch.Tensor):
        # Counters of batches are whole numbers; sparse and quantized tensors are no weights.
        if value.layout == torch.strided and not value.is_quantized and not value.is_complex():
            return
        _refuse(path, f"{name} is no plain tensor")
    kind = type(value).__name__
    _refuse(path, f"holds {name!r}, a {kind}, where a state dict has tensors")


def _bare(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _refuse(path: Path, fault: str) -> NoReturn:
    raise ModelUnusable(fault, path=path, remedy=_PLAIN)
