"""Calibration: from slices of the training side to a check.

The networks learn from genuine slices and from made faults; what counts as odd is measured on
genuine slices that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from medtranslate.domain_check.anomalies import FAULTS, ON_ITS_SIDE, UNTOLD, Examples, Maker
from medtranslate.domain_check.check import LIMITS, SEVERAL, Calibrated, DomainCheck
from medtranslate.domain_check.classifier import Namer, Namers
from medtranslate.domain_check.features import look
from medtranslate.domain_check.scale import Scale
from medtranslate.modality import Modality

_BATCH = 128
_DRAWS = 30  # scans put together from each slice kept out


@dataclass(frozen=True)
class Effort:
    """How much is spent on a calibration.

    Parameters
    ----------
    namers : int
        Networks a modality: how well one does hangs on its draws.
    examples : int
        Slices made for each.
    epochs : int
        Times that the network sees them.
    rate : float
        AdamW's highest learning rate; it rises and falls once (Smith and Topin 2017).
    decay : float
        AdamW's weight decay.
    variants : int
        Varied copies of each slice kept out of the fit, beside itself, to measure the scale on.
    """

    namers: int = 3
    examples: int = 16000
    epochs: int = 18
    rate: float = 4e-3
    decay: float = 1e-2
    variants: int = 4


@dataclass(frozen=True)
class Slices:
    """Genuine slices of one modality, halved (`looks.halved`).

    Attributes
    ----------
    fit : float tensor (N, 2, 128, 128)
        To learn from.
    kept_out : float tensor (M, 2, 128, 128)
        Of other scans, to measure the scale on.
    """

    fit: torch.Tensor
    kept_out: torch.Tensor


def calibrate(
    slices: Mapping[str, Slices], seed: int = 0, effort: Effort | None = None
) -> DomainCheck:
    """Make a check from genuine slices.

    Parameters
    ----------
    slices : mapping of str to Slices
        By ``"CT"`` and ``"MR"``.
    seed : int
        Of every random choice; the same slices, seed and processor give the same check.
    effort : Effort, optional
    """
    effort = effort or Effort()
    made = {}
    for modality, own in slices.items():
        other = slices[Modality(modality).other]
        draws = range(seed, seed + effort.namers)
        namers = Namers(_fit(modality, own.fit, other.fit, effort, each) for each in draws)
        made[modality] = _measured(modality, draws.stop, namers, own.kept_out, effort.variants)
    return DomainCheck(made, LIMITS)


def _draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _fit(modality: str, own: torch.Tensor, other: torch.Tensor, effort: Effort, seed: int) -> Namer:
    maker = Maker(modality, _draws(seed))
    pictures, figures, turns, contents = _examples(maker, own, other, effort.examples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # drawn weights and dropout
        namer = Namer()
        genuine = figures[contents == 0]
        namer.middle.copy_(genuine.mean(0))
        namer.spread.copy_(genuine.std(0).clamp(min=1e-3))
        optimizer = torch.optim.AdamW(namer.parameters(), weight_decay=effort.decay)
        batches = len(turns) // _BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, effort.rate, total_steps=effort.epochs * batches
        )
        for batch in _shuffled(len(turns), effort.epochs, maker.random):
            turn, content = namer(pictures[batch].float(), figures[batch])
            loss = _loss(turn, turns[batch]) + _loss(content, contents[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return namer.eval().requires_grad_(False)


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, ignore_index=UNTOLD)


def _shuffled(count: int, epochs: int, random: torch.Generator) -> Iterator[torch.Tensor]:
    for _ in range(epochs):
        yield from torch.randperm(count, generator=random)[: count // _BATCH * _BATCH].split(_BATCH)


def _examples(
    maker: Maker, own: torch.Tensor, other: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make examples: pictures in half precision, figures, labels of turn and of content."""
    made = []
    for _ in range(max(1, count // _BATCH)):
        drawn = [
            source[torch.randint(0, len(source), (_BATCH,), generator=maker.random)].float()
            for source in (own, other)
        ]
        examples: Examples = maker.examples(*drawn)
        looks = look(examples.halves, maker.modality)
        made.append((looks.pictures.half(), looks.figures, examples.turns, examples.contents))
    pictures, figures, turns, contents = (torch.cat(each) for each in zip(*made, strict=True))
    return pictures, figures, turns, contents


def _measured(
    modality: str, seed: int, namers: Namers, kept_out: torch.Tensor, variants: int
) -> Calibrated:
    """Measure how odd genuine slices look: by fault, as slices, and as scans of several."""
    maker, broadener = (Maker(modality, _draws(each)) for each in (seed, seed + 1))
    found, found_broader = [], []
    with torch.inference_mode():
        for part in kept_out.split(_BATCH):
            slices = part.float()
            for shown in (slices, *(maker.genuine(slices) for _ in range(variants))):
                found.append(namers.odds(shown, modality))
                found_broader.append(namers.odds(broadener.broader(shown), modality))
    odds, broader = torch.cat(found), torch.cat(found_broader)
    faults = fault_scale(odds, broader)
    scores = faults.score(odds)
    slice_scale = Scale.measure(scores.amax(1, keepdim=True))
    # Slices of a scan are alike: many of them say no more than a few of different scans do.
    drawn = torch.randint(0, len(scores), (_DRAWS * len(scores), SEVERAL), generator=maker.random)
    common = scores[drawn].median(dim=1).values
    return Calibrated(namers, faults, slice_scale, Scale.measure(common.amax(1, keepdim=True)))


def fault_scale(odds: torch.Tensor, broader: torch.Tensor) -> Scale:
    """Measure each fault's scale.

    A head as broad as long looks as if it lay on its side, so that fault is measured on heads that
    were made broader too. To measure every fault so would let in others that lie otherwise, which
    no broad head resembles.

    Parameters
    ----------
    odds, broader : float tensors (N, faults)
        Log-odds of genuine slices, and of the same made broader (`Maker.broader`).
    """
    as_found = Scale.measure(odds).knots
    with_broader = Scale.measure(torch.cat([odds, broader])).knots
    side = torch.tensor([fault == ON_ITS_SIDE for fault in FAULTS])
    return Scale(torch.where(side[:, None], with_broader, as_found))
