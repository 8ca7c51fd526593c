"""DICOM in and out: a series to one volume, and a translated volume to a derived series.

The way of a series through the files: ``files`` (what lies in a folder, parsed within ``limits``)
-> ``headers``, ``slices`` and ``enhanced`` (one record a slice) -> ``grouping`` (what makes a
volume) -> ``geometry`` (order, spacing, tilt, affine) -> ``pixels`` (decoding to physical values)
-> ``reader``. Back: ``attributes`` (the rules of the derived series, as a table) -> ``repair``
(what of the source can stand) and ``computed`` (what is new) -> ``derive`` (one data set a slice)
-> ``writer``. Beside them
``template`` (a scan from another format that borrows a series' headers) and ``regrid`` (even
grids for formats that cannot say more).
"""

from medtranslate.imaging.dicom.derive import repairs
from medtranslate.imaging.dicom.reader import DicomReader, find_series, is_dicom
from medtranslate.imaging.dicom.regrid import regrid, untilt
from medtranslate.imaging.dicom.template import adopt_template
from medtranslate.imaging.dicom.writer import DicomWriter, check_replaceable, write_series

__all__ = [
    "DicomReader",
    "DicomWriter",
    "adopt_template",
    "check_replaceable",
    "find_series",
    "is_dicom",
    "regrid",
    "repairs",
    "untilt",
    "write_series",
]
