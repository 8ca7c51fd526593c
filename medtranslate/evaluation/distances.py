"""Distances between two sets of features, by torch-fidelity's own functions, and their floor.

FID: Heusel et al. 2017, equation 6. KID: Binkowski et al. 2018, the unbiased estimate with a cubic
kernel. Precision and recall: Kynkaanniemi et al. 2019, by the third nearest neighbor.

The floor is real slices against other real slices: no translation can be nearer. FID of the same
distributions falls as sets grow, so a floor stands only beside figures of as many slices; `Floor`
carries the sizes, and `at_floor_size` cuts a model's slices to them.

torch-fidelity imports torchvision at package import, and uses none of it for Inception features.
Beside a CPU build of torch a CUDA build of torchvision cannot be imported, because the operators
that it registers fake kernels for do not exist. `fidelity` declares their schemas, which lets the
import through.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from medtranslate.errors import EvaluationFailed

KID_SUBSETS = 100
KID_LARGEST_SUBSET = 1000
KID_LARGEST_KERNEL = 10_000  # images of both sets: 0.4 GB
NEIGHBOR = 3


@dataclass(frozen=True)
class Distances:
    """How far one set of images is from a real one.

    Attributes
    ----------
    fid : float
        Frechet distance of the features; falls with the number of images, so it is compared only
        with a floor of the same sizes.
    kid, kid_deviation : float
        Mean and standard deviation over random subsets; unbiased, so sizes matter less, and a
        value slightly below 0 is a good one.
    precision, recall : float or None
        Shares in [0, 1]: judged images that look real, real images that are covered. None
        where a set has fewer than four images, and so no third neighbor.
    sizes : tuple of int
        Number of judged and of real images.
    kid_subset : int
        Images in each of KID's subsets.
    """

    fid: float
    kid: float
    kid_deviation: float
    precision: float | None
    recall: float | None
    sizes: tuple[int, int]
    kid_subset: int

    def swapped(self) -> Distances:
        """Return the distances with the two sets exchanged: FID and KID are symmetric."""
        return replace(
            self,
            precision=self.recall,
            recall=self.precision,
            sizes=(self.sizes[1], self.sizes[0]),
        )


def distances(judged: torch.Tensor, real: torch.Tensor, *, seed: int) -> Distances:
    """Measure how far judged features (N, D) are from real ones (M, D).

    Raises
    ------
    EvaluationFailed
        Fewer than two in a set, or values that are not finite.
    """
    for features, what in ((judged, "judged"), (real, "real")):
        if len(features) < 2:
            raise EvaluationFailed(f"{len(features)} {what} image(s): two are the fewest")
        if not torch.isfinite(features).all():
            raise EvaluationFailed(f"features of the {what} images are not finite")
    mean, deviation = kid(judged, real, seed=seed)
    neighbors = _precision_recall(judged, real)
    return Distances(
        fid=frechet(judged, real),
        kid=mean,
        kid_deviation=deviation,
        precision=neighbors.get("precision"),
        recall=neighbors.get("recall"),
        sizes=(len(judged), len(real)),
        kid_subset=kid_subset_size(len(judged), len(real)),
    )


def frechet(judged: torch.Tensor, real: torch.Tensor) -> float:
    """Return the Frechet distance of the Gaussians fitted to (N, D) and (M, D) features.

    Fewer images than features span a space of less than D dimensions. The covariances meet only
    there, so torch-fidelity's eigenvalues are taken in it, and what lies outside adds its plain
    variance: the same figure, for 744 images at an eighth of the time.
    """
    fid = fidelity("metric_fid")
    first, second = judged.double(), real.double()
    span = _span(min(first, second, key=len))
    within = [features @ span for features in (first, second)]
    statistics = [fid.fid_features_to_statistics(features) for features in within]
    found = fid.fid_statistics_to_metric(*statistics, verbose=False)[fid.KEY_METRIC_FID]
    return float(found) + _without_covariance(first, second) - _without_covariance(*within)


def _span(features: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis, (D, K), of where features (N, D) vary; K is at most D."""
    count, dimensions = features.shape
    if count > dimensions:
        return torch.eye(dimensions, dtype=features.dtype)
    basis, _ = torch.linalg.qr((features - features.mean(dim=0)).T)
    return torch.as_tensor(basis)


def _without_covariance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return what the Frechet distance would be if no feature of one set went with the other's."""
    shift = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    return float(shift + first.var(dim=0).sum() + second.var(dim=0).sum())


