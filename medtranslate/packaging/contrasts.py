"""The contrast classifier of a bundle, fitted on MR of known contrast and on rendered MR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from medtranslate.label_synthesis import LabelMaps, PairRenderer
from medtranslate.modality import CONTRASTS
from medtranslate.training.data import Data
from medtranslate.training.prepared import PreparedSet, from_gray
from medtranslate.translation.contrast import ContrastClassifier, contrast_features

MIN_SLICES = 20
"""Below so many real slices of known contrast, or of fewer than two contrasts, none is fitted."""

_CHUNK = 32  # slices, to bound the memory of rendering and of features


@dataclass(frozen=True)
class ContrastFit:
    """How much work a fit does.

    Parameters
    ----------
    steps : int
    real, rendered : int
        Slices in a step: as many of each contrast of the real ones, and rendered ones.
    rendered_slices : int
        Slices rendered, once.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls linearly to zero.
    """

    steps: int = 2500
    real: int = 24
    rendered: int = 12
    rendered_slices: int = 2400
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2


def fit_contrasts(
    data: Data, contrasts: tuple[str, ...], seed: int = 0, settings: ContrastFit | None = None
) -> bytes | None:
    """Fit a contrast classifier on a run's MR slices of known contrast, and on rendered ones.

    Parameters
    ----------
    data : Data
        `Data.mri` with codes; `Data.labels` where there are any.
    contrasts : tuple of str
        Of the run: code 1 is the first.
    seed : int
        Of every random choice.
    settings : ContrastFit, optional

    Returns
    -------
    bytes or None
        A safetensors file, for `attach`; None where too few real slices have a
        known contrast (`MIN_SLICES`).
    """
    chosen, random = settings or ContrastFit(), torch.Generator().manual_seed(seed)
    groups = list(_groups(data.mri, contrasts))
    if sum(len(features) for features, _ in groups) < MIN_SLICES or len(groups) < 2:
        return None
    rendered = _rendered(data.labels, chosen, seed) if data.labels is not None else None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = ContrastClassifier(CONTRASTS)
        _fit(classifier, groups, rendered, chosen, random)
    return classifier.eval().to_bytes()


Group = tuple[torch.Tensor, torch.Tensor]  # features (N, 2, S, S), classes (N,)


def _groups(mri: PreparedSet, contrasts: tuple[str, ...]) -> Iterator[Group]:
    """Yield the features of the real slices of each known contrast."""
    if mri.codes is None:
        return
    for code, contrast in enumerate(contrasts, 1):
        those = torch.nonzero(mri.codes == code)[:, 0]
        if len(those):
            yield _features(mri.slices[those]), torch.full((len(those),), CONTRASTS.index(contrast))


def _features(gray: torch.Tensor) -> torch.Tensor:
    parts = (from_gray(part) for part in torch.split(gray, _CHUNK))
    return torch.cat([contrast_features(slices, head[:, 0]) for slices, head in parts])


def _rendered(maps: LabelMaps, chosen: ContrastFit, seed: int) -> Group:
    """Render slices of all contrasts, in turn."""
    renderer = PairRenderer(maps.maps, maps.table)
    names = [name for name in maps.table.contrasts if name.lower() in CONTRASTS]
    features, classes = [], []
    for first in range(0, chosen.rendered_slices, _CHUNK):
        last = min(first + _CHUNK, chosen.rendered_slices)
        asked = [names[n % len(names)] for n in range(first, last)]
        made = renderer.render(len(asked), seed + first, contrasts=asked)
        features.append(contrast_features(made.network_slices()[1], made.head[:, 0]))
        classes += [CONTRASTS.index(name.lower()) for name in asked]
    return torch.cat(features), torch.tensor(classes)


def _fit(
    classifier: ContrastClassifier,
    groups: list[Group],
    rendered: Group | None,
    chosen: ContrastFit,
    random: torch.Generator,
) -> None:
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=chosen.weight_decay)
    each = max(1, chosen.real // len(groups))
    drawn = [(group, each) for group in groups]
    if rendered is not None:
        drawn.append((rendered, chosen.rendered))
    for step in range(chosen.steps):
        for group in optimizer.param_groups:
            group["lr"] = chosen.learning_rate * (1 - step / chosen.steps) * min(1, (step + 1) / 50)
        parts = [_drawn(group, count, random) for group, count in drawn]
        features, classes = (torch.cat(part) for part in zip(*parts, strict=True))
        logits = classifier(_varied(features, random))
        loss = F.cross_entropy(logits, classes, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _drawn(group: Group, count: int, random: torch.Generator) -> Group:
    places = torch.randint(len(group[0]), (count,), generator=random)
    return group[0][places], group[1][places]


def _varied(features: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Turn, scale, mirror and shift heads; change gamma, level, noise, shading and sharpness."""
    count = len(features)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=random)

    def normal(spread: float, *shape: int) -> torch.Tensor:
        return spread * torch.randn(count, *shape, generator=random)

    turn, scale = uniform(-0.3, 0.3), uniform(0.85, 1.25)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shift = uniform(-0.15, 0.15, 2)
    rows = [
        torch.stack([scale * turn.cos() * mirror, -scale * turn.sin(), shift[:, 0]], dim=1),
        torch.stack([scale * turn.sin() * mirror, scale * turn.cos(), shift[:, 1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(features.shape), align_corners=False)
    bright, cover = F.grid_sample(features, grid, align_corners=False).split(1, dim=1)
    bright = bright.clamp(min=1e-4) ** normal(0.25, 1, 1, 1).exp() * (1 + normal(0.1, 1, 1, 1))
    bright = bright + uniform(0, 0.05, 1, 1, 1) * normal(1, *bright.shape[1:])
    size = list(bright.shape[2:])
    shading = F.interpolate(normal(0.12, 1, 3, 3), size=size, mode="bicubic", align_corners=False)
    bright = (bright * shading.exp()).clamp(0, 1.3)
    soft = uniform(0, 1, 1, 1, 1) < 0.4
    bright = torch.where(soft, F.avg_pool2d(bright, 3, 1, 1), bright)
    return torch.cat([bright * cover, cover], dim=1)
