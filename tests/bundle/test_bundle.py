from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_bundles import SPEC, all_hu_bundle, shipped_recipes, tiny_bundle, tiny_networks

from medtranslate.bundle import Bundle, Networks, save_bundle
from medtranslate.bundle import save as save_module
from medtranslate.errors import ModelUnusable, OutputExists, OutputFailed
from medtranslate.networks import Compact, PatchGAN, build_generator, generator_spec
from medtranslate.transforms import load_recipe


@pytest.fixture
def folder(tmp_path):
    return tiny_bundle(tmp_path / "model")


@pytest.fixture
def edited(folder):
    """Change the text of configs/model.yaml."""

    def edit(old: str, new: str) -> Path:
        path = folder / "configs/model.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return edit


def refusal(folder: Path) -> str:
    with pytest.raises(ModelUnusable) as refused:
        Bundle.load(folder)
    said = str(refused.value)
    assert "\n" not in said
    assert str(folder) in said
    return said


def test_there_and_back(folder):
    networks, bundle = tiny_networks(), Bundle.load(folder)
    assert (bundle.name, bundle.version, bundle.folder) == ("tiny", "0.7", folder)
    assert set(bundle.generators) == {"mri", "ct"}
    for to, generator in bundle.generators.items():
        assert not generator.network.training
        for name, weights in generator.network.named_parameters():
            expected = networks.generators[to].state_dict()[name]
            assert weights.dtype == torch.float32
            assert weights.device.type == "cpu"
            assert not weights.requires_grad
            assert torch.equal(weights, expected.half().float())
        file = (
            folder
            / yaml.safe_load((folder / "configs/model.yaml").read_text())["generators"][to][
                "weights"
            ]
        )
        assert generator.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    for path in shipped_recipes():
        recipe = load_recipe(path)
        assert bundle.recipe(recipe.modality, recipe.kind) == recipe


def test_a_bundle_is_plain_yaml_safetensors_and_copied_recipes(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *(f"configs/{name}" for name in ("model.yaml", "metadata.json", "logging.conf")),
        *(f"configs/{name}.yaml" for name in ("inference", "train", "multi_gpu_train", "evaluate")),
        "docs/README.md",
        *(f"configs/recipes/{path.name}" for path in shipped_recipes()),
        "models/ct_to_mri.safetensors",
        "models/mri_to_ct.safetensors",
    }
    assert "$" not in (folder / "configs/model.yaml").read_text()
    assert (
        load_file(folder / "models/ct_to_mri.safetensors")["fold.2.conv.weight"].dtype
        == torch.float16
    )


def test_it_may_be_moved(folder, tmp_path):
    moved = folder.rename(tmp_path / "elsewhere")
    assert Bundle.load(moved).name == "tiny"


def test_one_direction_is_enough(tmp_path):
    bundle = Bundle.load(tiny_bundle(tmp_path / "half", tiny_networks(("mri",))))
    assert set(bundle.generators) == {"mri"}
    with pytest.raises(ModelUnusable, match="makes no ct"):
        bundle.generator("ct")


def test_discriminators_are_kept_for_training(tmp_path):
    torch.manual_seed(0)
    networks = tiny_networks()
    kept = Networks(networks.specs, networks.generators, {"mri": PatchGAN(width=8)})
    state = load_file(tiny_bundle(tmp_path / "model", kept) / "discriminators/mri.safetensors")
    assert state.keys() == kept.discriminators["mri"].state_dict().keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_any_float_type(folder, edited, dtype):
    path = folder / "models/ct_to_mri.safetensors"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    save_file({k: v.to(dtype) for k, v in load_file(path).items()}, path)
    edited(before, hashlib.sha256(path.read_bytes()).hexdigest())
    state = Bundle.load(folder).generator("mri").network.state_dict()
    assert {weights.dtype for weights in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("BasicUNet", {"features": [8, 8, 8, 8, 8, 8]}),
        ("AttentionUnet", {"channels": [8, 16], "strides": [2]}),  # batch normalization's counters
        ("DynUNet", {"kernel_size": [3, 3, 3], "strides": [1, 2, 2],
                     "upsample_kernel_size": [2, 2], "filters": [8, 16, 32]}),
        ("FlexibleUNet", {"backbone": "efficientnet-b0", "decoder_channels": [8, 8, 8, 8, 8]}),
        ("SegResNet", {"init_filters": 8}),
        ("SwinUNETR", {"feature_size": 12}),  # tables of indices
        ("UNet", {"channels": [8, 16], "strides": [2]}),
    ],
)  # fmt: skip
def test_a_network_of_monai_is_saved_and_loaded(tmp_path, name, arguments):
    if name == "SwinUNETR":
        pytest.importorskip("einops")
    torch.manual_seed(0)
    spec = generator_spec(name, arguments)
    network = build_generator(spec).eval()
    networks = Networks({"mri": spec}, {"mri": network}, dtype=torch.float32)
    bundle = Bundle.load(tiny_bundle(tmp_path / "model", networks))
    image = torch.rand(1, 1, 256, 256) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(bundle.generator("mri").network(image), network(image))
    train = yaml.safe_load((tmp_path / "model/configs/train.yaml").read_text())
    assert train["settings"]["network"] == name


