"""One generator as one file that other programs run: TorchScript or ONNX, in float32.

Slices in, slices out, as `Generator.network` takes and makes them; what prepares a scan for it and
what the result means stands in the file's metadata.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.data import save_net_with_metadata
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from torch import nn

from medtranslate.bundle.load import Bundle
from medtranslate.errors import OutputFailed
from medtranslate.modality import Modality

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_SLICES = (
    "float32 (batch, 1, 256, 256) in [-1, 1]; axial, rows front to back, columns right to left"
)

Words = Mapping[str, str]


@dataclass(frozen=True)
class ExchangeFormat:
    """A file format for one generator.

    Parameters
    ----------
    write : callable
        ``write(network, example, path, words)``: the example is float32 (N, 1, 256, 256), N > 1;
        the file takes any N.
    run : callable
        ``run(path, slices)``: the file itself, on a CPU.
    """

    write: Callable[[nn.Module, torch.Tensor, Path, Words], None]
    run: Callable[[Path, torch.Tensor], torch.Tensor]


def exchange_format(path: Path) -> ExchangeFormat:
    """Pick the format by suffix, ``.ts`` or ``.onnx``.

    Raises
    ------
    OutputFailed
        Another suffix, or ONNX without the packages that it needs.
    """
    if path.suffix not in FORMATS:
        endings = " or ".join(FORMATS)
        raise OutputFailed("a network goes into a file of another name", path=path, remedy=endings)
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        hint = "pip install 'medtranslate[onnx]'"
        raise OutputFailed(f"ONNX needs {', '.join(missing)}", path=path, remedy=hint)
    return FORMATS[path.suffix]


def exchange_words(bundle: Bundle, to: str) -> dict[str, str]:
    """Say what a generator is, for the metadata of its file.

    Returns
    -------
    dict of str to str
        ``model``, ``version``, ``weights_sha256``, ``source`` and ``target`` (``"CT"`` or
        ``"MR"``), ``label``, ``input``, ``output``, and ``recipes``: JSON of the recipes that
        prepare its source and restore its target.
    """
    target = Modality.parse(to)
    source = target.other
    return {
        "model": bundle.name,
        "version": bundle.version,
        "weights_sha256": bundle.generator(to).sha256,
        "source": source.value,
        "target": target.value,
        "label": (
            f"SYNTHETIC {target} from {source}, {bundle.name} {bundle.version}, NOT FOR DIAGNOSIS"
        ),
        "input": f"image: {_SLICES}",
        "output": f"translated: {_SLICES}",
        "recipes": json.dumps({name: recipe.content for name, recipe in bundle.recipes.items()}),
    }


def _write_torchscript(network: nn.Module, example: torch.Tensor, path: Path, words: Words) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, which many still run
        traced = convert_to_torchscript(network, inputs=(example,), use_trace=True)
        save_net_with_metadata(traced, str(path), meta_values=words)


def _run_torchscript(path: Path, slices: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        made: torch.Tensor = torch.jit.load(str(path), map_location="cpu")(slices)
    return made


def _write_onnx(network: nn.Module, example: torch.Tensor, path: Path, words: Words) -> None:
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert_to_onnx(
            network,
            (example,),
            input_names=["image"],
            output_names=["translated"],
            filename=str(path),
            dynamo=True,
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
            verbose=False,
        )
    model.doc_string = words["label"]
    onnx.helper.set_model_props(model, dict(words))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _run_onnx(path: Path, slices: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": slices.numpy()})[0])


FORMATS = {
    ".ts": ExchangeFormat(_write_torchscript, _run_torchscript),
    ".onnx": ExchangeFormat(_write_onnx, _run_onnx),
}
"""By the suffix of the file's name."""
