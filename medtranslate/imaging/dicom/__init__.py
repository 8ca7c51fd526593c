"""DICOM in and out."""

from medtranslate.imaging.dicom.reader import DicomReader, find_series, is_dicom

__all__ = ["DicomReader", "find_series", "is_dicom"]
