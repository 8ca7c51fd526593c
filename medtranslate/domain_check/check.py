"""The domain check: whether a scan is what the model was trained to translate; and its file.

The file is safetensors, nothing that runs. By modality: the weights of a few networks of some
60,000 numbers each, and their scales; no image and no slice is stored. Under the metadata key
``medtranslate``: format, limits, number of networks. In format 3 the networks of a modality may
have one output layer more, ``views``; format 2 is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from medtranslate.bundle import Bundle
from medtranslate.bundle.load import read_part
from medtranslate.bundle.save import part_bytes
from medtranslate.domain_check.anomalies import ANOMALIES
from medtranslate.domain_check.classifier import AnomalyClassifier, AnomalyEnsemble, half_resolution
from medtranslate.errors import OutOfDomain
from medtranslate.modality import Modality
from medtranslate.transforms import Prepared

Verdict = Literal["passed", "warned", "refused"]

LIMITS = (1.5, 2.2)
"""Anomaly scores to warn from and to refuse from: 1 in 32 and 1 in 160 genuine scans."""

MAX_SCORE = 9.0
"""No score is higher: one genuine scan in a thousand million is as good as none."""

RATES = (0.5, 0.2, 0.1, 0.05, 0.02)
"""False-alarm rates at which a scale is measured; it is extrapolated beyond the last."""

MAX_SLICES = 24
"""Most slices of a scan that are checked, evenly spread over those that show a head."""

MIN_HEAD_FRACTION = 0.02
"""Fraction of the field of view that the head must fill in a slice to be checked."""

SEVERAL = 5
"""Number of slices from which a scan is judged by what its slices have in common."""

_NO_HEAD = "there is no head in it"
_UNIFORM = "there is nothing in it: all of it has one brightness"
_MIN_RANGE = 0.01  # of the 2 from darkest to brightest: little more than a gray level
_MAX_REASONS = 2
_COMPARABLE = 0.9  # of the highest anomaly score: another as high is a reason too
# The extrapolation follows the slope from this rate to the last: rarer values of a training folder
# may be scans that do not belong there, and must not stretch the scale.
_TAIL = 2


@dataclass(frozen=True, eq=False)
class ScoreScale:
    """Convert values to anomaly scores: one genuine scan in ``10 ** score`` has as high a value.

    Attributes
    ----------
    knots : float32 tensor (K, len(RATES))
        For each of K values, the quantiles that these shares of genuine scans exceed; rising.
    """

    knots: torch.Tensor

    @classmethod
    def measure(cls, genuine: torch.Tensor) -> ScoreScale:
        """Measure the scale on the values (N, K) of genuine scans."""
        shares = 1 - torch.tensor(RATES)
        knots = torch.quantile(genuine.float(), shares, dim=0).T
        step = torch.arange(len(RATES)) * 1e-4  # so that it rises where values coincide
        return cls((knots + step).contiguous())

    def score(self, values: torch.Tensor) -> torch.Tensor:
        """Return scores (N, K) of values (N, K), from 0 to `MAX_SCORE`.

        Log-linear between the rates, and beyond the last as between the third and the last: the
        tail of an exponential distribution.

        Examples
        --------
        >>> scale = ScoreScale.measure(torch.linspace(0, 1, 1001)[:, None])
        >>> round(scale.score(torch.tensor([[0.9]])).item(), 2)  # one genuine scan in ten
        1.0
        """
        levels = -torch.tensor(RATES).log10()
        knots = self.knots.T  # (rates, K)
        slope = (levels[1:, None] - levels[:-1, None]) / (knots[1:] - knots[:-1])
        within = (values[:, None] - knots[:-1]).clamp(min=0).minimum(knots[1:] - knots[:-1])
        tail = (levels[-1] - levels[_TAIL]) / (knots[-1] - knots[_TAIL])
        beyond = (values - knots[-1]).clamp(min=0) * tail
        below = (values - knots[0]).clamp(max=0) * slope[0]
        return (levels[0] + below + (within * slope).sum(1) + beyond).clamp(0, MAX_SCORE)


@dataclass(frozen=True)
class Judgment:
    """The result of a domain check.

    Parameters
    ----------
    verdict : {"passed", "warned", "refused"}
    score : float
        Anomaly score, 0 to `MAX_SCORE`: one genuine scan in ``10 ** score`` has as high a score.
    limits : (warn, refuse)
        Scores from which a scan is warned of, and from which it is refused.
    reasons : tuple of str
        What is anomalous, as messages; empty where it passed.
    slices : tuple of (float or None), or None
        Score of each network slice; None for a slice that was not checked. None in place of the
        tuple where there was nothing to check.
    """

    verdict: Verdict
    score: float
    limits: tuple[float, float]
    reasons: tuple[str, ...] = ()
    slices: tuple[float | None, ...] | None = None

    def as_builtins(self) -> dict[str, Any]:
        """Return the result as builtins, for JSON and for ``meta["quality"]``.

        Examples
        --------
        >>> Judgment("passed", 0.25, LIMITS).as_builtins()["limits"]
        {'warn': 1.5, 'refuse': 2.2}
        """
        warn, refuse = self.limits
        return {
            "verdict": self.verdict,
            "score": round(self.score, 3),
            "limits": {"warn": warn, "refuse": refuse},
            "reasons": list(self.reasons),
            "slices": self.slices
            and [None if each is None else round(each, 3) for each in self.slices],
        }

    def raise_if_refused(self, source: Mapping[str, Any]) -> None:
        """Refuse a scan whose verdict is "refused".

        Parameters
        ----------
        source : mapping
            The scan's source record; the message names its first file.

        Raises
        ------
        OutOfDomain
        """
        if self.verdict != "refused":
            return
        files = source.get("files") or [None]
        path = None if files[0] is None else Path(files[0])
        modality = source.get("modality") or "scan"
        fault = f"is no head {modality} that this model can translate: {'; '.join(self.reasons)}"
        remedy = "--force (in Python force=True) translates it all the same"
        raise OutOfDomain(fault, path=path, remedy=remedy)


def quality_record(judgment: Judgment | None) -> dict[str, Any]:
    """Return what the domain check found, for ``meta["quality"]["domain"]``.

    The keys and types never vary, so that MONAI can collate scans into batches.

    Parameters
    ----------
    judgment : Judgment or None
        None where the scan was not checked.

    Examples
    --------
    >>> quality_record(None)["verdict"]
    'not checked'
    """
    warn, refuse = LIMITS if judgment is None else judgment.limits
    return {
        "verdict": "not checked" if judgment is None else judgment.verdict,
        "score": -1.0 if judgment is None else round(judgment.score, 3),
        "warn_from": warn,
        "refuse_from": refuse,
        "reasons": "" if judgment is None else "; ".join(judgment.reasons),
    }


@dataclass(frozen=True, eq=False)
class ModalityCheck:
    """The calibrated check of one modality.

    Attributes
    ----------
    classifiers : AnomalyEnsemble
        In evaluation mode.
    anomalies : ScoreScale
        Of the log-odds of each anomaly in a slice.
    slice : ScoreScale
        Of the highest anomaly score of a slice.
    scan : ScoreScale
        Of the highest median of an anomaly score over the slices of a scan.
    """

    classifiers: AnomalyEnsemble
    anomalies: ScoreScale
    slice: ScoreScale
    scan: ScoreScale

    def scores(self, halves: torch.Tensor, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (N,) of half-resolution slices, and of each anomaly (N, anomalies)."""
        with torch.inference_mode():
            anomalies = self.anomalies.score(self.classifiers.log_odds(halves, modality))
            return self.slice.score(anomalies.amax(1, keepdim=True))[:, 0], anomalies


