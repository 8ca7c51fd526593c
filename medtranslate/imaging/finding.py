"""What a survey finds: one record a scan, made from headers alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One scan, or one file that cannot be read.

    Parameters
    ----------
    path : str
        The file, or for a DICOM series and a stack of pictures the folder that holds it. Inside a
        zip: the zip's path, ``!/``, and the member's name.
    format : str
        ``"nifti"``, ``"metaimage"``, ``"nrrd"``, ``"picture"``, ``"dicom"`` or ``""`` (unknown).
    kind : str
        ``"volume"``, ``"picture"`` or ``""``.
    modality : str
        ``"CT"``, ``"MR"`` or ``""`` where headers do not tell.
    modality_basis : str
        What the modality rests on, as in ``meta["source"]``.
    series : str
        SeriesInstanceUID for DICOM, else ``""``: what ``read(path, series=...)`` takes.
    description : str
        SeriesDescription or the header's free text.
    shape : tuple of int
        (X, Y, Z) in voxels; empty where unknown.
    spacing : tuple of float
        (x, y, z) in mm; empty for a picture and where unknown.
    faults : tuple of str
        What was noticed and how it is dealt with, a sentence each.
    error : str
        Why it cannot be read, in one sentence; ``""`` where it can.
    """

    path: str
    format: str = ""
    kind: str = ""
    modality: str = ""
    modality_basis: str = ""
    series: str = ""
    description: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    faults: tuple[str, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give the record as builtins, for JSON."""
        return asdict(self)
