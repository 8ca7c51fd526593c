"""The expected error: how far a result is expected to lie from the truth, place by place.

A small network has learned it from pairs with a truth, rendered from label maps or registered: it
is shown a scan and its translation, and predicts the mean absolute error. No reconstruction is
needed, so it costs next to nothing and works for models of one direction, too.

A bundle's networks lie in one safetensors file, nothing that runs: the weights of each direction,
and under the metadata key ``medtranslate`` the format and what they were fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import nn

from medtranslate.bundle import Bundle
from medtranslate.bundle.load import read_part
from medtranslate.bundle.save import part_bytes
from medtranslate.device import Progress
from medtranslate.errors import ModelUnusable
from medtranslate.quality.error_map import ErrorMap, Indices, Pair
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator

FORMAT = 2

_WINDOWS = (5, 11, 21)  # pixels; of the result's spread, the first one of the scan's, too
_INPUTS = 4 + len(_WINDOWS)
_CHANNELS = 16
_LARGEST = 2.0  # of values in [-1, 1]
_REMEDY = "fit it again: medtranslate bundle fit-expected-error BUNDLE LABELS"


class ErrorPredictor(nn.Module):
    """Predict the mean absolute error of translated slices, at half their resolution.

    It looks at gray levels and at their spread nearby: where a result has an edge, a structure
    that lies a few pixels off is an error. Given spreads, three small layers rank the errors of
    real pairs as well as a U-Net does, and those of synthetic MRI better.

    Examples
    --------
    >>> slices, head = torch.zeros(2, 1, 64, 64), torch.ones(2, 1, 64, 64, dtype=torch.bool)
    >>> ErrorPredictor().eval()(slices, slices, head).shape
    torch.Size([2, 1, 32, 32])
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(_INPUTS, _CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, 1, 1),
        )

    @property
    def bias(self) -> nn.Parameter:
        """The logarithm of a factor that all errors have in common."""
        return cast(nn.Parameter, self.network[-1].bias)

    def forward(
        self, source: torch.Tensor, result: torch.Tensor, head: torch.Tensor
    ) -> torch.Tensor:
        """Predict the error.

        Parameters
        ----------
        source, result : float tensor (N, 1, H, W)
            A scan's slices and their translation, in [-1, 1]; H and W are even.
        head : bool tensor (N, 1, H, W)

        Returns
        -------
        float tensor (N, 1, H / 2, W / 2)
            Mean absolute error of values in [-1, 1], above 0.
        """
        return self.of_inputs(self.inputs(source, result, head))

    @staticmethod
    def inputs(source: torch.Tensor, result: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        """Return what the network sees (N, 7, H / 2, W / 2), head, scan, result and spreads."""
        spreads = [_spread(source, _WINDOWS[0]), *(_spread(result, each) for each in _WINDOWS)]
        return F.avg_pool2d(torch.cat([head.to(source), source, result, *spreads], dim=1), 2)

    def of_inputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Predict the error from `inputs`."""
        predicted: torch.Tensor = self.network(inputs)
        return predicted.exp().clamp(max=_LARGEST)


def _spread(slices: torch.Tensor, window: int) -> torch.Tensor:
    """Return the standard deviation in a window around each pixel."""
    mean, square = (
        F.avg_pool2d(each, window, 1, window // 2, count_include_pad=False)
        for each in (slices, slices**2)
    )
    return (square - mean**2).clamp(min=0).sqrt()


@dataclass(frozen=True, eq=False)
class ErrorPredictors:
    """The networks of a bundle that predict its errors.

    Parameters
    ----------
    networks : mapping of str to ErrorPredictor
        By target: ``"mri"`` and ``"ct"``, or one of them.
    fitted : mapping
        What they were fitted to, and how well they rank errors, in builtins.

    Examples
    --------
    >>> ErrorPredictors({"ct": ErrorPredictor()})
    ErrorPredictors(to ct)
    """

    networks: Mapping[str, ErrorPredictor]
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ErrorPredictors(to {' and '.join(self.networks)})"

    def to_bytes(self) -> bytes:
        """Serialize them as a safetensors file, with weights in 16 bit."""
        tensors = {
            f"{to}.{name}": value.to(torch.float16 if value.is_floating_point() else value.dtype)
            for to, network in self.networks.items()
            for name, value in network.state_dict().items()
        }
        about = {"format": FORMAT, "targets": list(self.networks), "fitted": dict(self.fitted)}
        return part_bytes(about, tensors)


def load_error_predictors(bundle: Bundle) -> ErrorPredictors | None:
    """Load the networks that predict a bundle's errors; None where it carries none.

    Raises
    ------
    ModelUnusable
        If the file is damaged or of another format.

    Examples
    --------
    >>> load_error_predictors(Bundle.load())  # doctest: +SKIP
    ErrorPredictors(to mri and ct)
    """
    if bundle.expected_error is None:
        return None
    name = "an expected error"
    return read_part(
        bundle.expected_error, name, [FORMAT], _built, remedy=_REMEDY, if_damaged=_REMEDY
    )


def _built(about: dict[str, Any], tensors: dict[str, torch.Tensor]) -> ErrorPredictors:
    networks = {str(to): _network(tensors, f"{to}.") for to in about["targets"]}
    return ErrorPredictors(networks, dict(about["fitted"]))


def _network(tensors: Mapping[str, torch.Tensor], prefix: str) -> ErrorPredictor:
    own = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    network = ErrorPredictor()
    network.load_state_dict(own)  # to float32
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Ranking:
    """How one map ranks the places of another, such as predicted errors the true ones.

    Parameters
    ----------
    spearman : float
        Rank correlation, -1 to 1; 0 is chance.
    auroc : float
        Chance that a place of the worst tenth has a higher value than another; 0.5 is chance.
    """

    spearman: float
    auroc: float


def rank(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> Ranking:
    """Measure how predicted errors rank true ones.

    Parameters
    ----------
    predicted, true : float array (N,)
        Errors at the same places, in any units.

    Examples
    --------
    >>> true = np.arange(20.0)
    >>> rank(np.sqrt(true), true), rank(-true, true).auroc
    (Ranking(spearman=1.0, auroc=1.0), 0.0)
    """
    ranks, worst = _ranks(predicted), true >= np.quantile(true, 0.9)
    others = max(1, int((~worst).sum()))
    auroc = (ranks[worst].mean() - (worst.sum() - 1) / 2) / others
    true_ranks = _ranks(true)
    if not (ranks.std() and true_ranks.std()):  # all places alike
        return Ranking(0.0, 0.5)
    spearman = np.corrcoef(ranks, true_ranks)[0, 1]
    return Ranking(round(float(spearman), 4), round(float(auroc), 4))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks from 0, the mean rank where values are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return ranks


@dataclass(frozen=True, eq=False)
class ExpectedError(ErrorMap):
    """Absolute differences to expect between a result and the truth, in the target's units.

    ``limits`` is the range that a result is written in; of a CT of all HU its window, beyond
    which no difference counts.

    Examples
    --------
    >>> found = ExpectedError(MetaTensor(torch.zeros(1, 8, 8, 6)), 6.0, (), 2, "HU", (-20.0, 100.0))
    >>> found.name, found.as_builtins()["share_of_range"]
    ('expected error', 0.05)
    """

    name: ClassVar[str] = "expected error"


def expected_error(
    translator: Translator,
    image: MetaTensor,
    result: MetaTensor,
    prepared: Prepared | None = None,
    *,
    predictors: ErrorPredictors | None = None,
    with_map: bool = True,
    progress: Progress = lambda done, of: None,
) -> ExpectedError:
    """Predict how far a result lies from the truth.

    Parameters
    ----------
    translator : Translator
        The model that made the result.
    image : MetaTensor (1, X, Y, Z)
        The scan, in physical units.
    result : MetaTensor (1, X, Y, Z)
        Its translation, in the target's units on the scan's grid.
    prepared : Prepared, optional
        As `cycle_error`.
    predictors : ErrorPredictors, optional
        By default loaded from the translator's bundle.
    with_map : bool
        As `cycle_error`.
    progress : function
        Called with the slices done and the slices in all.

    Raises
    ------
    ModelUnusable
        If the model carries no networks that predict errors of this direction.
    MedTranslateError
        If the scan cannot be prepared (`Translator.prepare`).
    ValueError
        If image and result differ in shape.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> translator = Translator.load(device="cpu")
    >>> scan = Phantom(shape=(64, 64, 1), spacing=(3.0, 3.0, 20.0)).volume()
    >>> untaught = ErrorPredictors({"mri": ErrorPredictor().eval()})
    >>> result = translator.translate(scan, to="mri")
    >>> found = expected_error(translator, scan, result, predictors=untaught)
    >>> found.units, found.limits
    ('arbitrary units', (0.0, 4095.0))
    """
    predictors = predictors or load_error_predictors(translator.bundle)
    pair = Pair.of(translator, image, result, prepared)
    network = predictors.networks.get(pair.to) if predictors else None
    if network is None:
        fault = f"carries nothing that predicts the error of a synthetic {pair.to.upper()}"
        raise ModelUnusable(fault, path=translator.bundle.folder, remedy=_REMEDY)

    def predicted(chosen: Indices) -> torch.Tensor:
        source, head = pair.source_slices(chosen), pair.prepared.head[chosen][:, None]
        with torch.inference_mode():
            coarse = network(source, pair.result_slices(chosen), head)
            fine = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return fine.clone().mul_(head)

    return ExpectedError.measure(
        pair,
        image,
        predicted,
        lambda planes: planes.clamp_(min=0),  # resampling overshoots at edges
        limits=pair.shown,
        units=pair.written_units,
        batch=translator.device.batch,
        with_map=with_map,
        progress=progress,
    )
