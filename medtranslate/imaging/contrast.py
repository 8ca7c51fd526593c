"""The contrast of an MRI as its header or its name states it; what is not clear is not stated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

STATING = (
    "AcquisitionContrast",
    "AngioFlag",
    "ContrastBolusAgent",
    "DiffusionBValue",
    "EchoTime",
    "FlipAngle",
    "ImageType",
    "InversionTime",
    "RepetitionTime",
    "ScanningSequence",
    "SequenceName",
    "SequenceVariant",
)
"""DICOM attributes that `of_header` goes by."""

_ACQUIRED = {"T1": "t1", "T2": "t2", "FLUID_ATTENUATED": "flair", "PROTON_DENSITY": "pd"}
"""AcquisitionContrast of multi-frame images, PS3.3 C.8.13.3.3.1."""

_NO_AGENT = re.compile(r"|(NO|WITHOUT|NATIVE|N/?A?$|0$).*", re.DOTALL)

_OTHER_IMAGE = re.compile(r"P|PHASE|SUBTRACTION|DIFFUSION|ADC|FA|UNI|\w*[ _]?MAP\w*")
"""Values of ImageType of what is no plain image: phases, differences, maps."""

_OTHER_SEQUENCE = re.compile("dwi|ep_b|tof")

_WORDS = {
    "t1w": "t1",
    "t1wi": "t1",
    "mprage": "t1",
    "t1c": "t1c",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t2w": "t2",
    "t2wi": "t2",
    "flair": "flair",
    "pdw": "pd",
}
"""Words of file names. A bare T1 or T2 is none of them: it may be the first or second visit."""

_NOT_PLAIN = re.compile(
    "(t[12]|t2star)?map|mask|d?seg|probseg|lesion|star|t2starw?|swi|angio|phase|ffe|dwi|adc|bold"
    "|boldref|sbref|tirm|dark|fluid"
)
"""Words beside which the others do not say what the file shows."""

_AGENT_PERHAPS = frozenset({"gd", "post", "contrast", "none"})
_OF_ANOTHER = re.compile(r"(^|_)(space|from|to|desc)-[A-Za-z0-9]+")
"""Entities of BIDS whose words are of another file."""


def of_header(said: Mapping[str, str]) -> tuple[str, str]:
    """Return the contrast of an MR that its acquisition parameters give, and on what that rests.

    The bounds are those of textbooks for a brain at 1.5 and 3 T: echoes from 60 ms weight by T2,
    repetitions up to 1,000 ms by T1, inversions of 1,500 to 2,800 ms null fluid. Diffusion,
    angiograms, gradient echoes that are not spoiled, phases and maps are none of the contrasts.

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
    if any(_OTHER_IMAGE.fullmatch(value.strip()) for value in _values(said, "ImageType")):
        return "", ""
    acquired = _ACQUIRED.get(said.get("AcquisitionContrast", ""), "")
    contrast = acquired or _timed(said)
    if not contrast:
        return "", ""
    keys = ("AcquisitionContrast",) if acquired else ("EchoTime", "RepetitionTime", "InversionTime")
    shown = [f"{key} {said[key]}" for key in keys if said.get(key)]
    agent = said.get("ContrastBolusAgent", "").strip().upper()
    if contrast == "t1" and not _NO_AGENT.fullmatch(agent):
        contrast = "t1c"
        shown.append("ContrastBolusAgent")  # somebody's words, which are not repeated
    return contrast, f"DICOM {', '.join(shown)}"


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
    words = re.split(r"[^A-Za-z0-9]+", _OF_ANOTHER.sub("", Path(path).name))
    lower = {word.lower() for word in words}
    found = {_WORDS[word] for word in lower & set(_WORDS)}
    if "flair" in found:
        found -= {"t2"}  # T2w FLAIR
        found |= {"t1"} & lower  # T1 FLAIR
    if len(found) != 1 or any(map(_NOT_PLAIN.fullmatch, lower)):
        return "", ""
    (contrast,) = found
    telling = [word for word in words if word.lower() in _WORDS]
    if contrast == "t1" and lower & _AGENT_PERHAPS:
        return "", ""
    if contrast == "t1" and "ce" in lower:
        contrast = "t1c"
        telling.insert(0, "ce")
    # Not the name itself, which an anonymous report must not have.
    return contrast, f"{' '.join(telling)} in the file name"


def agreed(every: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return contrast and basis where all files of a scan state the same contrast.

    Examples
    --------
    >>> agreed(map(of_name, ["1_T2w.png", "2_T2w.png"]))
    ('t2', 'T2w in the file name')
    >>> agreed(map(of_name, ["1_T2w.png", "2_FLAIR.png"]))
    ('', '')
    """
    stated = list(every)
    return stated[0] if len({contrast for contrast, _ in stated}) == 1 else ("", "")


def _timed(said: Mapping[str, str]) -> str:
    keys = ("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "DiffusionBValue")
    numbers = [_number(said.get(key, "")) for key in keys]
    echo, repetition, inversion, flip, diffusion = (number or 0.0 for number in numbers)
    sequence, variant = _values(said, "ScanningSequence"), _values(said, "SequenceVariant")
    name = said.get("SequenceName", "").lower()
    other = diffusion or "EP" in sequence or "MTC" in variant or said.get("AngioFlag") == "Y"
    if None in numbers or not echo or not repetition or other or _OTHER_SEQUENCE.search(name):
        return ""
    if inversion or "IR" in sequence:
        return _inverted(echo, inversion)
    if "GR" in sequence:
        return "t1" if "SP" in variant and echo <= 10 and repetition <= 400 and flip >= 12 else ""
    if "SE" not in sequence:
        return ""
    if repetition <= 1000:
        return "t1" if echo <= 30 else ""
    if repetition < 1500:
        return ""
    return "t2" if echo >= 60 else "pd" if echo <= 40 else ""


def _inverted(echo: float, inversion: float) -> str:
    if 1500 <= inversion <= 2800 and echo >= 60:
        return "flair"
    return "t1" if 500 <= inversion < 1500 and echo <= 30 else ""


def _values(said: Mapping[str, str], key: str) -> list[str]:
    return said.get(key, "").split("\\")


def _number(text: str) -> float | None:
    """Return a number from 0 on, 0 for an empty text; None where it is no such number."""
    try:
        value = float(text or 0)
    except ValueError:
        return None
    return value if 0 <= value < 1e6 else None
