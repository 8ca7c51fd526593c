"""What a user asked ``convert`` for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TO_STDOUT = "-"


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
        Believe `modality` over what a header says, and convert what the domain check refuses.
    preview : bool
        Write a picture of source and result.
    cycle : bool
        Translate results back and say what was lost.
    variation : bool
        Translate the scan again, mirrored and shifted, and say what changed.
    map : bool
        Write what `cycle` and `variation` find as maps beside the result.
    reports : tuple of str
        Files, ``"-"`` for stdout.
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
    cycle: bool = True
    variation: bool = False
    map: bool = False
    reports: tuple[str, ...] = ()

    @property
    def report_files(self) -> tuple[Path, ...]:
        """The reports that are files."""
        return tuple(Path(one) for one in self.reports if one != TO_STDOUT)

    @property
    def wants_page(self) -> bool:
        """Whether a report is a page with pictures."""
        return any(is_page(one) for one in self.reports)


def is_page(report: str) -> bool:
    """Say whether a report's name asks for a page to read rather than JSON."""
    return report.lower().endswith((".html", ".htm"))
