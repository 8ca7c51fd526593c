"""Generators by name: medtranslate's own, and networks of MONAI through an allow-list.

A generator is named by a *spec*: a mapping of ``_target_`` and arguments in builtins, as MONAI's
configs have it. Nothing outside the allow-list is imported or built, and arguments are checked, so
that a spec from somebody else may be built without trusting it.
"""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from monai.networks import nets
from torch import nn

from medtranslate.modality import CONTRASTS
from medtranslate.networks.architectures import Compact, ResNet9, UNet256, coded, condition

LARGEST = 4096
"""The largest whole number that an argument may be: a spec from somebody else could otherwise ask
for a network that no machine can hold."""

_SIDE = 256
_LONGEST, _DEEPEST = 32, 4  # of lists among arguments
_OWN: dict[str, type[nn.Module]] = {"compact": Compact, "resnet9": ResNet9, "unet256": UNet256}
_OURS, _MONAIS = "medtranslate.networks.", "monai.networks.nets."
_FIXED = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}


class InvalidSpec(ValueError):
    """A spec that names no allowed generator, or arguments that it does not take.

    Parameters
    ----------
    fault : str
        What is wrong.
    where : str
        The keys that lead to it, joined by dots; ``""`` for the spec itself.

    Examples
    --------
    >>> InvalidSpec("is missing", "network.width")
    InvalidSpec('network.width: is missing')
    """

    def __init__(self, fault: str, where: str = "") -> None:
        super().__init__(f"{where}: {fault}" if where else fault)
        self.fault, self.where = fault, where


class BoundedOutput(nn.Module):
    """Squash what a network without a final activation gives to (-1, 1), by tanh.

    Parameters
    ----------
    network : nn.Module
        Maps (N, 1, H, W) to the same shape, unbounded.
    multiple : int
        Number that must divide H and W.
    contrasts : sequence of str
        MR contrasts that it takes a code for: 1 for the first, 0 for an unknown one. Each
        normalization of the network then scales and shifts by the code.

    Raises
    ------
    ValueError
        Contrasts are given and the network has no normalization.

    Examples
    --------
    >>> import torch
    >>> network = BoundedOutput(torch.nn.Conv2d(1, 1, 3, padding=1))
    >>> image = network(torch.full((2, 1, 64, 64), 100.0))
    >>> image.shape, bool((image.abs() <= 1).all())
    (torch.Size([2, 1, 64, 64]), True)
    """

    in_channels = out_channels = 1

    def __init__(
        self, network: nn.Module, multiple: int = 1, contrasts: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.contrasts = tuple(contrasts)
        self.network = condition(network, len(self.contrasts)) if self.contrasts else network
        self.multiple = multiple

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, 1, H, W)`` in [-1, 1] to ``(N, 1, H, W)`` in [-1, 1], float32."""
        # A scripted network takes images alone.
        if torch.jit.is_scripting() or code is None:  # type: ignore[attr-defined]
            return torch.tanh(self.network(image).float())
        return self._coded(image, code)

    @torch.jit.unused
    def _coded(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        with coded(self.network, code):
            return torch.tanh(self.network(image).float())


class GrayThroughRGB(nn.Module):
    """Run a generator that was trained on red, green and blue on gray images.

    Gray goes in as equal channels, as a gray image opened as RGB has them. Three channels that
    come out become their luminance (ITU-R BT.601, section 2.5.1), which is what Pillow's
    ``convert("L")`` gives for them.

    Parameters
    ----------
    network : nn.Module
        A generator of one or three channels in and one or three out.

    Raises
    ------
    ValueError
        The network is no generator, or has another number of channels.

    Examples
    --------
    >>> from medtranslate.networks import GrayThroughRGB, ResNet9
    >>> network = GrayThroughRGB(ResNet9(3, 3, width=8, blocks=1))
    >>> network(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 1, 64, 64])
    """

    in_channels = out_channels = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for end in ("in_channels", "out_channels"):
            channels = getattr(network, end, None)
            if channels is None or not isinstance(network, nn.Module):
                raise ValueError(f"network is {network!r}, no generator")
            if channels not in (1, 3):
                raise ValueError(f"the network's {end} are {channels}, not 1 or 3")
        self.network = network
        self.multiple: int = network.multiple  # type: ignore[assignment]
        self.colors_in: int = network.in_channels  # type: ignore[assignment]
        self.colors_out: int = network.out_channels  # type: ignore[assignment]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``(N, 1, H, W)`` in [-1, 1] to ``(N, 1, H, W)`` in (-1, 1)."""
        colors: torch.Tensor = self.network(image.expand(-1, self.colors_in, -1, -1))
        if self.colors_out == 1:
            return colors
        red, green, blue = colors[:, :1], colors[:, 1:2], colors[:, 2:]
        return 0.299 * red + 0.587 * green + 0.114 * blue


