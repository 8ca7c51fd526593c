"""Features of the domain check, and the networks that classify the anomaly of a slice by them.

Features are a small image of each head, and scalars about it, on the CPU. Both come from slices
that a recipe has prepared, 2D images and volumes alike. The small image is cropped to the bounding
box of the head, so it does not depend on where the head lies and how large it is; the scalars hold
the size. A slice mirrored left to right gives the mirrored image and the same scalars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from medtranslate.domain_check.anomalies import (
    CONTENT_ANOMALIES,
    ORIENTATION_ANOMALIES,
    VIEW_ANOMALIES,
)

IMAGE_SIZE = 48
"""Rows and columns of the small image."""

SCALARS = 24
"""Numbers that describe a slice."""

_INSIDE = 0.5  # head fraction from which a pixel counts as head
_MARGIN = 1.06  # side of the small image, in longer sides of the bounding box
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_STRETCH = (0.01, 0.99)
_TILT = math.radians(6)
_VARIATIONS = ((_TILT, 1.0), (-_TILT, 1.0), (0.0, 1.07), (0.0, 1 / 1.07))
# rotation and broadening: a head a little tilted or broader is the same head
_DEPTHS = (1, 2, 4, 8)  # pixels inwards from the outline, 4 network pixels (3.6 mm) each
_DEEP = 2  # of `_DEPTHS`, the one inside which texture is measured


@dataclass(frozen=True, eq=False)
class Features:
    """What the classifiers see of each slice.

    Attributes
    ----------
    images : float32 tensor (N, 2, IMAGE_SIZE, IMAGE_SIZE)
        Brightness in [0, 1], 0 outside the head; head fraction of each pixel.
    scalars : float32 tensor (N, SCALARS)
        Size (5), brightness quantiles (5), brightness by depth (5), texture (6), symmetry (3).
    """

    images: torch.Tensor
    scalars: torch.Tensor

    def __len__(self) -> int:
        return len(self.scalars)

    def with_mirrored(self) -> Features:
        """Return these features followed by those of the slices mirrored left to right."""
        images = torch.cat([self.images, self.images.flip(3)])
        return Features(images, self.scalars.repeat(2, 1))


def half_resolution(slices: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Downsample prepared slices by two, with brightness weighted by the head mask.

    Parameters
    ----------
    slices : float tensor (N, 1, H, W)
        In [-1, 1]; H and W are even.
    head : bool tensor (N, H, W)

    Returns
    -------
    float32 tensor (N, 2, H / 2, W / 2)
        Brightness in [0, 1], 0 outside the head; head fraction of each pixel.

    Examples
    --------
    >>> import torch
    >>> half_resolution(torch.ones(1, 1, 256, 256), torch.ones(1, 256, 256).bool()).shape
    torch.Size([1, 2, 128, 128])
    """
    cover = head.float()
    return F.avg_pool2d(torch.stack([(slices[:, 0] + 1) / 2 * cover, cover], dim=1), 2)


def augmented(halves: torch.Tensor) -> torch.Tensor:
    """Return half-resolution slices as they are, tilted both ways, broadened and narrowed.

    The mean prediction over them varies less than that of one (test-time augmentation; Krizhevsky
    et al. 2012, section 4.1). Mirrored slices give mirrored variants, in another order.

    Parameters
    ----------
    halves : float32 tensor (N, 2, S, S)

    Returns
    -------
    float32 tensor (5, N, 2, S, S)
        The slices themselves come first.
    """
    matrices = torch.tensor(
        [
            [
                [math.cos(rotation) / broadening, -math.sin(rotation), 0],
                [math.sin(rotation) / broadening, math.cos(rotation), 0],
            ]
            for rotation, broadening in _VARIATIONS
        ]
    )
    variants = [_resampled(halves, matrix.expand(len(halves), 2, 3)) for matrix in matrices]
    return torch.stack([halves, *variants])


def extract_features(halves: torch.Tensor, modality: str) -> Features:
    """Compute the features of half-resolution slices.

    Parameters
    ----------
    halves : float32 tensor (N, 2, 128, 128)
        From `half_resolution`; each must show some head.
    modality : {"CT", "MR"}
        The brightness of a CT is used as it is; that of an MR is stretched, slice by slice,
        between two percentiles of its head.
    """
    small = F.avg_pool2d(halves, 2)
    inside = small[:, 1] >= _INSIDE
    bright = small[:, 0] / small[:, 1].clamp(min=0.01)
    if modality == "MR":
        low, high = _quantiles(bright, inside, _STRETCH).unbind(1)
        halves = _stretched(halves, low, high)
        small = F.avg_pool2d(halves, 2)
        bright = small[:, 0] / small[:, 1].clamp(min=0.01)
    box, eroded = _BoundingBox.of(small[:, 1]), _eroded(inside)
    images = _cropped(small, box)
    scalars = torch.cat(
        [
            _shape(inside, box),
            _quantiles(bright, inside, _QUANTILES),
            _by_depth(bright, eroded),
            _texture(halves, small, bright, eroded),
            _symmetry(images),
        ],
        dim=1,
    )
    return Features(images, scalars)


