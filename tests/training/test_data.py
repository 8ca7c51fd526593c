"""From folders to prepared slices: what is used, what is left out and why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from training.phantoms import phantom, prepared, write_phantoms

from medtranslate.errors import (
    InputMissing,
    OutputFailed,
    TrainingFailed,
    Unreadable,
    WrongModality,
)
from medtranslate.files import shipped
from medtranslate.imaging.scans import FileList
from medtranslate.training.data_check import check
from medtranslate.training.preparation import Preparation, RecipeBook
from medtranslate.training.prepared import PreparedSet


@pytest.fixture
def preparation(cache: Path) -> Preparation:
    return Preparation(RecipeBook.read(), cache)


def write_volume(path: Path, slices: int = 6) -> None:
    """Write a CT volume in HU, 0.9 mm pixels, whose two lowest slices are air."""
    gray = np.stack([phantom("CT", 0, 128).astype(np.int16)] * slices, axis=2)
    hu = np.where(gray == 0, -1000, gray - 40)
    hu[..., :2] = -1000
    # Stored as the slices are seen: columns to the patient's left, rows to posterior.
    affine = np.diag([-1.8, -1.8, 5.0, 1.0])
    nib.save(nib.Nifti1Image(hu.transpose(1, 0, 2).astype(np.int16), affine), path)


ALL_OF_MIXED = (
    *(f"mixed/ct{number}.png" for number in range(3)),
    "mixed/nested/ct10.png",
    "mixed/broken.png",
    "mixed/black.png",
)


def test_a_mixed_nested_folder_with_bad_files_among_good_ones(
    tmp_path: Path, preparation: Preparation
) -> None:
    folder = write_phantoms(tmp_path / "mixed", "CT", 3)
    write_volume(folder / "head.nii.gz")
    write_phantoms(folder / "nested", "CT", 1, start=10)
    (folder / "broken.png").write_bytes((folder / "ct0.png").read_bytes()[:300])
    (folder / "notes.txt").write_text("no scan")
    Image.fromarray(np.zeros((256, 256), np.uint8)).save(folder / "black.png")

    assert [record.name for record in preparation.slices(folder, "CT").records] == [
        "mixed/head.nii.gz"  # images beside volumes are thumbnails, unless a list names them
    ]
    found = preparation.slices(folder, "CT", FileList((*ALL_OF_MIXED, "mixed/head.nii.gz")))

    used = {record.name: (record.used, record.empty) for record in found.records}
    assert used == {
        "mixed/ct0.png": (1, 0),
        "mixed/ct1.png": (1, 0),
        "mixed/ct2.png": (1, 0),
        "mixed/nested/ct10.png": (1, 0),
        "mixed/head.nii.gz": (4, 2),
    }
    assert found.slices.shape == (8, 256, 256) and found.slices.dtype == torch.uint8
    reasons = {each.name: each.reason for each in found.left_out}
    assert reasons["mixed/black.png"] == "shows no head in any slice"
    assert "damaged" in reasons["mixed/broken.png"]
    assert set(found.recipes) == {"ct-image", "ct-volume"}


def test_scans_are_prepared_once_until_their_content_or_recipe_changes(
    ct_folder: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    folder = shutil.copytree(ct_folder, tmp_path / "trainA")

    def slices(book: RecipeBook) -> PreparedSet:
        done = Preparation(book, tmp_path / "cache", progress=lambda *n: told.append(n))
        return done.slices(folder, "CT")

    first = slices(RecipeBook.read())
    assert told[-1] == (6, 6)
    told.clear()
    assert torch.equal(slices(RecipeBook.read()).slices, first.slices)
    assert told == []
    Image.fromarray(phantom("CT", 77)).save(folder / "ct0.png")
    assert slices(RecipeBook.read()).digest() != first.digest()
    assert len(told) == 6
    recipes = shutil.copytree(shipped("transforms"), tmp_path / "recipes")
    text = (recipes / "ct-image.yaml").read_text().replace("0.08", "0.1")
    (recipes / "ct-image.yaml").write_text(text)
    slices(RecipeBook.read(recipes))
    assert len(told) == 12


def test_prepared_slices_are_mapped_and_not_read(tmp_path: Path) -> None:
    """2000 slices are 131 MB; looking at one of them costs next to nothing."""
    import resource

    many = prepared("CT", 2)
    gray = many.slices[:1].expand(2000, -1, -1).contiguous()
    records = many.records[:1]
    scans = torch.zeros(2000, dtype=torch.int32)
    PreparedSet("CT", gray, scans, records).save(tmp_path / "many.safetensors")
    del gray
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        pytest.skip("this system does not say how much memory a process holds")

    def resident() -> int:
        return int(pages.read_text().split()[1]) * resource.getpagesize()

    before = resident()
    mapped = PreparedSet.load(tmp_path / "many.safetensors")
    assert int(mapped.slices[1999].max()) > 0

    assert resident() - before < 20e6


def test_a_list_takes_what_it_names(ct_folder: Path, preparation: Preparation) -> None:
    some = preparation.slices(ct_folder, "CT", FileList(("trainA/ct1.png", "ct4.png")))
    other = preparation.slices(ct_folder, "CT", FileList(("trainB/mr1.png",)))

    assert [record.name for record in some.records] == ["trainA/ct1.png", "trainA/ct4.png"]
    assert {each.reason for each in some.left_out} == {"not in the list"}
    assert len(other) == 6


@pytest.mark.parametrize("files", [0, 1])
def test_a_folder_without_scans(tmp_path: Path, preparation: Preparation, files: int) -> None:
    for number in range(files):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(TrainingFailed, match="holds no scan that can be read"):
        preparation.slices(tmp_path, "CT")


def test_no_such_folder(tmp_path: Path, preparation: Preparation) -> None:
    with pytest.raises(InputMissing, match="no such folder"):
        preparation.slices(tmp_path / "none", "CT")


def test_swapped_modalities_are_refused_unless_trusted(
    mri_folder: Path, cache: Path, preparation: Preparation
) -> None:
    with pytest.raises(WrongModality, match=r"given as CT, but 5 of 5 scans look like MR"):
        preparation.slices(mri_folder, "CT")
    trusting = Preparation(RecipeBook.read(), cache, trusted=True)
    assert len(trusting.slices(mri_folder, "CT")) == 5


def test_a_prepared_file_stands_for_its_folder(
    ct_folder: Path, tmp_path: Path, preparation: Preparation
) -> None:
    path = tmp_path / "ct.safetensors"
    whole = preparation.slices(ct_folder, "CT")
    whole.save(path)

    assert preparation.slices(path, "CT").digest() == whole.digest()
    one = preparation.slices(path, "CT", FileList(("ct2.png",)))
    assert torch.equal(one.slices[0], whole.slices[2])
    with pytest.raises(WrongModality, match="holds CT slices, given as MR"):
        preparation.slices(path, "MR")


def test_slices_of_other_recipes_are_refused(
    ct_folder: Path, tmp_path: Path, cache: Path, preparation: Preparation
) -> None:
    path = tmp_path / "ct.safetensors"
    preparation.slices(ct_folder, "CT").save(path)
    recipes = shutil.copytree(shipped("transforms"), tmp_path / "recipes")
    (recipes / "ct-image.yaml").write_text(
        (recipes / "ct-image.yaml").read_text().replace("fill: 1.0", "fill: 0.9")
    )

    with pytest.raises(TrainingFailed, match="prepared by other recipes: ct-image"):
        Preparation(RecipeBook.read(recipes), cache).slices(path, "CT")


def test_a_file_that_holds_no_slices(tmp_path: Path, preparation: Preparation) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Unreadable, match="not a file of prepared slices"):
        preparation.slices(tmp_path / "x.safetensors", "CT")


def test_a_cache_that_cannot_be_made(ct_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="--cache"):
        Preparation(RecipeBook.read(), tmp_path / "file" / "cache").slices(ct_folder, "CT")


def test_worker_processes_prepare_the_same(
    ct_folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("medtranslate.training.preparation._WORTH_WORKERS", 1)
    alone = Preparation(RecipeBook.read(), tmp_path / "a").slices(ct_folder, "CT")
    together = Preparation(RecipeBook.read(), tmp_path / "b", workers=2).slices(ct_folder, "CT")

    assert torch.equal(alone.slices, together.slices)
    assert alone.digest() == together.digest()


def test_a_check_finds_near_copies_and_what_folders_share(
    tmp_path: Path, preparation: Preparation
) -> None:
    folder = write_phantoms(tmp_path / "train", "CT", 4)
    copy = Image.open(folder / "ct1.png").resize((250, 250)).resize((256, 256))
    copy.save(folder / "ct9.jpg", quality=90)
    test = write_phantoms(tmp_path / "test", "CT", 2, start=3)

    findings = check(preparation.slices(folder, "CT"), preparation.slices(test, "CT"))

    assert findings.copies == [["train/ct1.png", "train/ct9.jpg"]]
    assert findings.shared == {"train/ct3.png": "test/ct3.png"}
    assert findings.clean == ["train/ct0.png", "train/ct1.png", "train/ct2.png"]
    findings.write_list(tmp_path / "clean.txt")
    listed = preparation.slices(folder, "CT", FileList.read([tmp_path / "clean.txt"]))
    assert [record.name for record in listed.records] == findings.clean
    assert json.loads(json.dumps(findings.as_dict()))["scans"] == 5


@pytest.mark.data
def test_the_known_near_copies_are_found(shared_data: Path, cache: Path) -> None:
    """The groups that the data's notes list, on the first 40 files of the MR folder."""
    folder = shared_data / "brain-ct-mri"
    _, *lines = (folder / "near-copies-B.tsv").read_text().splitlines()
    cluster = {name: number for number, name in (line.split("\t") for line in lines)}
    names = [name for name in cluster if name.startswith("trainB/")][:40]
    preparation = Preparation(RecipeBook.read(), cache, trusted=True)

    findings = check(preparation.slices(folder / "trainB", "MR", FileList(tuple(names))))

    known: dict[str, list[str]] = {}
    for record in findings.prepared.records:
        known.setdefault(cluster[record.name], []).append(record.name)
    expected = {frozenset(group) for group in known.values() if len(group) > 1}
    found = {frozenset(group) for group in findings.copies}
    assert found == expected


