"""Where a run computes, and in which numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from medtranslate.errors import DeviceUnusable


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device of a name, or the best one for ``"auto"``.

    Raises
    ------
    DeviceUnusable
        It is absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local_rank)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceUnusable(f"the device {name!r} cannot be used: {reason}") from error
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return ``"float32"`` or ``"bf16"``: for ``"auto"`` what the device computes faster."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        # Without instructions for it, bfloat16 is slower than float32 on a CPU.
        return "bf16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    return "float32"


def choose_layout(name: str, device: torch.device) -> torch.memory_format:
    """Return the memory format of a name; for ``"auto"`` what the device computes faster."""
    if name == "auto":
        name = "channels-last" if device.type == "cuda" else "contiguous"
    return torch.channels_last if name == "channels-last" else torch.contiguous_format


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context to run networks in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
