"""Where and how precisely a generator runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from medtranslate.errors import DeviceUnusable

Progress = Callable[[int, int], None]
"""Called with the slices done and the slices in all."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Device:
    """A device, the numbers it computes in and how many slices it takes at once.

    Parameters
    ----------
    processor : torch.device
        CPU or one CUDA device.
    dtype : torch.dtype
        bfloat16 where the processor multiplies in it, else float32. Against float32 the picture
        moves by less than one grey level of 255 on average (``benchmarks/conversion.py``).
    batch : int
        Slices at once.
    """

    processor: torch.device
    dtype: torch.dtype
    batch: int

    @classmethod
    def pick(cls, name: str = "auto", precision: str = "auto", batch: int | None = None) -> Device:
        """Pick a device.

        Parameters
        ----------
        name : str
            ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision : str
            ``"auto"``, ``"float32"`` or ``"bfloat16"``.
        batch : int, optional
            Slices at once; by default 4 on a CPU and 32 on a GPU.

        Raises
        ------
        DeviceUnusable
            If there is no such device or precision, or `batch` is below 1.
        """
        device = _device(name)
        if precision not in ("auto", *PRECISIONS):
            raise DeviceUnusable(f"no precision {precision!r}", remedy="auto, float32 or bfloat16")
        if batch is not None and batch < 1:
            raise DeviceUnusable(f"a batch of {batch} slices is none")
        dtype = _fastest(device) if precision == "auto" else PRECISIONS[precision]
        return cls(device, dtype, batch or (32 if device.type == "cuda" else 4))

    @property
    def kept(self) -> torch.dtype:
        """What slices are kept in on their way: float16 where the device computes in bfloat16.

        A long series then takes half the memory; with 11 bits to bfloat16's 8, nothing is lost.
        """
        return torch.float32 if self.dtype is torch.float32 else torch.float16

    def settle(self, network: nn.Module) -> nn.Module:
        """Return a copy of a network on this device, in its numbers, in its fastest layout.

        Channels last, but for float32 on a CPU: there it gains a tenth, and torch's normalisation
        over it takes the variance as E[x^2] - E[x]^2, which loses its digits where a channel's mean
        is large beside its spread: up to 14 grey levels with weights drawn for a test.
        """
        settled = copy.deepcopy(network).to(self.processor, self.dtype)
        if self.processor.type == "cpu" and self.dtype == torch.float32:
            return settled
        return settled.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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
            Called with the slices done and the slices in all.

        Raises
        ------
        DeviceUnusable
            If the device runs out of memory.
        """
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
        return f"{self.processor} ({str(self.dtype).removeprefix('torch.')})"


def _device(name: str) -> torch.device:
    try:
        device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
        )
    except RuntimeError as error:
        raise DeviceUnusable(f"no device {name!r}", remedy="auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceUnusable(f"no device {name!r}", remedy="auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnusable(f"no device {name!r} on this machine", remedy="--device cpu")
    return device


def _fastest(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # Without the instruction bfloat16 is emulated, slower than float32.
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
