"""Augmentation on the device: each image is mirrored, scaled, rotated, shifted and cut at once.

Both modalities get the same distribution of sizes, so a discriminator has no reason to make its
generator shrink or grow heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from medtranslate.training.pairs import Pairs
from medtranslate.training.prepared import from_gray
from medtranslate.training.settings import Settings


@dataclass(frozen=True)
class Images:
    """What the networks see of one modality.

    Attributes
    ----------
    image : float32 tensor (B, 1, H, W)
        In [-1, 1]; -1 outside the head.
    head : bool tensor (B, 1, H, W)
    contrast : int64 tensor (B,), optional
        Codes of MRI, 0 where unknown; where the generator takes any.
    """

    image: torch.Tensor
    head: torch.Tensor
    contrast: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Augmentation:
    """The changes that settings ask for.

    Parameters
    ----------
    settings : Settings
        `flip`, `size`, `rotation`, `shift`, `crop` and `reduce` are read.
    """

    settings: Settings

    def __call__(self, gray: torch.Tensor, draws: torch.Tensor) -> Images:
        """Change slices as the draws say.

        Parameters
        ----------
        gray : uint8 tensor (B, 256, 256)
            Prepared slices.
        draws : float32 tensor (B, 5)
            In [-1, 1): for mirroring, size, rotation and shift along rows and columns.
        """
        return self.change(*from_gray(gray), draws)

    def change(self, image: torch.Tensor, head: torch.Tensor, draws: torch.Tensor) -> Images:
        """Change images of several channels alike, as a CT and its MRI.

        Parameters
        ----------
        image : float32 tensor (B, C, H, W)
            In [-1, 1].
        head : bool tensor (B, 1, H, W)
        draws : float32 tensor (B, 5)
            As in a call.
        """
        if self.settings.downsampling > 1:
            image, head = self._smaller(image), self._smaller(head.float()) >= 0.5
        if not self._resamples():
            return _masked(image, head)
        # Counted from the background, so that what lies beyond the image (zeros) is background.
        both = torch.cat([image + 1, head.float()], dim=1)
        grid = self._grid(head, draws)
        sampled = F.grid_sample(both, grid, padding_mode="zeros", align_corners=False)
        return _masked(sampled[:, :-1] - 1, sampled[:, -1:] >= 0.5)

    def reduced(self, pairs: Pairs) -> Pairs:
        """Return whole pairs at the size that slices are averaged to, and not changed otherwise."""
        if self.settings.downsampling == 1:
            return pairs
        head = self._smaller(pairs.head.float()) >= 0.5
        images = {
            name: torch.where(head, self._smaller(image), -1.0)
            for name in ("ct", "mri", "source_ct", "whole_ct")
            if (image := getattr(pairs, name)) is not None
        }
        weight = None if pairs.weight is None else self._smaller(pairs.weight)
        return replace(pairs, head=head, weight=weight, **images)

    def _smaller(self, image: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(image, self.settings.downsampling)

    def _resamples(self) -> bool:
        s = self.settings
        return bool(s.flip or s.scaling or s.rotation_degrees or s.shift_pixels or s.crop)

    def _grid(self, head: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return where each pixel comes from: (B, H, W, 2), columns before rows, in [-1, 1]."""
        settings, (rows, columns) = self.settings, self.settings.image_size
        side = head.shape[-1]
        mirror, size, turn, down, right = draws.unbind(dim=1)
        flip = torch.where(mirror < 0, -1.0, 1.0) if settings.flip else torch.ones_like(mirror)
        scale = 1 / (1 + size * settings.scaling)
        angle = turn * math.radians(settings.rotation_degrees)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        across, along = columns / side, rows / side
        center = self._center(head)
        shift = torch.stack([right, down], dim=1) * (2 * settings.shift_pixels / side)
        matrix = torch.stack(
            [
                torch.stack([flip * cos * across, -sin * along], dim=1),
                torch.stack([flip * sin * across, cos * along], dim=1),
            ],
            dim=1,
        )
        theta = torch.cat([matrix, (center + shift)[:, :, None]], dim=2)
        return F.affine_grid(theta, [len(head), 1, rows, columns], align_corners=False)

    def _center(self, head: torch.Tensor) -> torch.Tensor:
        """Return the middle of each head's box (B, 2), columns before rows, in [-1, 1].

        Without a crop the image itself is kept: where a head lies in it says nothing.
        """
        if self.settings.crop is None:
            return torch.zeros(len(head), 2, device=head.device)
        return torch.stack([_middle(head.any(dim=2)[:, 0]), _middle(head.any(dim=3)[:, 0])], dim=1)


def draw(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return the draws for so many images, float32 (count, 5) in [-1, 1)."""
    return torch.rand(count, 5, generator=generator) * 2 - 1


def _middle(profile: torch.Tensor) -> torch.Tensor:
    """Return the middle of the True part of (B, N) on an axis from -1 to 1; 0 if there is none."""
    steps = (torch.arange(profile.shape[1], device=profile.device) + 0.5) * 2 / profile.shape[1] - 1
    first = torch.where(profile, steps, torch.inf).amin(dim=1)
    last = torch.where(profile, steps, -torch.inf).amax(dim=1)
    return torch.where(profile.any(dim=1), (first + last) / 2, 0.0)


def _masked(image: torch.Tensor, head: torch.Tensor) -> Images:
    return Images(torch.where(head, image, -1.0), head)
