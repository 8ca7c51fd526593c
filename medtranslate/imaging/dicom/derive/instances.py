"""One data set for each slice of a derived series, by the rules of `attributes`."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom.attributes import RULES, from_text
from medtranslate.imaging.dicom.derive.computed import (
    COMPUTED,
    SOFTWARE,
    Series,
    UidMaker,
    basis_of,
)
from medtranslate.imaging.dicom.derive.repair import copy_series, mend_slice
from medtranslate.imaging.dicom.derive.stored_values import PixelWords


def derive(image: MetaTensor, source: dict[str, Any], uid_seed: str = "") -> Series:
    """Prepare the derived series of a translated image.

    Parameters
    ----------
    image : MetaTensor
        Float32 (1, X, Y, Z): HU for CT, arbitrary units from 0 for MR; ``meta["synthesis"]`` set.
    source : dict
        ``meta["source"]`` of a DICOM series on the same grid.
    uid_seed : str
        ``""`` for new UIDs each time; see `UidMaker`.

    Raises
    ------
    Unsupported
        The image was not translated, does not fit the source's slices, or holds values that do
        not fit 16 bits.
    """
    synthesis = getattr(image, "meta", {}).get("synthesis")
    if not synthesis:
        raise Unsupported("only a translated image is written as a derived DICOM series")
    header, target = source["header"], synthesis["modality"]
    slices = header.get("slices", ())
    if "shared" not in header or len(slices) != image.shape[3]:
        raise Unsupported(
            "the image has no DICOM series on the same slices to be derived from",
            remedy="give that series with --template, or write NIfTI",
        )
    voxels = np.asarray(torch.as_tensor(image.detach().cpu()).as_subclass(torch.Tensor)[0])
    pixels = PixelWords(voxels, [one["padding"] for one in slices], synthesis)
    digests, highest = [], 1
    for index in range(len(slices)):
        words = pixels.of(index)
        digests.append(hashlib.sha256(words.tobytes()).hexdigest())
        highest = max(highest, int(words.max()))
    seed = uid_seed or str((synthesis.get("options") or {}).get("uid_seed", ""))
    uids = UidMaker(seed, basis_of(synthesis, SOFTWARE))
    carried = from_text(header["shared"])
    copied = copy_series(carried, target, uids.make("frame of reference", header["series"]))
    return Series(
        target=target,
        synthesis=synthesis,
        header=header,
        source=carried,
        copied=copied.dataset,
        pixels=pixels,
        digests=digests,
        window=display_window(highest, synthesis),
        padded=any(one["padding"] for one in slices),
        uids=uids,
        uid=uids.make("series", *(one["instance"] for one in slices), *digests),
        now=_now(str(carried.get("TimezoneOffsetFromUTC", "") or "")),
        notes=(*copied.notes, *_slice_notes(slices)),
    )


def repairs(image: MetaTensor, source: dict[str, Any] | None = None) -> list[str]:
    """Say what the derived series adds to or mends of its source's attributes.

    Parameters
    ----------
    image : MetaTensor
        As for `derive`.
    source : dict, optional
        ``meta["source"]`` to derive from; the image's own by default.

    Raises
    ------
    Unsupported
        As `derive`.
    """
    return list(derive(image, source or image.meta["source"]).notes)


def display_window(highest: int, synthesis: dict[str, Any]) -> tuple[float, float]:
    """Give center and width to display: the model's window, else what the values span.

    Parameters
    ----------
    highest : int
        The largest stored value of the series.
    synthesis : dict
        ``meta["synthesis"]``.
    """
    if synthesis.get("window"):
        low, high = synthesis["window"]
        return (low + high) / 2, high - low
    return (40.0, 400.0) if synthesis["modality"] == "CT" else (highest / 2, highest)


def instance(series: Series, index: int) -> Dataset:
    """Give the data set of one slice, every row of the rules in it.

    Parameters
    ----------
    series : Series
        From `derive`.
    index : int
        The slice, from 0, by position along the normal.
    """
    built = copy.copy(series.copied)
    for rule in RULES:
        if series.target not in rule.targets or rule.origin == "copied":
            continue
        if rule.origin == "computed":
            value = COMPUTED[rule.keyword](series, index)
        elif rule.origin == "slice":
            written = series.header["slices"][index]["attributes"].get(rule.keyword, "")
            value, _ = mend_slice(rule.keyword, written or rule.value)
        else:
            value = rule.value
        if value in (None, "") and rule.kind not in ("2", "2C"):
            continue
        _put(built, rule.keyword, value, series.target)
    return built


def _put(dataset: Dataset, keyword: str, value: Any, target: str) -> None:
    vr, tag = dictionary_VR(keyword), tag_for_keyword(keyword) or 0
    if vr == "US or SS":
        vr = "SS" if target == "CT" else "US"
    elif vr == "OB or OW":
        vr = "OW"
    if vr in ("US", "SS"):
        value = int(value)
    dataset[tag] = DataElement(tag, vr, value)


def _slice_notes(slices: list[dict[str, Any]]) -> list[str]:
    mended = Counter(
        keyword
        for record in slices
        for keyword, written in record["attributes"].items()
        if mend_slice(keyword, written)[1]
    )
    repairs = [
        f"{keyword}: not as the standard writes it, mended in {count} slices"
        for keyword, count in mended.items()
    ]
    bare = sum("SliceThickness" not in record["attributes"] for record in slices)
    if bare:
        repairs.append(f"SliceThickness is missing in {bare} slices: written empty (type 2)")
    return repairs


def _now(offset: str) -> datetime:
    """Give the time in the zone that the source's times are in, that of this machine if unsaid."""
    try:
        sign = -1 if offset.startswith("-") else 1
        hours, minutes = int(offset[1:3]), int(offset[3:5])
        zone = timezone(sign * timedelta(hours=hours, minutes=minutes))
    except ValueError:
        return datetime.now().astimezone()
    return datetime.now(zone)
