"""Coverage: what the cycle error says nothing about, because the network never saw it.

Places beyond the model's field of view, its window or its training data are counted, and marked in
error maps by values below zero (`mark_unseen`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.quality.error_map import ErrorMap
from medtranslate.transforms import Placement, Prepared, Recipe

_SATURATED = 1 - 1e-6

_BRAIN = 0.07
"""Share of the head that soft tissue enclosed by bone takes in a slice of the brain. In the slices
of a real head CT it is at most 0.04 up to the foramen magnum and 0.09 to 0.68 above it."""


@dataclass(frozen=True)
class Coverage:
    """What of a scan the model could not see, or was not trained on.

    Parameters
    ----------
    outside_field : int
        Voxels outside the network's field of view, background in the result, that are not air:
        tissue, or a head rest.
    below_window, above_window : float
        Fraction of the head, 0 to 1, that is plain black or plain white to the network, so that no
        structure is visible in it: air and fat, bone in a CT in the brain window.
    below_skull_base : tuple of int, or None
        Slices, by their index in the scan, that lie below the brain; None where it is unknown:
        every MR and every 2D image.
    unlike : tuple of int
        Slices whose anomaly score alone would refuse a scan.

    Examples
    --------
    >>> Coverage(0, 0.02, 0.21, below_skull_base=(0, 1)).as_builtins()["below_skull_base_slices"]
    [0, 1]
    """

    outside_field: int
    below_window: float
    above_window: float
    below_skull_base: tuple[int, ...] | None
    unlike: tuple[int, ...] = ()

    def as_builtins(self) -> dict[str, Any]:
        """Return the figures as builtins."""
        base = self.below_skull_base
        return {
            "outside_field_voxels": self.outside_field,
            "below_window_share": round(self.below_window, 5),
            "above_window_share": round(self.above_window, 5),
            "below_skull_base_slices": None if base is None else list(base),
            "unlike_training_slices": list(self.unlike),
        }


def measure_coverage(
    prepared: Prepared, image: MetaTensor, recipe: Recipe, unlike: Sequence[int] = ()
) -> Coverage:
    """Measure what of a scan the model could not see.

    Parameters
    ----------
    prepared : Prepared
        From `Translator.prepare`, with the slices of the scan still in it.
    image : MetaTensor (1, X, Y, Z)
        The scan, in physical units.
    recipe : Recipe
        The recipe that prepared it.
    unlike : sequence of int
        Network slices whose anomaly score alone would refuse a scan.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> from medtranslate.files import shipped
    >>> from medtranslate.transforms import load_recipe
    >>> recipe = load_recipe(shipped("transforms/ct-volume.yaml"))
    >>> scan = Phantom((64, 64, 4), (3.0, 3.0, 40.0)).volume()
    >>> prepared = recipe.prepare(scan)
    >>> seen = measure_coverage(prepared, scan, recipe)
    >>> seen.outside_field, 0.1 < seen.above_window < 0.5
    (0, True)
    """
    slices, head = prepared.slices[:, 0], prepared.head
    size = max(1, int(prepared.areas.sum()))
    black = white = 0
    for each, inside in zip(slices, head, strict=True):
        black += int(torch.count_nonzero((each <= -_SATURATED) & inside))
        white += int(torch.count_nonzero((each >= _SATURATED) & inside))
    at = prepared.placement.slices
    shows_bone = recipe.modality == "CT" and recipe.kind == "volume"
    base = _below_skull_base(slices, head) if shows_bone else None
    return Coverage(
        _outside_field(prepared.placement, image, recipe),
        black / size,
        white / size,
        None if base is None else tuple(int(one) for one in at[base]),
        tuple(int(at[one]) for one in unlike),
    )


def mark_unseen(measure: ErrorMap, prepared: Prepared, coverage: Coverage) -> MetaTensor:
    """Mark in an error map, in place, where the model could not see.

    A value ``v`` below 0 is such a place, and ``-1 - v`` is what was measured there; outside the
    network's field of view it is -1.

    Parameters
    ----------
    measure : ErrorMap
        Its map is changed, because a second one would not fit in memory beside a long series.
    prepared : Prepared
        From `Translator.prepare`, with the slices of the scan still in it.
    coverage : Coverage
        From `measure_coverage`.

    Returns
    -------
    MetaTensor (1, X, Y, Z)
        The map of `measure`.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> from medtranslate.files import shipped
    >>> from medtranslate.imaging.source import like_scan
    >>> from medtranslate.transforms import load_recipe
    >>> recipe = load_recipe(shipped("transforms/ct-volume.yaml"))
    >>> scan = Phantom((64, 64, 4), (3.0, 3.0, 40.0)).volume()
    >>> prepared = recipe.prepare(scan)
    >>> plain = like_scan(torch.full((64, 64, 4), 5.0), scan, scan.meta["source"])
    >>> found = ErrorMap(plain, 5.0, (), axis=2, units="HU", limits=(-20.0, 100.0))
    >>> marked = mark_unseen(found, prepared, measure_coverage(prepared, scan, recipe))
    >>> marked.unique().tolist()  # -6: 5 HU, where skull is plain white to the network
    [-6.0, 5.0]
    """
    volume = measure.map.as_tensor()[0]
    whole = {*(coverage.below_skull_base or ()), *coverage.unlike}
    place = prepared.placement
    stack = volume.permute(place.axes)
    for number, at in enumerate(place.slices.tolist()):
        plane = stack[at]
        saturated = (prepared.slices[number, 0].abs() >= _SATURATED) & prepared.head[number]
        if at in whole:
            saturated = prepared.head[number]
        laid = place.rows_back @ saturated.float() @ place.columns_back.T >= 0.5
        plane[:] = torch.where(laid | ~place.seen, -1 - plane, plane)
    return measure.map


def _outside_field(place: Placement, image: MetaTensor, recipe: Recipe) -> int:
    """Count voxels outside the network's field of view, above the level of tissue."""
    volume = image.as_tensor()[0].detach().cpu()
    beyond = ~place.seen
    if recipe.tissue is None or recipe.kind == "image" or not beyond.any():
        return 0
    coarse = volume[tuple(slice(None, None, max(1, n // 64)) for n in volume.shape)]
    level = recipe.tissue.threshold.level(coarse.float().numpy())
    stack = volume.permute(place.axes)
    return sum(int((stack[at][beyond] > level).sum()) for at in place.slices.tolist())


def _below_skull_base(slices: torch.Tensor, head: torch.Tensor) -> NDArray[np.int64] | None:
    """Return the network slices below the first that shows brain; None where none does.

    Brain is soft tissue that bone encloses. Where a large part of the skull is missing it is not
    enclosed, and the slices are unknown.
    """
    for number in np.flatnonzero(head.flatten(1).any(1).numpy()):
        bone = (slices[number] >= _SATURATED).numpy()
        soft = (slices[number].abs() < _SATURATED).numpy()
        if (_enclosed(bone) & soft).sum() >= _BRAIN * int(head[number].sum()):
            return np.arange(number)
    return None


def _enclosed(bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what lies within bone: not connected to the outside by more than gaps of some mm."""
    rows, columns = bone.shape
    # At a quarter of the size, where a pixel is bone if any of its sixteen is, sutures are closed.
    coarse = bone.reshape(rows // 4, 4, columns // 4, 4).any(axis=(1, 3))
    free = sitk.GetImageFromArray(np.pad(~coarse, 1, constant_values=True).view(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(free))
    inside = (parts != parts[0, 0])[1:-1, 1:-1] & ~coarse
    enclosed: NDArray[np.bool_] = inside.repeat(4, axis=0).repeat(4, axis=1)
    return enclosed
