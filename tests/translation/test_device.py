from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_bundle import shipped_recipes, tiny_networks

from medtranslate.bundle import save_bundle
from medtranslate.translation import Device, Translator


@pytest.fixture
def float32_bundle(tmp_path):
    networks = replace(tiny_networks(), dtype=torch.float32)
    return save_bundle(tmp_path / "wide", networks, shipped_recipes(), name="wide", version="1.0.0")


def test_float32_on_a_cpu_is_the_network_to_the_bit():
    """Channels last would go through a normalisation that loses digits."""
    network, device = tiny_networks().generators["mri"].eval(), Device.pick("cpu", "float32")
    frames = torch.rand(2, 1, 256, 256) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(device.run(device.settle(network), frames), network(frames))


def test_bfloat16_is_channels_last():
    settled = Device.pick("cpu", "bfloat16").settle(tiny_networks().generators["mri"])
    weights = next(p for p in settled.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert weights.dtype == torch.bfloat16


def test_weights_kept_in_float32_are_computed_in_float32(float32_bundle):
    def dtype(**options):
        return Translator.load(float32_bundle, device="cpu", **options).device.dtype

    assert dtype() == torch.float32
    assert dtype(precision="bfloat16") == torch.bfloat16


def test_weights_of_16_bit_leave_the_choice_to_the_device(bundle_folder):
    chosen = Translator.load(bundle_folder, device="cpu").device.dtype
    assert chosen == Device.pick("cpu").dtype