def test_weights_do_not_change_with_their_file(folder):
    """A loaded network holds its own memory, not a view of the file."""
    bundle = Bundle.load(folder)
    before = {k: v.clone() for k, v in bundle.generator("mri").network.state_dict().items()}
    (folder / "models/ct_to_mri.safetensors").write_bytes(b"")
    after = bundle.generator("mri").network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_bundle(tmp_path):
    said = refusal(tmp_path)
    assert "no bundle here" in said
    assert "medtranslate train" in said
    assert "no bundle here" in refusal(tmp_path / "none")


def test_damaged_weights(folder):
    path = folder / "models/mri_to_ct.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    said = refusal(folder)
    assert "mri_to_ct.safetensors: its SHA-256 is not the one that model.yaml states" in said
    assert "in line 22" in said


def test_missing_weights(folder):
    (folder / "models/ct_to_mri.safetensors").unlink()
    said = refusal(folder)
    assert "ct_to_mri.safetensors: the weights are missing, which line 12 of model.yaml" in said


def test_no_safetensors(folder, edited):
    path = folder / "models/ct_to_mri.safetensors"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    torch.save({"weight": torch.ones(1)}, path)
    edited(before, hashlib.sha256(path.read_bytes()).hexdigest())
    assert "not readable as safetensors" in refusal(folder)


@pytest.mark.parametrize(("old", "new"), [("width: 16", "width: 24"), ("blocks: 1", "blocks: 2")])
def test_weights_of_another_network(edited, old, new):
    folder = edited(old, new)
    assert "these weights belong to another network" in refusal(folder)


def test_a_missing_recipe(folder):
    (folder / "configs/recipes/ct-volume.yaml").unlink()
    assert "ct-volume.yaml: no such file" in refusal(folder)


def test_a_recipe_of_a_size_that_the_network_does_not_take(folder, monkeypatch):
    monkeypatch.setattr(Compact, "multiple", 8)
    path = folder / "configs/recipes/ct-volume.yaml"
    path.write_text(path.read_text().replace("size: 256", "size: 252"))
    said = refusal(folder)
    assert "model.yaml: line" in said
    assert "takes sides that 8 divides, but CT-volume makes 252x252" in said


