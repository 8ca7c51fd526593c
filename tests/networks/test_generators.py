"""Any generator by its spec: the allow-list, checked arguments, MONAI's networks."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image
from torch import nn

from medtranslate.networks import (
    GENERATOR_NAMES,
    BoundedOutput,
    GrayThroughRGB,
    InvalidSpec,
    ResNet9,
    build_generator,
    complete_spec,
    draw_weights,
    generator_name,
    generator_spec,
)
from medtranslate.networks import generators as module

SMALL = {
    "compact": {"width": 16, "blocks": 1},
    "resnet9": {"width": 8, "blocks": 1},
    "unet256": {"width": 4},
    "AttentionUnet": {"channels": [8, 16, 32], "strides": [2, 2]},
    "BasicUNet": {"features": [8, 8, 16, 32, 64, 8]},
    "DynUNet": {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [8, 16, 32],
    },
    "FlexibleUNet": {"backbone": "efficientnet-b0", "decoder_channels": [32, 16, 8, 8, 8]},
    "SegResNet": {"init_filters": 8},
    "SwinUNETR": {"feature_size": 12},
    "UNet": {"channels": [8, 16, 32], "strides": [2, 2], "num_res_units": 1},
}
MULTIPLES = {
    "AttentionUnet": 4, "BasicUNet": 16, "DynUNet": 4, "FlexibleUNet": 32, "SegResNet": 8,
    "SwinUNETR": 32, "UNet": 4, "compact": 4, "resnet9": 4, "unet256": 256,
}  # fmt: skip
NOT_SCRIPTED = {"SwinUNETR": "its patch embedding unpacks five sizes, which no script takes"}


def spec(name):
    if name == "SwinUNETR":
        pytest.importorskip("einops")
    return generator_spec(name, SMALL[name])


@pytest.fixture(params=GENERATOR_NAMES)
def name(request):
    return request.param


def test_each_maps_an_image_to_one_of_its_size_and_range(name):
    torch.manual_seed(0)
    network = build_generator(spec(name)).eval()
    with torch.inference_mode():
        made = network(torch.rand(2, 1, 256, 256) * 2 - 1)
    assert made.shape == (2, 1, 256, 256) and made.dtype == torch.float32
    assert made.abs().max() <= 1 and made.std() > 0
    assert (network.in_channels, network.out_channels) == (1, 1)
    assert network.multiple == MULTIPLES[name]


def test_each_learns(name):
    network = build_generator(spec(name))
    network(torch.rand(1, 1, 256, 256)).square().mean().backward()
    learned = [weights.grad is not None for weights in network.parameters()]
    assert sum(learned) > 0.9 * len(learned)


def test_each_scripts_or_it_is_known_why_not(name):
    if name in NOT_SCRIPTED:
        pytest.skip(NOT_SCRIPTED[name])
    torch.manual_seed(0)
    network, image = build_generator(spec(name)).eval(), torch.rand(1, 1, 256, 256)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, which many still run
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_a_spec_survives_yaml_and_json_and_says_all(name):
    whole = spec(name)
    assert yaml.safe_load(yaml.safe_dump(whole)) == json.loads(json.dumps(whole)) == whole
    assert complete_spec(whole) == whole
    assert generator_name(whole) == name
    assert type(build_generator(whole)) is type(build_generator({**whole}))


def test_monais_own_parser_builds_the_network_that_is_wrapped():
    unet = spec("UNet")
    theirs = ConfigParser(unet).get_parsed_content("")
    assert theirs.state_dict().keys() == build_generator(unet).network.state_dict().keys()


def test_the_name_of_an_earlier_version_is_read():
    inner = {"_target_": "medtranslate.networks.ResNet9", "in_channels": 3, "out_channels": 3}
    old = {"_target_": "medtranslate.networks.GreyThroughRGB", "network": inner}
    with torch.device("meta"):
        assert isinstance(build_generator(old), GrayThroughRGB)


def test_looking_at_shapes_draws_no_random_numbers():
    state = torch.get_rng_state()
    with torch.device("meta"):
        build_generator(spec("BasicUNet"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("Discriminator", {}, "'Discriminator' is none of compact, resnet9"),
        ("UNet", {"channels": [8, 16]}, "strides: is missing"),
        ("UNet", {"channels": [8, 16], "strides": [2], "depth": 3}, "depth: UNet has no such"),
        ("UNet", {"channels": [8, "$16"], "strides": [2]}, "channels.1: the expression '$16'"),
        ("UNet", {"channels": [8, 99999], "strides": [2]}, "channels.1: 99999 is not a number up"),
        ("UNet", {"channels": [8] * 99, "strides": [2]}, "channels: is too long"),
        ("UNet", {"channels": [8, 16, 32], "strides": [2]}, "UNet cannot be built"),
        ("UNet", {"channels": [8, 16], "strides": [2], "dropout": "x"}, "dropout: 'x' is not a nu"),
        ("UNet", {"channels": [8, 16], "strides": [2], "bias": 1}, "bias: 1 is not true or false"),
        ("BasicUNet", {"spatial_dims": 3}, "spatial_dims: 3 is not 2"),
        ("BasicUNet", {"out_channels": 3}, "out_channels: 3 is not 1"),
        ("BasicUNet", {"act": "nonesuch"}, "BasicUNet cannot be built"),
        ("FlexibleUNet", {"backbone": "efficientnet-b0", "pretrained": True}, "True is not False"),
        ("DynUNet", {**SMALL["DynUNet"], "deep_supervision": True}, "True is not False"),
        ("SwinUNETR", {"feature_size": 3000}, "3000 is not a number up to 192"),
        ("compact", {"width": 0}, "width: 0 is not a whole number"),
    ],
)
def test_what_is_refused(name, arguments, said):
    with pytest.raises(InvalidSpec) as raised:
        build_generator(generator_spec(name, arguments))
    assert said in str(raised.value)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InvalidSpec, match="pip install einops"):
        build_generator(generator_spec("SwinUNETR"))


def test_an_output_is_bounded_in_bfloat16_too():
    network = BoundedOutput(torch.nn.Conv2d(1, 1, 1).bfloat16())
    made = network(torch.full((1, 1, 8, 8), 50.0, dtype=torch.bfloat16))
    assert made.dtype == torch.float32 and made.abs().max() <= 1


def color_network(ends):
    torch.manual_seed(0)
    return draw_weights(ResNet9(*ends, width=4, blocks=1), 0.3).eval().requires_grad_(False)


def test_three_in_three_out_is_what_pillow_makes_of_the_colors():
    network, image = color_network((3, 3)), torch.rand(1, 1, 32, 32) * 2 - 1
    gray = ((GrayThroughRGB(network)(image)[0, 0] + 1) * 127.5).numpy()
    colors = ((network(image.expand(-1, 3, -1, -1))[0] + 1) * 127.5).numpy()
    shown = Image.fromarray(np.rint(colors).astype(np.uint8).transpose(1, 2, 0))
    assert np.abs(gray - np.asarray(shown.convert("L"), dtype=float)).max() <= 1


@pytest.mark.parametrize("ends", [(1, 1), (3, 1), (1, 3), (3, 3)])
def test_gray_goes_in_and_comes_out_whatever_the_channels(ends):
    network = GrayThroughRGB(color_network(ends))
    assert network(torch.zeros(2, 1, 32, 36)).shape == (2, 1, 32, 36)
    assert (network.in_channels, network.out_channels) == (1, 1)


def test_gray_goes_in_as_equal_channels():
    network, image = color_network((3, 1)), torch.rand(1, 1, 32, 32)
    expected = network(image.expand(-1, 3, -1, -1))
    assert torch.equal(GrayThroughRGB(network)(image), expected)


def test_gray_through_rgb_adds_no_weights():
    network = color_network((3, 3))
    names = {f"network.{name}" for name in network.state_dict()}
    assert set(GrayThroughRGB(network).state_dict()) == names


@pytest.mark.parametrize(
    ("network", "said"),
    [("ResNet9", "no generator"), (ResNet9(2, 3, 4, 1), "in_channels are 2, not 1 or 3")],
)
def test_gray_through_rgb_refuses_what_is_no_generator_of_one_or_three_channels(network, said):
    with pytest.raises(ValueError, match=said):
        GrayThroughRGB(network)


def test_gray_through_rgb_refuses_a_network_that_is_no_generator():
    with pytest.raises(ValueError, match="no generator"):
        GrayThroughRGB(nn.Identity())
