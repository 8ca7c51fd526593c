from __future__ import annotations

from pathlib import Path

import pytest

from medtranslate.errors import ModelUnusable
from medtranslate.files import shipped
from medtranslate.transforms import (
    N4,
    AxialSlices,
    FixedThreshold,
    Grey,
    OtsuThreshold,
    Percentiles,
    PictureFrame,
    Window,
    load_recipe,
)

GOOD = """\
modality: CT
kind: volume
geometry:
  _target_: medtranslate.transforms.AxialSlices
  pixel: 1
head:
  _target_: medtranslate.transforms.FixedThreshold
  value: -300.0
intensity:
  _target_: medtranslate.transforms.Window
  level: 40.0
  width: 120.0
bias:
  _target_: medtranslate.transforms.N4
  iterations: [10, 5]
"""


@pytest.fixture
def recipe(tmp_path):
    def load(old: str = "", new: str = ""):
        assert old in GOOD
        path = tmp_path / "recipe.yaml"
        path.write_text(GOOD.replace(old, new), encoding="utf-8")
        return load_recipe(path)

    return load


def test_what_a_file_says(recipe):
    loaded = recipe()
    assert (loaded.modality, loaded.kind) == ("CT", "volume")
    assert loaded.geometry == AxialSlices(pixel=1)
    assert loaded.head == FixedThreshold(-300.0)
    assert loaded.intensity == Window(40, 120)
    assert loaded.bias == N4(iterations=(10, 5))


def test_the_shipped_recipes():
    loaded = {path.stem: load_recipe(path) for path in shipped("transforms").glob("*.yaml")}
    assert loaded.keys() >= {"ct-volume", "mr-volume", "ct-picture", "mr-picture"}
    for name, recipe in loaded.items():
        assert name.startswith(f"{recipe.modality.lower()}-{recipe.kind}")
        assert recipe.geometry.size == 256
        assert recipe.bias is None
    assert loaded["ct-volume"].intensity == Window(40, 120)
    assert loaded["ct-volume"].geometry == AxialSlices(0.9)
    assert loaded["mr-volume"].intensity == Percentiles(0.5, 99.5)
    assert isinstance(loaded["mr-volume"].head, OtsuThreshold)
    assert loaded["ct-picture"].geometry == PictureFrame(1.0)
    assert loaded["mr-picture"].geometry == PictureFrame(0.92)
    assert loaded["mr-picture"].intensity == Grey()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("level: 40.0", "level: $print(1)", "line 11: intensity.level: the expression"),
        ("level: 40.0", "level: '@kind'", "line 11: intensity.level: the expression"),
        ("modality: CT", "modality: $1", "line 1: modality: the expression"),
        ("transforms.Window", "transforms.Nothing", "line 10: intensity: the class"),
        (
            "medtranslate.transforms.Window",
            "os.system",
            "line 10: intensity: the class 'os.system'",
        ),
        ("medtranslate.transforms.Window", "[a]", "the class ('a',) is not allowed"),
        ("transforms.Window", "transforms.N4", "intensity: the class"),
        ("transforms.AxialSlices", "transforms.Window", "geometry: the class"),
        ("width: 120.0", "wide: 120.0", "line 12: intensity.wide: Window has no such argument"),
        ("  width: 120.0\n", "", "intensity.width: is missing"),
        ("width: 120.0", "width: abc", "line 12: intensity.width: 'abc' is not a number"),
        ("width: 120.0", "width: true", "intensity.width: True is not a number"),
        ("width: 120.0", "width: .nan", "intensity.width: nan is not a number"),
        ("width: 120.0", "width: null", "intensity.width: None is not a number"),
        ("width: 120.0", "width: [1]", "is not a number"),
        ("width: 120.0", "width: -5.0", "line 10: intensity: a window -5.0 wide"),
        ("pixel: 1", "size: 256.5", "line 5: geometry.size: 256.5 is not a whole number"),
        ("pixel: 1", "size: 255", "geometry: size is 255"),
        ("pixel: 1", "size: 4000000", "is not a whole number from 1 to"),
        ("[10, 5]", "[10, x]", "bias.iterations: (10, 'x') is not a list of whole numbers"),
        ("[10, 5]", "[]", "bias.iterations: () is not a list of whole numbers"),
        ("[10, 5]", "$[10]", "line 15: bias.iterations: the expression"),
        ("[10, 5]", "[10, $5]", "line 15: bias.iterations.1: the expression"),
        ("modality: CT", "modality: PET", "line 1: modality: must be one of CT, MR"),
        ("modality: CT\n", "", "modality: must be one of"),
        ("kind: volume", "kind: film", "line 2: kind: must be one of volume, picture"),
        ("kind: volume", "kind: volume\nsecret: 1", "secret: Recipe has no such argument"),
        ("kind: volume", "kind: volume\n7: 1", "7: Recipe has no such argument"),
        ("  _target_: medtranslate.transforms.Window\n", "", "intensity: needs a _target_"),
        ("  pixel: 1\n", "  pixel: 1\n  pixel: [\n", "not readable as YAML"),
        ("pixel: 1", "pixel: !!python/object/apply:os.system [ls]", "not readable as YAML"),
        ("level: 40.0\n  width: 120.0", "level: &a 40.0\n  width: *a", "line 12, column 10"),
    ],
)
def test_what_is_refused_and_where(recipe, old, new, said):
    with pytest.raises(ModelUnusable) as refusal:
        recipe(old, new)
    assert said in str(refusal.value)
    assert refusal.value.path.name == "recipe.yaml"
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content", [b"", b"- 1", b"text", b"\xff\xfe\x00", b"2001-99-99: 1", b"[" * 10000], ids=range(6)
)
def test_no_recipe_at_all(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ModelUnusable) as refusal:
        load_recipe(path)
    assert str(path) in str(refusal.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ModelUnusable, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(ModelUnusable, match="not readable"):
        load_recipe(tmp_path)


def test_the_docs_show_what_loads(tmp_path):
    """`bias` as docs/reference/recipes.md gives it, added to the MR recipe."""
    page = (
        Path(__file__).parents[2].joinpath("docs/reference/recipes.md").read_text(encoding="utf-8")
    )
    shown = page.split("```yaml\nbias:")[1].split("```")[0]
    path = tmp_path / "mr.yaml"
    path.write_text(shipped("transforms/mr-volume.yaml").read_text() + "bias:" + shown)
    assert load_recipe(path).bias == N4()
