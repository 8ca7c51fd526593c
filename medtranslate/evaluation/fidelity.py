"""torch-fidelity, imported where it is wanted and beside whatever torchvision there is.

torch-fidelity imports torchvision at package import, and uses none of it for Inception features.
Beside a CPU build of torch a CUDA build of torchvision cannot be imported, because the operators
that it registers fake kernels for do not exist. Declaring their schemas lets the import through.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from medtranslate.errors import EvaluationFailed

_MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def fidelity(module: str) -> ModuleType:
    """Return a module of torch-fidelity, such as ``"metric_fid"``.

    Raises
    ------
    EvaluationFailed
        torch-fidelity, or something that it needs, is not installed or cannot be imported.
    """
    name = f"torch_fidelity.{module}"
    try:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            return _import_beside_broken_torchvision(name)
    except ImportError as error:
        raise EvaluationFailed(
            f"FID and KID need torch-fidelity, and {error.name or error} is not installed",
            remedy="pip install 'medtranslate[evaluate]'",
        ) from error
    except RuntimeError as error:
        raise EvaluationFailed(
            f"torch-fidelity cannot be imported: {error}",
            remedy="install builds of torch and torchvision that belong together",
        ) from error


def _import_beside_broken_torchvision(name: str) -> ModuleType:
    """Import with the missing operators declared, for as long as the import lasts.

    The half-working torchvision serves torch-fidelity alone, so it is not left among the loaded
    modules for other packages to find. What stays are the fake kernels that torchvision registered:
    torch itself holds those, and without their operators nothing reaches them.
    """
    _forget("torchvision")
    _forget("torch_fidelity")
    library = torch.library.Library("torchvision", "DEF")
    try:
        for schema in _MISSING_OPERATORS:
            library.define(schema)
        return importlib.import_module(name)
    finally:
        _forget("torchvision")
        library._destroy()


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
