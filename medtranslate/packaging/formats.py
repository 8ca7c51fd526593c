"""One generator as one file that other programs run: TorchScript, ``torch.export`` or ONNX.

Slices in, slices out, as `Generator.network` takes and makes them, in float32; what prepares a scan
for it and what the result means stands in the file's metadata.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import save_net_with_metadata
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from torch import nn

from medtranslate.bundle import Bundle
from medtranslate.errors import OutputFailed
from medtranslate.files import whole_file
from medtranslate.modality import Modality, check_contrast
from medtranslate.packaging.reference import (
    GRAY_LEVELS,
    phantom_kind,
    phantom_scan,
    reference_translator,
)
from medtranslate.translation.translator import generator_of

_MOST = 1.0  # gray levels: beyond that it is another image


@dataclass(frozen=True)
class Difference:
    """How far a file's image of the phantom is from the network's, in gray levels of 255.

    Parameters
    ----------
    largest, mean : float
        Absolute, over all pixels of all slices.
    slices : int
        How many.

    Examples
    --------
    >>> Difference(largest=0.004, mean=0.0001, slices=4).largest < 1
    True
    """

    largest: float
    mean: float
    slices: int


def export_network(
    bundle: Bundle, to: str, path: str | Path, *, overwrite: bool = False, contrast: str = ""
) -> Difference:
    """Write one generator as TorchScript (``.ts``), ``torch.export`` (``.pt2``) or ONNX; compare.

    Parameters
    ----------
    bundle : Bundle
        The model.
    to : str
        Which generator: ``"mri"`` or ``"ct"``.
    path : path
        The file to write; its suffix (``.ts``, ``.pt2``, ``.onnx``) is the format. Weights are
        float32.
    overwrite : bool
        Replace an existing file.
    contrast : str
        Of the MRI that it makes or takes, where the model has several; by default the model's first
        is made, and that of an MRI given is unknown.

    Returns
    -------
    Difference
        On the slices of the phantom that `phantom_scan` makes, one at a time and so in another
        batch than the one that was written from.

    Raises
    ------
    ModelUnusable
        If the bundle makes no such target.
    OutputExists, OutputFailed
        If the file exists, cannot be written, has another suffix, or gives another image than
        the network by more than a gray level; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate.bundle import Networks, save_bundle
    >>> from medtranslate.files import shipped
    >>> from medtranslate.networks import build_generator, generator_spec
    >>> spec = generator_spec("compact", {"width": 16, "blocks": 1})
    >>> networks = Networks({"mri": spec}, {"mri": build_generator(spec)})
    >>> recipes = [shipped(f"transforms/{name}-image.yaml") for name in ("ct", "mr")]
    >>> with tempfile.TemporaryDirectory() as made:
    ...     folder = save_bundle(f"{made}/mine", networks, recipes, name="mine", version="1")
    ...     difference = export_network(Bundle.load(folder), "mri", f"{made}/ct_to_mri.ts")
    >>> difference.largest < 0.01
    True
    """
    path = Path(path)
    form = exchange_format(path)
    if contrast:
        check_contrast(contrast)
    network = generator_of(bundle, to, contrast)
    slices = _phantom_slices(bundle, to)
    with whole_file(path, overwrite=overwrite) as temporary:
        form.write(network, slices[:2], temporary, exchange_words(bundle, to, contrast))
        made = torch.cat([form.run(temporary, each[None]) for each in slices])
        with torch.inference_mode():
            levels = (made - network(slices)).abs() * (GRAY_LEVELS / 2)
        difference = Difference(float(levels.max()), float(levels.mean()), len(slices))
        if not difference.largest <= _MOST:
            fault = f"the file gives another image, by {difference.largest:.1f} gray levels"
            raise OutputFailed(fault, path=path)
    return difference


def _phantom_slices(bundle: Bundle, to: str) -> torch.Tensor:
    """Prepare the phantom: float32 (N, 1, 256, 256), N at least 2."""
    scan = phantom_scan(Modality.parse(to).other, phantom_kind(bundle, to))
    translator = reference_translator(bundle)
    _, prepared = translator.prepare(scan, scan.meta["source"], to)
    slices = prepared.slices
    # A 2D image is one slice; its mirror image is another.
    return slices if len(slices) > 1 else torch.cat([slices, slices.flip(-1)])


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
    """Return the format of a suffix: ``.ts``, ``.pt2`` or ``.onnx``.

    Raises
    ------
    OutputFailed
        Another suffix, or ONNX without the packages that it needs.
    """
    if path.suffix not in FORMATS:
        endings = ", ".join(FORMATS)
        raise OutputFailed("a network goes into a file of another name", path=path, remedy=endings)
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        hint = "pip install 'medtranslate[onnx]'"
        raise OutputFailed(f"ONNX needs {', '.join(missing)}", path=path, remedy=hint)
    return FORMATS[path.suffix]


def exchange_words(bundle: Bundle, to: str, contrast: str = "") -> dict[str, str]:
    """Describe a generator for the metadata of its file.

    Returns
    -------
    dict of str to str
        ``model``, ``version``, ``weights_sha256``, ``source`` and ``target`` (``"CT"`` or
        ``"MR"``), ``contrast`` where the model has several, ``label``, ``input``, ``output``,
        and ``recipes``: JSON of the recipes that prepare its source and restore its target.
    """
    target = Modality.parse(to)
    source = target.other
    fixed = contrast or (bundle.default_contrast if target is Modality.MR else "")
    return {
        "model": bundle.name,
        "version": bundle.version,
        "weights_sha256": bundle.generator(to).sha256,
        "source": source.value,
        "target": target.value,
        **({"contrast": fixed} if fixed else {}),
        "label": (
            f"SYNTHETIC {target} from {source}, {bundle.name} {bundle.version}, NOT FOR DIAGNOSIS"
        ),
        "input": f"image: {_SLICES}",
        "output": f"translated: {_SLICES}{_beyond_window(bundle, target)}",
        "recipes": json.dumps({name: recipe.content for name, recipe in bundle.recipes.items()}),
    }


def _beyond_window(bundle: Bundle, target: Modality) -> str:
    """Say what values of a CT of all HU mean, for who would take -1 and 1 for the window."""
    written = [each for each in bundle.recipes.values() if each.modality == target]
    volume = max(written, key=lambda each: each.kind == "volume", default=None)
    if volume is None or volume.share == 1:
        return ""
    ends, window, share = volume.written, volume.shown, volume.share
    return (
        f"; -1, {-share:g}, {share:g} and 1 are {ends.low:g}, {window.low:g}, {window.high:g} and "
        f"{ends.high:g}; divided by {share:g} and clipped to [-1, 1] it is what the network back "
        "takes"
    )


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


def _write_pt2(network: nn.Module, example: torch.Tensor, path: Path, words: Words) -> None:
    exported = torch.export.export(network, (example,), dynamic_shapes=_any_batch())
    torch.export.save(exported, str(path), extra_files=dict(words))


def _run_pt2(path: Path, slices: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        made: torch.Tensor = torch.export.load(str(path)).module()(slices)
    return made


def _any_batch() -> dict[str, dict[int, Any]]:
    return {"image": {0: torch.export.Dim("batch", min=1)}}


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
            dynamic_shapes=_any_batch(),
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
    ".pt2": ExchangeFormat(_write_pt2, _run_pt2),
    ".onnx": ExchangeFormat(_write_onnx, _run_onnx),
}
"""By the suffix of the file's name."""
