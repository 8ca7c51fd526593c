"""What a user asked ``convert`` for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """The options of ``convert`` that concern scans and their results.

    Parameters
    ----------
    to : str
        ``"mri"`` or ``"ct"``.
    output : str
        A file or folder as typed (a trailing slash means a folder); ``""`` for beside the source.
    modality : str
        ``"CT"`` or ``"MR"`` where the user says what the source is, else ``""``.
    format : str
        ``"nii.gz"``, ``"nii"``, ``"mha"``, ``"nrrd"``, ``"png"``, ``"jpg"``, ``"tif"``,
        ``"dicom"``, or ``""`` for the source's own.
    series : str
        UID or number of a DICOM series, ``"all"``, or ``""``.
    template : str
        Folder of the DICOM series whose headers the result takes, or ``""``.
    untilt, regrid : bool
        Undo a gantry tilt; lay slices at even steps.
    uid_seed : str
        From which new DICOM UIDs follow; ``""`` for random ones.
    keep_private : bool
        Copy private DICOM attributes.
    overwrite : bool
        Replace outputs.
    force : bool
        Believe `modality` over what a header says.
    preview : bool
        Write a picture of source and result.
    """

    to: str
    output: str = ""
    modality: str = ""
    format: str = ""
    series: str = ""
    template: str = ""
    untilt: bool = False
    regrid: bool = False
    uid_seed: str = ""
    keep_private: bool = False
    overwrite: bool = False
    force: bool = False
    preview: bool = True
