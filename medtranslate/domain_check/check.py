"""The domain check: is a scan what the model was trained to translate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from medtranslate.domain_check.anomalies import FAULTS
from medtranslate.domain_check.classifier import Namers
from medtranslate.domain_check.features import halved
from medtranslate.domain_check.judgement import Judgement, Verdict
from medtranslate.domain_check.scale import HIGHEST, Scale
from medtranslate.modality import Modality
from medtranslate.transforms import Prepared

LIMITS = (1.5, 2.2)
"""Scores to warn from and to refuse from: 1 in 32 and 1 in 160 genuine scans."""

LOOKED_AT = 24
"""Most slices of a scan that are looked at, evenly spread over those that show a head."""

FEWEST_HEAD = 0.02
"""Share of the field that a head must fill in a slice to be looked at."""

SEVERAL = 5
"""From so many slices a scan is judged by what its slices have in common."""

_NO_HEAD = "there is no head in it"
_ALL_ONE = "there is nothing in it: all of it has one brightness"
_EVEN = 0.01  # of the 2 from darkest to brightest: little more than a grey level
_MOST_REASONS = 2
_ALSO = 0.9  # of the oddest fault's score, so much makes another worth telling


@dataclass(frozen=True)
class Calibrated:
    """The check of one modality.

    Attributes
    ----------
    namers : Namers
        In evaluation mode.
    faults : Scale
        Of the log-odds of each fault in a slice.
    slice : Scale
        Of the highest fault score of a slice.
    scan : Scale
        Of the highest median of a fault over the slices of a scan.
    """

    namers: Namers
    faults: Scale
    slice: Scale
    scan: Scale

    def judge(self, halves: torch.Tensor, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Give scores (N,) of halved slices, and of each fault in them (N, faults)."""
        with torch.inference_mode():
            faults = self.faults.score(self.namers.odds(halves, modality))
            return self.slice.score(faults.amax(1, keepdim=True))[:, 0], faults


@dataclass(frozen=True)
class DomainCheck:
    """A calibrated check.

    Parameters
    ----------
    modalities : mapping of str to Calibrated
        By ``"CT"`` and ``"MR"``.
    limits : (warn, refuse)
        Scores.
    """

    modalities: Mapping[str, Calibrated]
    limits: tuple[float, float] = LIMITS

    def judge(self, prepared: Prepared, source: Mapping[str, Any]) -> Judgement:
        """Judge a scan by its prepared slices.

        A scan of several slices is judged by the fault that most of them share: the highest of the
        faults' medians, weighted by how much head a slice shows. So the skull's base and the
        vertex, which look odd in any scan, do not decide.

        Parameters
        ----------
        prepared : Prepared
            By the recipe of the modality that the scan is said to be.
        source : mapping
            Its source record; ``modality`` (``"CT"`` or ``"MR"``) is read.
        """
        modality = source["modality"]
        area = prepared.head.flatten(1).float().mean(1)
        places = _spread(torch.nonzero(area >= FEWEST_HEAD)[:, 0])
        if not len(places):
            return Judgement("refused", HIGHEST, self.limits, (_NO_HEAD,))
        slices, head = prepared.slices[places], prepared.head[places]
        if _even(slices[:, 0], head):
            return Judgement("refused", HIGHEST, self.limits, (_ALL_ONE,))
        check = self.modalities[modality]
        halves = halved(slices, head)
        scores, faults = check.judge(halves, modality)
        common = _median(faults, area[places])
        scale = check.scan if len(places) >= SEVERAL else check.slice
        score = scale.score(common.max()[None, None])[0]
        verdict = self._verdict(float(score))
        reasons = () if verdict == "passed" else _reasons(common, modality)
        by_slice: list[float | None] = [None] * len(area)
        for place, one in zip(places.tolist(), scores.tolist(), strict=True):
            by_slice[place] = one
        return Judgement(verdict, float(score), self.limits, reasons, tuple(by_slice))

    def _verdict(self, score: float) -> Verdict:
        warn, refuse = self.limits
        return "refused" if score >= refuse else "warned" if score >= warn else "passed"


def _even(slices: torch.Tensor, head: torch.Tensor) -> bool:
    """Whether slices and heads (N, H, W) show one brightness inside the heads."""
    low = torch.where(head, slices, torch.inf).min()
    return float(torch.where(head, slices, -torch.inf).max() - low) < _EVEN


def _spread(places: torch.Tensor) -> torch.Tensor:
    """Take at most `LOOKED_AT` of some places, evenly."""
    count = min(LOOKED_AT, len(places))
    return places[((torch.arange(count) + 0.5) * len(places) / max(count, 1)).long()]


def _median(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Give the weighted median (K,) of each column of values (N, K)."""
    ranked, order = values.sort(dim=0)
    share = weights[order].cumsum(0) / weights.sum()
    at = (share < 0.5).sum(0).clamp(max=len(values) - 1)
    return ranked.gather(0, at[None])[0]


def _reasons(faults: torch.Tensor, modality: str) -> tuple[str, ...]:
    """Tell the oddest fault, and others that are about as odd, in the order of `FAULTS`."""
    told = list(FAULTS.values())
    order = faults.argsort(descending=True).tolist()
    named = [place for place in order if faults[place] >= _ALSO * faults[order[0]]]
    return tuple(
        told[place].format(modality=modality, other=Modality(modality).other)
        for place in sorted(named[:_MOST_REASONS])
    )