def test_an_expression_in_a_recipe(folder):
    path = folder / "configs/recipes/ct-volume.yaml"
    path.write_text(path.read_text().replace("level: 40.0", "level: $__import__('os')"))
    said = refusal(folder)
    assert "ct-volume.yaml: line" in said
    assert "intensity.level: the expression" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format: 2", "format: 3", "line 1: format: 3, but this version reads format 2"),
        ("format: 2", "format: 1", "write its recipes (configs/recipes) anew as MONAI transforms"),
        ("format: 2\n", "", "line 1: format: None, but"),
        ("version: '0.7'", "name: other", "the key 'name' is there twice line 3"),
        ("width: 16", "width: $16", "generators.mri.network.width: the expression"),
        ("networks.Compact", "networks.PatchGAN", "PatchGAN' is not allowed"),
        ("medtranslate.networks.Compact", "os.system", "the class 'os.system' is not allowed"),
        ("medtranslate.networks.Compact", "monai.networks.nets.Discriminator", "is not allowed"),
        ("width: 16", "wide: 16", "generators.mri.network.wide: Compact has no such argument"),
        ("width: 16", "width: 12", "generators.mri.network: width is 12, not a multiple"),
        ("width: 16", "width: 0", "0 is not a whole number"),
        ("width: 16", "width: 1000000000", "is not a whole number from 1 to"),
        ("width: 16", "width: 'x'", "'x' is not a whole number"),
        ("in_channels: 1", "in_channels: 3", "more than one channel"),
        ("models/ct_to_mri", "../ct_to_mri", "generators.mri.weights: '../ct_to_mri"),
        ("models/ct_to_mri", "/ct_to_mri", "lies outside the bundle"),
        ("recipes/ct-volume", "../../ct-volume", "lies outside the bundle"),
        ("weights: models/ct_to_mri.safetensors", "weights: 7", "7 names no file"),
        ("weights: models/ct_to_mri.safetensors", 'weights: "\\0"', "names no file"),
        ("weights: models/ct_to_mri.safetensors\n", "x: 1\n", "None names no file"),
        ("    network:\n", "    nets:\n", "generators.mri.network: needs a _target_"),
        ("  mri:\n", "  pet:\n", "generators: 'pet' is none of mri, ct"),
        ("recipes/mr-volume", "recipes/ct-volume", "a second recipe for a CT volume"),
        ("generators:", "generator:", "generators: is missing"),
        ("name: tiny", "name: [", "not readable as YAML"),
        ("sha256: ", "sha256: 0", "SHA-256"),
    ],
)
def test_what_is_refused(edited, old, new, said):
    assert said in refusal(edited(old, new))


def test_a_claim_costs_no_memory(edited):
    """A network is built without memory until its weights have been seen."""
    folder = edited("width: 16\n      blocks: 1", "width: 4096\n      blocks: 1")
    assert "another network" in refusal(folder)


def test_a_link_out_of_the_bundle(folder, tmp_path):
    path = folder / "models/ct_to_mri.safetensors"
    path.rename(tmp_path / "outside.safetensors")
    path.symlink_to(tmp_path / "outside.safetensors")
    assert "lies outside the bundle" in refusal(folder)


def test_an_existing_folder_is_left_alone(folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(OutputExists):
        tiny_bundle(folder)
    assert sorted(folder.rglob("*")) == before


def test_weights_are_as_readable_as_the_rest(folder):
    """A model saved by one user serves the others of its machine."""
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save_module, "save", full)
    with pytest.raises(OutputFailed, match="No space left"):
        tiny_bundle(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("largest", [100, 3000])
def test_a_limit_hit_while_weights_are_written(tmp_path, largest):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        with pytest.raises(OutputFailed):
            tiny_bundle(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(OutputFailed):
            tiny_bundle(tmp_path / "model")
    finally:
        tmp_path.chmod(0o700)


def test_a_recipe_that_could_not_be_loaded_is_not_saved(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("modality: PET\n")
    with pytest.raises(ModelUnusable, match=r"bad\.yaml"):
        save_bundle(tmp_path / "model", tiny_networks(), [bad], name="x", version="1")
    assert not (tmp_path / "model").exists()


def test_no_recipe_for_a_kind(tmp_path):
    only = shipped_recipes()[:1]
    folder = save_bundle(tmp_path / "model", tiny_networks(), only, name="x", version="1")
    with pytest.raises(ModelUnusable, match="no recipe for a MR image"):
        Bundle.load(folder).recipe("MR", "image")


def test_the_spec_and_the_network_agree():
    arguments = {key: value for key, value in SPEC.items() if key != "_target_"}
    expected = tiny_networks().generators["mri"].state_dict()
    assert Compact(**arguments).state_dict().keys() == expected.keys()


def test_what_a_generator_of_all_hu_gives_is_one_thing(tmp_path):
    folder = all_hu_bundle(tmp_path / "wide")
    path = folder / "configs/recipes/ct-image.yaml"
    path.write_text(path.read_text().replace("share: 0.6", "share: 0.5"))
    with pytest.raises(ModelUnusable, match="its window takes another share than that of other CT"):
        Bundle.load(folder)
