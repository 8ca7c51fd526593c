"""Device, engine, precision and batch size: one choice for translating, training, evaluating.

Torch is imported where it is used, so that a command line refuses a wrong name at once.
"""

from __future__ import annotations

import copy
import ctypes
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING

from medtranslate.errors import DeviceUnusable, InvalidOption

if TYPE_CHECKING:
    import torch
    from torch import nn

Progress = Callable[[int, int], None]
"""Called with the number of slices done and the number of all slices."""

ALIASES: Mapping[str, str] = MappingProxyType({"bfloat16": "bf16", "fp32": "float32"})
"""Other spellings of precisions, in lower case, and the precision that each stands for."""

_KEPT = MappingProxyType({-1: 2**31 - 1, -3: 2**25})
"""Of mallopt(3): M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, the largest that it takes."""

_NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_KNOWN = "auto, cpu, cuda, cuda:N or mps"


class Precision(StrEnum):
    """The number type that networks compute in.

    Examples
    --------
    >>> Precision.parse("bfloat16")
    <Precision.BF16: 'bf16'>
    """

    AUTO = "auto"
    FLOAT32 = "float32"
    BF16 = "bf16"

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Return the precision of a name in any case, or of its long or short form (`ALIASES`).

        Raises
        ------
        InvalidOption
            There is no such precision.
        """
        name = ALIASES.get(text.lower(), text.lower())
        if name not in tuple(cls):
            raise InvalidOption(f"precision must be one of {', '.join(cls)}, got {text!r}")
        return cls(name)


class Engine(StrEnum):
    """What computes generators: torch, or OpenVINO after it has compiled them for a CPU.

    Examples
    --------
    >>> Engine.parse("OpenVINO")
    <Engine.OPENVINO: 'openvino'>
    """

    TORCH = "torch"
    OPENVINO = "openvino"

    @classmethod
    def parse(cls, text: str) -> Engine:
        """Return the engine of a name in any case.

        Raises
        ------
        InvalidOption
            There is no such engine.
        """
        if text.lower() not in tuple(cls):
            raise InvalidOption(f"engine must be one of {', '.join(cls)}, got {text!r}")
        return cls(text.lower())

    def device(self, name: str) -> str:
        """Return the name of the device that this engine computes on; torch is not asked.

        Parameters
        ----------
        name : str
            As `check_device_name` takes it. For OpenVINO ``"auto"`` is the CPU.

        Raises
        ------
        DeviceUnusable
            The name means nothing, or OpenVINO is to compute on a GPU.

        Examples
        --------
        >>> Engine.OPENVINO.device("auto"), Engine.TORCH.device("auto")
        ('cpu', 'auto')
        """
        name = check_device_name(name)
        if self is Engine.TORCH:
            return name
        if name not in ("auto", "cpu"):
            fault = f"OpenVINO computes on the CPU, not on {name!r}"
            raise DeviceUnusable(fault, remedy="--device cpu, or --engine torch")
        return "cpu"


def check_device_name(name: str) -> str:
    """Return the name of a device in lower case if it can be one; torch is not asked.

    Raises
    ------
    DeviceUnusable
        The name means nothing.

    Examples
    --------
    >>> check_device_name("cuda:1")
    'cuda:1'
    """
    if not _NAMES.fullmatch(name.lower()):
        raise DeviceUnusable(f"no device {name!r}", remedy=_KNOWN)
    if name.lower() == "mps" and sys.platform != "darwin":
        raise DeviceUnusable("no device 'mps': only Apple's computers have it", remedy=_KNOWN)
    return name.lower()


def choose_device(name: str = "auto", local_rank: int | None = None) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str
        ``"auto"`` (CUDA where there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or
        ``"mps"``.
    local_rank : int, optional
        The GPU that ``"cuda"`` means in one of several processes.

    Raises
    ------
    DeviceUnusable
        The name means nothing, or this machine has no such device.
    """
    import torch

    name = check_device_name(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and local_rank is not None:
        device = torch.device("cuda", local_rank)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        fault = f"no device {name!r} on this machine: {reason}"
        raise DeviceUnusable(fault, remedy="--device cpu") from error
    return device


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision to compute in: for ``"auto"`` what the device computes faster.

    Where a processor lacks instructions for it, bfloat16 is emulated and slower than float32.
    """
    import torch

    chosen = Precision.parse(precision)
    if chosen is not Precision.AUTO:
        return chosen
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return Precision.BF16 if fast else Precision.FLOAT32


def choose_layout(name: str, device: torch.device) -> torch.memory_format:
    """Return the memory format of a name; for ``"auto"`` what the device trains faster in."""
    import torch

    if name == "auto":
        name = "channels-last" if device.type == "cuda" else "contiguous"
    return torch.channels_last if name == "channels-last" else torch.contiguous_format


def worth_compiling(device: torch.device) -> bool:
    """Return whether compiled networks train so much faster that minutes of compiling are repaid.

    They do on CUDA devices. On a CPU compiling takes longer and saves next to nothing.
    """
    return device.type == "cuda"


def keep_freed_memory() -> bool:
    """Let the C library keep memory that this process frees, for what it takes next.

    glibc gives large blocks back to the system at once. A training step on a CPU takes as many
    again, and the system clears every page of them again.

    Returns
    -------
    bool
        Whether it does; only glibc can be told so.
    """
    try:
        allocator = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    done = [allocator(option, size) for option, size in _KEPT.items()]
    return all(done)


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Let torch and ITK compute in so many CPU threads while the block lasts.

    Parameters
    ----------
    count : int or None
        1 or more; None changes nothing.
    """
    if count is None:
        yield
        return
    import SimpleITK as sitk
    import torch

    torch_before = torch.get_num_threads()
    itk_before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(torch_before)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(itk_before)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which networks are trained: bfloat16 where that loses nothing."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == Precision.BF16)


@dataclass(frozen=True)
class Device:
    """A device, what computes on it, in which numbers, and how many slices it takes at once.

    Parameters
    ----------
    processor : torch.device
        The CPU or one GPU.
    dtype : torch.dtype
        bfloat16 where the processor multiplies in it, else float32. Against float32 the result
        moves by less than one gray level of 255 on average (``benchmarks/conversion.py``).
    batch : int
        Slices at once.
    engine : Engine
        What computes the generators.
    """

    processor: torch.device
    dtype: torch.dtype
    batch: int
    engine: Engine = Engine.TORCH

    @classmethod
    def pick(
        cls,
        name: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
        engine: str = "torch",
    ) -> Device:
        """Pick a device for translating.

        Parameters
        ----------
        name : str
            As `choose_device` takes it.
        precision : str
            As `choose_precision` takes it: ``"auto"``, ``"float32"`` or ``"bf16"``.
        batch : int, optional
            Slices at once; by default 4 on a CPU and 32 on a GPU.
        engine : str
            ``"torch"``, or ``"openvino"``, for which ``"auto"`` is the CPU.

        Raises
        ------
        DeviceUnusable
            There is no such device, or the engine does not compute on it, not in this precision,
            or is not installed.
        InvalidOption
            There is no such precision or engine, or `batch` is below 1.

        Examples
        --------
        >>> print(Device.pick("cpu", "float32"))
        cpu (float32)
        """
        import torch

        chosen_engine = Engine.parse(engine)
        device = choose_device(chosen_engine.device(name))
        if batch is not None and batch < 1:
            raise InvalidOption(f"batch size must be at least 1, got {batch}")
        chosen = choose_precision(precision, device)
        if chosen_engine is Engine.OPENVINO:
            _check_openvino(chosen)
        dtype = torch.bfloat16 if chosen is Precision.BF16 else torch.float32
        return cls(device, dtype, batch or (32 if device.type == "cuda" else 4), chosen_engine)

    @property
    def precision(self) -> Precision:
        """The precision that generators are computed in."""
        import torch

        return Precision.BF16 if self.dtype is torch.bfloat16 else Precision.FLOAT32

    @property
    def kept(self) -> torch.dtype:
        """The type that slices are kept in: float16 where the device computes in bfloat16.

        A long series then takes half the memory; with 11 bits to bfloat16's 8, nothing is lost.
        """
        import torch

        return torch.float32 if self.dtype is torch.float32 else torch.float16

    def settle(self, network: nn.Module) -> nn.Module:
        """Return a copy of a network on this device, in its precision and its fastest layout.

        Channels last, but for float32 on a CPU: there it gains a tenth, and torch's normalization
        over it takes the variance as E[x^2] - E[x]^2, which loses its digits where a channel's mean
        is large beside its spread: up to 14 gray levels with weights drawn for a test.

        It takes slices of any float type on any device, as MONAI's inferers hand them on.

        With OpenVINO it is compiled when it is first called.
        """
        import torch

        if self.engine is Engine.OPENVINO:
            from medtranslate.networks.compiled import OpenVINONetwork

            return OpenVINONetwork(network, bf16=self.precision is Precision.BF16)
        settled = copy.deepcopy(network).to(self.processor, self.dtype)
        settled.register_forward_pre_hook(_as_weights)
        if self.processor.type == "cpu" and self.dtype == torch.float32:
            return settled
        laid_out: nn.Module
        laid_out = settled.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return laid_out

    def run(
        self,
        network: nn.Module,
        slices: torch.Tensor,
        progress: Progress = lambda done, of: None,
    ) -> torch.Tensor:
        """Send slices (N, 1, H, W) through a settled network; float32 on the CPU, same shape.

        Parameters
        ----------
        network : nn.Module
            From `settle`.
        slices : float tensor (N, 1, H, W)
            In [-1, 1], on any device.
        progress : function
            Called with the number of slices done and the number of all slices.

        Raises
        ------
        DeviceUnusable
            If the device runs out of memory.
        ModelUnusable
            If the engine cannot compile the network.
        """
        import torch

        out = torch.empty(slices.shape, dtype=torch.float32)
        try:
            with torch.inference_mode():
                for start in range(0, len(slices), self.batch):
                    part = slices[start : start + self.batch]
                    moved = part.to(self.processor, self.dtype, non_blocking=True)
                    out[start : start + self.batch] = network(moved)
                    progress(start + len(part), len(slices))
        except torch.OutOfMemoryError as error:
            hint = f"give a --batch-size below {self.batch}, or --device cpu"
            raise DeviceUnusable(f"{self.processor} is out of memory", remedy=hint) from error
        return out

    def __str__(self) -> str:
        engine = "" if self.engine is Engine.TORCH else f", {self.engine}"
        return f"{self.processor} ({self.precision}{engine})"


def _check_openvino(precision: Precision) -> None:
    """Refuse OpenVINO where it is not installed, or where it would compute in other numbers."""
    if find_spec("openvino") is None:
        hint = "pip install 'medtranslate[openvino]', or --engine torch"
        raise DeviceUnusable("the engine OpenVINO is not installed", remedy=hint)
    if precision is Precision.BF16:
        from medtranslate.networks.compiled import computes_bf16

        if not computes_bf16():
            fault = "OpenVINO does not compute in bf16 on this processor"
            raise DeviceUnusable(fault, remedy="--precision float32")


def _as_weights(network: nn.Module, slices: tuple[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Take what a network is called with to its weights' device and type."""
    weight = next(network.parameters(), None)
    return slices if weight is None else tuple(each.to(weight) for each in slices)
