"""Values out of raw DICOM elements, each with a named error where it cannot be what it should be.

The bytes are read here rather than by pydicom because a value that a scanner broke must neither
warn on stderr nor raise an error that names no file.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from medtranslate.errors import Unreadable, Unsupported


@functools.cache
def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return BaseTag(tag)


def _element(dataset: Dataset, tag: BaseTag, keyword: str) -> Any:
    """Give an element as it was read, if its value representation is one."""
    element: Any = dataset.get_item(tag)
    if element.VR is not None and element.VR not in VR.__members__:
        raise Unreadable(f"{keyword} is damaged: {shown(str(element.VR))!r} is no VR")
    return element


def shown(value: str) -> str:
    """Give text from a file as a message may show it: one line, no control characters, short."""
    return "".join(c if c.isprintable() else "?" for c in value[:96])


def text(dataset: Dataset, keyword: str) -> str:
    """Give an element's characters (default repertoire), values joined by a backslash.

    Padding is stripped; an absent or binary element gives ``""``.
    """
    tag = _tag(keyword)
    if tag not in dataset.keys():  # noqa: SIM118
        return ""
    value = _element(dataset, tag, keyword).value
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    if isinstance(value, (list, tuple)) or (
        isinstance(value, Sequence) and not isinstance(value, str)
    ):
        return "\\".join(str(part) for part in value)
    return "" if value is None else str(value).strip(" \0")


def first(dataset: Dataset, keyword: str) -> str:
    """Give the first value of a text element, ``""`` where there is none."""
    return text(dataset, keyword).split("\\")[0].strip()


def decimals(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Give the finite numbers of a DS element, ``()`` where it is absent or empty.

    Raises
    ------
    Unreadable
        There are not `count` of them, or one is no number.
    """
    written = text(dataset, keyword)
    if not written:
        return ()
    return parse_decimals(written, keyword, count)


def parse_decimals(written: str, keyword: str, count: int) -> tuple[float, ...]:
    """Give the `count` finite numbers in a DS string; see `decimals`."""
    parts = written.split("\\")
    try:
        # Digits only: float() also takes "1_0", "nan" and full-width digits, DS does not.
        if not all(set(part.strip()) <= set("0123456789+-.eE") for part in parts):
            raise ValueError
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        raise Unreadable(f"{keyword} is no number: {written[:40]!r}") from None
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise Unreadable(f"{keyword} does not hold {count} finite number(s): {written[:40]!r}")
    return numbers


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Give an integer (US, SS, UL, SL or IS), None where it is absent or empty.

    The sign of a 2- or 4-byte value follows its VR; US where the VR is not known.

    Raises
    ------
    Unreadable
        It is no single integer.
    """
    tag = _tag(keyword)
    if tag not in dataset.keys():  # noqa: SIM118
        return None
    element = _element(dataset, tag, keyword)
    value, vr = element.value, element.VR
    if isinstance(value, int):
        return value
    if value is None or len(value) == 0:
        return None
    binary = isinstance(value, bytes) and vr != "IS" and keyword not in _DECIMAL_INTEGERS
    if binary and len(value) in (2, 4):
        order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
        return int.from_bytes(value, order, signed=vr in ("SS", "SL"))
    try:
        return int(text(dataset, keyword))
    except ValueError:
        raise Unreadable(f"{keyword} is no integer") from None


_DECIMAL_INTEGERS = frozenset({"NumberOfFrames", "InstanceNumber", "SeriesNumber"})


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Give the items of a sequence, ``[]`` where it is absent.

    Raises
    ------
    Unreadable
        It is no sequence.
    """
    tag = _tag(keyword)
    if tag not in dataset.keys():  # noqa: SIM118
        return []
    try:
        found = dataset[tag].value
        return [item for item in found or [] if isinstance(item, Dataset)]
    except Exception as error:
        raise Unreadable(f"{keyword} is damaged") from error


def required_decimals(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Give the numbers of an attribute that geometry cannot do without.

    Raises
    ------
    Unsupported
        It is absent or empty.
    Unreadable
        It does not hold `count` numbers.
    """
    numbers = decimals(dataset, keyword, count)
    if not numbers:
        raise Unsupported(f"{keyword} is missing")
    return numbers


def rescale(modality: str, slope: str, intercept: str, kind: str) -> tuple[float, float]:
    """Give slope and intercept of the modality rescale, PS3.3 C.11.1.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"``.
    slope, intercept, kind : str
        RescaleSlope, RescaleIntercept and RescaleType as stored, ``""`` where absent.

    Raises
    ------
    Unsupported
        A CT without a rescale to HU, or a slope of zero.
    """
    if modality == "CT" and kind not in ("", "HU"):
        raise Unsupported(f"RescaleType is {shown(kind)}, not HU")
    for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if modality == "CT" and not value:
            raise Unsupported(f"{keyword} is missing")
    (factor,) = parse_decimals(slope or "1", "RescaleSlope", 1)
    (offset,) = parse_decimals(intercept or "0", "RescaleIntercept", 1)
    if factor == 0:
        raise Unsupported("RescaleSlope is 0")
    if max(abs(factor), abs(offset)) > 1e9:
        raise Unsupported(f"RescaleSlope {factor:g} or RescaleIntercept {offset:g} is absurd")
    return factor, offset
