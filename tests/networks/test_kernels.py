"""The kernels for training on a CPU compute what the plain ones do, up to rounding."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medtranslate.networks import Compact, PatchGAN, draw_weights
from medtranslate.networks.kernels import WinogradConv2d, quicken


def results(network: nn.Module, image: torch.Tensor, seed: int = 0) -> list[torch.Tensor]:
    """Return the output, and the gradients of the image and of all parameters."""
    image = image.clone().requires_grad_()
    out = network(image)
    draws = torch.Generator().manual_seed(seed)
    out.backward(torch.randn(out.shape, generator=draws).to(out))
    return [out.detach(), image.grad, *(each.grad for each in network.parameters())]


def assert_same(found: list[torch.Tensor], exact: list[torch.Tensor], bound: float) -> None:
    largest = max(float(each.abs().max()) for each in exact[2:])
    for one, other in zip(found, exact, strict=True):
        scale = max(float(other.abs().max()), 1e-3 * largest)
        assert float((one - other).abs().max()) <= bound * scale


@settings(max_examples=15)
@given(
    images=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    side=st.tuples(st.integers(6, 20), st.integers(6, 20)),
    kernel=st.sampled_from([3, 4]),
    border=st.sampled_from(["none", "zeros", "mirrored"]),
    channels_last=st.booleans(),
)
def test_a_convolution_in_tiles_is_the_direct_one(
    images, channels, side, kernel, border, channels_last
):
    torch.manual_seed(0)
    direct = nn.Conv2d(*channels, kernel, padding=int(border == "zeros"))
    fast = copy.deepcopy(direct)
    fast.__class__, fast.mirrored = WinogradConv2d, int(border == "mirrored")
    padded = nn.ReflectionPad2d(1) if border == "mirrored" else nn.Identity()
    image = torch.randn(images, channels[0], *side)
    exact = results(nn.Sequential(padded, direct).double(), image.double())
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    assert_same(results(fast, image), exact, 1e-4)


@pytest.mark.parametrize(
    "network", [Compact(width=64, blocks=2), PatchGAN(width=64, layers=1)], ids=["Compact", "D"]
)
def test_a_quickened_network_has_the_gradients_and_the_names_of_the_plain_one(network):
    torch.manual_seed(0)
    draw_weights(network, std=0.05)
    quick = quicken(copy.deepcopy(network))
    assert any(isinstance(each, WinogradConv2d) for each in quick.modules())
    assert list(quick.state_dict()) == list(network.state_dict())
    image = torch.rand(2, 1, 32, 48) * 2 - 1
    exact = results(copy.deepcopy(network).double(), image.double())
    assert_same(results(quick, image), exact, 1e-3)


def test_without_gradients_a_quickened_network_is_the_plain_one_bit_for_bit():
    network = draw_weights(Compact(width=64, blocks=1))
    image = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        plain = network(image)
        assert torch.equal(quicken(network)(image), plain)


def test_channels_last_features_are_normalized_whatever_changes_the_result_in_place():
    features = torch.randn(2, 8, 12, 10) * 0.1 + 30
    plain = nn.Sequential(nn.InstanceNorm2d(8), nn.LeakyReLU(0.2, inplace=True))
    quick = quicken(copy.deepcopy(plain))
    exact = results(plain.double(), features.double())
    found = results(quick, features.contiguous(memory_format=torch.channels_last))
    for one, other in zip(found, exact, strict=True):
        assert float((one - other).abs().max()) <= 2e-3 * float(other.abs().max())


def test_grouped_strided_and_narrow_convolutions_stay_direct():
    direct = nn.Sequential(
        nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(64, 64, 3, stride=2),
        nn.Conv2d(64, 8, 3),
        nn.Conv2d(64, 64, 7),
    )
    assert not any(isinstance(each, WinogradConv2d) for each in quicken(direct))
