"""A contrast as an input of a generator: scale and shift after each normalization."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from medtranslate.bundle import Bundle
from medtranslate.files import shipped
from medtranslate.networks import (
    Compact,
    InvalidSpec,
    PatchGAN,
    build_generator,
    complete_spec,
    contrasts_of,
    fix_contrast,
    generator_spec,
)

NAMES = ("t1", "t2", "flair")
SPECS = {
    "compact": {"width": 16, "blocks": 1},
    "resnet9": {"width": 8, "blocks": 1},
    "unet256": {"width": 4},
    "BasicUNet": {"features": [8, 8, 8, 16, 16, 8]},
    "SegResNet": {"blocks_down": [1, 1], "blocks_up": [1], "init_filters": 8},  # group norms
}


def conditioned(name: str) -> nn.Module:
    """Return a generator whose codes matter."""
    torch.manual_seed(0)
    network = build_generator(generator_spec(name, {**SPECS[name], "contrasts": list(NAMES)}))
    with torch.no_grad():
        for key, weight in network.named_parameters():
            if ".contrast." in key:
                weight.normal_(0, 0.5)
    return network.eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 1, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_a_code_changes_the_image_and_an_unknown_one_is_the_unconditional_path(
    name: str, image: torch.Tensor
) -> None:
    network = conditioned(name)
    plain = network(image)

    made = network(image, torch.tensor([0, 1, 3]))

    torch.testing.assert_close(made[0], plain[0])
    assert float((made[1] - plain[1]).abs().mean()) > 0.01
    assert float((made[2] - plain[2]).abs().mean()) > 0.01
    torch.testing.assert_close(fix_contrast(network, 3)(image)[2], made[2])
    torch.testing.assert_close(fix_contrast(network, 0)(image), plain)


@pytest.mark.parametrize("name", SPECS)
def test_fresh_codes_change_nothing_and_weights_without_contrasts_fit(
    name: str, image: torch.Tensor
) -> None:
    plain = build_generator(generator_spec(name, SPECS[name])).eval()
    coded = build_generator(generator_spec(name, {**SPECS[name], "contrasts": list(NAMES)})).eval()

    missing, unexpected = coded.load_state_dict(plain.state_dict(), strict=False)

    assert unexpected == [] and all(".contrast." in name for name in missing)
    with torch.no_grad():
        torch.testing.assert_close(coded(image, torch.tensor([0, 1, 3])), plain(image))
    assert contrasts_of(coded) == NAMES and contrasts_of(plain) == ()


@pytest.mark.parametrize("name", SPECS)
def test_a_script_with_codes_takes_images_alone(name: str, image: torch.Tensor) -> None:
    network = conditioned(name)
    with torch.inference_mode():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))
        t2 = fix_contrast(network, 2)
        torch.testing.assert_close(torch.jit.script(t2)(image), t2(image))


def test_the_shipped_weights_load_as_they_are() -> None:
    weights = load_file(shipped("bundles/brain_ct_mri") / "models" / "ct_to_mri.safetensors")
    coded = Compact(blocks=9, contrasts=Bundle.load().contrasts)
    assert set(coded.state_dict()) == set(weights)


def test_code_0_learns_nothing(image: torch.Tensor) -> None:
    network = conditioned("compact").train()
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    network(image[:, :, :64, :64], torch.tensor([0, 1, 0])).sum().backward()
    optimizer.step()

    name = "fold.3.contrast.differences.weight"
    after = network.state_dict()
    assert torch.equal(after[name][1:], before[name][1:])
    assert not torch.equal(after[name][0], before[name][0])


def test_the_discriminator_scores_by_contrast() -> None:
    torch.manual_seed(0)
    judge = PatchGAN(width=8, contrasts=3)
    image = torch.rand(2, 1, 64, 64)
    code = torch.tensor([2, 0])
    assert judge.contrast is not None
    torch.testing.assert_close(judge(image, code), judge(image))

    with torch.no_grad():
        judge.contrast.weight[1] = 1.0

    assert judge(image, code).shape == judge(image).shape
    assert not torch.allclose(judge(image, code)[0], judge(image)[0])
    torch.testing.assert_close(judge(image, code)[1], judge(image)[1])


def test_a_spec_names_contrasts_and_says_nothing_where_there_are_none() -> None:
    assert "contrasts" not in complete_spec(generator_spec("compact"))
    given = generator_spec("resnet9", {"contrasts": ["t1", "pd"]})
    assert complete_spec(given)["contrasts"] == ["t1", "pd"]
    for wrong in (["t9"], "t1", ["t1", "t1"], 3):
        with pytest.raises(InvalidSpec, match=r"contrasts: .* is no list of t1, t1c, t2"):
            build_generator(generator_spec("compact", {"contrasts": wrong}))
    with pytest.raises(InvalidSpec, match="no normalization that a contrast could scale"):
        unet = {"channels": [8, 16], "strides": [2], "norm": None, "contrasts": ["t1"]}
        build_generator(generator_spec("UNet", unet))
    with pytest.raises(InvalidSpec, match="use_checkpoint: does not go with contrasts"):
        build_generator(generator_spec("SwinUNETR", {"use_checkpoint": True, "contrasts": ["t1"]}))


def test_a_generator_of_one_contrast_is_traced_and_exported(image: torch.Tensor) -> None:
    network = fix_contrast(conditioned("compact"), 2)
    with torch.inference_mode():
        expected = network(image)
        traced = torch.jit.trace(network, image)(image)
    exported = torch.export.export(network, (image,)).module()(image)

    torch.testing.assert_close(traced, expected)
    torch.testing.assert_close(exported, expected)


@pytest.mark.slow
def test_a_conditional_generator_compiles(image: torch.Tensor) -> None:
    network, small = conditioned("compact"), image[:, :, :64, :64]
    code = torch.tensor([0, 1, 3])
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)

    torch.testing.assert_close(compiled(small, code), network(small, code), rtol=1e-4, atol=1e-5)
