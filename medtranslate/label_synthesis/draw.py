"""Random numbers, fields and distances for a batch of slices, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

_FINE = 12  # pixels up to which distances are exact


class Draw:
    """What is drawn for a batch: one number a slice, or one field a slice.

    Numbers come from a generator on the CPU, fields from one on the device, so that drawing never
    waits for the device. A seed gives the same batch again on the same kind of device.

    Parameters
    ----------
    seed : int
    count : int
        Slices in the batch.
    size : int
        Rows and columns of a slice.
    device : torch.device
    """

    def __init__(self, seed: int, count: int, size: int, device: torch.device) -> None:
        self.count, self.size, self.device = count, size, device
        self._numbers = torch.Generator().manual_seed(seed)
        self._fields = torch.Generator(device).manual_seed(seed ^ 0x5EED)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw (count, *shape) from low to high, on the device."""
        drawn = torch.rand(self.count, *shape, generator=self._numbers)
        return (low + (high - low) * drawn).to(self.device)

    def normal(self, std: float, *shape: int) -> torch.Tensor:
        """Draw (count, *shape) around zero, on the device."""
        return (std * torch.randn(self.count, *shape, generator=self._numbers)).to(self.device)

    def chance(self, probability: float) -> torch.Tensor:
        """Draw bool (count,), true by this probability, on the device."""
        return (torch.rand(self.count, generator=self._numbers) < probability).to(self.device)

    def integers(self, weights: Sequence[float]) -> torch.Tensor:
        """Draw places (count,) in `weights`, each as often as its weight says, on the CPU."""
        chances = torch.tensor(weights, dtype=torch.float64)
        return torch.multinomial(chances, self.count, replacement=True, generator=self._numbers)

    def choice(self, values: Sequence[float]) -> torch.Tensor:
        """Draw one of some values for each slice: (count,) on the device."""
        chosen = self.integers([1.0] * len(values))
        return torch.tensor(values, dtype=torch.float32)[chosen].to(self.device)

    def point_in(self, mask: torch.Tensor) -> torch.Tensor:
        """Draw a pixel of each slice's mask (count, H, W): long (count, 2), rows and columns.

        A slice with an empty mask gets its middle.
        """
        noise = torch.rand(mask.shape, generator=self._fields, device=self.device)
        flat = torch.where(mask, noise, -1.0).flatten(1)
        highest, place = flat.max(1)
        width = mask.shape[-1]
        place = torch.where(highest < 0, mask.shape[-2] // 2 * width + width // 2, place)
        return torch.stack([place // width, place % width], 1)

    def white_noise(self) -> torch.Tensor:
        """Draw (count, size, size) independent normal numbers, on the device."""
        shape = (self.count, self.size, self.size)
        return torch.randn(shape, generator=self._fields, device=self.device)

    def field(self, scale: float) -> torch.Tensor:
        """Draw a smooth field (count, size, size) of mean about 0 and standard deviation 1.

        Parameters
        ----------
        scale : float
            Pixels from one bump to the next, 1 or more.
        """
        coarse = max(4, math.ceil(self.size / max(1.0, scale)) + 3)
        shape = (self.count, 1, coarse, coarse)
        noise = torch.randn(shape, generator=self._fields, device=self.device)
        size = [self.size, self.size]
        smooth = F.interpolate(F.avg_pool2d(noise, 3, 1, 1), size=size, mode="bicubic")[:, 0]
        return smooth / smooth.std((1, 2), keepdim=True).clamp(min=1e-6)


def per_slice(values: torch.Tensor) -> torch.Tensor:
    """Return (count,) as (count, 1, 1), to go with (count, H, W)."""
    return values[:, None, None]


def distance(mask: torch.Tensor, limit: int) -> torch.Tensor:
    """Return how far each pixel lies from a mask, by growing it step by step.

    Parameters
    ----------
    mask : bool tensor (N, H, W)
    limit : int
        Where to stop, in pixels; what lies farther gets more than this. Beyond 12 pixels of it,
        blocks of 2x2 are grown: to 2 pixels, at an eighth of the cost.

    Returns
    -------
    float tensor (N, H, W)
        0 in the mask. An octagon is grown, squares and diamonds by turns, so that the distance is
        within 12 % of the Euclidean one.
    """
    if limit <= _FINE:
        return _grown(mask[:, None].float(), limit)[:, 0]
    blocks = F.max_pool2d(mask[:, None].float(), 2, ceil_mode=True)
    coarse = 2 * _grown(blocks, math.ceil(limit / 2))
    return F.interpolate(coarse, scale_factor=2)[:, 0, : mask.shape[1], : mask.shape[2]]


def _grown(mask: torch.Tensor, limit: int) -> torch.Tensor:
    covered, steps = mask, mask.clone()
    for step in range(1, limit + 1):
        covered = F.max_pool2d(covered, 3, 1, 1) if step % 2 == 0 else _cross(covered)
        steps += covered
    return limit + 1 - steps  # covered from its step on


def _cross(mask: torch.Tensor) -> torch.Tensor:
    return torch.maximum(
        F.max_pool2d(mask, (3, 1), 1, (1, 0)), F.max_pool2d(mask, (1, 3), 1, (0, 1))
    )


def solid(mask: torch.Tensor) -> torch.Tensor:
    """Fill what a mask (N, H, W) encloses: air from which no straight way leads out."""
    open_ = ~mask
    ways = [open_.int().cummin(dim).values for dim in (1, 2)]
    ways += [open_.int().flip(dim).cummin(dim).values.flip(dim) for dim in (1, 2)]
    return ~torch.stack(ways).bool().any(0)
