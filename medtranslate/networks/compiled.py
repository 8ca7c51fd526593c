"""Generators compiled by OpenVINO for the CPU, in the place of torch's modules."""

from __future__ import annotations

import copy
import functools
import importlib
import sys
import threading
import warnings
from typing import Any

import torch
from monai.networks.utils import convert_to_torchscript
from torch import nn

from medtranslate.errors import ModelUnusable

_Shape = tuple[int, ...]
_TELEMETRY = "openvino_telemetry"
_COMPILING = threading.Lock()  # threads that share a network compile it once, with one core


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    By default it reports that it is imported to Google Analytics. Where the package that sends is
    absent, OpenVINO works without it; so it is hidden while OpenVINO is imported.
    """
    hidden: dict[str, Any] = {_TELEMETRY: sys.modules.get(_TELEMETRY)}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update({name: module for name, module in hidden.items() if module})


@functools.cache
def _core() -> Any:
    """Return OpenVINO's core, one for the whole life of this process; call it under the lock.

    Each core sets a stack for signals and, once destroyed, may leave the process with one that is
    freed: the next signal that Python handles would end it.
    """
    return load_openvino().Core()


def computes_bf16() -> bool:
    """Return whether OpenVINO computes in bfloat16 on this processor."""
    with _COMPILING:
        return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINONetwork(nn.Module):
    """A generator that OpenVINO computes on the CPU, in as many threads as torch.

    It is traced and compiled when it is first called with slices of a size, which takes seconds.
    A copy and a pickle hold the generator alone, and compile it anew.

    Parameters
    ----------
    network : nn.Module
        Maps (N, C, H, W) to images of any shape; float32. It stays as it is.
    bf16 : bool
        Compute in bfloat16, where the processor has it, instead of float32.

    Examples
    --------
    >>> from medtranslate.networks import Compact
    >>> network = OpenVINONetwork(Compact(width=16, blocks=1))
    >>> network(torch.zeros(2, 1, 64, 64)).shape  # doctest: +SKIP
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, *, bf16: bool = False) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to("cpu", torch.float32).eval()
        self.bf16 = bf16
        self._compiled: dict[tuple[_Shape, int], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": {}}

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Map slices (N, C, H, W) of any float type on any device; the result is on the CPU.

        Raises
        ------
        ModelUnusable
            OpenVINO cannot compile the generator.
        """
        slices = slices.detach().to("cpu", torch.float32).contiguous()
        key = tuple(slices.shape[1:]), torch.get_num_threads()
        if key not in self._compiled:
            with _COMPILING:
                if key not in self._compiled:
                    self._compiled[key] = self._compile(*key)
        # A request a call, so that threads may share the network.
        request = self._compiled[key].create_infer_request()
        (result,) = request.infer([slices.numpy()], share_inputs=True).values()
        return torch.from_numpy(result)

    def _compile(self, shape: _Shape, threads: int) -> Any:
        openvino = load_openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
        }
        try:
            # Not by `openvino.convert_model`, which would report each model.
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

            frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
            traced = TorchScriptPythonDecoder(self._traced(shape))  # its weights are shared
            model = frontend.convert(frontend.load(traced))
            model.reshape([-1, *shape])
            return _core().compile_model(model, "CPU", settings)
        except Exception as error:  # whatever an operator that it does not know raises
            reason = " ".join(str(error).split())[:200]
            fault = f"OpenVINO cannot compile the network: {reason}"
            raise ModelUnusable(fault, remedy="--engine torch") from error

    def _traced(self, shape: _Shape) -> torch.jit.ScriptModule:
        example = torch.zeros(1, *shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates tracing, OpenVINO wants it
            traced: torch.jit.ScriptModule = convert_to_torchscript(
                self.network, inputs=(example,), use_trace=True, check_trace=False
            )
        return traced