@dataclass(frozen=True)
class _Allowed:
    """A network of MONAI that may be a generator.

    Parameters
    ----------
    kind : class
    multiple : callable
        From all its arguments, the number that must divide an image's sides.
    fixed : mapping
        Arguments that have one value here, beside two dimensions and one channel.
    needs : str
        A package that it needs beside MONAI.
    in_memory : bool
        It cannot be built without memory (on torch's meta device).
    largest : int
        The largest number that its arguments may hold.
    """

    kind: type[nn.Module]
    multiple: Callable[[Mapping[str, Any]], int]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    in_memory: bool = False
    largest: int = LARGEST


def _product(strides: Sequence[int | Sequence[int]]) -> int:
    return math.prod(max(each) if isinstance(each, Sequence) else each for each in strides)


_ALLOWED = {
    "AttentionUnet": _Allowed(nets.AttentionUnet, lambda given: _product(given["strides"])),
    "BasicUNet": _Allowed(nets.BasicUNet, lambda given: 16),
    "DynUNet": _Allowed(
        nets.DynUNet, lambda given: _product(given["strides"]), {"deep_supervision": False}
    ),
    "FlexibleUNet": _Allowed(nets.FlexibleUNet, lambda given: 32, {"pretrained": False}),
    "SegResNet": _Allowed(nets.SegResNet, lambda given: 2 ** (len(given["blocks_down"]) - 1)),
    "SwinUNETR": _Allowed(
        nets.SwinUNETR,
        lambda given: given["patch_size"] ** 5,
        needs="einops",
        in_memory=True,
        largest=192,
    ),
    "UNet": _Allowed(nets.UNet, lambda given: _product(given["strides"])),
}
GENERATOR_NAMES = (*_OWN, *_ALLOWED)
"""What a generator may be called in the settings of a training."""

TARGETS: dict[str, type[nn.Module]] = {
    **{_OURS + kind.__name__: kind for kind in (*_OWN.values(), GrayThroughRGB)},
    _OURS + "GreyThroughRGB": GrayThroughRGB,  # as bundles made by medtranslate 0.1 name it
    **{_MONAIS + name: allowed.kind for name, allowed in _ALLOWED.items()},
}
"""What ``_target_`` of a spec may be, and the class that it is."""


