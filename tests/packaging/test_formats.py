from __future__ import annotations

import functools
import importlib.util
import json

import pytest
import torch
from cyclegan_checkpoints import foreign, resnet, unet
from monai.data import load_net_with_metadata
from tiny_bundles import all_hu_bundle, tiny_bundle

from medtranslate.bundle import Bundle
from medtranslate.errors import ModelUnusable, OutputExists, OutputFailed
from medtranslate.packaging import formats
from medtranslate.packaging.cyclegan_import import import_cyclegan, whole_image_recipes
from medtranslate.packaging.formats import exchange_format, exchange_words, export_network

WITH_ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)
FORMATS = [".ts", ".pt2", pytest.param(".onnx", marks=WITH_ONNX)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.load(tiny_bundle(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def foreign_bundle(tmp_path_factory):
    """A ResNet and a U-Net, both of color, for 2D images alone."""
    folder = tmp_path_factory.mktemp("model")
    for name, network in (("A", resnet(3, blocks=1)), ("B", unet(3))):
        torch.save(foreign(network), folder / f"latest_net_G_{name}.pth")
    files = {"mri": folder / "latest_net_G_A.pth", "ct": folder / "latest_net_G_B.pth"}
    recipes = whole_image_recipes()[2:]
    return Bundle.load(import_cyclegan(files, folder / "theirs", recipes=recipes))


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory):
    """Export the MRI generator once a format."""

    @functools.cache
    def export(suffix):
        path = tmp_path_factory.mktemp("exported") / f"mri{suffix}"
        return path, export_network(bundle, "mri", path)

    return export


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_gives_the_networks_image(bundle, exported, suffix):
    path, difference = exported(suffix)
    assert difference.slices == 4
    assert 0 <= difference.mean <= difference.largest < 0.01
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    slices = torch.rand(3, 1, 256, 256) * 2 - 1
    with torch.inference_mode():
        expected = bundle.generator("mri").network(slices)
    made = exchange_format(path).run(path, slices)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


def test_each_direction_is_its_own_network(bundle, exported, tmp_path):
    export_network(bundle, "ct", tmp_path / "ct.ts")
    slices = torch.rand(1, 1, 256, 256)
    form, mri = exchange_format(tmp_path / "ct.ts"), exported(".ts")[0]
    assert not torch.allclose(form.run(tmp_path / "ct.ts", slices), form.run(mri, slices))


# That torch.export, which ONNX goes through, takes both is shown by tests/networks/test_export.py.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "suffix"),
    [("mri", ".ts"), ("ct", ".ts"), pytest.param("ct", ".onnx", marks=WITH_ONNX)],
)
def test_imported_networks_and_2d_images(foreign_bundle, tmp_path, to, suffix):
    difference = export_network(foreign_bundle, to, tmp_path / f"{to}{suffix}")
    assert difference.slices == 2
    assert difference.largest < 0.5


def check(words):
    assert words["model"] == "tiny"
    assert words["version"] == "0.7"
    assert (words["source"], words["target"]) == ("CT", "MR")
    assert words["label"] == "SYNTHETIC MR from CT, tiny 0.7, NOT FOR DIAGNOSIS"
    assert "[-1, 1]" in words["input"]
    assert json.loads(words["recipes"])["CT-volume"]["intensity"]["level"] == 40.0


def test_what_torchscript_says_of_itself(bundle, exported):
    _, words, _ = load_net_with_metadata(str(exported(".ts")[0]))
    check(words)
    assert words["weights_sha256"] == bundle.generator("mri").sha256


def test_what_an_exported_program_says_of_itself(exported):
    names = ("model", "version", "source", "target", "label", "input", "recipes")
    words = dict.fromkeys(names, "")
    torch.export.load(str(exported(".pt2")[0]), extra_files=words)
    check({key: v if isinstance(v, str) else v.decode() for key, v in words.items()})


@WITH_ONNX
def test_what_onnx_says_of_itself(exported):
    import onnx

    model = onnx.load(exported(".onnx")[0])
    check({each.key: each.value for each in model.metadata_props})
    shapes = [
        [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 1, 256, 256]] * 2
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == [
        "image",
        "translated",
    ]


def test_without_the_packages(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OutputFailed, match=r"ONNX needs onnx, .*medtranslate\[onnx\]"):
        export_network(bundle, "mri", tmp_path / "mri.onnx")


def test_another_suffix(bundle, tmp_path):
    with pytest.raises(OutputFailed, match=r"\.ts, \.pt2, \.onnx"):
        export_network(bundle, "mri", tmp_path / "mri.pt")


def test_another_target(foreign_bundle, tmp_path):
    with pytest.raises(ModelUnusable, match="makes no pet"):
        export_network(foreign_bundle, "pet", tmp_path / "pet.ts")


def test_an_existing_file(bundle, tmp_path):
    path = tmp_path / "mri.ts"
    path.write_text("mine")
    with pytest.raises(OutputExists):
        export_network(bundle, "mri", path)
    assert path.read_text() == "mine"
    export_network(bundle, "mri", path, overwrite=True)
    assert path.stat().st_size > 1000


def test_a_file_that_gives_another_image_is_not_kept(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_MOST", -1.0)
    with pytest.raises(OutputFailed, match="gives another image"):
        export_network(bundle, "mri", tmp_path / "mri.ts")
    assert not list(tmp_path.iterdir())


def test_the_words_of_an_exported_network_say_what_is_beyond_the_window(tmp_path, bundle):
    wide = Bundle.load(all_hu_bundle(tmp_path / "wide"))
    said = exchange_words(wide, "ct")["output"]
    assert "-1, -0.6, 0.6 and 1 are -1024, -20, 100 and 2000; divided by 0.6" in said
    assert (
        "0.6" not in exchange_words(wide, "mri")["output"] + exchange_words(bundle, "ct")["output"]
    )