@dataclass(frozen=True, eq=False)
class DomainCheck:
    """A calibrated domain check.

    Parameters
    ----------
    modalities : mapping of str to ModalityCheck
        By ``"CT"`` and ``"MR"``.
    limits : (warn, refuse)
        Anomaly scores.
    """

    modalities: Mapping[str, ModalityCheck]
    limits: tuple[float, float] = LIMITS

    def __repr__(self) -> str:
        return f"DomainCheck({', '.join(self.modalities)}; limits={self.limits})"

    def judge(self, prepared: Prepared, source: Mapping[str, Any]) -> Judgment:
        """Judge a scan by its prepared slices.

        A scan of several slices is judged by the anomaly that most of them share: the highest of
        the anomalies' medians, weighted by head area. So the skull base and the vertex, which look
        anomalous in any scan, do not decide.

        Parameters
        ----------
        prepared : Prepared
            By the recipe of the modality that the scan is said to be.
        source : mapping
            Its source record; ``modality`` (``"CT"`` or ``"MR"``) is read.

        Examples
        --------
        >>> from medtranslate import Bundle
        >>> from medtranslate.domain_check import load_domain
        >>> from medtranslate.phantom import Phantom
        >>> bundle, scan = Bundle.load(), Phantom().volume()
        >>> prepared = bundle.recipe("CT", "volume").prepare(scan)
        >>> load_domain(bundle).judge(prepared, scan.meta["source"]).verdict
        'passed'
        """
        modality = source["modality"]
        area = prepared.areas.float() / prepared.head[0].numel()
        indices = _evenly(torch.nonzero(area >= MIN_HEAD_FRACTION)[:, 0])
        if not len(indices):
            return Judgment("refused", MAX_SCORE, self.limits, (_NO_HEAD,))
        slices, head = prepared.slices[indices], prepared.head[indices]
        if _is_uniform(slices[:, 0], head):
            return Judgment("refused", MAX_SCORE, self.limits, (_UNIFORM,))
        check = self.modalities[modality]
        scores, anomalies = check.scores(half_resolution(slices, head), modality)
        common = _median(anomalies, area[indices])
        scale = check.scan if len(indices) >= SEVERAL else check.slice
        score = float(scale.score(common.max()[None, None])[0])
        verdict = self._verdict(score)
        reasons = () if verdict == "passed" else _reasons(common, modality)
        by_slice: list[float | None] = [None] * len(area)
        for index, one in zip(indices.tolist(), scores.tolist(), strict=True):
            by_slice[index] = one
        return Judgment(verdict, score, self.limits, reasons, tuple(by_slice))

    def _verdict(self, score: float) -> Verdict:
        warn, refuse = self.limits
        return "refused" if score >= refuse else "warned" if score >= warn else "passed"


