"""The floor: real pictures against other real pictures, which no translation can be nearer than.

FID of the same distributions falls as sets grow, so a floor stands only beside figures made from
as many pictures. `Floor` therefore carries the sizes, and `at_floor_size` cuts a model's pictures
to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from medtranslate.evaluation.distances import Distances, distances


@dataclass(frozen=True)
class RealSet:
    """Features of the real pictures of one modality.

    Attributes
    ----------
    test : float32 tensor (M, D)
        The pictures that translations are compared with.
    reference : float32 tensor (K, D) or None
        Other real pictures of the same kind, such as the training set.
    """

    test: torch.Tensor
    reference: torch.Tensor | None = None


@dataclass(frozen=True)
class Floor:
    """The distance between real pictures and other real pictures.

    Attributes
    ----------
    kind : {"reference", "halves"}
        Reference pictures against the test set; or, without a reference, one random half of the
        test set against the other.
    distances : Distances
    against : tensor of int64
        Rows of the test set that were the real side.
    """

    kind: str
    distances: Distances
    against: torch.Tensor


def floor(real: RealSet, *, judged: int, seed: int) -> Floor | None:
    """Measure the floor for `judged` translated pictures; None where halves would be too few.

    With a reference the floor has as many judged pictures as the model where the reference is large
    enough, else the whole reference.
    """
    order = _shuffled(len(real.test), seed)
    if real.reference is not None:
        count = min(judged, len(real.reference))
        drawn = real.reference[_shuffled(len(real.reference), seed)[:count]]
        everything = torch.arange(len(real.test))
        return Floor("reference", distances(drawn, real.test, seed=seed), everything)
    half = min(len(real.test) // 2, judged)
    if half < 2:
        return None
    first, second = order[:half], order[len(real.test) // 2 :]
    found = distances(real.test[first], real.test[second], seed=seed)
    return Floor("halves", found, second)


def at_floor_size(
    translated: torch.Tensor, real: RealSet, beside: Floor, *, whole: Distances, seed: int
) -> Distances:
    """Measure translated features with as many pictures on both sides as the floor has.

    `whole` is the distance of all of them, returned as it is where the sizes agree already.
    """
    if whole.sizes == beside.distances.sizes:
        return whole
    drawn = translated[_shuffled(len(translated), seed)[: beside.distances.sizes[0]]]
    return distances(drawn, real.test[beside.against], seed=seed)


def _shuffled(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(count))