def generator_spec(name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the spec of a generator by its short name, with all arguments written out.

    Parameters
    ----------
    name : str
        One of `GENERATOR_NAMES`: ``"resnet9"``, ``"unet256"``, ``"compact"``, or the name of a
        class of `monai.networks.nets` such as ``"BasicUNet"``.
    arguments : mapping, optional
        What its class takes, in builtins; its own defaults elsewhere.

    Raises
    ------
    InvalidSpec
        There is no such generator.

    Examples
    --------
    >>> generator_spec("compact", {"width": 64})["_target_"]
    'medtranslate.networks.Compact'
    >>> generator_spec("BasicUNet")["spatial_dims"]
    2
    """
    if name in _OWN:
        target = _OURS + _OWN[name].__name__
    elif name in _ALLOWED:
        target = _MONAIS + name
    else:
        raise InvalidSpec(f"{name!r} is none of {', '.join(GENERATOR_NAMES)}")
    return complete_spec({"_target_": target, **(arguments or {})})


def contrasts_of(network: nn.Module) -> tuple[str, ...]:
    """Return the MR contrasts that a generator takes codes for; most have none.

    Examples
    --------
    >>> contrasts_of(Compact(width=16, blocks=1, contrasts=["t1", "t2"]))
    ('t1', 't2')
    """
    return tuple(getattr(network, "contrasts", ()))


def generator_name(spec: Mapping[str, Any]) -> str:
    """Return the short name that a spec's generator has in `GENERATOR_NAMES`; ``""`` if none.

    Examples
    --------
    >>> generator_name({"_target_": "medtranslate.networks.ResNet9"})
    'resnet9'
    """
    kind = TARGETS.get(spec["_target_"])
    names = {**_OWN, **{name: allowed.kind for name, allowed in _ALLOWED.items()}}
    return next((name for name, each in names.items() if each is kind), "")


def complete_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with the defaults of its class written out, in builtins.

    Raises
    ------
    InvalidSpec
        The class is not allowed.

    Examples
    --------
    >>> complete_spec({"_target_": "medtranslate.networks.Compact"})["width"]
    128
    """
    kind, fixed = _kind_of(spec, ""), _fixed_of(spec)
    parameters = inspect.signature(kind).parameters.values()
    # An empty tuple is what a network without contrasts has: specs need not say it.
    defaults = {
        each.name: each.default
        for each in parameters
        if each.default is not each.empty
        and not isinstance(each.default, type)
        and not (each.default == () and kind.__module__.startswith(__package__))
    }
    return {"_target_": spec["_target_"]} | {
        name: complete_spec(value) if _is_spec(value) else _builtin(value)
        for name, value in {**defaults, **fixed, **spec}.items()
        if name != "_target_"
    }


def build_generator(spec: Mapping[str, Any]) -> nn.Module:
    """Build a generator from its spec, its weights as its class draws them.

    Parameters
    ----------
    spec : mapping
        ``_target_`` and arguments. A network of MONAI needs no ``spatial_dims``, ``in_channels``
        and ``out_channels``, may have ``contrasts``, and is wrapped in `BoundedOutput`.

    Returns
    -------
    nn.Module
        On torch's current default device. Maps (N, 1, H, W) in [-1, 1] to the same shape and
        range; ``multiple`` must divide H and W. (`ResNet9` and its like may have other channels.)

    Raises
    ------
    InvalidSpec
        The class is not allowed, an argument is not one that it takes, or the network does not give
        one image of the size of its input.

    Examples
    --------
    >>> build_generator({"_target_": "medtranslate.networks.Compact", "width": 64}).multiple
    4
    >>> unet = {"_target_": "monai.networks.nets.UNet", "channels": [8, 16], "strides": [2]}
    >>> type(build_generator(unet)).__name__
    'BoundedOutput'
    >>> build_generator({"_target_": "os.system"})
    Traceback (most recent call last):
        ...
    medtranslate.networks.generators.InvalidSpec: the class 'os.system' is not allowed
    """
    return _build(spec, "")


def _build(spec: Mapping[str, Any], where: str) -> nn.Module:
    kind = _kind_of(spec, where)
    arguments = {
        name: _build(value, _below(where, name)) if _is_spec(value) else value
        for name, value in spec.items()
        if name != "_target_"
    }
    _check_arguments(kind, arguments, where)
    if spec["_target_"].startswith(_MONAIS):
        return _build_monai(kind.__name__, arguments, where)
    try:
        return kind(**arguments)
    except ValueError as error:
        raise InvalidSpec(str(error), where) from error


def _build_monai(name: str, arguments: Mapping[str, Any], where: str) -> nn.Module:
    """Build a network of MONAI, after a look at the shapes that it gives."""
    allowed = _ALLOWED[name]
    fixed = _FIXED | dict(allowed.fixed)
    for key, value in fixed.items():
        if arguments.get(key, value) != value:
            raise InvalidSpec(f"{arguments[key]!r} is not {value!r}", _below(where, key))
    if allowed.needs and find_spec(allowed.needs) is None:
        raise InvalidSpec(f"{name} needs a package: pip install {allowed.needs}", where)
    given = {**arguments, **fixed}
    contrasts = given.pop("contrasts", ())
    if contrasts and given.get("use_checkpoint"):
        raise InvalidSpec("does not go with contrasts", _below(where, "use_checkpoint"))
    try:
        multiple = allowed.multiple(complete_spec({"_target_": _MONAIS + name, **given}))
        if allowed.in_memory:
            with torch.device("cpu"):
                return BoundedOutput(allowed.kind(**given), multiple, contrasts)
        with torch.random.fork_rng(), torch.device("meta"), torch.inference_mode():
            made = allowed.kind(**given).eval()(torch.zeros(1, 1, _SIDE, _SIDE))
        if not isinstance(made, torch.Tensor) or made.shape != (1, 1, _SIDE, _SIDE):
            raise ValueError("it does not give one image of the size of its input")
        return BoundedOutput(allowed.kind(**given), multiple, contrasts)
    except Exception as error:  # MONAI refuses arguments by whatever comes of them
        reason = " ".join(str(error).split())[:200]
        raise InvalidSpec(f"{name} cannot be built: {reason}", where) from error


def _check_arguments(kind: type[nn.Module], given: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that a class does not take, or not of that type."""
    parameters = inspect.signature(kind).parameters
    largest = next((each.largest for each in _ALLOWED.values() if each.kind is kind), LARGEST)
    for name, value in given.items():
        place = _below(where, name)
        if name == "contrasts" and (name in parameters or kind.__module__.startswith("monai.")):
            _check_contrasts(value, place)
            continue
        if name not in parameters:
            raise InvalidSpec(f"{kind.__name__} has no such argument", place)
        default = parameters[name].default
        _check_no_expression(value, place)
        if kind.__module__.startswith("medtranslate") and not isinstance(value, nn.Module):
            if not _is_whole(value, 1, largest):
                raise InvalidSpec(f"{value!r} is not a whole number from 1 to {largest}", place)
        else:
            _check_value(value, place, largest)
            _check_type(value, default, place)
    required = (each for each in parameters.values() if each.default is each.empty)
    for each in required:
        if each.name not in {**given, **_FIXED}:
            raise InvalidSpec("is missing", _below(where, each.name))


def _check_contrasts(value: Any, where: str) -> None:
    """Refuse what is no list of different contrasts."""
    known = isinstance(value, list | tuple) and all(each in CONTRASTS for each in value)
    if not known or len(set(value)) < len(value):
        raise InvalidSpec(f"{value!r} is no list of {', '.join(CONTRASTS)}", where)


def _check_value(value: Any, where: str, largest: int, depth: int = 0) -> None:
    """Refuse what is no plain value: expressions, objects, numbers and lists without bounds."""
    if isinstance(value, nn.Module):
        return
    _check_no_expression(value, where)
    if isinstance(value, Mapping | list | tuple):
        if len(value) > _LONGEST or depth > _DEEPEST:
            raise InvalidSpec("is too long or too deep", where)
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in items:
            _check_value(each, _below(where, str(key)), largest, depth + 1)
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= largest):
        raise InvalidSpec(f"{value!r} is not a number up to {largest}", where)
    elif not isinstance(value, int | float | str | None):
        raise InvalidSpec(f"{value!r} is no plain value", where)


def _check_no_expression(value: Any, where: str) -> None:
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise InvalidSpec(f"the expression {value!r} is not allowed", where)


def _check_type(value: Any, default: Any, where: str) -> None:
    """Refuse another type than a default has, as far as that tells."""
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, wanted = _is_whole(value, 0, LARGEST), "a whole number"
    elif isinstance(default, float):
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    else:
        return
    if not fits and not isinstance(value, list | tuple):
        raise InvalidSpec(f"{value!r} is not {wanted}", where)


def _kind_of(spec: Mapping[str, Any], where: str) -> type[nn.Module]:
    name = spec.get("_target_")
    if not isinstance(name, str) or name not in TARGETS:
        raise InvalidSpec(f"the class {name!r} is not allowed", where)
    return TARGETS[name]


def _fixed_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    name = spec["_target_"].removeprefix(_MONAIS)
    return {**_FIXED, **_ALLOWED[name].fixed} if name in _ALLOWED else {}


def _is_spec(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _builtin(value: Any) -> Any:
    """Return a default as YAML and JSON hold it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_builtin(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _builtin(each) for key, each in value.items()}
    return value
