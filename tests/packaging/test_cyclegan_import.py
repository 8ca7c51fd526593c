from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from cyclegan_checkpoints import foreign, resnet, unet
from monai.data import MetaTensor
from torch import nn

from medtranslate.bundle import Bundle
from medtranslate.errors import InputMissing, ModelUnusable, OutputExists
from medtranslate.networks import GrayThroughRGB
from medtranslate.packaging.cyclegan_import import (
    import_cyclegan,
    read_cyclegan,
    recipes_in,
    resnet_names,
    unet_names,
    whole_image_recipes,
)
from medtranslate.phantom import Phantom


@pytest.fixture
def saved(tmp_path):
    """Save a state dict as latest_net_G_A.pth."""

    def save(state: object, **options: object) -> Path:
        path = tmp_path / "latest_net_G_A.pth"
        torch.save(state, path, **options)
        return path

    return save


@pytest.fixture
def image():
    torch.manual_seed(7)
    return torch.rand(2, 1, 256, 256) * 2 - 1


def refusal(path: Path) -> str:
    with pytest.raises(ModelUnusable) as refused:
        read_cyclegan(path)
    said = str(refused.value)
    assert "\n" not in said
    assert str(path) in said
    return said


def test_the_names_are_those_of_the_other_program():
    """As they stand in a checkpoint of resnet_9blocks and of unet_256."""
    nine = resnet_names(9)
    assert len(nine) == 24
    assert nine["encoder.1.conv"] == "model.1"
    assert nine["encoder.5.0.conv"] == "model.7"
    assert nine["body.0.residual.1.conv"] == "model.10.conv_block.1"
    assert nine["body.8.residual.5.conv"] == "model.18.conv_block.5"
    assert nine["decoder.0.0.conv"] == "model.19"
    assert nine["decoder.1.0.conv"] == "model.22"
    assert nine["decoder.3.conv"] == "model.26"
    assert resnet_names(9, second=6)["body.0.residual.5.conv"] == "model.10.conv_block.6"
    net = unet_names()
    assert len(net) == 16
    assert net["encoder.conv"] == "model.model.0"
    assert net["inner.path.1.conv"] == "model.model.1.model.1"
    assert net["inner.path.3.path.5.conv"] == "model.model.1.model.3.model.5"
    deepest = "model.model.1" + 6 * ".model.3"
    assert net["inner" + 6 * ".path.3" + ".path.1.conv"] == f"{deepest}.model.1"
    assert net["inner" + 6 * ".path.3" + ".path.3.conv"] == f"{deepest}.model.3"
    assert net["decoder.1.conv"] == "model.model.3"


@pytest.mark.parametrize("make", [resnet, unet])
def test_one_channel(saved, image, make):
    network = make()
    read = read_cyclegan(saved(foreign(network)))
    assert torch.equal(read.network(image), network(image))
    assert type(read.network) is type(network)
    assert not read.network.training


@pytest.mark.parametrize("make", [resnet, unet])
def test_three_channels_give_the_luminance_of_equal_channels(saved, image, make):
    network = make(3)
    read = read_cyclegan(saved(foreign(network)))
    assert isinstance(read.network, GrayThroughRGB)
    red, green, blue = network(image.expand(-1, 3, -1, -1)).unbind(1)
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    torch.testing.assert_close(read.network(image)[:, 0], expected, atol=1e-6, rtol=0)


def test_what_is_told_from_the_file(saved):
    assert read_cyclegan(saved(foreign(resnet(3, blocks=6)))).spec == {
        "_target_": "medtranslate.networks.GrayThroughRGB",
        "network": {
            "_target_": "medtranslate.networks.ResNet9",
            "in_channels": 3,
            "out_channels": 3,
            "width": 8,
            "blocks": 6,
        },
    }
    assert read_cyclegan(saved(foreign(unet()))).spec == {
        "_target_": "medtranslate.networks.UNet256",
        "in_channels": 1,
        "out_channels": 1,
        "width": 4,
    }


def test_trained_with_dropout(saved, image):
    network = resnet()
    state = foreign(network, second=6)
    assert "model.10.conv_block.6.weight" in state
    assert torch.equal(read_cyclegan(saved(state)).network(image), network(image))


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod."])
@pytest.mark.parametrize("zipped", [True, False])
def test_other_ways_to_save(saved, image, prefix, zipped):
    network = resnet()
    state = {prefix + name: value for name, value in foreign(network).items()}
    path = saved(state, _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_cyclegan(path).network(image), network(image))


def test_statistics_that_old_torch_kept_for_instance_normalization_are_dropped(saved, image):
    network = resnet()
    state = foreign(network)
    state["model.2.running_mean"], state["model.2.running_var"] = torch.ones(8), torch.ones(8)
    state["model.2.num_batches_tracked"] = torch.tensor(7)
    assert torch.equal(read_cyclegan(saved(state)).network(image), network(image))


