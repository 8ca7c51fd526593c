"""The engine of a conversion: OpenVINO gives what torch gives, or says why it cannot."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny_bundles import contrast_networks, tiny_bundle

from medtranslate import ConversionOptions, Translator, convert
from medtranslate import device as device_module
from medtranslate.device import Device, Engine
from medtranslate.errors import DeviceUnusable, InvalidOption
from medtranslate.networks import compiled
from medtranslate.phantom import Phantom

WITH_OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra openvino is not installed"
)
HALF_A_GRAY_LEVEL = 0.5 / 255 * 4095


@WITH_OPENVINO
def test_openvino_makes_the_same_mri_with_the_same_checks(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", contrast_networks())
    scan = tmp_path / "head.nii.gz"
    nib.save(_head(), scan)
    made, reports = {}, {}
    for engine in Engine:
        output, report = (tmp_path / f"{engine}{suffix}" for suffix in (".nii.gz", ".json"))
        convert(
            scan, to="mri", modality="CT", contrast="flair", bundle=bundle, device="cpu",
            precision="float32", variation=True, force=True, preview=False,
            engine=engine.upper(), output=output, reports=report,
        )  # fmt: skip
        made[engine] = nib.load(output).get_fdata()
        reports[engine] = json.loads(report.read_text())

    difference = np.abs(made[Engine.OPENVINO] - made[Engine.TORCH])
    assert made[Engine.TORCH].std() > 100
    assert difference.max() <= HALF_A_GRAY_LEVEL
    for engine, report in reports.items():
        assert report["device"]["engine"] == report["options"]["engine"] == engine.value
    found = [report["conversions"][0] for report in reports.values()]
    for check in ("cycle_error", "variation"):
        torch_error, openvino_error = (one[check]["error"] for one in found)
        assert openvino_error == pytest.approx(torch_error, rel=0.02) and torch_error > 0


@WITH_OPENVINO
def test_a_translator_says_which_engine_it_has(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", contrast_networks())
    translator = Translator.load(bundle, precision="float32", engine="openvino")
    assert repr(translator).endswith("in t1, on cpu in float32 by openvino)")
    assert str(translator.device) == "cpu (float32, openvino)"
    slices = torch.rand(1, 1, 256, 256) * 2 - 1
    t1, flair = (
        each.translate_slices(slices, to="mri")
        for each in (translator, translator.for_contrast("flair"))
    )
    assert not torch.equal(t1, flair)


def test_there_is_no_other_engine() -> None:
    with pytest.raises(InvalidOption, match="engine must be one of torch, openvino, got 'onnx'"):
        ConversionOptions(to="mri", engine="onnx")


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_openvino_computes_on_no_gpu(name: str) -> None:
    with pytest.raises(DeviceUnusable, match=f"on the CPU, not on '{name}' ") as caught:
        ConversionOptions(to="mri", device=name, engine="openvino")
    assert caught.value.exit_code == 11
    with pytest.raises(DeviceUnusable, match="not on"):
        Device.pick(name, engine="openvino")


def test_of_a_machine_with_a_gpu_openvino_takes_the_cpu() -> None:
    assert ConversionOptions(to="mri", engine="openvino").device == "cpu"


def test_an_engine_that_is_not_installed_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(device_module, "find_spec", lambda name: None)
    with pytest.raises(DeviceUnusable, match=r"not installed \(pip install .*\[openvino\]"):
        Device.pick("cpu", engine="openvino")


@WITH_OPENVINO
@pytest.mark.parametrize("capable", [True, False])
def test_bf16_is_refused_where_openvino_would_compute_in_float32(monkeypatch, capable) -> None:
    monkeypatch.setattr(compiled, "computes_bf16", lambda: capable)
    if capable:
        assert Device.pick("cpu", "bf16", engine="openvino").precision == "bf16"
    else:
        with pytest.raises(DeviceUnusable, match="does not compute in bf16") as caught:
            Device.pick("cpu", "bf16", engine="openvino")
        assert caught.value.remedy == "--precision float32"


def _head() -> nib.Nifti1Image:
    phantom = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    return nib.Nifti1Image(phantom.as_tensor()[0].numpy().astype(np.int16), phantom.affine.numpy())
