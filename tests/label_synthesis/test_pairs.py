"""Rendered pairs: what they show, that they repeat, and how MONAI and a folder get them."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import Compose, ScaleIntensityRanged
from PIL import Image

from medtranslate.errors import InputMissing, OutputExists, Unreadable
from medtranslate.label_synthesis import (
    NO_LESIONS,
    PLAIN_ANATOMY,
    PLAIN_CT,
    PLAIN_CUT,
    PLAIN_MR,
    MRSettings,
    PairRenderer,
    PairSettings,
    RandRenderPair,
    RandRenderPaird,
    render_pairs,
)

PLAIN = PairSettings(
    cut=replace(PLAIN_CUT, size=64, pixel=3.0, sublayers=1),
    anatomy=PLAIN_ANATOMY,
    lesions=NO_LESIONS,
    ct=PLAIN_CT,
    mr=PLAIN_MR,
    stripped=0.0,
)


@pytest.fixture
def renderer(label_map, table, small):
    return PairRenderer([label_map], table, small)


def test_a_seed_gives_the_same_pairs_again_and_another_seed_others(renderer):
    first, again, other = renderer.render(3, 7), renderer.render(3, 7), renderer.render(3, 8)

    for name in ("ct", "typical_ct", "mr", "head", "classes"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert (first.contrasts, first.lesions) == (again.contrasts, again.lesions)
    assert not torch.equal(first.mr, other.mr)


def test_values_stay_in_their_ranges_and_outside_the_head_is_background(renderer):
    pairs = renderer.render(12, 1)

    assert pairs.ct.min() >= -1000
    assert pairs.ct.max() <= 3000
    assert pairs.mr.min() >= 0
    assert pairs.mr.max() <= 1
    assert torch.isfinite(pairs.mr).all()
    assert (pairs.ct[~pairs.head] == -1000).all()
    assert (pairs.mr[~pairs.head] == 0).all()


@pytest.mark.parametrize("contrast", ["T1", "T1C", "T2", "FLAIR", "PD"])
def test_each_tissue_has_the_mean_that_the_table_asks_for(label_map, table, contrast):
    pairs = PairRenderer([label_map], table, PLAIN).render(3, 2, contrast)
    column = table.contrasts.index(contrast)
    white = table["white_matter"]
    for ct, mr, classes in zip(pairs.ct, pairs.mr, pairs.classes, strict=True):
        shown = {n: table.is_any(classes, n) for n in ("white_matter", "cortex", "compact_bone")}
        assert white.hu[0] <= ct[shown["white_matter"]].mean() <= white.hu[1]
        above = ct[shown["cortex"]].mean() - ct[shown["white_matter"]].mean()
        assert table["cortex"].hu[0] <= above <= table["cortex"].hu[1]
        ratio = mr[shown["compact_bone"]].mean() / mr[shown["white_matter"]].mean()
        assert ratio == pytest.approx(table["compact_bone"].mr[column] / white.mr[column], rel=0.01)


def test_the_typical_ct_has_each_tissue_in_the_middle_of_its_range_in_every_slice(label_map, table):
    grainy = replace(PLAIN, ct=replace(PLAIN_CT, grain=(5.0, 5.0)))
    pairs = PairRenderer([label_map], table, grainy).render(3, 2)
    white = sum(table["white_matter"].hu) / 2
    cortex = white + sum(table["cortex"].hu) / 2

    for classes, ct in zip(pairs.classes, pairs.typical_ct, strict=True):
        assert torch.allclose(ct[table.is_any(classes, "white_matter")], torch.tensor(white))
        assert torch.allclose(ct[table.is_any(classes, "cortex")], torch.tensor(cortex))
    assert pairs.typical_ct.shape == pairs.ct.shape
    assert (pairs.typical_ct[~pairs.head] == -1000).all()
    assert not torch.allclose(pairs.typical_ct, pairs.ct)


def test_both_sides_of_a_pair_lie_on_one_grid(label_map, table):
    oblique = replace(PLAIN, cut=replace(PLAIN.cut, pitch=11.0, warp=4.0, far_share=1.0))
    pairs = PairRenderer([label_map], table, oblique).render(6, 3, "T1")
    bone = table.is_any(pairs.classes, "compact_bone")

    assert torch.equal(pairs.ct > 300, bone)
    dark = (pairs.mr < 0.09) & table.is_any(pairs.classes, "compact_bone", "white_matter")
    assert torch.equal(dark, bone)


def test_a_thick_slice_averages_what_it_cuts(label_map, table):
    thick = replace(PLAIN, cut=replace(PLAIN.cut, thickness=(24.0,), sublayers=9))
    pairs = PairRenderer([label_map], table, thick).render(4, 5, "T1")

    partial = (pairs.ct > 100) & (pairs.ct < 850)  # between brain and the least of compact bone
    assert partial.any()


def test_contrasts_are_drawn_by_their_weights(label_map, table, small):
    only = replace(small, mr=MRSettings(weights=(("T2", 1.0),)))

    assert set(PairRenderer([label_map], table, only).render(5, 0).contrasts) == {"T2"}


def test_a_contrast_for_each_slice_is_taken_in_order(renderer):
    assert renderer.render(2, 0, ["FLAIR", "random"]).contrasts == ("FLAIR", "random")
    with pytest.raises(ValueError, match="no contrast 'T3'; there are T1, T1C"):
        renderer.render(1, 0, "T3")
    with pytest.raises(ValueError, match="1 contrasts for 2 slices"):
        renderer.render(2, 0, ["T1"])


def test_a_stripped_slice_shows_no_bone(label_map, table):
    pairs = PairRenderer([label_map], table, replace(PLAIN, stripped=1.0)).render(4, 6)
    inside = table.is_any(pairs.classes, "white_matter", "cortex", "csf")

    assert (pairs.head[inside]).float().mean() > 0.95
    assert not pairs.head[table.is_any(pairs.classes, "skin")].any()


def test_network_slices_lie_between_minus_one_and_one_by_the_window(renderer):
    pairs = renderer.render(2, 9)
    ct, mr = pairs.network_slices(level=40.0, width=120.0)

    middle = (pairs.ct > 39) & (pairs.ct < 41) & pairs.head
    assert ct.min() == -1
    assert ct.max() == 1
    assert mr.min() == -1
    assert (ct[middle].abs() < 0.02).all()


def test_no_label_maps_are_refused(table):
    with pytest.raises(ValueError, match="no label maps"):
        PairRenderer([], table)


def test_the_array_transform_repeats_by_its_random_state(image, label_map, table, small):
    transform = RandRenderPair(small, table)
    first = transform.set_random_state(seed=3)(image)
    again = transform.set_random_state(seed=3)(label_map)
    other = transform(label_map)

    assert len(first) == 1
    assert torch.equal(first.mr, again.mr)
    assert not torch.equal(first.mr, other.mr)


def test_the_dictionary_transform_works_in_a_compose(image, table, small):
    window = ScaleIntensityRanged("ct", a_min=-20, a_max=100, b_min=-1, b_max=1, clip=True)
    compose = Compose([RandRenderPaird("label", settings=small, table=table), window])
    first = compose.set_random_state(seed=1)({"label": image})
    again = compose.set_random_state(seed=1)({"label": image})

    assert first["ct"].shape == first["mr"].shape == first["head"].shape == (1, 64, 64)
    assert float(first["ct"].max()) == 1
    assert torch.equal(first["mr"], again["mr"])
    assert first["label"] is image


def test_the_dictionary_transform_takes_one_label_map():
    with pytest.raises(ValueError, match="one key"):
        RandRenderPaird(["first", "second"])


def test_a_folder_of_pairs_has_both_sides_by_the_same_names(file, tmp_path, small):
    seen = []
    out = render_pairs(
        file, tmp_path / "out", 3, 5, settings=small, progress=lambda done, of: seen.append(done)
    )

    names = [[each.name for each in sorted((out / side).iterdir())] for side in ("CT", "MR")]
    assert names[0] == names[1] == ["00000.png", "00001.png", "00002.png"]
    assert seen == [1, 2, 3]
    assert np.asarray(Image.open(out / "CT" / "00000.png")).shape == (64, 64)
    with (out / "pairs.csv").open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["seed"] for row in rows] == ["5", "6", "7"]
    assert rows[0]["label map"] == "labels.nii.gz"


def test_a_folder_that_exists_is_kept_unless_it_may_be_replaced(file, tmp_path, small):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")

    with pytest.raises(OutputExists):
        render_pairs(file, out, 1, settings=small)
    assert (out / "mine").read_text() == "kept"

    render_pairs(file, out, 1, settings=small, overwrite=True)
    assert not (out / "mine").exists()


def test_nothing_is_written_when_a_label_map_is_damaged(file, tmp_path, small):
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "a.nii.gz").write_bytes(file.read_bytes())
    (folder / "b.nii.gz").write_bytes(file.read_bytes()[:500])

    with pytest.raises(Unreadable):
        render_pairs(folder, tmp_path / "out", 1, settings=small)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["labels.nii.gz", "maps"]


def test_a_folder_without_label_maps_says_what_it_looks_for(tmp_path):
    with pytest.raises(InputMissing, match=r"holds no label maps \(\.nii, "):
        render_pairs(tmp_path, tmp_path / "out", 1)
