"""Compressed transfer syntaxes: exact where lossless, and lossy origin carried on."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medtranslate.errors import Unreadable
from medtranslate.imaging.dicom import write_series

from .compress import LOSSY, SYNTAXES, compress
from .factory import enhanced, put_pixels, save, series, stored_values, translated, values_of, write


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("modality", "bits"), [("CT", 16), ("MR", 16), ("MR", 12), ("CT", 12)])
def test_lossless_syntaxes_are_exact(tmp_path, read, syntax, modality, bits):
    made = series(modality)
    for one, stored in zip(made, stored_values(modality, 4, 16, 12), strict=True):
        put_pixels(one, stored, bits)
    folder = write(tmp_path / "s", made)
    for path in folder.iterdir():
        compress(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    image = read(folder)
    np.testing.assert_array_equal(np.asarray(image.as_tensor()[0]), values_of(made))


def test_deflated_is_exact(tmp_path, read):
    made = series()
    for index, one in enumerate(made):
        save(one, tmp_path / f"{index}.dcm", DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(np.asarray(read(tmp_path).as_tensor()[0]), values_of(made))


@pytest.mark.parametrize("syntax", ["rle", "jpeg2000"])
def test_compressed_multi_frame_is_exact(tmp_path, read, syntax):
    path = save(enhanced(), tmp_path / "e.dcm")
    expected = read(path).numpy()
    compress(path, syntax)
    np.testing.assert_array_equal(read(path).numpy(), expected)


@pytest.mark.parametrize(
    ("syntax", "method"), [("jpeg2000-lossy", "ISO_15444_1"), ("jpeg-ls-near", "ISO_14495_1")]
)
def test_lossy_origin_is_carried_to_the_output(tmp_path, read, syntax, method):
    assert syntax in LOSSY
    folder = write(tmp_path / "s", series("MR"))
    for path in folder.iterdir():
        compress(path, syntax)
    out = write_series(translated(read(folder)), tmp_path / "out")
    for path in out.iterdir():
        one = pydicom.dcmread(path)
        assert one.LossyImageCompression == "01"
        assert one.LossyImageCompressionMethod == method
        assert float(one.LossyImageCompressionRatio) >= 1


def test_lossy_origin_of_the_header_is_carried_with_its_ratio(tmp_path, read):
    made = series("MR")
    for one in made:
        one.LossyImageCompression, one.LossyImageCompressionRatio = "01", "7.5"
        one.LossyImageCompressionMethod = "ISO_10918_1"
    out = write_series(translated(read(write(tmp_path / "s", made))), tmp_path / "out")
    one = pydicom.dcmread(out / "0001.dcm")
    assert (one.LossyImageCompression, one.LossyImageCompressionRatio) == ("01", 7.5)
    assert one.LossyImageCompressionMethod == "ISO_10918_1"


def test_a_codestream_of_another_size_is_refused_before_decoding(tmp_path, read):
    folder = write(tmp_path / "s", series(count=1))
    (path,) = folder.iterdir()
    compress(path, "jpeg2000")
    one = pydicom.dcmread(path)
    one.Rows = 4000
    one.save_as(path)
    with pytest.raises(Unreadable, match="hold 16 rows and 12 columns"):
        read(folder)


def test_truncated_compressed_file_is_named_and_left_out(tmp_path, read):
    made = series(count=4)
    folder = write(tmp_path / "s", made)
    last = save(made[3], folder / "last.dcm")
    made[3].SOPInstanceUID += ".9"
    compress(last, "rle")
    last.write_bytes(last.read_bytes()[:-40])
    image = read(folder)
    assert image.shape[3] == 4
    assert any(
        "last.dcm: left out because it is truncated" in f for f in image.meta["source"]["faults"]
    )