def _is_uniform(slices: torch.Tensor, head: torch.Tensor) -> bool:
    """Return whether slices (N, H, W) have one brightness inside the head masks (N, H, W)."""
    low = torch.where(head, slices, torch.inf).min()
    return float(torch.where(head, slices, -torch.inf).max() - low) < _MIN_RANGE


def _evenly(indices: torch.Tensor) -> torch.Tensor:
    """Select at most `MAX_SLICES` of the indices, evenly spread."""
    count = min(MAX_SLICES, len(indices))
    return indices[((torch.arange(count) + 0.5) * len(indices) / max(count, 1)).long()]


def _median(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted median (K,) of each column of values (N, K)."""
    ranked, order = values.sort(dim=0)
    share = weights[order].cumsum(0) / weights.sum()
    at = (share < 0.5).sum(0).clamp(max=len(values) - 1)
    return ranked.gather(0, at[None])[0]


def _reasons(scores: torch.Tensor, modality: str) -> tuple[str, ...]:
    """Return the messages of the highest score and of those comparable, as `ANOMALIES` orders."""
    messages = list(ANOMALIES.values())
    order = scores.argsort(descending=True).tolist()
    named = [index for index in order if scores[index] >= _COMPARABLE * scores[order[0]]]
    return tuple(
        messages[index].format(modality=modality, other=Modality(modality).other)
        for index in sorted(named[:_MAX_REASONS])
    )


FORMAT = 3
_READ = (2, 3)  # format 2 knows no VIEW_ANOMALIES
_REMEDY = (
    "remove the bundle in its run and continue with `train --resume`, which calibrates it again"
)
# Names in the file, by names in the code.
_SCALES = {"anomalies": "faults", "slice": "slice", "scan": "scan"}
_WEIGHTS = {
    "members": "each",
    "encoder": "see",
    "mean": "middle",
    "std": "spread",
    "orientation": "turn",
}


def to_bytes(check: DomainCheck) -> bytes:
    """Serialize a domain check as a safetensors file, with weights in 16 bit."""
    tensors = {}
    for modality, part in check.modalities.items():
        for name, value in part.classifiers.state_dict().items():
            stored = _renamed(name, _WEIGHTS)
            tensors[f"{modality}.namers.{stored}"] = value.to(torch.float16).contiguous()
        for name, stored in _SCALES.items():
            tensors[f"{modality}.{stored}"] = getattr(part, name).knots.contiguous()
    about = {
        "format": FORMAT,
        "limits": list(check.limits),
        "namers": {name: len(part.classifiers.members) for name, part in check.modalities.items()},
    }
    return part_bytes(about, tensors)


def load_domain(bundle: Bundle) -> DomainCheck | None:
    """Load a bundle's domain check; None where it carries none.

    Raises
    ------
    ModelUnusable
        If the file is damaged or of another format.

    Examples
    --------
    >>> from medtranslate import Bundle
    >>> load_domain(Bundle.load())
    DomainCheck(CT, MR; limits=(1.5, 2.2))
    """
    if bundle.domain is None:
        return None
    return read_part(bundle.domain, "a domain check", _READ, _built, remedy=_REMEDY)


def _built(about: dict[str, Any], tensors: dict[str, torch.Tensor]) -> DomainCheck:
    warn, refuse = (float(limit) for limit in about["limits"])
    parts = {name: _part(tensors, name, about["namers"][name]) for name in ("CT", "MR")}
    return DomainCheck(parts, (warn, refuse))


def _part(tensors: dict[str, torch.Tensor], modality: str, count: int) -> ModalityCheck:
    prefix = f"{modality}.namers."
    names = {stored: name for name, stored in _WEIGHTS.items()}
    state = {
        _renamed(name.removeprefix(prefix), names): value.float()
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    views = "members.0.views.0.weight" in state
    ensemble = AnomalyEnsemble(AnomalyClassifier(views) for _ in range(count))
    ensemble.load_state_dict(state)
    scales = [ScoreScale(tensors[f"{modality}.{stored}"].float()) for stored in _SCALES.values()]
    return ModalityCheck(ensemble.eval().requires_grad_(False), *scales)


def _renamed(dotted: str, names: dict[str, str]) -> str:
    return ".".join(names.get(part, part) for part in dotted.split("."))
