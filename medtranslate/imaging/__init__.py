"""Files to ``MetaTensor`` and back: the only package that knows formats.

`io` reads and writes: it picks by content among `nifti`, `itk`, `image2d` and `dicom`, whose
readers and writers share `base`, and sees into a zip through `archive`; `guess_modality` guesses
where no header tells. `source` is the record that an image carries from file to file. `survey` says
what lies in a place without reading voxels, and `scans` which of it are scans to convert or train
on. `memory` takes images of other libraries. Nothing here imports torch or MONAI until an image is
asked for as a `MetaTensor`; `dicom` and the names below load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medtranslate.imaging.base import Finding
from medtranslate.imaging.survey import survey

if TYPE_CHECKING:
    from medtranslate.imaging.dicom import DicomReader, DicomWriter
    from medtranslate.imaging.image2d import Image2DReader, Image2DWriter
    from medtranslate.imaging.io import WRITABLE, ScanReader, read, read_scan, write
    from medtranslate.imaging.itk import ItkReader, ItkWriter
    from medtranslate.imaging.memory import as_image, from_nibabel, to_nibabel
    from medtranslate.imaging.nifti import NiftiReader, NiftiWriter

_NAMES = {
    "dicom": ("DicomReader", "DicomWriter"),
    "image2d": ("Image2DReader", "Image2DWriter"),
    "io": ("WRITABLE", "ScanReader", "read", "read_scan", "write"),
    "itk": ("ItkReader", "ItkWriter"),
    "memory": ("as_image", "from_nibabel", "to_nibabel"),
    "nifti": ("NiftiReader", "NiftiWriter"),
}
_HOMES = {name: f"{__name__}.{home}" for home, names in _NAMES.items() for name in names}

__all__ = [
    "WRITABLE",
    "DicomReader",
    "DicomWriter",
    "Finding",
    "Image2DReader",
    "Image2DWriter",
    "ItkReader",
    "ItkWriter",
    "NiftiReader",
    "NiftiWriter",
    "ScanReader",
    "as_image",
    "from_nibabel",
    "read",
    "read_scan",
    "survey",
    "to_nibabel",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.endswith("Reader"):  # asked for to be given to MONAI
        importlib.import_module(f"{__name__}.base").register_with_monai()
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
