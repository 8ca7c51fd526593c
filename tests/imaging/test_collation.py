"""Scans of one shape in one batch, whatever their headers say, and back out of it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from imaging.dicom import factory
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ResizeWithPadOrCropd

from medtranslate import read
from medtranslate.imaging import ScanReader
from medtranslate.imaging.source import SourceRecord


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scans")
    made = {}
    for name, count in (("four", 4), ("six", 6)):
        made[name] = factory.write(folder / name, factory.series("CT", count=count))
    voxels = np.arange(16 * 12 * 4, dtype=np.int16).reshape(16, 12, 4)
    affine = np.diag([2.5, 2.5, 5.0, 1.0])
    made["plain"] = folder / "plain.nii.gz"
    nib.save(nib.Nifti1Image(voxels, affine), made["plain"])
    made["two forms"] = folder / "two.nii.gz"
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(np.diag([-1, -1, 1, 1]) @ affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, made["two forms"])
    return made


@pytest.mark.parametrize(
    "pair", [("four", "six"), ("plain", "two forms"), ("four", "plain"), ("two forms", "six")]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_scans_of_one_shape_are_batched_and_keep_their_records(scans, pair, workers) -> None:
    load = Compose(
        [
            LoadImaged("image", reader=ScanReader()),
            EnsureChannelFirstd("image"),
            ResizeWithPadOrCropd("image", (12, 12, 5)),
        ]
    )
    data = Dataset([{"image": str(scans[name])} for name in pair], load)
    (batch,) = DataLoader(data, batch_size=2, num_workers=workers)
    assert batch["image"].shape == (2, 1, 12, 12, 5)
    for name, item in zip(pair, decollate_batch(batch), strict=True):
        source = item["image"].meta["source"]
        assert isinstance(source, SourceRecord)
        assert source == read(scans[name]).meta["source"]
        torch.testing.assert_close(
            item["image"].meta["original_affine"], torch.tensor(source["affine"]).double()
        )


def test_a_record_is_read_like_the_dictionary_it_was_made_from() -> None:
    content = {"files": ["caf\udce9.dcm"], "even": True, "header": {"tilt": 0.1 + 0.2}}
    record = SourceRecord.of(content)
    assert dict(record) == content
    assert record == content
    assert record["header"]["tilt"] == 0.1 + 0.2
    assert record.get("none", 3) == 3
    assert "files" in record and "tilt" not in record
    assert {**record, "even": False}["even"] is False
    for copied in (copy.deepcopy(record), copy.copy(record), pickle.loads(pickle.dumps(record))):
        assert isinstance(copied, SourceRecord) and copied == record
    assert SourceRecord.of(record) is record
    with pytest.raises(TypeError):
        record["even"] = False
