from __future__ import annotations

import json

import numpy as np
import pytest
from monai.data import DataLoader, Dataset, list_data_collate
from monai.transforms import Compose, LoadImage, LoadImaged
from PIL import Image

from medtranslate.errors import AmbiguousInput, InputMissing, Unreadable, Unsupported
from medtranslate.imaging import (
    DicomReader,
    Image2DReader,
    ItkReader,
    NiftiReader,
    ScanReader,
    read,
    write,
)

WAYS = [ScanReader, ScanReader(), "medtranslate.imaging.ScanReader"]
IDS = ["class", "instance", "dotted path"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("reader", WAYS, ids=IDS)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd", ".png"])
def test_load_image_gives_what_read_gives(tmp_path, nifti_file, voxels, reader, suffix):
    path = tmp_path / f"case{suffix}"
    if suffix == ".png":
        Image.fromarray(voxels[..., 0].astype(np.uint8)).save(path)
    else:
        write(read(nifti_file(voxels)), path)

    ours = read(path)
    theirs = LoadImage(reader=reader)(path)

    assert theirs.shape == ours.shape[1:]
    assert np.array_equal(theirs.numpy(), ours.numpy()[0])
    assert np.array_equal(theirs.affine.numpy(), ours.affine.numpy())
    assert theirs.meta["source"] == ours.meta["source"]
    first = LoadImage(reader=reader, ensure_channel_first=True)(path)
    assert first.shape == ours.shape


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("reader", WAYS, ids=IDS)
def test_a_refusal_survives_load_image(nifti_file, reader):
    """MONAI's own readers would load this volume without a word."""
    array = np.ones((4, 5, 6), np.float32)
    array[0, 0, 0] = np.nan
    path = nifti_file(array)
    assert np.isnan(LoadImage()(path).numpy()).any()
    with pytest.raises(Unsupported, match="1 of 120 voxels are NaN"):
        LoadImage(reader=reader)(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [NiftiReader, ItkReader, Image2DReader, ScanReader, DicomReader])
def test_every_reader_keeps_its_refusal(tmp_path, kind):
    (tmp_path / "empty.nii").touch()
    with pytest.raises(Unreadable, match="empty"):
        LoadImage(reader=kind)(tmp_path / "empty.nii")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("raised", "seen"), [(AttributeError, AttributeError), (ZeroDivisionError, Unreadable)]
)
def test_a_bug_survives_too_and_what_damage_raises_is_named(
    nifti_file, voxels, monkeypatch, raised, seen
):
    def fail(self, paths):
        raise raised

    monkeypatch.setattr(NiftiReader, "load", fail)
    with pytest.raises(seen):
        LoadImage(reader=NiftiReader)(nifti_file(voxels))


def test_modality_given_settles_it(nifti_file, voxels):
    path = nifti_file(voxels)
    assert read(path).meta["source"]["modality"] == "CT"
    source = read(path, modality="MR").meta["source"]
    assert (source["modality"], source["modality_basis"]) == ("MR", "given")
    assert read(path, modality="mri").meta["source"] == source
    with pytest.raises(ValueError, match="modality must be"):
        read(path, modality="PET")


def test_content_decides_where_the_name_says_nothing(tmp_path, nifti_file, voxels):
    path = nifti_file(voxels).rename(tmp_path / "scan")
    assert read(path).meta["source"]["format"] == "nifti"
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "p.png").rename(tmp_path / "p")
    assert read(tmp_path / "p").meta["source"]["format"] == "image"


def test_strangers(tmp_path):
    (tmp_path / "scan").write_text("Dear colleague, " * 99)
    with pytest.raises(Unreadable, match="of no known format"):
        read(tmp_path / "scan")
    (tmp_path / "empty").touch()
    with pytest.raises(Unreadable, match="the file is empty"):
        read(tmp_path / "empty")
    with pytest.raises(InputMissing, match="no such file or folder"):
        read(tmp_path / "none")


def test_a_folder_with_one_volume_and_a_folder_with_two(tmp_path, nifti_file, voxels):
    nifti_file(voxels)
    (tmp_path / "scan.json").write_text("{}")
    assert read(tmp_path).shape == (1, 8, 9, 5)
    nifti_file(voxels, name="other.nii")
    with pytest.raises(AmbiguousInput, match="several scans: 2 volume files") as caught:
        read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_header_with_its_voxels_beside_it_is_one_scan(tmp_path, nifti_file, voxels):
    import SimpleITK as sitk

    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(voxels.T.copy()), str(tmp_path / "in" / "a.mhd"))
    assert np.array_equal(read(tmp_path / "in").numpy()[0], voxels)


def test_several_files_must_be_of_one_scan(tmp_path, nifti_file, voxels):
    first, second = nifti_file(voxels), nifti_file(voxels, name="b.nii")
    reader = ScanReader()
    with pytest.raises(Unsupported, match="several scans"):
        reader.get_data(reader.read([first, second]))
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "p.png")
    with pytest.raises(AmbiguousInput, match="several formats"):
        reader.get_data(reader.read([first, tmp_path / "p.png"]))
    voxels_of_two, meta = reader.get_data(reader.read([tmp_path / "p.png"] * 2))
    assert voxels_of_two.shape == (6, 5, 2)
    assert len(meta["source"]["files"]) == 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_source_survives_a_worker_and_collation(nifti_file, voxels):
    path = nifti_file(voxels)
    chain = Compose([LoadImaged("image", reader=ScanReader, ensure_channel_first=True)])
    loader = DataLoader(
        Dataset([{"image": path}] * 2, chain), batch_size=2, num_workers=1,
        collate_fn=list_data_collate,
    )  # fmt: skip
    (batch,) = loader
    assert batch["image"].shape == (2, 1, 8, 9, 5)
    assert [source["format"] for source in batch["image"].meta["source"]] == ["nifti"] * 2


def test_the_source_is_builtins(nifti_file, voxels):
    source = read(nifti_file(voxels)).meta["source"]
    assert json.loads(json.dumps(source)) == source
    assert set(source) == {
        *("format", "kind", "files", "modality", "modality_basis", "contrast", "contrast_basis"),
        *("shape", "affine", "dtype", "faults", "even", "header"),
    }
