"""What the domain check looks at: a small picture of each head, and figures about it; on the CPU.

Both come from slices that a recipe has prepared, for pictures and volumes alike. The picture is cut
to the head's box, so where the head lies and how large it is do not enter it; figures tell the
size. Mirrored left to right, a slice gives the mirrored picture and the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

SIDE = 48
"""Rows and columns of the small picture."""

FIGURES = 24
"""How many figures describe a slice."""

_INSIDE = 0.5  # share of head from which a pixel counts as head
_MARGIN = 1.06  # side of the picture, in longer sides of the head's box
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_STRETCH = (0.01, 0.99)
_TILT = math.radians(6)
_MOVES = ((_TILT, 1.0), (-_TILT, 1.0), (0.0, 1.07), (0.0, 1 / 1.07))
# turn, and how much broader: a head tilted or formed a little otherwise is the same head
_DEPTHS = (1, 2, 4, 8)  # steps inwards from the outline, 4 network pixels (3.6 mm) each
_DEEP = 2  # of them, where texture is told


@dataclass(frozen=True)
class Looks:
    """What is looked at.

    Attributes
    ----------
    pictures : float32 tensor (N, 2, SIDE, SIDE)
        Brightness in [0, 1], 0 outside the head; share of head in each pixel.
    figures : float32 tensor (N, FIGURES)
        Size, shape, brightness by rank and by depth, symmetry, texture.
    """

    pictures: torch.Tensor
    figures: torch.Tensor

    def __len__(self) -> int:
        return len(self.figures)

    def with_mirrored(self) -> Looks:
        """Give these looks, and after them those of the slices mirrored left to right."""
        pictures = torch.cat([self.pictures, self.pictures.flip(3)])
        return Looks(pictures, self.figures.repeat(2, 1))


def halved(slices: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Give prepared slices at half their size, which is all that is looked at.

    Parameters
    ----------
    slices : float tensor (N, 1, H, W)
        In [-1, 1]; H and W are even.
    head : bool tensor (N, H, W)

    Returns
    -------
    float32 tensor (N, 2, H / 2, W / 2)
        Brightness in [0, 1], 0 outside the head; share of head in each pixel.
    """
    cover = head.float()
    return _pooled(torch.stack([(slices[:, 0] + 1) / 2 * cover, cover], dim=1))


def moved(halves: torch.Tensor) -> torch.Tensor:
    """Give halved slices (N, 2, S, S) as they are, tilted a little and made broader and narrower.

    What a network says of all of them together hangs less on chance than what it says of one
    (test-time augmentation; Krizhevsky et al. 2012, section 4.1). Mirrored slices give mirrored
    moves, in another order.

    Returns
    -------
    tensor (M, N, 2, S, S)
        The slices themselves, then those moved.
    """
    matrices = [
        [
            [math.cos(turn) / broader, -math.sin(turn), 0],
            [math.sin(turn) / broader, math.cos(turn), 0],
        ]
        for turn, broader in _MOVES
    ]
    count, moves = len(halves), len(_MOVES)
    grid = _grid(torch.tensor(matrices), halves.shape[-1])
    grid = grid.repeat_interleave(count, dim=0)
    copies = halves.repeat(moves, 1, 1, 1)
    found = F.grid_sample(copies, grid, padding_mode="zeros", align_corners=False)
    return torch.cat([halves[None], found.view(moves, *halves.shape)])


def look(halves: torch.Tensor, modality: str) -> Looks:
    """Look at halved slices.

    Parameters
    ----------
    halves : float32 tensor (N, 2, 128, 128)
        Each must hold some head (`halved`).
    modality : {"CT", "MR"}
        Brightness of a CT means something; that of an MR is stretched, slice by slice, between two
        percentiles of its head.
    """
    small = _pooled(halves)
    inside = small[:, 1] >= _INSIDE
    bright = small[:, 0] / small[:, 1].clamp(min=0.01)
    if modality == "MR":
        low, high = _quantiles(bright, inside, _STRETCH).unbind(1)
        halves = _stretched(halves, low, high)
        small = _pooled(halves)
        bright = small[:, 0] / small[:, 1].clamp(min=0.01)
    box, left = _Box.of(small[:, 1]), _eroded(inside)
    pictures = _cut(small, box)
    figures = torch.cat(
        [
            _shape(inside, box),
            _quantiles(bright, inside, _QUANTILES),
            _by_depth(bright, left),
            _texture(halves, small, bright, left),
            _symmetry(pictures),
        ],
        dim=1,
    )
    return Looks(pictures, figures)


