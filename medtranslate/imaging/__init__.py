"""Files to ``MetaTensor`` and back: the only room that knows formats.

In: ``reader`` picks by ``contents`` among ``nifti``, ``itk``, ``picture`` and ``dicom``, and sees
into a zip through ``archive``; ``modality`` guesses where no header tells. Out: ``writer`` picks by
the output's name, and ``whole`` keeps half-written outputs away. ``source`` is the record that an
image carries from the one to the other; ``survey`` says what lies there, without reading voxels.
"""

from medtranslate.imaging.dicom import DicomReader, DicomWriter
from medtranslate.imaging.finding import Finding
from medtranslate.imaging.image2d import PictureReader, PictureWriter
from medtranslate.imaging.itk import ItkReader, ItkWriter
from medtranslate.imaging.memory import as_image, from_nibabel, to_nibabel
from medtranslate.imaging.nifti import NiftiReader, NiftiWriter
from medtranslate.imaging.reader import ScanReader, read
from medtranslate.imaging.source import array_source, make_source
from medtranslate.imaging.survey import survey
from medtranslate.imaging.writer import WRITABLE, write

__all__ = [
    "WRITABLE",
    "DicomReader",
    "DicomWriter",
    "Finding",
    "ItkReader",
    "ItkWriter",
    "NiftiReader",
    "NiftiWriter",
    "PictureReader",
    "PictureWriter",
    "ScanReader",
    "array_source",
    "as_image",
    "from_nibabel",
    "make_source",
    "read",
    "survey",
    "to_nibabel",
    "write",
]
