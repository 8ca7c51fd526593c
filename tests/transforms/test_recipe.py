from __future__ import annotations

import monai.transforms
import pytest

from medtranslate import transforms
from medtranslate.errors import ModelUnusable
from medtranslate.files import shipped
from medtranslate.transforms import Limits, load_recipe
from medtranslate.transforms.load import MONAIS, OURS, prepares_alike, with_range

GOOD = """\
modality: CT
kind: volume
geometry:
  _target_: Compose
  transforms:
  - _target_: medtranslate.transforms.N4BiasCorrectiond
    keys: image
    iterations: [10, 5]
  - _target_: medtranslate.transforms.FindTissued
    keys: image
    above: -300.0
  - _target_: medtranslate.transforms.AxialSlicesd
    keys: image
    pixel: 1
    clip: [-20.0, 100]
  - _target_: medtranslate.transforms.HeadMaskd
    keys: image
intensity:
  _target_: medtranslate.transforms.ScaleWindowd
  keys: image
  level: 40.0
  width: 120.0
preprocessing:
  _target_: Compose
  transforms: ["@geometry", "@intensity"]
units:
  _target_: medtranslate.transforms.ToUnitsd
  keys: pred
  low: -20
  high: 100
  background: -1000.0
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
    names = [type(each).__name__ for each in loaded.transforms]
    assert names == ["N4BiasCorrection", "FindTissue", "AxialSlices", "HeadMask", "ScaleWindow"]
    assert loaded.transforms[0].iterations == (10, 5)
    assert loaded.tissue.threshold.value == -300
    assert (loaded.grid.pixel, loaded.grid.size, loaded.grid.clip) == (1, 256, (-20, 100))
    assert (loaded.scale.level, loaded.scale.width) == (40, 120)
    assert (loaded.written.low, loaded.written.high, loaded.background) == (-20, 100, -1000)
    assert "AxialSlicesd(pixel=1, clip=[-20.0, 100])" in repr(loaded)
    assert len(repr(loaded)) < 400


def test_a_recipe_for_all_hu_is_the_same_but_for_what_is_written(recipe):
    plain, wide = recipe(), recipe(GOOD, with_range(GOOD, full=True))

    assert (wide.written, wide.shown, wide.share) == (Limits(-1024, 2000), plain.written, 0.6)
    assert (plain.shown, plain.share) == (plain.written, 1)
    assert wide.background == plain.background and wide.transforms[0].shrink == 4
    assert {**wide.content, "units": 0} == {**plain.content, "units": 0}
    text = with_range(GOOD, full=True)
    assert with_range(text, full=True) == text and with_range(GOOD, full=False) == GOOD
    assert recipe(GOOD, with_range(text, full=False)) == plain
    other = GOOD.replace("high: 100\n", "high: 100\n  window: [0, 80]\n  share: 0.5\n")
    again = recipe(GOOD, with_range(other, full=True))
    assert (again.written, again.shown, again.share) == (Limits(-1024, 2000), Limits(0, 80), 0.6)
    low = with_range(text.replace("low: -1024.0", "low: -2000.0"), full=True)
    assert recipe(GOOD, low).written == Limits(-1024, 2000)


@pytest.mark.parametrize(
    "other", ["", "- 1", "[", "a: &b 1\nc: *b", GOOD.replace("pixel: 1", "pixel: 2")]
)
def test_what_prepares_otherwise_or_is_no_recipe_is_not_alike(other):
    assert prepares_alike(GOOD, GOOD.replace("high: 100", "high: 90"))
    assert not prepares_alike(GOOD, other)


def test_an_mr_has_no_window_in_hu(recipe):
    with pytest.raises(ModelUnusable, match="units: a window is one in HU, and this is no CT"):
        recipe(GOOD, with_range(GOOD, full=True).replace("modality: CT", "modality: MR"))


def test_recipes_are_equal_where_their_files_say_the_same(recipe):
    assert recipe() == recipe()
    assert recipe() != recipe("width: 120.0", "width: 121.0")


def test_the_shipped_recipes():
    loaded = {path.stem: load_recipe(path) for path in shipped("transforms").glob("*.yaml")}
    assert loaded.keys() >= {"ct-volume", "mr-volume", "ct-image", "mr-image"}
    for name, recipe in loaded.items():
        assert name.startswith(f"{recipe.modality.lower()}-{recipe.kind}")
        assert recipe.grid.size == 256
    assert (loaded["ct-volume"].scale.level, loaded["ct-volume"].scale.width) == (40, 120)
    assert loaded["ct-volume"].grid.pixel == loaded["mr-volume"].grid.pixel == 0.9
    assert (loaded["mr-volume"].scale.lower, loaded["mr-volume"].scale.upper) == (0.5, 99.5)
    assert loaded["ct-image"].grid.fill == 1.0
    assert loaded["mr-image"].grid.fill == 0.92


@pytest.mark.parametrize("prefix", ["", "monai.transforms."])
def test_transforms_of_monai_may_stand_among_ours(recipe, prefix):
    smooth = f"  - _target_: {prefix}GaussianSmoothd\n    keys: image\n    sigma: 0.5\n"
    first = "  - _target_: medtranslate.transforms.FindTissued\n"
    loaded = recipe(first, smooth + first)
    assert type(loaded.transforms[1]).__name__ == "GaussianSmoothd"


def test_the_lists_name_what_there_is():
    assert all(isinstance(getattr(monai.transforms, name), type) for name in MONAIS)
    assert all(isinstance(getattr(transforms, name), type) for name in OURS)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("level: 40.0", "level: $print(1)", "line 21: intensity.level: the expression"),
        ("level: 40.0", "level: '@kind'", "line 21: intensity.level: the expression"),
        ("modality: CT", "modality: $1", "line 1: modality: the expression"),
        ("transforms.ScaleWindowd", "transforms.Nothing", "line 19: intensity: the class"),
        (
            "medtranslate.transforms.ScaleWindowd",
            "os.system",
            "line 19: intensity: the class 'os.system'",
        ),
        ("medtranslate.transforms.ScaleWindowd", "LoadImaged", "the class 'LoadImaged' is not"),
        ("medtranslate.transforms.ScaleWindowd", "monai.utils.optional_import", "is not allowed"),
        ("medtranslate.transforms.ScaleWindowd", "[a]", "the class ('a',) is not allowed"),
        ("transforms.ScaleWindowd", "transforms.ToUnitsd", "intensity: the class"),
        ("transforms.ToUnitsd", "transforms.ScaleGrayd", "units: the class"),
        ("width: 120.0", "wide: 120.0", "line 22: intensity.wide: ScaleWindowd has no such"),
        ("  width: 120.0\n", "", "intensity.width: is missing"),
        ("width: 120.0", "width: abc", "line 22: intensity.width: 'abc' is not a number"),
        ("width: 120.0", "width: true", "intensity.width: True is not a number"),
        ("width: 120.0", "width: .nan", "intensity.width: nan is not a number"),
        ("width: 120.0", "width: null", "intensity.width: None is not a number"),
        ("width: 120.0", "width: [1]", "is not a number"),
        ("width: 120.0", "width: -5.0", "line 19: intensity: a window -5.0 wide"),
        ("pixel: 1", "size: 256.5", "line 14: geometry.transforms.2.size: 256.5 is not a whole"),
        ("pixel: 1", "size: 255", "geometry.transforms.2: size is 255"),
        ("pixel: 1", "size: 4000000", "is not a whole number from 1 to"),
        ("[-20.0, 100]", "[100, 0]", "clip is [100, 0], not (low, high)"),
        ("[-20.0, 100]", "[a, 0]", "('a', 0) is not a list of numbers"),
        ("[10, 5]", "[10, x]", "iterations: (10, 'x') is not a list of whole numbers"),
        ("[10, 5]", "[]", "iterations: () is not a list of whole numbers"),
        ("[10, 5]", "$[10]", "line 8: geometry.transforms.0.iterations: the expression"),
        ("[10, 5]", "[10, $5]", "line 8: geometry.transforms.0.iterations.1: the expression"),
        ("above: -300.0", "otsu: 0.45\n    above: 1.0", "either above or otsu"),
        ("keys: image\n    above", "keys: label\n    above", "keys of FindTissued are not 'image'"),
        ("keys: pred", "keys: image", "units: the keys of ToUnitsd are not 'pred'"),
        ("_target_: Compose\n  transforms:\n", "transforms:\n", "geometry: needs a _target_"),
        ("transforms:\n", "map_items: false\n  transforms:\n", "Compose takes transforms alone"),
        ('["@geometry", "@intensity"]', '["@geometry"]', "preprocessing: must be a Compose"),
        ("medtranslate.transforms.AxialSlicesd", "Resized", "pixel: Resized has no such argument"),
        (
            "  - _target_: medtranslate.transforms.AxialSlicesd\n    keys: image\n    pixel: 1\n"
            "    clip: [-20.0, 100]\n",
            "",
            "not exactly one AxialSlicesd or ImageFramed",
        ),
        (
            "  - _target_: medtranslate.transforms.FindTissued\n    keys: image\n"
            "    above: -300.0\n",
            "",
            "HeadMaskd needs a FindTissued before it",
        ),
        ("high: 100\n", "high: 100\n  window: [a, 9]\n", "('a', 9) is not a list of numbers"),
        ("high: 100\n", "high: 100\n  window: [0, 200]\n", "no range within -20 and 100"),
        ("high: 100\n", "high: 100\n  share: 0.5\n", "that of a window, and there is none"),
        ("modality: CT", "modality: PET", "line 1: modality: must be one of CT, MR"),
        ("modality: CT\n", "", "modality: must be one of"),
        ("kind: volume", "kind: film", "line 2: kind: must be one of volume, image"),
        ("kind: volume", "kind: volume\nsecret: 1", "line 3: secret: is no section of a recipe"),
        ("kind: volume", "kind: volume\n7: 1", "7: is no section of a recipe"),
        ("  _target_: medtranslate.transforms.ScaleWindowd\n", "", "intensity: needs a _target_"),
        ("    pixel: 1\n", "    pixel: 1\n    pixel: [\n", "not readable as YAML"),
        ("pixel: 1", "pixel: !!python/object/apply:os.system [ls]", "not readable as YAML"),
        ("level: 40.0\n  width: 120.0", "level: &a 40.0\n  width: *a", "line 22, column 10"),
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


def test_a_recipe_of_an_earlier_version_is_named_as_one(tmp_path):
    path = tmp_path / "ct-volume.yaml"
    path.write_text("modality: CT\ngeometry:\n  _target_: medtranslate.transforms.AxialSlices\n")
    with pytest.raises(ModelUnusable, match="line 3: geometry: this recipe has the form of an ear"):
        load_recipe(path)