def _stretched(halves: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    low, high = low[:, None, None], high[:, None, None]
    shade, cover = halves.unbind(1)
    value = (shade - low * cover) / (high - low).clamp(min=1e-3)
    return torch.stack([value.clamp(min=0).minimum(cover), cover], dim=1)


@dataclass(frozen=True)
class _Box:
    """First and last edge of each head, on axes from -1 to 1.

    Attributes
    ----------
    rows, columns : float tensors (N, 2)
    """

    rows: torch.Tensor
    columns: torch.Tensor

    @classmethod
    def of(cls, cover: torch.Tensor) -> _Box:
        """Find the box from shares of head (N, H, W)."""
        return cls(_edges(cover.amax(2) >= _INSIDE), _edges(cover.amax(1) >= _INSIDE))

    @property
    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Height and width, (N,) each."""
        return self.rows[:, 1] - self.rows[:, 0], self.columns[:, 1] - self.columns[:, 0]


def _cut(small: torch.Tensor, box: _Box) -> torch.Tensor:
    """Cut to the head's box, made square so that proportions stay."""
    side = torch.maximum(*box.sides) * (_MARGIN / 2)
    nil = torch.zeros_like(side)
    theta = torch.stack(
        [
            torch.stack([side, nil, box.columns.mean(1)], dim=1),
            torch.stack([nil, side, box.rows.mean(1)], dim=1),
        ],
        dim=1,
    )
    grid = _grid(theta, SIDE)
    return F.grid_sample(small, grid, padding_mode="zeros", align_corners=False)


def _grid(theta: torch.Tensor, side: int) -> torch.Tensor:
    """Give the grid (N, side, side, 2) of matrices (N, 2, 3), a fifth of `F.affine_grid`'s time."""
    steps = (torch.arange(side) * 2 + 1) / side - 1
    across, along, shift = theta[:, :, :, None, None].unbind(2)
    return (across * steps + along * steps[:, None] + shift).permute(0, 2, 3, 1)


def _edges(profile: torch.Tensor) -> torch.Tensor:
    """Give first and last edge (N, 2) of the True part of (N, L), on an axis from -1 to 1."""
    length = profile.shape[1]
    at = torch.arange(length)
    first = torch.where(profile, at, length).amin(1)
    last = torch.where(profile, at + 1, 0).amax(1)
    return torch.stack([first, torch.maximum(last, first + 1)], dim=1) * (2 / length) - 1


def _shape(inside: torch.Tensor, box: _Box) -> torch.Tensor:
    height, width = box.sides
    area = inside.float().mean((1, 2)) * 4
    edge = torch.cat([inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]], dim=1)
    return torch.stack(
        [
            height.log(),
            width.log(),
            (height / width).log(),
            area / (height * width),
            edge.float().mean(1),
        ],
        dim=1,
    )


def _quantiles(
    bright: torch.Tensor, inside: torch.Tensor, shares: tuple[float, ...]
) -> torch.Tensor:
    values = torch.where(inside, bright, torch.inf).flatten(1)
    ranked = torch.from_numpy(np.sort(values.numpy()))  # a ninth of torch's time
    last = (inside.flatten(1).sum(1) - 1).clamp(min=0)
    ranks = [(last * share).round().long() for share in shares]
    return ranked.gather(1, torch.stack(ranks, dim=1)).clamp(max=1)


def _by_depth(bright: torch.Tensor, left: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Mean brightness in shells from the outline inwards; what is left is the core."""
    masks = list(left.values())
    shells = [outer & ~inner for outer, inner in pairwise(masks)]
    return _means(bright[:, None], torch.stack([*shells, masks[-1]], dim=1))[:, 0]


def _eroded(inside: torch.Tensor) -> dict[int, torch.Tensor]:
    """Give what is left of a head, none and each of `_DEPTHS` steps inwards, by those steps."""
    found, left = {0: inside}, inside
    for step in range(1, max(_DEPTHS) + 1):
        left = _inner(left)
        if step in _DEPTHS:
            found[step] = left
    return found


def _inner(inside: torch.Tensor) -> torch.Tensor:
    """Give what is left a step inwards from the outline; the frame's edge is no outline."""
    for axis in (1, 2):
        most = inside.shape[axis] - 1
        before, after = inside.narrow(axis, 0, most), inside.narrow(axis, 1, most)
        inside = inside.clone()
        inside.narrow(axis, 0, most).logical_and_(after)
        inside.narrow(axis, 1, most).logical_and_(before)
    return inside


def _texture(
    halves: torch.Tensor,
    small: torch.Tensor,
    bright: torch.Tensor,
    left: Mapping[int, torch.Tensor],
) -> torch.Tensor:
    shade, inside = small[:, 0], left[0]
    white, black = bright >= 0.97, bright <= 0.03
    middle = _means(bright[:, None], inside[:, None])
    spread = (bright - middle[:, 0, :, None]) ** 2
    values = torch.stack([_fine(halves, shade), _slow(shade), spread, white, black], dim=1)
    where = torch.stack([inside, left[_DEEP]], dim=1)
    whole, deep = _means(values, where).unbind(2)
    return torch.stack(
        [deep[:, 0], deep[:, 1], whole[:, 2].sqrt(), whole[:, 3], deep[:, 3], whole[:, 4]], dim=1
    )


def _fine(halves: torch.Tensor, shade: torch.Tensor) -> torch.Tensor:
    """Give how far pixels of halved slices lie from the mean of their four (N, H, W)."""
    corners = [halves[:, 0, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.stack([(corner - shade).abs() for corner in corners]).mean(0)


def _slow(shade: torch.Tensor) -> torch.Tensor:
    """Give how far pixels lie from the mean of their block of 4x4."""
    coarse = _pooled(_pooled(shade))
    blocks = shade.unflatten(2, (-1, 4)).unflatten(1, (-1, 4))
    return (blocks - coarse[:, :, None, :, None]).abs().view_as(shade)


def _symmetry(pictures: torch.Tensor) -> torch.Tensor:
    """How far left differs from right, and top from bottom: brightness only, and outline."""
    across = (pictures - pictures.flip(3)).abs().mean((2, 3))
    along = (pictures[:, 1] - pictures[:, 1].flip(1)).abs().mean((1, 2))
    return torch.cat([across, along[:, None]], dim=1)


def _pooled(values: torch.Tensor) -> torch.Tensor:
    """Give means of 2x2 pixels (..., H / 2, W / 2), a seventh of `F.avg_pool2d`'s time."""
    rows = values[..., ::2, :] + values[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _means(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Give the means (N, K, M) of K values (N, K, H, W) in M places, bool (N, M, H, W)."""
    counted = where.flatten(2).float()
    return values.flatten(2) @ counted.mT / counted.sum(2).clamp(min=1)[:, None]
