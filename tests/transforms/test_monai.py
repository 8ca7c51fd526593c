"""Recipes as MONAI runs them: ConfigParser, Compose, Invertd, DataLoader; the voxels are ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from head_scans import centered, head_ct, head_mr, image, image_2d
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Invertd

from medtranslate.files import shipped
from medtranslate.imaging.source import SourceRecord
from medtranslate.transforms import Prepared, ToUnits, load_recipe
from medtranslate.transforms.base import head_of, pack_mask, unpack_mask

LPS = np.diag([-1.0, -1.0, 1.0])
SHEARED = np.array([[1.0, 0, 0], [0, 1, 0.4], [0, 0, 1]])
OTHER = {"CT": "MR", "MR": "CT"}


def ct(shape=(101, 130, 7)):
    return head_ct(shape, centered(LPS @ SHEARED @ np.diag([2.1, 1.9, 20]), shape))


def mr(shape=(110, 101, 6)):
    return head_mr(shape, centered(np.diag([2.0, 2.2, 22]), shape))


def framed(modality):
    rows, columns = np.mgrid[:150, :120]
    inside = ((rows - 75) / 60) ** 2 + ((columns - 60) / 45) ** 2 < 1
    return image_2d(np.where(inside, 120 + rows // 4, 0), modality)


SCANS = {"CT-volume": ct, "MR-volume": mr, "CT-image": lambda: framed("CT"),
         "MR-image": lambda: framed("MR")}  # fmt: skip


def file_of(name: str) -> Path:
    return shipped(f"transforms/{name.lower()}.yaml")


def parsed(name: str) -> dict:
    parser = ConfigParser()
    parser.read_config(str(file_of(name)))
    return {s: parser.get_parsed_content(s) for s in ("preprocessing", "geometry", "units")}


def network(slices: torch.Tensor) -> torch.Tensor:
    """Rows by columns by slices in the last three dimensions."""
    return torch.tanh(2 * slices + 0.3 * slices.roll(3, -3))


@pytest.mark.parametrize("name", SCANS)
def test_a_recipe_runs_unchanged_and_gives_the_same_slices(name):
    scan = SCANS[name]()
    before = scan.clone()
    made = parsed(name)["preprocessing"]({"image": scan})["image"]
    expected = load_recipe(file_of(name)).prepare(scan)
    prepared = Prepared.of(made)
    assert isinstance(made, MetaTensor)
    assert torch.equal(prepared.slices, expected.slices)
    assert torch.equal(prepared.head, expected.head)
    assert prepared.limits == expected.limits
    assert torch.equal(scan, before) and torch.equal(scan.affine, before.affine)
    assert scan.applied_operations == []


@pytest.mark.parametrize("name", SCANS)
def test_invertd_and_units_give_the_voxels_of_a_conversion(name):
    """The geometry of the source is undone, the units of the target are applied."""
    scan, source = SCANS[name](), parsed(name)
    target = parsed(OTHER[name[:2]] + name[2:])
    data = source["preprocessing"]({"image": scan})
    data["pred"] = network(data["image"])

    post = Compose([Invertd("pred", source["geometry"], orig_keys="image"), target["units"]])
    made = post(data)["pred"]

    recipe = load_recipe(file_of(name))
    prepared = recipe.prepare(scan)
    slices = network(prepared.slices[:, 0].permute(1, 2, 0)[None])[0].permute(2, 0, 1)[:, None]
    expected = load_recipe(file_of(OTHER[name[:2]] + name[2:])).restore(slices, prepared)
    assert torch.equal(made.as_tensor(), expected.as_tensor())
    assert torch.equal(made.affine, scan.affine)
    assert made.meta["source"] == scan.meta["source"]
    assert len(made.unique()) > 40


@pytest.mark.parametrize("name", SCANS)
def test_the_whole_inverse_returns_the_sources_own_units(name):
    scan, made = SCANS[name](), parsed(name)["preprocessing"]
    there = made({"image": scan})
    back = made.inverse(there)["image"]
    assert back.shape == scan.shape and torch.equal(back.affine, scan.affine)
    assert back.applied_operations == []
    limits = Prepared.of(there["image"]).limits
    inside = (
        torch.from_numpy(
            torch.nn.functional.avg_pool3d(
                head_of(back)[None].float(), (9, 9, 1), 1, (4, 4, 0)
            ).numpy()
        )[0]
        > 0.999
    )
    lost = (back - scan.clamp(limits.low, limits.high)).abs()[0][inside]
    assert inside.sum() > 1000
    assert lost.mean() < 0.01 * (limits.high - limits.low)


@pytest.mark.parametrize("name", SCANS)
def test_metadata_are_builtins_and_small(name):
    def walk(value):
        assert type(value) in (dict, list, tuple, str, int, float, bool, SourceRecord), type(value)
        for inner in value.values() if isinstance(value, dict) else []:
            walk(inner)
        for inner in value if isinstance(value, list | tuple) else []:
            walk(inner)

    made = parsed(name)["preprocessing"]({"image": SCANS[name]()})["image"]
    walk(made.applied_operations)
    walk(made.meta["head"])
    assert len(str(made.applied_operations)) < 3000
    assert len(made.meta["head"]) < made.numel() / 50


@pytest.mark.parametrize("workers", [0, 1])
def test_two_scans_in_one_batch_are_undone_each_by_its_own(workers):
    scans = [ct((101, 130, 7)), ct((90, 120, 7))]
    source, target = parsed("CT-volume"), parsed("MR-volume")
    data = Dataset([{"image": scan} for scan in scans], source["preprocessing"])
    (batch,) = DataLoader(data, batch_size=2, num_workers=workers)
    assert batch["image"].shape == (2, 1, 256, 256, 7)
    batch["pred"] = network(batch["image"])
    post = Compose([Invertd("pred", source["geometry"], orig_keys="image"), target["units"]])
    recipe, written = load_recipe(file_of("CT-volume")), load_recipe(file_of("MR-volume"))
    for scan, item in zip(scans, decollate_batch(batch), strict=True):
        made = post(item)["pred"]
        prepared = recipe.prepare(scan)
        stack = prepared.slices[:, 0].permute(1, 2, 0)[None]
        slices = network(stack)[0].permute(2, 0, 1)[:, None]
        assert torch.equal(made.as_tensor(), written.restore(slices, prepared).as_tensor())
        assert torch.equal(made.affine, scan.affine)


def test_slices_lie_where_their_affine_says():
    """A voxel of the network's grid and of the scan at the same place hold the same value."""
    shape = (120, 140, 9)
    affine = centered(LPS @ SHEARED @ np.diag([1.8, 1.8, 12]), shape)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    for axis in range(3):
        scan = image(world[..., axis], affine, "MR")
        slices = load_recipe(file_of("MR-volume")).grid(scan)
        rows, columns, planes = 110, 150, 4
        found = np.asarray(slices.affine) @ [rows, columns, planes, 1]
        assert float(slices[0, rows, columns, planes]) == pytest.approx(found[axis], abs=1e-3)


def test_an_image_with_a_history_keeps_it():
    scan = mr()
    scan.applied_operations = [{"class": "Earlier", "id": 1}]
    recipe = load_recipe(file_of("MR-volume"))
    assert torch.equal(recipe.prepare(scan).slices, recipe.prepare(mr()).slices)
    assert scan.applied_operations == [{"class": "Earlier", "id": 1}]
    made = parsed("MR-volume")["preprocessing"]
    back = made.inverse(made({"image": scan}))["image"]
    assert back.applied_operations == [{"class": "Earlier", "id": 1}]


def test_masks_travel_as_text():
    mask = torch.rand(13, 9, 4) > 0.5
    assert torch.equal(unpack_mask(pack_mask(mask), (13, 9, 4)), mask)


def test_units_on_the_grid_of_the_slices_use_their_head():
    recipe = load_recipe(file_of("CT-volume"))
    made = parsed("CT-volume")["preprocessing"]({"image": ct()})["image"]
    written = ToUnits(0, 100, background=-7)(made)
    head = recipe.prepare(ct()).head.permute(1, 2, 0)[None]
    assert torch.equal(written.as_tensor() == -7, ~head)