def _stretched(halves: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    low, high = low[:, None, None], high[:, None, None]
    shade, cover = halves.unbind(1)
    value = (shade - low * cover) / (high - low).clamp(min=1e-3)
    return torch.stack([value.clamp(min=0).minimum(cover), cover], dim=1)


@dataclass(frozen=True, eq=False)
class _BoundingBox:
    """First and last edge of each head, on axes from -1 to 1.

    Attributes
    ----------
    rows, columns : float tensors (N, 2)
    """

    rows: torch.Tensor
    columns: torch.Tensor

    @classmethod
    def of(cls, cover: torch.Tensor) -> _BoundingBox:
        """Find the boxes from head fractions (N, H, W)."""
        return cls(_edges(cover.amax(2) >= _INSIDE), _edges(cover.amax(1) >= _INSIDE))

    @property
    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Height and width, (N,) each."""
        return self.rows[:, 1] - self.rows[:, 0], self.columns[:, 1] - self.columns[:, 0]


def _cropped(small: torch.Tensor, box: _BoundingBox) -> torch.Tensor:
    """Crop to the bounding box, made square so that proportions stay."""
    side = torch.maximum(*box.sides) * (_MARGIN / 2)
    zeros = torch.zeros_like(side)
    theta = torch.stack(
        [
            torch.stack([side, zeros, box.columns.mean(1)], dim=1),
            torch.stack([zeros, side, box.rows.mean(1)], dim=1),
        ],
        dim=1,
    )
    return _resampled(small, theta, IMAGE_SIZE)


def _resampled(images: torch.Tensor, theta: torch.Tensor, size: int | None = None) -> torch.Tensor:
    """Resample images (N, C, S, S) by matrices (N, 2, 3), to another size if one is given."""
    count, channels, side, _ = images.shape
    shape = [count, channels, size or side, size or side]
    grid = F.affine_grid(theta, shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _edges(profile: torch.Tensor) -> torch.Tensor:
    """Return first and last edge (N, 2) of the True part of (N, L), on an axis from -1 to 1."""
    length = profile.shape[1]
    at = torch.arange(length)
    first = torch.where(profile, at, length).amin(1)
    last = torch.where(profile, at + 1, 0).amax(1)
    return torch.stack([first, torch.maximum(last, first + 1)], dim=1) * (2 / length) - 1


def _shape(inside: torch.Tensor, box: _BoundingBox) -> torch.Tensor:
    """Return (N, 5): log height, width and their ratio, filled fraction, head at the border."""
    height, width = box.sides
    area = inside.float().mean((1, 2)) * 4
    border = torch.cat([inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]], dim=1)
    return torch.stack(
        [
            height.log(),
            width.log(),
            (height / width).log(),
            area / (height * width),
            border.float().mean(1),
        ],
        dim=1,
    )


def _quantiles(
    bright: torch.Tensor, inside: torch.Tensor, shares: tuple[float, ...]
) -> torch.Tensor:
    """Return the brightness at ranks (N, len(shares)) of the pixels inside; 1 at most."""
    ranked = torch.where(inside, bright, torch.inf).flatten(1).sort(dim=1).values
    last = (inside.flatten(1).sum(1) - 1).clamp(min=0)
    ranks = [(last * share).round().long() for share in shares]
    return ranked.gather(1, torch.stack(ranks, dim=1)).clamp(max=1)


def _by_depth(bright: torch.Tensor, eroded: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Return the mean brightness of each shell from the outline inwards, and of the core."""
    masks = list(eroded.values())
    shells = [outer & ~inner for outer, inner in pairwise(masks)]
    return _means(bright[:, None], torch.stack([*shells, masks[-1]], dim=1))[:, 0]


def _eroded(inside: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return the head masks eroded by 0 and each of `_DEPTHS` pixels.

    The border of the field of view is no outline: nothing is eroded from there.
    """
    masks = {0: inside}
    outside = (~inside).float()[:, None]
    for depth in range(1, max(_DEPTHS) + 1):
        outside = F.max_pool2d(outside, 3, stride=1, padding=1)
        if depth in _DEPTHS:
            masks[depth] = outside[:, 0] == 0
    return masks


def _texture(
    halves: torch.Tensor,
    small: torch.Tensor,
    bright: torch.Tensor,
    eroded: Mapping[int, torch.Tensor],
) -> torch.Tensor:
    """Return (N, 6): fine and coarse contrast, deviation, white everywhere and deep, black."""
    shade, inside = small[:, 0], eroded[0]
    white, black = bright >= 0.97, bright <= 0.03
    mean = _means(bright[:, None], inside[:, None])
    squared = (bright - mean[:, 0, :, None]) ** 2
    values = torch.stack([_fine(halves, shade), _coarse(shade), squared, white, black], dim=1)
    where = torch.stack([inside, eroded[_DEEP]], dim=1)
    everywhere, deep = _means(values, where).unbind(2)
    return torch.stack(
        [
            deep[:, 0],
            deep[:, 1],
            everywhere[:, 2].sqrt(),
            everywhere[:, 3],
            deep[:, 3],
            everywhere[:, 4],
        ],
        dim=1,
    )


def _fine(halves: torch.Tensor, shade: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference (N, H, W) of 2x2 pixels from their mean."""
    means = F.interpolate(shade[:, None], scale_factor=2)
    return F.avg_pool2d((halves[:, :1] - means).abs(), 2)[:, 0]


def _coarse(shade: torch.Tensor) -> torch.Tensor:
    """Return the absolute difference (N, H, W) of pixels from the mean of their 4x4 block."""
    means = F.interpolate(F.avg_pool2d(shade[:, None], 4), scale_factor=4)
    return (shade - means[:, 0]).abs()


def _symmetry(images: torch.Tensor) -> torch.Tensor:
    """Return (N, 3): differences of left and right in brightness and outline, of top and bottom."""
    across = (images - images.flip(3)).abs().mean((2, 3))
    along = (images[:, 1] - images[:, 1].flip(1)).abs().mean((1, 2))
    return torch.cat([across, along[:, None]], dim=1)


def _means(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return means (N, K, M) of K values (N, K, H, W) over M masks, bool (N, M, H, W)."""
    weights = where.flatten(2).float()
    return values.flatten(2) @ weights.mT / weights.sum(2).clamp(min=1)[:, None]


_ENCODED = 40


class AnomalyClassifier(nn.Module):
    """Classify the orientation, the content and the view of a slice from its features.

    Parameters
    ----------
    views : bool
        Know the `VIEW_ANOMALIES` too.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, views: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, 16, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.1),
            nn.Linear(32 * (IMAGE_SIZE // 8) ** 2, _ENCODED), nn.ReLU(),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(SCALARS))
        self.register_buffer("std", torch.ones(SCALARS))
        self.orientation = _head(1 + len(ORIENTATION_ANOMALIES))
        self.content = _head(1 + len(CONTENT_ANOMALIES))
        self.views = _head(1 + len(VIEW_ANOMALIES)) if views else None

    def forward(self, images: torch.Tensor, scalars: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits of orientations, contents and perhaps views, the first of each for normal.

        Parameters
        ----------
        images : float32 tensor (N, 2, IMAGE_SIZE, IMAGE_SIZE)
        scalars : float32 tensor (N, SCALARS)

        Returns
        -------
        tuple of tensor (N, 1 + anomalies)
        """
        encoded = self.encoded(images, scalars)
        heads = (self.orientation, self.content, self.views)
        return tuple(head(encoded) for head in heads if head is not None)

    def encoded(self, images: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
        """Return what the heads classify: (N, encoded image and normalized scalars)."""
        normalized = ((scalars - self.mean) / self.std).clamp(-5, 5)
        return torch.cat([self.encoder(images), normalized], dim=1)

    def log_odds(self, features: Features) -> torch.Tensor:
        """Return the log-odds (N, anomalies) of each anomaly against normal."""
        logits = self(features.images, features.scalars)
        return torch.cat([each[:, 1:] - each[:, :1] for each in logits], dim=1)


class AnomalyEnsemble(nn.Module):
    """Average classifiers trained from different seeds (Lakshminarayanan et al. 2017).

    Parameters
    ----------
    members : iterable of AnomalyClassifier
    """

    def __init__(self, members: Iterable[AnomalyClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def log_odds(self, halves: torch.Tensor, modality: str) -> torch.Tensor:
        """Return the mean log-odds (N, anomalies) of each known anomaly, as `ANOMALIES` orders.

        The mean runs over the members, the augmented slices and their mirror images, so a slice and
        its mirror image get the same.

        Parameters
        ----------
        halves : float32 tensor (N, 2, 128, 128)
            From `features.half_resolution`.
        modality : {"CT", "MR"}
        """
        features = extract_features(augmented(halves).flatten(0, 1), modality).with_mirrored()
        members = (cast("AnomalyClassifier", member) for member in self.members)
        odds = torch.stack([member.log_odds(features) for member in members])
        return odds.view(-1, len(halves), odds.shape[-1]).mean(0)


def _head(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(_ENCODED + SCALARS, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, classes)
    )
