from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medtranslate.networks import Compact, PatchGAN, ResNet9, UNet256, draw_weights

GENERATORS = [ResNet9, UNet256, Compact]
SMALL = {
    ResNet9: {"width": 8, "blocks": 2},
    UNet256: {"width": 8},
    Compact: {"width": 16, "blocks": 2},
}


def parameters(network):
    return sum(each.numel() for each in network.parameters())


def small(kind, seed=0, **more):
    torch.manual_seed(seed)
    return draw_weights(kind(**SMALL[kind], **more)).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "one", "three"),
    [
        (ResNet9, 11_365_633, 11_378_179),
        (UNet256, 54_403_457, 54_409_603),
        (Compact, 1_840_481, None),
        (PatchGAN, 2_761_793, 2_763_841),
    ],
)
def test_parameters_as_in_the_paper_and_in_the_docs(kind, one, three):
    with torch.device("meta"):
        assert parameters(kind()) == one
        if three:
            channels = {"out_channels": 3} if kind is not PatchGAN else {}
            assert parameters(kind(in_channels=3, **channels)) == three


@pytest.mark.parametrize(
    ("kind", "gflop"), [(ResNet9, 97.5), (UNet256, 11.9), (Compact, 15.9), (PatchGAN, 6.2)]
)
def test_work_a_slice(kind, gflop):
    """Also what docs/reference/networks.md says; compact may cost at most 20 GFLOP."""
    with torch.device("meta"):
        network, slice_ = kind(), torch.empty(1, 1, 256, 256)
    with FlopCounterMode(display=False) as counter:
        network(slice_)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=0.06)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 1), (3, 3), (1, 3)])
def test_shape_type_and_range(kind, channels_in, channels_out):
    network = small(kind, in_channels=channels_in, out_channels=channels_out)
    out = network(torch.rand(2, channels_in, 256, 256) * 2 - 1)
    assert out.shape == (2, channels_out, 256, 256)
    assert out.dtype == torch.float32
    assert out.abs().max() < 1
    assert out.std() > 0


@pytest.mark.parametrize("kind", [ResNet9, Compact])
def test_other_sizes_of_its_multiple(kind):
    assert small(kind)(torch.zeros(1, 1, 68, 92)).shape == (1, 1, 68, 92)
    assert kind.multiple == 4
    assert UNet256.multiple == 256


def test_compacts_width_is_split_into_eight():
    with pytest.raises(ValueError, match="multiple of 8"):
        Compact(width=12)


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_same_image_gives_the_same_bits(kind):
    network, image = small(kind), torch.rand(1, 1, 256, 256) * 2 - 1
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("kind", GENERATORS)
def test_2d_images_of_a_batch_do_not_know_of_each_other(kind):
    network, images = small(kind), torch.rand(3, 1, 256, 256) * 2 - 1
    alone = torch.cat([network(each[None]) for each in images])
    torch.testing.assert_close(network(images), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", GENERATORS)
def test_training_and_translating_see_the_same(kind):
    network, image = small(kind), torch.rand(1, 1, 256, 256) * 2 - 1
    with torch.inference_mode():
        translated = network(image)
    network.train()
    torch.testing.assert_close(network(image), translated, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", GENERATORS)
def test_every_weight_learns(kind):
    network = small(kind).requires_grad_(True)
    network(torch.rand(1, 1, 256, 256)).square().mean().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.isfinite().all(), name
        if name.endswith("weight"):
            assert weights.grad.any(), name


@pytest.mark.parametrize(
    ("kind", "mean", "most"),
    [(ResNet9, 0.04, 0.35), (UNet256, 0.02, 0.15), (Compact, 0.015, 0.15)],
)
def test_bfloat16_stays_close_to_float32(kind, mean, most):
    """In units of the image's spread, with drawn weights, on which normalization magnifies.

    What it is with trained weights, in gray levels, benchmarks/conversion.py says.
    """
    network = small(kind)
    y, x = torch.meshgrid(torch.linspace(0, 9, 256), torch.linspace(0, 7, 256), indexing="ij")
    image = (torch.sin(x) * torch.cos(y))[None, None]
    with torch.inference_mode():
        exact = network(image)
        rounded = network.to(torch.bfloat16)(image.to(torch.bfloat16))
    assert rounded.dtype == torch.float32
    error = (exact - rounded).abs() / exact.std()
    assert error.mean() < mean
    assert error.max() < most


def test_patches_are_70_pixels_wide():
    network = PatchGAN(width=8).eval()
    image = torch.rand(1, 1, 256, 256, requires_grad=True)
    # Instance normalization lets every pixel act on every score; without it a score has its patch.
    for module in network.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.forward = lambda features: features
    scores = network(image)
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()
    rows, columns = (image.grad[0, 0].abs().amax(axis).nonzero() for axis in (1, 0))
    assert int(rows.max() - rows.min()) + 1 == 70
    assert int(columns.max() - columns.min()) + 1 == 70


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_there_are_scores_from_the_least_side_on(layers):
    network, least = PatchGAN(width=8, layers=layers), PatchGAN.least_side(layers)
    assert network(torch.rand(1, 1, least, least)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 1, least - 1, least))


def test_scores_are_unbounded_float32_without_sigmoid():
    scores = PatchGAN(width=8).to(torch.bfloat16)(torch.randn(2, 1, 64, 64, dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    assert scores.shape == (2, 1, 6, 6)
    assert scores.min() < 0


@pytest.mark.parametrize("kind", [*GENERATORS, PatchGAN])
def test_drawn_weights(kind):
    torch.manual_seed(1)
    network = draw_weights(kind())
    weights = torch.cat([w.flatten() for n, w in network.named_parameters() if "weight" in n])
    biases = [b for n, b in network.named_parameters() if n.endswith("bias")]
    assert weights.mean().abs() < 1e-4
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert biases
    assert not any(b.any() for b in biases)


def test_a_draw_follows_the_seed():
    first, again, other = (small(Compact, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
