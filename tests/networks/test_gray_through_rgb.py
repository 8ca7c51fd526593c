from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from medtranslate.networks import GrayThroughRGB, ResNet9, draw_weights


def small(ends):
    torch.manual_seed(0)
    return draw_weights(ResNet9(*ends, width=4, blocks=1), 0.3).eval().requires_grad_(False)


def test_three_in_three_out_is_what_pillow_makes_of_the_colors():
    network, image = small((3, 3)), torch.rand(1, 1, 32, 32) * 2 - 1
    gray = ((GrayThroughRGB(network)(image)[0, 0] + 1) * 127.5).numpy()
    colors = ((network(image.expand(-1, 3, -1, -1))[0] + 1) * 127.5).numpy()
    shown = Image.fromarray(np.rint(colors).astype(np.uint8).transpose(1, 2, 0))
    assert np.abs(gray - np.asarray(shown.convert("L"), dtype=float)).max() <= 1


@pytest.mark.parametrize("ends", [(1, 1), (3, 1), (1, 3), (3, 3)])
def test_gray_in_and_out(ends):
    network = GrayThroughRGB(small(ends))
    assert network(torch.zeros(2, 1, 32, 36)).shape == (2, 1, 32, 36)
    assert (network.in_channels, network.out_channels) == (1, 1)


def test_equal_channels_in_and_one_out():
    network, image = small((3, 1)), torch.rand(1, 1, 32, 32)
    expected = network(image.expand(-1, 3, -1, -1))
    assert torch.equal(GrayThroughRGB(network)(image), expected)


def test_it_adds_no_weights():
    network = small((3, 3))
    names = {f"network.{name}" for name in network.state_dict()}
    assert set(GrayThroughRGB(network).state_dict()) == names


@pytest.mark.parametrize(
    ("network", "said"),
    [("ResNet9", "no generator"), (ResNet9(2, 3, 4, 1), "in_channels are 2, not 1 or 3")],
)
def test_what_is_refused(network, said):
    with pytest.raises(ValueError, match=said):
        GrayThroughRGB(network)


def test_a_network_that_is_no_generator():
    with pytest.raises(ValueError, match="no generator"):
        GrayThroughRGB(nn.Identity())
