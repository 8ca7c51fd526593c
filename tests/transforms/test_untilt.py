from __future__ import annotations

import numpy as np
import pytest
import torch
from imaging.dicom.factory import series, write
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged

from medtranslate import read
from medtranslate.errors import Unsupported
from medtranslate.imaging import ScanReader
from medtranslate.imaging.dicom import untilt
from medtranslate.transforms import Untilt, Untiltd

ANGLE = np.radians(18.5)
TILTED = (1.0, 0.0, 0.0, 0.0, np.cos(ANGLE), -np.sin(ANGLE))


@pytest.fixture
def folder(tmp_path):
    made = series("CT", orientation=TILTED, step=(0, 0, 3.0), count=5, rows=40, columns=24)
    y, x = np.mgrid[:40, :24]
    for one in made:
        one.PixelData = np.rint(20 * x + 10 * y).astype("<i2").tobytes()
    return write(tmp_path / "tilted", made)


def test_a_tilt_is_undone_and_put_back(folder):
    scan = read(folder)
    before = scan.clone()
    transform = Untilt()
    upright = transform(scan)
    assert torch.equal(upright.as_tensor(), untilt(scan).as_tensor())
    assert torch.equal(upright.affine, untilt(scan).affine)
    assert torch.equal(scan, before) and scan.applied_operations == []
    back = transform.inverse(upright)
    assert back.shape == scan.shape
    assert torch.equal(back.affine, scan.affine)
    assert back.meta["source"] == scan.meta["source"]
    inner = (slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(back[inner], scan[inner], atol=0.1, rtol=0)


def test_invertd_tilts_a_prediction_as_the_scan_was(folder):
    chain = Compose(
        [LoadImaged("image", reader=ScanReader()), EnsureChannelFirstd("image"), Untiltd("image")]
    )
    data = chain({"image": str(folder)})
    data["pred"] = data["image"] * 1
    undone = Invertd("pred", chain, orig_keys="image")(data)["pred"]
    assert isinstance(undone, MetaTensor)
    assert undone.shape == read(folder).shape
    assert torch.equal(undone.affine, read(folder).affine)


def test_an_upright_series_is_refused(tmp_path):
    scan = read(write(tmp_path / "upright", series("CT", count=3)))
    with pytest.raises(Unsupported, match="is upright, no tilt to undo"):
        Untilt()(scan)
