"""Calibration: from slices of the training data to a domain check.

The classifiers learn from genuine slices and synthetic anomalies; the scales are measured on
genuine slices that no classifier has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F

from medtranslate.domain_check.anomalies import (
    ANOMALIES,
    IGNORED,
    ON_ITS_SIDE,
    AnomalySynthesizer,
)
from medtranslate.domain_check.check import LIMITS, SEVERAL, DomainCheck, ModalityCheck, ScoreScale
from medtranslate.domain_check.classifier import (
    AnomalyClassifier,
    AnomalyEnsemble,
    extract_features,
)
from medtranslate.modality import Modality

_BATCH = 128
_SCANS_PER_SLICE = 30  # random scans put together from each held-out slice


@dataclass(frozen=True)
class CalibrationSettings:
    """How much work a calibration does.

    Parameters
    ----------
    classifiers : int
        Networks per modality; single ones vary with their seed.
    examples : int
        Synthetic slices to train each on.
    epochs : int
        Passes over them.
    learning_rate : float
        Highest learning rate of AdamW; it rises and falls once (Smith and Topin 2017).
    weight_decay : float
        Of AdamW.
    view_examples, view_epochs : int
        Synthetic slices to train the output layers for views on, and passes over them.
    variants : int
        Varied copies of each held-out slice, besides itself, to measure the scales on.
    """

    classifiers: int = 3
    examples: int = 16000
    epochs: int = 18
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    view_examples: int = 4000
    view_epochs: int = 30
    variants: int = 4


@dataclass(frozen=True, eq=False)
class CalibrationSlices:
    """Genuine half-resolution slices of one modality (`features.half_resolution`).

    Attributes
    ----------
    fit : float tensor (N, 2, 128, 128)
        To train on.
    held_out : float tensor (M, 2, 128, 128)
        Of other scans, to measure the scales on.
    planes : float tensor (K, 2, 128, 128), optional
        Coronal and sagittal slices of this modality. Without them the check does not know
        `VIEW_ANOMALIES`.
    axial : float tensor (L, 2, 128, 128), optional
        Axial slices from where the planes are from, to compare them with, beside `fit`.
    """

    fit: torch.Tensor
    held_out: torch.Tensor
    planes: torch.Tensor | None = None
    axial: torch.Tensor | None = None


def calibrate(
    slices: Mapping[str, CalibrationSlices],
    seed: int = 0,
    settings: CalibrationSettings | None = None,
    start: DomainCheck | None = None,
) -> DomainCheck:
    """Calibrate a domain check on genuine slices.

    Parameters
    ----------
    slices : mapping of str to CalibrationSlices
        By ``"CT"`` and ``"MR"``; beside a `start` one of them is enough.
    seed : int
        Of every random choice; the same slices, seed and processor give the same check.
    settings : CalibrationSettings, optional
    start : DomainCheck, optional
        A check whose networks are taken instead of new ones. They learn the `VIEW_ANOMALIES` of
        slices that have `planes`, and keep what they know and its scales: no score falls.
    """
    settings = settings or CalibrationSettings()
    seeds = range(seed, seed + settings.classifiers)
    checks = {}
    for modality, own in slices.items():
        if start is None:
            other = slices[Modality(modality).other].fit
            members = [_train(modality, own.fit, other, settings, each) for each in seeds]
        else:
            known = start.modalities[modality].classifiers.members
            members = [cast("AnomalyClassifier", member) for member in known]
        ensemble = AnomalyEnsemble(
            _with_views(member, modality, own, settings, seed + place)
            for place, member in enumerate(members)
        )
        measured = _measure(modality, seeds.stop, ensemble, own.held_out, settings.variants)
        checks[modality] = _beside(measured, None if start is None else start.modalities[modality])
    return DomainCheck(checks, LIMITS)


def anomaly_scale(odds: torch.Tensor, broadened: torch.Tensor) -> ScoreScale:
    """Measure the scale of each anomaly.

    A head as broad as long looks as if it lay on its side, so this anomaly is measured on broadened
    heads too. Measured so, the other anomalies, which no broad head resembles, would let more pass.

    Parameters
    ----------
    odds, broadened : float tensors (N, anomalies)
        Log-odds of genuine slices, and of the same broadened (`AnomalySynthesizer.broadened`).
    """
    plain = ScoreScale.measure(odds).knots
    with_broadened = ScoreScale.measure(torch.cat([odds, broadened])).knots
    known = list(ANOMALIES)[: len(plain)]
    side = torch.tensor([anomaly == ON_ITS_SIDE for anomaly in known])
    return ScoreScale(torch.where(side[:, None], with_broadened, plain))


def _beside(measured: ModalityCheck, known: ModalityCheck | None) -> ModalityCheck:
    """Return the check with the scales of what was known before."""
    if known is None:
        return measured
    before = known.anomalies.knots
    knots = torch.cat([before, measured.anomalies.knots[len(before) :]])
    return replace(measured, anomalies=ScoreScale(knots), slice=known.slice, scan=known.scan)


def _train(
    modality: str,
    own: torch.Tensor,
    other: torch.Tensor,
    settings: CalibrationSettings,
    seed: int,
) -> AnomalyClassifier:
    synthesizer = AnomalySynthesizer(modality, torch.Generator().manual_seed(seed))
    images, scalars, orientations, contents = _examples(synthesizer, own, other, settings.examples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initial weights and dropout
        classifier = AnomalyClassifier()
        genuine = scalars[contents == 0]
        classifier.mean.copy_(genuine.mean(0))
        classifier.std.copy_(genuine.std(0).clamp(min=1e-3))
        optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            settings.learning_rate,
            total_steps=settings.epochs * (len(contents) // _BATCH),
        )
        for batch in _batches(len(contents), settings.epochs, synthesizer.random):
            orientation, content = classifier(images[batch].float(), scalars[batch])
            loss = _loss(orientation, orientations[batch]) + _loss(content, contents[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval().requires_grad_(False)


def _with_views(
    member: AnomalyClassifier,
    modality: str,
    own: CalibrationSlices,
    settings: CalibrationSettings,
    seed: int,
) -> AnomalyClassifier:
    """Return the network with an output layer for views, trained on what it already encodes."""
    if own.planes is None:
        return member
    axial = own.fit if own.axial is None else torch.cat([own.fit, own.axial])
    synthesizer = AnomalySynthesizer(modality, torch.Generator().manual_seed(seed))
    parts = []
    with torch.no_grad():
        for _ in range(max(1, settings.view_examples // _BATCH)):
            drawn = [_drawn(each, synthesizer.random) for each in (axial, own.planes)]
            slices, labels = synthesizer.views(drawn[0], drawn[1])
            features = extract_features(slices, modality)
            parts.append((member.encoded(features.images, features.scalars), labels))
    encoded, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = AnomalyClassifier(views=True)
        classifier.load_state_dict({**classifier.state_dict(), **member.state_dict()})
        views = cast("torch.nn.Module", classifier.views)
        optimizer = torch.optim.AdamW(views.parameters(), weight_decay=settings.weight_decay)
        steps = settings.view_epochs * (len(labels) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, steps)
        for batch in _batches(len(labels), settings.view_epochs, synthesizer.random):
            loss = _loss(views(encoded[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval().requires_grad_(False)


def _drawn(slices: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    return slices[torch.randint(0, len(slices), (_BATCH,), generator=random)].float()


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, ignore_index=IGNORED)


def _batches(count: int, epochs: int, random: torch.Generator) -> Iterator[torch.Tensor]:
    for _ in range(epochs):
        yield from torch.randperm(count, generator=random)[: count // _BATCH * _BATCH].split(_BATCH)


def _examples(
    synthesizer: AnomalySynthesizer, own: torch.Tensor, other: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images in half precision, scalars, and labels of orientation and of content."""
    parts = []
    for _ in range(max(1, count // _BATCH)):
        drawn = [_drawn(source, synthesizer.random) for source in (own, other)]
        examples = synthesizer.examples(*drawn)
        features = extract_features(examples.slices, synthesizer.modality)
        parts.append(
            (features.images.half(), features.scalars, examples.orientations, examples.contents)
        )
    images, scalars, orientations, contents = (torch.cat(each) for each in zip(*parts, strict=True))
    return images, scalars, orientations, contents


def _measure(
    modality: str, seed: int, ensemble: AnomalyEnsemble, held_out: torch.Tensor, variants: int
) -> ModalityCheck:
    """Measure the scales on genuine slices: by anomaly, as slices, and as scans of several."""
    synthesizer, broadener = (
        AnomalySynthesizer(modality, torch.Generator().manual_seed(each))
        for each in (seed, seed + 1)
    )
    plain, broadened = [], []
    with torch.inference_mode():
        for part in held_out.split(_BATCH):
            slices = part.float()
            for shown in (slices, *(synthesizer.genuine(slices) for _ in range(variants))):
                plain.append(ensemble.log_odds(shown, modality))
                broadened.append(ensemble.log_odds(broadener.broadened(shown), modality))
    odds = torch.cat(plain)
    anomalies = anomaly_scale(odds, torch.cat(broadened))
    scores = anomalies.score(odds)
    slice_scale = ScoreScale.measure(scores.amax(1, keepdim=True))
    # Slices of a scan are alike: many of them say no more than a few of different scans do.
    drawn = torch.randint(
        0, len(scores), (_SCANS_PER_SLICE * len(scores), SEVERAL), generator=synthesizer.random
    )
    common = scores[drawn].median(dim=1).values
    scan_scale = ScoreScale.measure(common.amax(1, keepdim=True))
    return ModalityCheck(ensemble, anomalies, slice_scale, scan_scale)
