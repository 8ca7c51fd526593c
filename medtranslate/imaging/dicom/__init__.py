"""DICOM in and out: a series to one volume, and a translated volume to a derived series.

`read` goes from files to voxels, `derive` from translated voxels to files. Both use `attributes`:
the rules of the derived series, and how attributes of the source get there. Names load on first
use, so that a scan in another format does without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtranslate.imaging.dicom.derive.instances import repairs
    from medtranslate.imaging.dicom.derive.measured import (
        read_parametric_map,
        write_figures,
        write_parametric_map,
    )
    from medtranslate.imaging.dicom.derive.writer import (
        DicomWriter,
        adopt_template,
        check_replaceable,
        write_series,
    )
    from medtranslate.imaging.dicom.read.reader import (
        DicomReader,
        FolderReader,
        find_series,
        is_dicom,
    )
    from medtranslate.imaging.dicom.read.regrid import regrid, untilt

_HOMES = {
    "DicomReader": "medtranslate.imaging.dicom.read.reader",
    "DicomWriter": "medtranslate.imaging.dicom.derive.writer",
    "FolderReader": "medtranslate.imaging.dicom.read.reader",
    "adopt_template": "medtranslate.imaging.dicom.derive.writer",
    "check_replaceable": "medtranslate.imaging.dicom.derive.writer",
    "find_series": "medtranslate.imaging.dicom.read.reader",
    "is_dicom": "medtranslate.imaging.dicom.read.reader",
    "read_parametric_map": "medtranslate.imaging.dicom.derive.measured",
    "regrid": "medtranslate.imaging.dicom.read.regrid",
    "repairs": "medtranslate.imaging.dicom.derive.instances",
    "untilt": "medtranslate.imaging.dicom.read.regrid",
    "write_figures": "medtranslate.imaging.dicom.derive.measured",
    "write_parametric_map": "medtranslate.imaging.dicom.derive.measured",
    "write_series": "medtranslate.imaging.dicom.derive.writer",
}

__all__ = [
    "DicomReader",
    "DicomWriter",
    "FolderReader",
    "adopt_template",
    "check_replaceable",
    "find_series",
    "is_dicom",
    "read_parametric_map",
    "regrid",
    "repairs",
    "untilt",
    "write_figures",
    "write_parametric_map",
    "write_series",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
