"""Inspect an input without converting it: every scan by its header, a single one by its voxels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from medtranslate.errors import MedTranslateError
from medtranslate.imaging import Finding, survey
from medtranslate.imaging.io import read_scan
from medtranslate.imaging.scans import vote
from medtranslate.imaging.source import orientation


@dataclass(frozen=True)
class Values:
    """What only the voxels of a scan tell.

    Parameters
    ----------
    orientation : str
        Directions of the axes, such as ``"LPS"``; ``""`` for a 2D image.
    low, high : float
        Least and greatest value, in physical units.
    dtype : str
        Type of the stored values.
    """

    orientation: str
    low: float
    high: float
    dtype: str


@dataclass(frozen=True)
class Inspection:
    """The scans at a path.

    Parameters
    ----------
    path : Path
        As given.
    findings : tuple of Finding
        One for each scan, and for each file that cannot be read.
    values : Values or None
        Of the scan, where there is just one and it can be read.
    folder_modality : (modality, basis)
        What a folder of 2D images shows, as a conversion takes it; empty for any other input.
    refusal : MedTranslateError or None
        Why nothing can be read.
    """

    path: Path
    findings: tuple[Finding, ...]
    values: Values | None = None
    folder_modality: tuple[str, str] = ("", "")
    refusal: MedTranslateError | None = None

    @property
    def series_numbers(self) -> dict[str, int]:
        """The number of each DICOM series, by UID: what the option ``series`` takes."""
        uids = [one.series for one in self.findings if one.format == "dicom" and one.kind]
        return {uid: number for number, uid in enumerate(uids, 1)}

    def as_builtins(self) -> dict[str, Any]:
        """Return everything found, for JSON; ``number`` is what the option ``series`` takes."""
        scans = []
        for finding in self.findings:
            scan = finding.as_dict()
            if finding.series in self.series_numbers:
                scan["number"] = self.series_numbers[finding.series]
            scans.append(scan)
        if self.values is not None:
            scans[0] |= asdict(self.values)
        content: dict[str, Any] = {"path": str(self.path), "scans": scans}
        if self.folder_modality[1]:
            content["modality"], content["modality_basis"] = self.folder_modality
        return content


def inspect(path: str | PathLike[str]) -> Inspection:
    """Find out which scans lie at a path, and what they are.

    A single scan is read whole; of several, the headers alone.

    Parameters
    ----------
    path : path
        A file, a folder or a zip.

    Raises
    ------
    InputMissing, UntrustedInput
        As `medtranslate.survey`. What is damaged is not raised, but kept as `Inspection.refusal`.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate import inspect, write
    >>> from medtranslate.phantom import Phantom
    >>> folder = tempfile.TemporaryDirectory()
    >>> phantom = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    >>> scan = write(phantom, f"{folder.name}/head-ct.nii.gz")
    >>> found = inspect(scan)
    >>> found.findings[0].modality, found.findings[0].shape, found.values.orientation
    ('CT', (48, 52, 2), 'LPS')
    """
    path = Path(path)
    found = tuple(survey(path))
    scans = [one for one in found if one.kind]
    if len(scans) > 1:
        return Inspection(path, found, folder_modality=_folder_modality(path, scans))
    # One scan among files that cannot be read is shown beside them.
    alone = scans[0] if scans and path.is_dir() and len(found) > 1 else None
    try:
        read = read_scan(path) if alone is None else read_scan(alone.path, series=alone.series)
    except MedTranslateError as error:
        return Inspection(path, _refused(found, error), refusal=error)
    source, voxels = read.source, read.voxels
    values = Values(
        orientation(source["affine"]) if source["kind"] == "volume" else "",
        float(np.min(voxels)),
        float(np.max(voxels)),
        source["dtype"],
    )
    shown = source["modality"] != "CT"
    contrast, by = (source["contrast"], source["contrast_basis"]) if shown else ("", "")
    scan = replace(
        scans[0] if scans else Finding(str(path)),
        modality=source["modality"],
        modality_basis=source["modality_basis"],
        contrast=contrast,
        contrast_basis=by,
        faults=tuple(source["faults"]),
    )
    others = (one for one in found if not one.kind)
    return Inspection(path, (scan, *others), values)


def _folder_modality(path: Path, scans: list[Finding]) -> tuple[str, str]:
    if not path.is_dir() or any(one.kind == "volume" for one in scans):
        return "", ""
    try:
        return vote(path, [Path(one.path) for one in scans])
    except MedTranslateError as error:
        return "", error.fault


def _refused(found: tuple[Finding, ...], error: MedTranslateError) -> tuple[Finding, ...]:
    """Keep what the header says, and add what the voxels are refused for."""
    if len(found) == 1 and not found[0].error:
        return (replace(found[0], error=error.fault),)
    return found
