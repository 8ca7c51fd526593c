"""What figures and timings depend on beside the data: the device, the threads, the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = ("medtranslate", "torch", "monai", "torch-fidelity", "numpy", "Pillow")


def machine(device: str) -> dict[str, str]:
    """Return the device, the threads and the versions that figures and timings depend on."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor()
    return {
        "device": device,
        "processor": name or platform.machine(),
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
