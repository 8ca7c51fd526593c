"""Small DICOM series made from nothing: regular ones, and what the tests then break."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
ROOT = "1.2.826.0.1.3680043.8.498."

Change = Callable[[Dataset], None]


def numbers(values: Sequence[float]) -> list[str]:
    """Give DS strings of at most 16 characters."""
    return [f"{value:.10g}"[:16] for value in values]


def common(modality: str, series: int) -> Dataset:
    """Give what all objects of a study share; CT and MR images add their own modules."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyDate, dataset.StudyTime = "20240102", "030405"
    dataset.AccessionNumber, dataset.StudyID = "A1", "1"
    dataset.ReferringPhysicianName = "Doe^John"
    dataset.PatientName, dataset.PatientID = "Test^Patient", "P1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyInstanceUID = ROOT + "1"
    dataset.SeriesInstanceUID = f"{ROOT}1.{series}"
    dataset.FrameOfReferenceUID = ROOT + "2"
    dataset.PositionReferenceIndicator = ""
    dataset.Modality = modality
    dataset.Manufacturer = "Scanner works"
    dataset.ManufacturerModelName = "S1"
    dataset.SeriesNumber, dataset.SeriesDescription = series, f"made {modality}"
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "HEAD"
    return dataset


def put_pixels(dataset: Dataset, stored: np.ndarray, bits: int = 16) -> None:
    """Set the Image Pixel module from integers (rows, columns) or (frames, rows, columns)."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def stored_values(modality: str, count: int, rows: int, columns: int) -> np.ndarray:
    """Give smooth stored values (slices, rows, columns), each slice unlike the others."""
    z, y, x = np.mgrid[:count, :rows, :columns]
    values = 40 * z + 3 * y + 5 * x
    if modality == "CT":
        return (values - 100).astype("<i2")
    return (values + 10).astype("<u2")


def series(
    modality: str = "CT",
    *,
    count: int = 4,
    rows: int = 16,
    columns: int = 12,
    number: int = 1,
    orientation: Sequence[float] = AXIAL,
    step: Sequence[float] = (0.0, 0.0, 2.5),
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    spacing: Sequence[float] = (0.75, 0.5),
) -> list[Dataset]:
    """Give the single-frame instances of one even series, in order of position."""
    stored = stored_values(modality, count, rows, columns)
    instances = []
    for index in range(count):
        one = common(modality, number)
        one.SOPClassUID = STORAGE[modality]
        one.SOPInstanceUID = f"{ROOT}1.{number}.{index + 1}"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
        one.InstanceNumber = index + 1
        one.AcquisitionNumber = 1
        one.ContentDate, one.ContentTime = "20240102", "030500"
        one.AcquisitionDate, one.AcquisitionTime = "20240102", "030450"
        one.ImagePositionPatient = numbers(np.add(origin, np.multiply(index, step)))
        one.ImageOrientationPatient = numbers(orientation)
        one.PixelSpacing = numbers(spacing)
        one.SliceThickness = "2.5"
        if modality == "CT":
            one.RescaleSlope, one.RescaleIntercept, one.RescaleType = "1", "0", "HU"
            one.KVP = "120"
        else:
            one.ScanningSequence, one.SequenceVariant = "SE", "NONE"
            one.ScanOptions, one.MRAcquisitionType = "", "2D"
            one.RepetitionTime, one.EchoTime, one.EchoTrainLength = "3000", "90", "1"
        put_pixels(one, stored[index])
        instances.append(one)
    return instances


def enhanced(modality: str = "CT", *, count: int = 4, rows: int = 16, columns: int = 12) -> Dataset:
    """Give one multi-frame instance; its frames are stored from the top down."""
    one = common(modality, 1)
    one.SOPClassUID = ENHANCED[modality]
    one.SOPInstanceUID = ROOT + "9.1"
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.InstanceNumber, one.NumberOfFrames = 1, count
    one.ContentDate, one.ContentTime = "20240102", "030500"
    one.AcquisitionDateTime = "20240102030450"
    shared, measures, orientation, units = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = numbers((0.75, 0.5)), "2.5"
    orientation.ImageOrientationPatient = numbers(AXIAL)
    slope, intercept = ("1", "0") if modality == "CT" else ("2", "5")
    units.RescaleSlope, units.RescaleIntercept = slope, intercept
    units.RescaleType = "HU" if modality == "CT" else "US"
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([orientation])
    shared.PixelValueTransformationSequence = Items([units])
    one.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for index in range(count):
        frame, place, content = Dataset(), Dataset(), Dataset()
        height = 40.0 + 2.5 * (count - 1 - index)
        place.ImagePositionPatient = numbers((-20.0, -30.0, height))
        content.InStackPositionNumber = index + 1
        content.StackID = "1"
        frame.PlanePositionSequence = Items([place])
        frame.FrameContentSequence = Items([content])
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = Items(frames)
    put_pixels(one, stored_values(modality, count, rows, columns)[::-1].copy())
    return one


def secondary_capture() -> Dataset:
    """Give an 8-bit image of a scan."""
    one = common("CT", 7)
    one.SOPClassUID = SecondaryCaptureImageStorage
    one.SOPInstanceUID = ROOT + "7.1"
    one.ConversionType = "WSD"
    put_pixels(one, np.arange(64, dtype=np.uint8).reshape(8, 8), bits=8)
    return one


def dose_report() -> Dataset:
    """Give an object that is no image."""
    one = common("SR", 8)
    one.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.88.67")
    one.SOPInstanceUID = ROOT + "8.1"
    return one


def save(dataset: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write one instance with its file meta information."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        # What is written here is broken on purpose.
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


def write(folder: Path, instances: Sequence[Dataset], change: Change | None = None) -> Path:
    """Write instances to a folder, under names that say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, one in enumerate(instances):
        if change:
            change(one)
        save(one, folder / f"{(index * 7919 + 13) % 10007:05d}.dcm")
    return folder


def stored_of(one: Dataset) -> np.ndarray:
    """Give the stored values of a native little endian instance, (rows, columns)."""
    kind = f"<{'i' if one.PixelRepresentation else 'u'}{one.BitsAllocated // 8}"
    return np.frombuffer(one.PixelData, dtype=kind).reshape(one.Rows, one.Columns)


def values_of(instances: Sequence[Dataset]) -> np.ndarray:
    """Give the stored values of instances as (columns, rows, slices)."""
    return np.stack([stored_of(one) for one in instances], axis=-1).transpose(1, 0, 2)


def translated(image: MetaTensor, **changes: object) -> MetaTensor:
    """Give an image as the translator would: whole values of the other modality, and synthesis."""
    source = image.meta["source"]["modality"]
    target = {"CT": "MR", "MR": "CT"}[source]
    voxels = torch.as_tensor(image).as_subclass(torch.Tensor)
    if target == "CT":
        low, high = float(voxels.min()), float(voxels.max())
        made = ((voxels - low) / max(high - low, 1.0) * 120 - 20).round()
    else:
        made = ((voxels.clamp(-1000, 1000) + 1000) * 2).round()
    synthesis: dict[str, object] = {
        "modality": target,
        "model": "brain_ct_mri",
        "version": "0.1.0",
        "weights_sha256": "ab" * 32,
        "label": f"SYNTHETIC {target} from {source}, brain_ct_mri 0.1.0, NOT FOR DIAGNOSIS",
        "dtype": "int16",
        "background": -1000.0 if target == "CT" else 0.0,
        "window": [-20.0, 100.0] if target == "CT" else [],
    }
    return MetaTensor(made, meta={**image.meta, "synthesis": {**synthesis, **changes}})
