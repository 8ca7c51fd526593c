"""Changes of the head, and lesions: what they do in both modalities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medtranslate.label_synthesis import (
    NO_LESIONS,
    PLAIN_ANATOMY,
    PLAIN_CT,
    PLAIN_CUT,
    PLAIN_MR,
    LesionSettings,
    PairRenderer,
    PairSettings,
)
from medtranslate.label_synthesis.draw import Draw, distance, solid
from medtranslate.label_synthesis.lesions import kinds

PLAIN = PairSettings(
    cut=replace(PLAIN_CUT, size=128, pixel=1.6),
    anatomy=PLAIN_ANATOMY,
    lesions=NO_LESIONS,
    ct=PLAIN_CT,
    mr=PLAIN_MR,
    stripped=0.0,
)


def rendered(label_map, table, settings, count=8, seed=4, contrast="T1"):
    return PairRenderer([label_map], table, settings).render(count, seed, contrast)


def area(pairs, table, *names):
    return int(table.is_any(pairs.classes, *names).sum())


@pytest.mark.parametrize(
    ("change", "tissue", "sign"),
    [
        ("ventricles", "ventricle", 1),
        ("sulci", "csf", 1),
        ("swelling", "csf", -1),
        ("marrow", "spongy_bone", 1),
        ("scalp", "air", -1),
    ],
)
def test_a_change_of_the_head_does_what_its_name_says(label_map, table, change, tissue, sign):
    anatomy = replace(PLAIN_ANATOMY, **{change: 1.0})
    before = area(rendered(label_map, table, PLAIN), table, tissue)
    after = area(rendered(label_map, table, replace(PLAIN, anatomy=anatomy)), table, tissue)

    assert sign * (after - before) > 0.02 * max(before, 100)


def test_a_plain_head_keeps_brain_and_bone_as_the_map_has_them(label_map, table):
    pairs = rendered(label_map, table, PLAIN)
    seen = {table.tissues[place].name for place in pairs.classes.unique().tolist()}

    assert seen <= {
        "air", "skin", "fat", "muscle", "compact_bone", "csf", "cortex", "white_matter",
        "ventricle", "eye",
    }  # fmt: skip


def test_a_cut_field_takes_a_part_of_both_images(label_map, table):
    cut_field = replace(PLAIN, anatomy=replace(PLAIN_ANATOMY, cut_field=1.0))
    whole, part = rendered(label_map, table, PLAIN), rendered(label_map, table, cut_field)

    assert part.head.sum() < 0.95 * whole.head.sum()
    assert (part.ct[~part.head] == -1000).all()
    assert (part.mr[~part.head] == 0).all()


SIGNS = [
    ("infarct", -1, {"T1": -1, "T2": 1, "FLAIR": 1}),
    ("edema", -1, {"T1": -1, "T2": 1, "FLAIR": 1}),
    ("enhancing_tumor", 0, {"T1": -1, "T1C": 1, "T2": 1}),
    ("cyst", -1, {"T1": -1, "T2": 1, "FLAIR": -1}),
    ("hemorrhage", 1, {"T2": -1}),
    ("older_hemorrhage", 1, {"T1": 1, "T2": 1}),
    ("plaque", -1, {"T1": -1, "T2": 1, "FLAIR": 1}),
    ("calcification", 1, {"T1": -1, "T2": -1}),
]


@pytest.mark.parametrize(("name", "in_ct", "in_mr"), SIGNS, ids=[each[0] for each in SIGNS])
def test_a_lesion_has_its_sign_in_ct_and_in_each_contrast(label_map, table, name, in_ct, in_mr):
    kind = kinds(name)[0]
    alone = replace(kind, layers=kind.layers[-1:], site="white_matter")
    settings = replace(PLAIN, lesions=LesionSettings(1.0, 1, (alone,)))
    for contrast, sign in in_mr.items():
        pairs = rendered(label_map, table, settings, contrast=contrast)
        lesion = table.is_any(pairs.classes, kind.layers[-1].tissue)
        white = table.is_any(pairs.classes, "white_matter")
        shown = [i for i in range(len(pairs)) if lesion[i].any() and white[i].any()]
        assert shown
        for i in shown:
            assert pairs.lesions[i] == (name,)
            ct = pairs.ct[i][lesion[i]].mean() - pairs.ct[i][white[i]].mean()
            mr = pairs.mr[i][lesion[i]].mean() - pairs.mr[i][white[i]].mean()
            assert in_ct == 0 or in_ct * ct > 0
            assert sign * mr > 0.01


def test_fluid_is_the_brightest_tissue_of_a_t2_brain(label_map, table):
    jittered = replace(PLAIN, mr=replace(PLAIN_MR, jitter=0.05, difference_factor=(0.3, 1.4)))
    settings = replace(jittered, lesions=LesionSettings(1.0, 3))
    pairs = rendered(label_map, table, settings, count=12, contrast="T2")
    lesions = table.is_any(pairs.classes, "edema", "acute_infarct", "tumor", "plaque")
    fluid = table.is_any(pairs.classes, "ventricle")
    for i in range(len(pairs)):
        if lesions[i].any() and fluid[i].any():
            assert pairs.mr[i][lesions[i]].max() < pairs.mr[i][fluid[i]].median()


def test_distance_is_near_to_the_euclidean_one():
    mask = torch.zeros(1, 61, 61, dtype=torch.bool)
    mask[0, 30, 30] = True
    rows, columns = torch.meshgrid(torch.arange(61.0), torch.arange(61.0), indexing="ij")
    true = torch.hypot(rows - 30, columns - 30)
    for limit, slack in ((10, 0.5), (24, 2.5)):
        found = distance(mask, limit)[0]
        near = true < 0.85 * limit
        assert ((found - true).abs()[near] <= 0.13 * true[near] + slack).all()
        assert (found[true > 1.15 * limit + slack] > limit).all()


def test_what_is_enclosed_is_solid_and_a_bay_is_not():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 2:7, 2:7] = True
    mask[0, 4, 4] = False  # a hole
    mask[0, 3, 5:7] = False  # a bay, open to the right

    filled = solid(mask)[0]

    assert filled[4, 4]
    assert not filled[3, 6]


def test_numbers_and_fields_follow_the_seed_alone():
    first, again, other = (Draw(seed, 3, 32, torch.device("cpu")) for seed in (5, 5, 6))

    assert torch.equal(first.uniform(0, 1), again.uniform(0, 1))
    assert torch.equal(first.field(8), again.field(8))
    assert not torch.equal(first.field(8), other.field(8))