def test_half_precision(saved):
    network = resnet()
    state = {name: value.half() for name, value in foreign(network).items()}
    read = read_cyclegan(saved(state)).network.state_dict()
    for name, value in network.state_dict().items():
        assert read[name].dtype == torch.float32
        assert torch.equal(read[name], value.half().float())


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_the_file_is_executed(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "holds Python objects" in refusal(saved({"model.1.weight": Evil()}))
    assert not Path("executed").exists()


def test_a_pickled_network(saved):
    assert "holds Python objects" in refusal(saved(nn.Linear(1, 1)))


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: without(s, "model.10.conv_block.5.bias"), "model.10.conv_block.5.bias is miss"),
        (lambda s: without(s, "model.19.weight"), "its first or last convolution is missing"),
        (lambda s: s | {"model.4.weight": torch.ones(8, 8, 3, 3)}, "model.4.weight has shape [8"),
        (lambda s: s | {"model.1.weight": torch.ones(8, 4, 7, 7)}, "has 4 in_channels, not 1 or 3"),
        (lambda s: s | {"model.6.filt": torch.ones(1)}, "model.6.filt has no place in this"),
        (lambda s: s | {"model.1.weight_orig": torch.ones(1)}, "spectral or weight normalization"),
        (
            lambda s: s | {"model.2.running_mean": torch.ones(8), "model.2.weight": torch.ones(8)},
            "trained with batch normalization",
        ),
        (lambda s: {n: v for n, v in s.items() if n == "model.1.weight"}, "no generator of pyt"),
        (lambda s: {"model.0.weight": torch.ones(8, 1, 4, 4)}, "is a discriminator"),
        (lambda s: s | {"model.1.bias": torch.full((8,), torch.nan)}, "model.1.bias holds values"),
        (lambda s: {"epoch": 3, "state_dict": s}, "holds 'epoch', a int, where"),
        (lambda s: {}, "holds a dict, no state dict"),
        (lambda s: list(s.values()), "holds a list, no state dict"),
        (lambda s: s | {"model.1.bias": torch.ones(8).to_sparse()}, "model.1.bias is no plain"),
        (lambda s: s | {"model.1.bias": torch.ones(1).expand(2**30)}, "claims tensors larger"),
    ],
)
def test_what_is_refused(saved, spoil, said):
    assert said in refusal(saved(spoil(foreign(resnet()))))


def test_a_shallower_unet(saved):
    """unet_128 has a level less: its innermost weights stand one level further out."""
    deepest = "model.model.1" + 6 * ".model.3"
    state = {n: v for n, v in foreign(unet()).items() if not n.startswith(deepest)}
    state["model.model.1" + 5 * ".model.3" + ".model.3.weight"] = torch.ones(32, 32, 4, 4)
    assert "a U-Net of 7 halvings, not 8 as unet_256 has" in refusal(saved(state))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"GIF89a", pickle.dumps({1: 2})])
def test_no_file_of_torch(tmp_path, content):
    path = tmp_path / "latest_net_G_A.pth"
    path.write_bytes(content)
    assert "torch" in refusal(path)


def test_a_truncated_file(saved):
    path = saved(foreign(resnet()))
    path.write_bytes(path.read_bytes()[:5000])
    assert "damaged" in refusal(path)


def test_no_file(tmp_path):
    with pytest.raises(InputMissing, match="no such file"):
        read_cyclegan(tmp_path / "latest_net_G_A.pth")


@pytest.fixture
def bundle(saved, tmp_path):
    folder = tmp_path / "theirs"
    return import_cyclegan({"mri": saved(foreign(resnet(3)))}, folder)


def test_the_bundle_gives_what_the_generator_gave(bundle, image):
    loaded, network = Bundle.load(bundle), GrayThroughRGB(resnet(3))
    assert (loaded.name, loaded.version) == ("theirs", "1.0.0")
    assert torch.equal(loaded.generator("mri").network(image), network(image))
    assert loaded.generator("mri").stored == torch.float32
    assert loaded.precision == "float32"
    with pytest.raises(ModelUnusable, match="makes no ct"):
        loaded.generator("ct")


def test_the_bundle_says_where_it_is_from(bundle):
    text = (bundle / "configs/metadata.json").read_text(encoding="utf-8")
    assert "junyanz/pytorch-CycleGAN-and-pix2pix" in text
    assert "latest_net_G_A.pth" in text


def test_both_directions(tmp_path, saved):
    path = saved(foreign(resnet()))
    other = path.with_name("latest_net_G_B.pth")
    torch.save(foreign(unet()), other)
    made = import_cyclegan({"mri": path, "ct": other}, tmp_path / "both", name="x", version="2")
    loaded = Bundle.load(made)
    assert (loaded.name, loaded.version) == ("x", "2")
    kinds = {to: type(each.network).__name__ for to, each in loaded.generators.items()}
    assert kinds == {"mri": "ResNet9", "ct": "UNet256"}


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_image_of_256_goes_through_unchanged(bundle, modality):
    recipe = Bundle.load(bundle).recipe(modality, "image")
    image = Phantom((256, 256, 2), (0.9, 0.9, 9.0)).image_2d()
    gray = image.as_tensor()[0, ..., 0].T
    prepared = recipe.prepare(image)
    torch.testing.assert_close(prepared.slices[0, 0], gray / 127.5 - 1, atol=1e-6, rtol=0)
    assert prepared.head.all()
    back = recipe.restore(prepared.slices, prepared)
    assert isinstance(back, MetaTensor)
    assert torch.equal(back.as_tensor()[0, ..., 0].T, gray)


def test_own_recipes(saved, tmp_path):
    own = whole_image_recipes()[2:]
    folder = import_cyclegan(
        {"ct": saved(foreign(unet()))}, tmp_path / "own", recipes=recipes_in(own[0].parent)
    )
    assert set(Bundle.load(folder).recipes) == {"CT-image", "MR-image"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissing, match="no recipes"):
        recipes_in(tmp_path / "empty")


def test_nothing_is_left_of_what_is_refused(saved, tmp_path):
    path = saved({"model.0.weight": torch.ones(8, 1, 4, 4)})
    with pytest.raises(ModelUnusable):
        import_cyclegan({"mri": path}, tmp_path / "model")
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_folder_is_left_alone(bundle, saved):
    with pytest.raises(OutputExists):
        import_cyclegan({"mri": saved(foreign(resnet()))}, bundle)


def test_a_flipped_bit_among_the_weights_is_noticed(saved):
    path = saved(unet())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "the checksum of" in refusal(path)
