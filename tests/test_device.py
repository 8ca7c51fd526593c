from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny_bundles import shipped_recipes, tiny_networks

from medtranslate.bundle import save_bundle
from medtranslate.device import Device, Precision, choose_device, choose_precision, worth_compiling
from medtranslate.errors import DeviceUnusable, InvalidOption
from medtranslate.translation import Translator


@pytest.fixture
def float32_bundle(tmp_path):
    networks = replace(tiny_networks(), dtype=torch.float32)
    return save_bundle(tmp_path / "wide", networks, shipped_recipes(), name="wide", version="1.0.0")


def test_float32_on_a_cpu_is_the_network_to_the_bit():
    """Channels last would go through a normalization that loses digits."""
    network, device = tiny_networks().generators["mri"].eval(), Device.pick("cpu", "float32")
    slices = torch.rand(2, 1, 256, 256) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(device.run(device.settle(network), slices), network(slices))


def test_bfloat16_is_channels_last():
    settled = Device.pick("cpu", "bf16").settle(tiny_networks().generators["mri"])
    weights = next(p for p in settled.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert weights.dtype == torch.bfloat16


def test_weights_kept_in_float32_are_computed_in_float32(float32_bundle):
    def dtype(**options):
        return Translator.load(float32_bundle, device="cpu", **options).device.dtype

    assert dtype() == torch.float32
    assert dtype(precision="bf16") == torch.bfloat16


def test_weights_of_16_bit_leave_the_choice_to_the_device(tiny_bundle):
    chosen = Translator.load(tiny_bundle, device="cpu").device.dtype
    assert chosen == Device.pick("cpu").dtype


@pytest.mark.parametrize("text", ["bf16", "BF16", "bfloat16"])
def test_one_precision_has_one_spelling_and_its_long_name(text):
    device = Device.pick("cpu", text)
    assert device.dtype == torch.bfloat16
    assert str(device) == "cpu (bf16)"


def test_a_precision_that_there_is_not():
    with pytest.raises(InvalidOption, match="precision must be one of auto, float32, bf16"):
        Device.pick("cpu", "float16")
    with pytest.raises(InvalidOption, match="batch size must be at least 1"):
        Device.pick("cpu", batch=0)


def test_training_and_translating_choose_alike():
    device = choose_device("cpu")
    assert choose_precision("auto", device) is Device.pick("cpu").precision
    assert choose_precision("auto", device) in (Precision.FLOAT32, Precision.BF16)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "cpu:0:0"])
def test_a_device_that_means_nothing_is_refused(name):
    with pytest.raises(DeviceUnusable, match="no device") as caught:
        choose_device(name)
    assert caught.value.remedy == "auto, cpu, cuda, cuda:N or mps"


def test_a_device_that_this_machine_lacks_is_refused():
    with pytest.raises(DeviceUnusable, match="no device 'cuda:99' on this machine"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("name", "compiled"), [("cuda", True), ("cuda:1", True), ("cpu", False), ("mps", False)]
)
def test_compiling_is_worth_it_on_cuda_devices_alone(name, compiled):
    assert worth_compiling(torch.device(name)) is compiled


def test_memory_that_is_freed_is_taken_again_without_new_pages() -> None:
    script = """
import resource
import numpy as np
from medtranslate.device import keep_freed_memory
print(keep_freed_memory())
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**21)
before = faults()
for _ in range(50):
    np.ones(2**21)
print(faults() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    kept, pages = done.stdout.split()
    if kept == "False":
        pytest.skip("the C library is not glibc")
    assert int(pages) < 50  # of 4,096 pages that each array has


def test_a_wrong_name_is_refused_without_torch():
    code = """
import sys
from medtranslate.device import Precision, check_device_name
from medtranslate.errors import MedTranslateError
for check, name in ((Precision.parse, "half"), (check_device_name, "gpu")):
    try:
        check(name)
    except MedTranslateError as error:
        assert name in str(error)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