def kid(judged: torch.Tensor, real: torch.Tensor, *, seed: int) -> tuple[float, float]:
    """Return the kernel distance of (N, D) and (M, D) features: mean, deviation over subsets.

    The subsets are those that torch-fidelity would draw; its kernel is computed once for all of
    them, which is the same in a twentieth of the time, for as long as the memory allows it.
    """
    metric = fidelity("metric_kid")
    size = kid_subset_size(len(judged), len(real))
    if len(judged) + len(real) > KID_LARGEST_KERNEL:
        found = metric.kid_features_to_metric(
            judged,
            real,
            kid_subsets=KID_SUBSETS,
            kid_subset_size=size,
            rng_seed=seed,
            verbose=False,
        )
        return found[metric.KEY_METRIC_KID_MEAN], found[metric.KEY_METRIC_KID_STD]
    first, second = judged.numpy(), real.numpy()
    within_first, within_second = (
        metric.kernel_poly(first, first),
        metric.kernel_poly(second, second),
    )
    between = metric.kernel_poly(first, second)
    random = np.random.RandomState(seed)
    estimates = []
    for _ in range(KID_SUBSETS):
        one = random.choice(len(first), size, replace=False)
        other = random.choice(len(second), size, replace=False)
        estimates.append(
            metric.mmd2(
                within_first[np.ix_(one, one)],
                between[np.ix_(one, other)],
                within_second[np.ix_(other, other)],
            )
        )
    return float(np.mean(estimates)), float(np.std(estimates))


def kid_subset_size(judged: int, real: int) -> int:
    """Return half the smaller set, at most 1000: whole sets would give a deviation of 0."""
    return max(2, min(KID_LARGEST_SUBSET, min(judged, real) // 2))


def _precision_recall(judged: torch.Tensor, real: torch.Tensor) -> dict[str, Any]:
    if min(len(judged), len(real)) <= NEIGHBOR:
        return {}
    found: dict[str, Any] = fidelity("metric_prc").prc_features_to_metric(
        judged, real, prc_neighborhood=NEIGHBOR, verbose=False
    )
    return found


@dataclass(frozen=True)
class RealSet:
    """Features of the real images of one modality.

    Attributes
    ----------
    test : float32 tensor (M, D)
        The images that translations are compared with.
    reference : float32 tensor (K, D) or None
        Other real images of the same kind, such as the training set.
    """

    test: torch.Tensor
    reference: torch.Tensor | None = None


@dataclass(frozen=True)
class Floor:
    """The distance between real images and other real images.

    Attributes
    ----------
    kind : {"reference", "halves"}
        Reference images against the test set; or, without a reference, one random half of the
        test set against the other.
    distances : Distances
    against : tensor of int64
        Rows of the test set that were the real side.
    """

    kind: str
    distances: Distances
    against: torch.Tensor


def floor(real: RealSet, *, judged: int, seed: int) -> Floor | None:
    """Measure the floor for `judged` translated images; None where halves would be too few.

    With a reference the floor has as many judged images as the model where the reference is large
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
    """Measure translated features with as many images on both sides as the floor has.

    `whole` is the distance of all of them, returned as it is where the sizes agree already.
    """
    if whole.sizes == beside.distances.sizes:
        return whole
    drawn = translated[_shuffled(len(translated), seed)[: beside.distances.sizes[0]]]
    return distances(drawn, real.test[beside.against], seed=seed)


def _shuffled(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(count))


_MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def fidelity(module: str) -> ModuleType:
    """Return a module of torch-fidelity, such as ``"metric_fid"``.

    Raises
    ------
    EvaluationFailed
        torch-fidelity, or something that it needs, is not installed or cannot be imported.
    """
    name = f"torch_fidelity.{module}"
    try:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            return _import_beside_broken_torchvision(name)
    except ImportError as error:
        raise EvaluationFailed(
            f"FID and KID need torch-fidelity, and {error.name or error} is not installed",
            remedy="pip install 'medtranslate[evaluate]'",
        ) from error
    except RuntimeError as error:
        raise EvaluationFailed(
            f"torch-fidelity cannot be imported: {error}",
            remedy="install builds of torch and torchvision that belong together",
        ) from error


def _import_beside_broken_torchvision(name: str) -> ModuleType:
    """Import with the missing operators declared, for as long as the import lasts.

    The half-working torchvision serves torch-fidelity alone, so it is not left among the loaded
    modules for other packages to find. What stays are the fake kernels that torchvision registered:
    torch itself holds those, and without their operators nothing reaches them.
    """
    _forget("torchvision")
    _forget("torch_fidelity")
    library = torch.library.Library("torchvision", "DEF")
    try:
        for schema in _MISSING_OPERATORS:
            library.define(schema)
        return importlib.import_module(name)
    finally:
        _forget("torchvision")
        library._destroy()


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
