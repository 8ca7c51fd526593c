"""What of the source's attributes can stand in the derived series, and what must be mended first.

Real series break the standard. What is mended is only what a validator or an archive would
refuse, and every repair is reported in a sentence, which names the attribute and never its value,
as reports and logs leave the hospital. Private attributes are copied only for those who ask that
they be kept.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds, validate_value

from medtranslate.errors import InputMissing
from medtranslate.imaging.dicom.attributes import ITEM_NEEDS, RULES, TEXT_VRS, AttributeRule
from medtranslate.imaging.dicom.read.files import parse
from medtranslate.imaging.dicom.read.values import first

ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "PatientSexNeutered": {"ALTERED", "UNALTERED"},
    "SmokingStatus": {"YES", "NO", "UNKNOWN"},
    "Laterality": {"R", "L"},
    "BurnedInAnnotation": {"YES", "NO"},
}
"""Attributes whose values the standard enumerates (sections as in `RULES`)."""

IDENTIFYING = frozenset(
    {"PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "FrameOfReferenceUID"}
)
"""What an archive files by: never changed, whatever is wrong with it."""

CUT = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
"""Longest value of texts that are cut rather than dropped, characters, PS3.5 6.2."""

_HOW_MENDED = {
    "DS": "rounded to 16 characters",
    "CS": "written in upper case",
    **{vr: f"written without control characters, cut to {most}" for vr, most in CUT.items()},
}
"""How `mend` mends, for notes, which name no value: many are personal data."""


@dataclass
class Copied:
    """Attributes of the derived series that come from the source.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The attributes; texts as raw bytes.
    notes : list of str
        What was added or mended, a sentence each.
    """

    dataset: Dataset = field(default_factory=Dataset)
    notes: list[str] = field(default_factory=list)


def copy_series(source: Dataset, target: str, new_frame: str) -> Copied:
    """Copy what the rules say is copied, mending as far as needed.

    Parameters
    ----------
    source : pydicom.Dataset
        The carried attributes of the source series.
    target : str
        ``"CT"`` or ``"MR"``.
    new_frame : str
        FrameOfReferenceUID to use if the source has none.
    """
    copied = Copied()
    with warnings.catch_warnings():
        # pydicom warns of broken values on stderr; here they become notes.
        warnings.simplefilter("ignore")
        for rule in RULES:
            if rule.origin == "copied" and target in rule.targets and _applies(rule, source):
                _copy_one(rule, source, copied, new_frame)
    return copied


def _applies(rule: AttributeRule, source: Dataset) -> bool:
    keyword, value = rule.when
    if not keyword:
        return True
    found = str(source.get(keyword, "") or "")
    return bool(found) if value == "*" else found == value


def _copy_one(rule: AttributeRule, source: Dataset, copied: Copied, new_frame: str) -> None:
    keyword, vr = rule.keyword, dictionary_VR(rule.keyword)
    tag = tag_for_keyword(keyword) or 0
    element, fault = _usable(keyword, source)
    if fault:
        copied.notes.append(f"{keyword}: {fault}")
    if element is not None:
        copied.dataset[tag] = element
    elif rule.value:
        value = new_frame if keyword == "FrameOfReferenceUID" else rule.value
        copied.dataset[tag] = DataElement(tag, vr, value)
        copied.notes.append(f"{keyword} is missing in the source: {value} was written")
    elif rule.kind == "2" or (keyword == "PatientPosition" and _INSTEAD not in source):
        copied.dataset[tag] = DataElement(tag, vr, [] if vr == "SQ" else "")
        if tag not in source:
            kind = f"type {rule.kind}"
            copied.notes.append(f"{keyword} is missing in the source: written empty ({kind})")


def _usable(keyword: str, source: Dataset) -> tuple[DataElement | RawDataElement | None, str]:
    """Give the element to write, None if there is none, and what was wrong with it."""
    tag, vr = tag_for_keyword(keyword) or 0, dictionary_VR(keyword)
    if tag not in source:
        return None, ""
    raw = source.get_item(tag)
    if vr == "SQ":
        return _usable_sequence(keyword, source)
    if isinstance(raw, RawDataElement) and not (raw.value or b"").strip(b" \0"):
        return None, ""
    # The copy is decoded, the original stays raw: its bytes are what is written.
    try:
        values = _values(source, tag)
        fault = check_values(keyword, vr, values)
    except Exception:
        return raw, "cannot be decoded: kept as it is"
    if not fault:
        return raw, ""
    if keyword in IDENTIFYING:
        return raw, f"{fault}: kept as it is"
    mended = mend(keyword, vr, values)
    if mended is None:
        return None, f"{fault}: left out"
    return DataElement(tag, vr, mended), f"{fault}: {_HOW_MENDED[vr]}"


def _values(source: Dataset, tag: int) -> list[str]:
    raw = source.get_item(tag)
    if isinstance(raw, RawDataElement):
        found = convert_raw_data_element(raw, encoding=source.original_character_set).value
    else:
        found = source[tag].value
    many = found if isinstance(found, (list, tuple)) or hasattr(found, "append") else [found]
    return [str(one) for one in many]


def check_values(keyword: str, vr: str, values: list[str]) -> str:
    """Give what is wrong with values for their VR and enumeration, ``""`` if nothing."""
    allowed = ENUMERATED.get(keyword)
    for value in values:
        if allowed and value not in allowed:
            return "its value is not one that the standard allows"
        if vr in TEXT_VRS and value:
            try:
                validate_value(vr, value, RAISE)
            except Exception:
                return f"its value is no valid {vr}"
    return ""


def mend(keyword: str, vr: str, values: list[str]) -> list[str] | None:
    """Give values mended for their VR, None where nothing can be kept."""
    if vr in CUT:
        return ["".join(c for c in value if c.isprintable())[: CUT[vr]] for value in values]
    if vr == "DS":
        try:
            return [decimal_string(float(value)) for value in values]
        except ValueError:
            return None
    if vr == "CS":
        upper = [value.strip().upper() for value in values]
        return upper if not check_values(keyword, vr, upper) else None
    return None


def decimal_string(number: float) -> str:
    """Give a number in at most 16 characters, PS3.5 6.2 DS."""
    return str(format_number_as_ds(number))


def mend_slice(keyword: str, written: str) -> tuple[str, str]:
    """Give a per-slice string as it can be written, and what was wrong with it.

    Parameters
    ----------
    keyword : str
        The attribute.
    written : str
        As the source has it, values joined by backslashes.
    """
    vr, values = dictionary_VR(keyword), [part.strip() for part in written.split("\\")]
    fault = check_values(keyword, vr, values)
    if not fault:
        return "\\".join(values), ""
    mended = mend(keyword, vr, values)
    if mended is None:
        return "", f"{keyword}: {fault}: left out"
    return "\\".join(mended), f"{keyword}: {fault}: written in 16 characters or fewer"


def _usable_sequence(keyword: str, source: Dataset) -> tuple[DataElement | None, str]:
    try:
        items = list(source[keyword].value)
    except Exception:
        return None, "is damaged: left out"
    needs = ITEM_NEEDS.get(keyword, ())
    if not items:
        return None, ""
    for item in items:
        if not all(str(item.get(need, "") or "") for need in needs):
            return None, f"an item lacks {' or '.join(needs)}: left out"
    return source[keyword], ""


_INSTEAD = "PatientOrientationCodeSequence"
"""PatientPosition is required, perhaps empty, where this is absent, PS3.3 C.7.3.1.1.2."""

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
