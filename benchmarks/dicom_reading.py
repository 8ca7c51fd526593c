"""Reading a DICOM series, checks included, against a bare pydicom loop and SimpleITK.

A series of the synthetic head phantom is written with a header of some hundred elements, private
ones among them, in each transfer syntax. Then it is read in turn by

- a bare loop: ``pydicom.dcmread``, ``pixel_array``, rescale to float32, in order of file name;
- medtranslate: `medtranslate.imaging.read_scan`: order, geometry, units, limits and all checks;
- SimpleITK's ``ImageSeriesReader``, for the native syntax.

Printed are the least and the median time of each in seconds, processor and wall clock, and the
ratio to the bare loop::

    python benchmarks/dicom_reading.py --slices 600 --repeats 5
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from medtranslate.imaging import read_scan
from medtranslate.phantom import Phantom

SYNTAXES = {
    "native": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
}
SIDE, SPACING, STEP = 512, 0.45, 0.6


def write_series(folder: Path, count: int, syntax: str, side: int = SIDE) -> Path:
    """Write a series of `count` slices of side x side and give its folder."""
    folder.mkdir()
    spacing = SIDE * SPACING / side
    head = Phantom(shape=(side, side, 8), spacing=(spacing, spacing, 20.0)).volume()
    noise = np.random.default_rng(0).normal(0, 8, (side, side))
    slices = head.as_tensor()[0].numpy().transpose(2, 1, 0)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(count):
        one = header(index, study, series, frame)
        one.Rows, one.Columns, one.PixelSpacing = side, side, [spacing, spacing]
        stored = np.rint(slices[index * 8 // count] + np.roll(noise, index, 0))
        one.PixelData = stored.clip(-1024).astype("<i2").tobytes()
        if syntax != "native":
            one.compress(SYNTAXES[syntax], generate_instance_uid=False)
        one.save_as(folder / f"{index:05}.dcm", enforce_file_format=True)
    return folder


def header(index: int, study: str, series: str, frame: str) -> Dataset:
    """Give the header of one slice, as full as those of scanners."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID, one.Modality = CTImageStorage, generate_uid(), "CT"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
    one.ImageType, one.PatientID, one.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "P", "HFS"
    one.PatientName, one.InstanceNumber, one.SliceThickness = "Phantom", index + 1, str(STEP)
    one.ImagePositionPatient = [-115.0, -115.0, round(index * STEP, 4)]
    one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.RescaleSlope, one.RescaleIntercept = 1, 0
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation = 15, 1
    block = one.private_block(0x0009, "BENCHMARK", create=True)
    for number in range(80):
        block.add_new(number, "LO", f"value {number}")
    return one


def bare(folder: Path) -> np.ndarray:
    """Read every file with pydicom, in order of name."""
    files = sorted(folder.iterdir())
    values = np.empty((len(files), SIDE, SIDE), dtype=np.float32)
    for index, path in enumerate(files):
        one = pydicom.dcmread(path)
        values[index] = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
    return values


def with_sitk(folder: Path) -> np.ndarray:
    """Read a series with SimpleITK."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute()).astype(np.float32)


def timed(read: Callable[[], object]) -> tuple[float, float]:
    """Give processor and wall time of a reading."""
    before, start = os.times(), time.perf_counter()
    read()
    after, wall = os.times(), time.perf_counter() - start
    return sum(after[:4]) - sum(before[:4]), wall


def compare(folder: Path, readers: dict[str, Callable[[Path], object]], repeats: int) -> None:
    """Read a series with each reader in turn and print the times."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, read in readers.items():
            times[name].append(timed(lambda read=read: read(folder)))
    base = [min(each) for each in zip(*times["pydicom"], strict=True)]
    for name, each in times.items():
        processor, wall = zip(*each, strict=True)
        print(
            f"  {name:12} processor {min(processor):6.2f} ({statistics.median(processor):6.2f}), "
            f"wall {min(wall):6.2f} ({statistics.median(wall):6.2f}); "
            f"ratio {min(processor) / base[0]:.2f}, wall {min(wall) / base[1]:.2f}"
        )


def main() -> None:
    """Write and read the series of each syntax."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--syntax", choices=SYNTAXES, action="append")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors")
    for syntax in options.syntax or SYNTAXES:
        with tempfile.TemporaryDirectory() as name:
            folder = write_series(Path(name) / "series", options.slices, syntax)
            readers: dict[str, Callable[[Path], object]] = {
                "pydicom": bare,
                "medtranslate": lambda folder: read_scan(folder),
            }
            if syntax == "native":
                readers["SimpleITK"] = with_sitk
            assert np.array_equal(bare(folder), read_scan(folder).voxels.transpose(2, 1, 0))
            print(f"{syntax}, {options.slices} slices of {SIDE}x{SIDE}:")
            compare(folder, readers, options.repeats)


if __name__ == "__main__":
    main()
