"""Look at an input: every scan by its header, a single one by its voxels too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medtranslate.errors import MedTranslateError
from medtranslate.imaging import Finding, read, survey
from medtranslate.imaging.folder_modality import vote
from medtranslate.report.record import orientation


@dataclass(frozen=True)
class Values:
    """What only the voxels of a scan tell.

    Parameters
    ----------
    orientation : str
        Directions of the axes, such as ``"LPS"``; ``""`` for a picture.
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
class Seen:
    """What lies at a path.

    Parameters
    ----------
    path : Path
        As given.
    findings : tuple of Finding
        One a scan, or a file that cannot be read.
    values : Values or None
        Of the scan, where there is just one and it can be read.
    voted : (modality, basis)
        What a folder of pictures shows, as `convert` will take it.
    refusal : MedTranslateError or None
        Why nothing at all can be read.
    """

    path: Path
    findings: tuple[Finding, ...]
    values: Values | None = None
    voted: tuple[str, str] = ("", "")
    refusal: MedTranslateError | None = None


def look(path: Path) -> Seen:
    """Find out what lies at a path.

    Raises
    ------
    InputMissing, UntrustedInput
        As `medtranslate.survey`.
    """
    found = tuple(survey(path))
    scans = [one for one in found if one.kind]
    if len(scans) > 1:
        return Seen(path, found, voted=_vote(path, scans))
    try:
        image = read(path)
    except MedTranslateError as error:
        return Seen(path, _refused(found, error), refusal=error)
    source = image.meta["source"]
    voxels = image.as_tensor().numpy()
    values = Values(
        orientation(source["affine"]) if source["kind"] == "volume" else "",
        float(np.min(voxels)),
        float(np.max(voxels)),
        source["dtype"],
    )
    told = replace(
        scans[0] if scans else Finding(str(path)),
        modality=source["modality"],
        modality_basis=source["modality_basis"],
        faults=tuple(source["faults"]),
    )
    others = (one for one in found if not one.kind)
    return Seen(path, (told, *others), values)


def _vote(path: Path, scans: list[Finding]) -> tuple[str, str]:
    if not path.is_dir() or any(one.kind != "picture" for one in scans):
        return "", ""
    try:
        return vote(path, [Path(one.path) for one in scans])
    except MedTranslateError as error:
        return "", error.fault


def _refused(found: tuple[Finding, ...], error: MedTranslateError) -> tuple[Finding, ...]:
    """Keep what the headers told, and say what the voxels then refused."""
    if len(found) == 1 and not found[0].error:
        return (replace(found[0], error=error.fault),)
    return found
