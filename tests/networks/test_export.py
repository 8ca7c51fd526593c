"""Every network scripts and exports: the Model Zoo asks for it through MONAI's ``ckpt_export``."""

from __future__ import annotations

import warnings

import pytest
import torch

from medtranslate.networks import Compact, GrayThroughRGB, PatchGAN, ResNet9, UNet256, draw_weights

NETWORKS = {
    "compact": lambda: Compact(width=16, blocks=1),
    "resnet9": lambda: ResNet9(width=8, blocks=1),
    "unet256": lambda: UNet256(width=4),
    "gray through RGB": lambda: GrayThroughRGB(ResNet9(3, 3, width=8, blocks=1)),
    "gray through gray": lambda: GrayThroughRGB(ResNet9(1, 1, width=8, blocks=1)),
    "discriminator": lambda: PatchGAN(width=8),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return draw_weights(NETWORKS[request.param]()).eval().requires_grad_(False)


@pytest.fixture
def image():
    return torch.rand(2, 1, 256, 256) * 2 - 1


def test_torchscript_computes_what_the_network_does(network, image):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, which many still run
        scripted = torch.jit.script(network)
    with torch.inference_mode():
        torch.testing.assert_close(scripted(image), network(image), atol=1e-5, rtol=0)


def test_a_scripted_network_still_learns(network, image):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(network.requires_grad_(True))
    scripted(image).square().mean().backward()
    assert all(weights.grad is not None for weights in network.parameters())


def test_torch_export_computes_what_the_network_does_for_any_batch(network, image):
    dynamic = {"image": {0: torch.export.Dim("batch")}}
    exported = torch.export.export(network, (image,), dynamic_shapes=dynamic).module()
    one = image[:1]
    with torch.inference_mode():
        torch.testing.assert_close(exported(one), network(one), atol=1e-4, rtol=0)