NOT_HU = {
    "intercept-not-applied": (lambda hu: hu + 1024, "values are from 24 to 1239"),
    "intercept-twice": (lambda hu: hu - 1024, "hardly a voxel lies above -300"),
    "tenfold": (lambda hu: hu * 10, "what is no air lies about 710"),
    "gray-levels": (lambda hu: np.clip((hu + 20) * 2.125, 0, 255), "no voxel has the -1000 HU"),
    "from-0-to-1": (lambda hu: np.clip((hu + 1000) / 2000, 0, 1), "values are from 0 to 0.6"),
    "thousandth": (lambda hu: hu / 1000, "values are from -1 to 0.215"),
    "clipped-at-0": (lambda hu: np.clip(hu, 0, None), "values are from 0 to 215"),
}


def test_ct_volumes_that_are_not_in_hu_are_left_out_named_and_not_clean(
    tmp_path: Path, preparation: Preparation
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    write_volume(folder / "good.nii.gz", 4)
    image = nib.load(folder / "good.nii.gz")
    for name, (spoil, _) in NOT_HU.items():
        spoiled = np.asarray(spoil(image.get_fdata()), np.float32)
        nib.save(nib.Nifti1Image(spoiled, image.affine), folder / f"{name}.nii.gz")

    found = preparation.slices(folder, "CT")
    assert [record.name for record in found.records] == ["scans/good.nii.gz"]
    reasons = {each.name: each.reason for each in found.left_out}
    for name, (_, reason) in NOT_HU.items():
        assert reasons[f"scans/{name}.nii.gz"].startswith("not in HU: ")
        assert reason in reasons[f"scans/{name}.nii.gz"]

    findings = check(replace(preparation, trusted=True).slices(folder, "CT"))
    assert findings.clean == ["scans/good.nii.gz"]
    told = findings.as_dict()
    assert {**told["not_in_hu"], **told["left_out"]} == reasons
    assert "scans/thousandth.nii.gz" in told["not_in_hu"]
    (folder / "good.nii.gz").unlink()
    with pytest.raises((TrainingFailed, WrongModality), match=r"not in HU|look like MR"):
        preparation.slices(folder, "CT")


def test_a_prepared_file_from_another_place_is_held_to_hu_as_well(
    tmp_path: Path, preparation: Preparation
) -> None:
    given = prepared("CT", 3)
    records = (*given.records[:2], replace(given.records[2], not_hu="values are from 0 to 1"))
    replace(given, records=records).save(tmp_path / "ct.safetensors")

    found = preparation.slices(tmp_path / "ct.safetensors", "CT")

    assert [record.name for record in found.records] == ["ct/0.png", "ct/1.png"]
    assert len(found) == 2 and "not in HU" in found.left_out[0].reason
    assert given.digest() == replace(given, records=records).digest()  # runs can be resumed


def test_scans_replaced_in_place_are_prepared_anew(
    tmp_path: Path, preparation: Preparation
) -> None:
    folder = tmp_path / "scans"
    (folder / "deep" / "er").mkdir(parents=True)
    write_volume(folder / "deep" / "er" / "head.nii.gz")
    image = sitk.ReadImage(str(folder / "deep" / "er" / "head.nii.gz"))
    (folder / "deep" / "er" / "head.nii.gz").unlink()
    sitk.WriteImage(image, str(folder / "deep" / "er" / "head.mhd"))
    first = preparation.slices(folder, "CT")

    voxels = folder / "deep" / "er" / "head.raw"
    changed = np.fromfile(voxels, np.int16)
    changed[changed > 150] = 60
    changed.tofile(voxels)

    assert not torch.equal(preparation.slices(folder, "CT").slices, first.slices)


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"half"])
def test_a_damaged_file_of_the_cache_is_made_anew(
    ct_folder: Path, tmp_path: Path, damage: bytes
) -> None:
    preparation = Preparation(RecipeBook.read(), tmp_path / "cache")
    first = preparation.slices(ct_folder, "CT").slices.clone()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(damage)

    assert torch.equal(preparation.slices(ct_folder, "CT").slices, first)
    assert PreparedSet.load(file).slices.shape == first.shape
