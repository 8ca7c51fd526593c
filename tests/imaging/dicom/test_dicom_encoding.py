"""Decoders that crash or hang end a child process, never this one."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from medtranslate.errors import Unreadable
from medtranslate.imaging import child
from medtranslate.imaging.dicom import DicomReader
from medtranslate.imaging.dicom.read import encoding

from .compress import compress
from .factory import series, values_of, write


@pytest.fixture
def compressed(tmp_path):
    made = series(count=2)
    folder = write(tmp_path / "in", made)
    for path in folder.iterdir():
        compress(path, "rle")
    return folder, values_of(made)


@pytest.mark.parametrize(
    ("work", "patience", "said"),
    [
        ("import os; os.abort()", 60.0, "its decoder crashed"),
        ("import time; time.sleep(60)", 1.0, "it is not decoded after 1 s"),
    ],
)
def test_a_decoder_that_crashes_or_hangs_is_an_error_that_names_the_file(
    tmp_path, compressed, read, monkeypatch, work, patience, said
):
    script = tmp_path / "worker.py"
    script.write_text(work)
    pool = child.Children()
    monkeypatch.setattr(child, "WORKER", script)
    monkeypatch.setattr(encoding, "children", lambda: pool)
    monkeypatch.setattr(encoding, "PATIENCE", patience)
    with pytest.raises(Unreadable, match=rf"\.dcm: the pixel data cannot be decoded: {said}"):
        read(compressed[0])


def test_a_reader_goes_on_after_a_damaged_file(compressed):
    folder, expected = compressed
    reader = DicomReader()
    path = next(iter(sorted(folder.iterdir())))
    whole = path.read_bytes()
    at = whole.rindex(b"\xfe\xff\x00\xe0") + 8
    path.write_bytes(whole[:at] + b"\xff" * 80 + whole[at + 80 :])
    with pytest.raises(Unreadable, match="cannot be decoded"):
        reader.get_data(reader.read(folder))
    path.write_bytes(whole)
    np.testing.assert_array_equal(reader.get_data(reader.read(folder))[0], expected)


def test_a_reader_may_be_sent_to_another_process(compressed):
    folder, expected = compressed
    reader = DicomReader()
    reader.get_data(reader.read(folder))
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.get_data(again.read(folder))[0], expected)
