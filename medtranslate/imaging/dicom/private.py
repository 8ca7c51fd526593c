"""Private attributes of the source, for those who ask that they be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement

from medtranslate.errors import InputMissing
from medtranslate.imaging.dicom.carry import TEXT_VRS
from medtranslate.imaging.dicom.files import parse
from medtranslate.imaging.dicom.values import first

_BYTES = frozenset({"OB", "UN"})


def private_elements(path: Path, record: dict[str, Any]) -> list[DataElement | RawDataElement]:
    """Give the private elements of a source slice.

    They are read again rather than carried in ``meta``: some scanners store 100 kB a slice.

    Parameters
    ----------
    path : path
        The slice's file.
    record : dict
        Its record in ``meta["source"]["header"]["slices"]``.

    Raises
    ------
    InputMissing
        The file is gone or is another instance by now.
    Unreadable
        It is damaged.
    """
    dataset = parse(path).dataset
    if first(dataset, "SOPInstanceUID") != record["instance"]:
        raise InputMissing("is no longer the file that was read", path=path)
    kept: list[DataElement | RawDataElement] = []
    for tag in [tag for tag in dataset.keys() if tag.is_private]:  # noqa: SIM118
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and (raw.VR in TEXT_VRS or raw.VR in _BYTES):
            kept.append(raw._replace(is_implicit_VR=False, is_little_endian=True))
        elif isinstance(raw, RawDataElement) and raw.VR is None and not tag.is_private_creator:
            kept.append(raw._replace(VR="UN", is_implicit_VR=False, is_little_endian=True))
        else:
            kept.append(dataset[tag])
    return kept
