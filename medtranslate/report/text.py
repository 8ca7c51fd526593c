"""The findings of a conversion as sentences, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MEANINGS = {
    "Cycle error": "The result, rounded as it is written and with a little noise over it, was "
    "translated back, and this reconstruction compared with the scan. A structure that the "
    "reconstruction lacks may be missing, moved or invented in the result. The reverse does not "
    "hold: a small error is no proof that the result is right, because both directions can be "
    "wrong together. The slices listed and shown are those with the largest error at one place of "
    "8 mm well inside the head: on average, skull and skin have the largest errors of a slice.",
    "Variation": "The scan was translated again, mirrored and shifted by a few pixels. Anatomy "
    "does not depend on that; what changed is uncertain. What did not change may still be wrong.",
    "Domain check": "Whether the scan looks like those that the model was trained on: the "
    "modality, a head, upright, with its usual contrast. A scan that passes can still show a "
    "disease that the model has never seen.",
    "Coverage": "Places that the model could not see, or was not trained on. What the result "
    "shows there is background or a guess.",
}
"""What each check of a conversion means."""


def findings(conversion: Mapping[str, Any]) -> Iterator[str]:
    """Describe what the checks of a conversion found.

    Parameters
    ----------
    conversion : mapping
        One of the report's ``"conversions"``.

    Yields
    ------
    str
        A sentence each.
    """
    for key, tell in _TELL.items():
        if conversion[key]:
            yield from tell(conversion[key])
    yield from conversion["warnings"]


def _domain(found: Mapping[str, Any]) -> Iterator[str]:
    reasons = "; ".join(found["reasons"])
    if found["verdict"] == "not checked":
        yield f"Domain check: not made, {reasons}."
        return
    limits = found["limits"]
    forced = " The conversion was forced." if found["forced"] else ""
    yield (
        f"Domain check: {found['verdict']}{f' ({reasons})' if reasons else ''}; anomaly score "
        f"{found['score']:.1f}, warned of from {limits['warn']:g}, refused from "
        f"{limits['refuse']:g}.{forced}"
    )


def _cycle(found: Mapping[str, Any]) -> Iterator[str]:
    peaks = {one["index"]: one["peak"] for one in found["slices"]}
    worst = next(iter(found["worst_slices"]), None)
    most = ""
    if len(peaks) > 1 and worst is not None and peaks[worst] is not None:
        most = f"; largest at one place of slice {worst}: {peaks[worst]:.1f}"
    yield (
        f"Cycle error: the reconstruction differs from the scan by {found['error']:.1f} "
        f"{found['units']} on average, {found['share_of_range']:.1%} of the range that the model "
        f"was shown{most}."
    )


def _variation(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Variation: mirrored and shifted, the result changes by {found['error']:.1f} "
        f"{found['units']} on average, {found['share_of_range']:.1%} of its range."
    )


def _unseen(found: Mapping[str, Any]) -> Iterator[str]:
    if found["outside_field_voxels"]:
        count = found["outside_field_voxels"]
        yield f"{count} voxels that are not air lie outside the model's field of view."
    above, below = found["above_window_share"], found["below_window_share"]
    if above + below >= 0.0005:
        yield (
            f"In {above + below:.1%} of the head the model could see no structure: {above:.1%} is "
            f"plain white to it, {below:.1%} plain black."
        )
    base, unlike = found["below_skull_base_slices"], found["unlike_training_slices"]
    if base:
        yield f"{_listed(base)} below the skull base, where the model was hardly trained."
    if unlike:
        yield f"{_listed(unlike)} unlike those that the model was trained on."


def _listed(slices: list[int]) -> str:
    if len(slices) == 1:
        return f"Slice {slices[0]} is"
    whole = sorted(slices) == list(range(min(slices), max(slices) + 1))
    shown = f"{min(slices)} to {max(slices)}" if whole else ", ".join(map(str, sorted(slices)))
    return f"Slices {shown} are"


_TELL = {"domain": _domain, "cycle_error": _cycle, "variation": _variation, "unseen": _unseen}
