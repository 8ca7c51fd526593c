"""Hundreds of slices: headers read once, and memory for little more than one volume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medtranslate.imaging.dicom import DicomReader
from medtranslate.imaging.dicom.read import grouping

from .factory import save, series, write

SCRIPT = Path(__file__).with_name("peak.py")
COUNT, SIDE = 200, 384


def test_each_file_is_parsed_once(tmp_path, monkeypatch):
    from medtranslate.imaging.dicom.read import headers

    folder, parsed, real = write(tmp_path / "in", series(count=9)), [], headers.parse
    monkeypatch.setattr(headers, "parse", lambda path: parsed.append(path) or real(path))
    reader = DicomReader()
    reader.get_data(reader.read(folder))
    assert sorted(parsed) == sorted(folder.iterdir())
    assert grouping.read_header is headers.read_header


@pytest.mark.slow
def test_hundreds_of_slices_fit_in_one_volume_and_little_more(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    one = series(count=1, rows=SIDE, columns=SIDE)[0]
    for index in range(COUNT):
        one.SOPInstanceUID = f"1.2.3.{index + 1}"
        one.ImagePositionPatient = ["-20", "-30", f"{0.5 * index:g}"]
        one.PixelData = np.full((SIDE, SIDE), index, "<i2").tobytes()
        save(one, folder / f"{index:04d}.dcm")
    command = [sys.executable, str(SCRIPT), str(folder), str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["volume"] == COUNT * SIDE**2 * 4
    assert told["peak"] < 1.5 * told["volume"]
    assert len(list((tmp_path / "out").iterdir())) == COUNT
