"""The contrast of an MRI as its header or its name states it; what is not clear is not stated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

STATING = (
    "AcquisitionContrast",
    "AngioFlag",
    "ContrastBolusAgent",
    "EchoTime",
    "FlipAngle",
    "InversionTime",
    "RepetitionTime",
    "ScanningSequence",
    "SequenceVariant",
)
"""DICOM attributes that `of_header` goes by."""

_ACQUIRED = {"T1": "t1", "T2": "t2", "FLUID_ATTENUATED": "flair", "PROTON_DENSITY": "pd"}
"""AcquisitionContrast of multi-frame images, PS3.3 C.8.13.3.3.1."""

_NO_AGENT = {"", "NO", "NONE", "N"}

_WORDS = {
    "t1w": "t1",
    "t1wi": "t1",
    "mprage": "t1",
    "mp2rage": "t1",
    "t1c": "t1c",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t2w": "t2",
    "t2wi": "t2",
    "flair": "flair",
    "pdw": "pd",
}
"""Words of file names. A bare T1 or T2 is none of them: it may be the first or second visit."""

_DERIVED = {"map", "mask", "seg", "dseg", "star", "dwi", "adc"}


def of_header(said: Mapping[str, str]) -> tuple[str, str]:
    """Return the contrast of an MR that its acquisition parameters give, and on what that rests.

    The bounds are those of textbooks for a brain at 1.5 and 3 T: echoes from 60 ms weight by T2,
    repetitions up to 1,000 ms by T1, inversions of 1,500 ms and more null fluid. Echo-planar scans,
    angiograms and gradient echoes that are not spoiled are none of the contrasts.

    Parameters
    ----------
    said : mapping of str to str
        Values of `STATING` as stored, several joined by a backslash; times in ms, angles in
        degrees. What is missing is unknown.

    Returns
    -------
    (contrast, basis)
        Such as ``("flair", "DICOM EchoTime 120, ...")``; two empty strings where it is not clear.

    Examples
    --------
    >>> of_header({"ScanningSequence": "SE", "EchoTime": "102", "RepetitionTime": "4000"})
    ('t2', 'DICOM EchoTime 102, RepetitionTime 4000')
    """
    acquired = _ACQUIRED.get(said.get("AcquisitionContrast", ""), "")
    contrast = acquired or _timed(said)
    if not contrast:
        return "", ""
    shown = [] if acquired else ["EchoTime", "RepetitionTime", "InversionTime"]
    if acquired:
        shown.append("AcquisitionContrast")
    if contrast == "t1" and said.get("ContrastBolusAgent", "").upper() not in _NO_AGENT:
        contrast = "t1c"
        shown.append("ContrastBolusAgent")
    return contrast, "DICOM " + ", ".join(f"{key} {said[key]}" for key in shown if said.get(key))


def of_name(path: str | Path) -> tuple[str, str]:
    """Return the contrast of an MR that the words of its file name give, and those words.

    Words are those of BIDS (``sub-01_ce-gadolinium_T1w.nii.gz``) and a few that are as plain.

    Examples
    --------
    >>> of_name("sub-01_T2w.nii.gz")
    ('t2', 'T2w in the file name')
    >>> of_name("patient_T2.nii.gz")  # or the second visit
    ('', '')
    """
    words = re.split(r"[^A-Za-z0-9]+", Path(path).name)
    lower = {word.lower() for word in words}
    found = {_WORDS[word] for word in lower & set(_WORDS)}
    if "flair" in found:
        found -= {"t2"}  # T2w FLAIR
    if len(found) != 1 or lower & _DERIVED:
        return "", ""
    (contrast,) = found
    telling = [word for word in words if word.lower() in _WORDS]
    if contrast == "t1" and "ce" in lower:
        contrast = "t1c"
        telling.insert(0, "ce")
    # Not the name itself, which an anonymous report must not have.
    return contrast, f"{' '.join(telling)} in the file name"


def _timed(said: Mapping[str, str]) -> str:
    echo, repetition, inversion, flip = (
        _number(said.get(key, ""))
        for key in ("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle")
    )
    sequence = set(said.get("ScanningSequence", "").split("\\"))
    if not echo or not repetition or "EP" in sequence or said.get("AngioFlag") == "Y":
        return ""
    if inversion or "IR" in sequence:
        return _inverted(echo, inversion)
    if "GR" in sequence:
        spoiled = "SP" in said.get("SequenceVariant", "").split("\\")
        return "t1" if spoiled and echo <= 10 and repetition <= 400 and flip >= 12 else ""
    if "SE" not in sequence:
        return ""
    if repetition <= 1000:
        return "t1" if echo <= 30 else ""
    if repetition < 1500:
        return ""
    return "t2" if echo >= 60 else "pd" if echo <= 40 else ""


def _inverted(echo: float, inversion: float) -> str:
    if inversion >= 1500 and echo >= 60:
        return "flair"
    return "t1" if 500 <= inversion < 1500 and echo <= 30 else ""


def _number(text: str) -> float:
    """Return a positive number of a value, 0 where it is none or unknown."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < 1e6 else 0.0
