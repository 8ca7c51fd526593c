"""A recipe: how one kind of input is prepared for the network, and how it is given back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medtranslate.transforms.bias import N4
from medtranslate.transforms.geometry import Geometry, Placement
from medtranslate.transforms.head import FixedThreshold, OtsuThreshold, heads
from medtranslate.transforms.intensity import Intensity, Limits


@dataclass(frozen=True)
class Prepared:
    """A scan as the network sees it, and what the way back needs.

    Parameters
    ----------
    slices : float32 tensor (N, 1, size, size)
        In [-1, 1]; axial, inferior to superior; rows anterior to posterior, columns right to left;
        -1 outside the head.
    head : bool tensor (N, size, size)
        Where the head is.
    limits : Limits
        The values that became -1 and 1.
    placement : Placement
        How the image lies on the network's grid.
    """

    slices: torch.Tensor
    head: torch.Tensor
    limits: Limits
    placement: Placement

    @property
    def holds(self) -> torch.Tensor:
        """Which slices show some head: bool (N,)."""
        return self.head.flatten(1).any(1)


@dataclass(frozen=True)
class Recipe:
    """How one kind of input is prepared: geometry and intensity, each with its inverse.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"``.
    kind : str
        ``"volume"`` or ``"picture"``.
    geometry : AxialSlices or PictureFrame
        Axes, spacing in the slice plane, crop and pad.
    intensity : Window, Percentiles or Grey
        Units to [-1, 1].
    head : FixedThreshold or OtsuThreshold, optional
        What counts as tissue; without it the whole frame is the head, as in the paper.
    bias : N4, optional
        Bias-field correction before everything else (MR volumes).
    """

    modality: str
    kind: str
    geometry: Geometry
    intensity: Intensity
    head: FixedThreshold | OtsuThreshold | None = None
    bias: N4 | None = None

    def prepare(self, image: MetaTensor) -> Prepared:
        """Take an image to the network's slices.

        Parameters
        ----------
        image : MetaTensor (1, X, Y, Z)
            In physical units, affine in RAS mm (``docs/architecture.md``). Not changed.

        Raises
        ------
        Unsupported
            If the geometry cannot be cut into axial slices.
        """
        affine = np.asarray(image.affine, dtype=np.float64)
        volume = image.as_tensor()[0].detach().to("cpu", torch.float32)
        if self.bias:
            volume = self.bias.correct(volume, affine)
        white = full_white(image)
        x, y, z = volume.shape
        level = self._tissue_level(volume, white)
        centre = _centre(volume, level)
        placement = self.geometry.place((x, y, z), affine, centre)
        frames = placement.to_network(volume, self.intensity.clip)
        head = self._find_head(volume, frames, level, placement)
        limits = self._measure(frames, head, white)
        slices = limits.to_unit(frames[:, None])
        slices[~head[:, None]] = -1
        return Prepared(slices, head, limits, placement)

    def restore(self, slices: torch.Tensor, prepared: Prepared) -> MetaTensor:
        """Take slices back: to the geometry of what was prepared, in the units of this recipe.

        Parameters
        ----------
        slices : float tensor (N, 1, size, size)
            In [-1, 1], as the generator gave them.
        prepared : Prepared
            What the source's recipe gave for the source; a conversion restores it with the
            target's recipe.

        Returns
        -------
        MetaTensor (1, X, Y, Z)
            Float32 whole numbers within `intensity.written` in the head, `intensity.background`
            elsewhere. The affine is the caller's to copy from the source.
        """
        written, background = self.intensity.written, self.intensity.background
        placement, seen = prepared.placement, prepared.placement.seen
        if slices.shape != prepared.slices.shape:
            raise ValueError(f"{tuple(slices.shape)} slices for {tuple(prepared.slices.shape)}")

        def units(plane: torch.Tensor, chunk: slice) -> torch.Tensor:
            values = written.from_unit(plane).round_()
            head = placement.rows_back @ prepared.head[chunk].float() @ placement.columns_back.T
            return values.where((head >= 0.5) & seen, background)

        out = placement.empty()
        placement.from_network(slices[:, 0], out, units)
        return MetaTensor(out[None])

    def with_bias(self, bias: N4) -> Recipe:
        """Return the same recipe with bias-field correction before everything else."""
        return replace(self, bias=bias)

    def _tissue_level(self, volume: torch.Tensor, white: float) -> float | None:
        if self.head is None:
            return None
        if self.kind == "picture":
            return self.head.level(volume.numpy() / white) * white
        return self.head.level(volume[tuple(_coarse(n) for n in volume.shape)].numpy())

    def _find_head(
        self, volume: torch.Tensor, frames: torch.Tensor, level: float | None, place: Placement
    ) -> torch.Tensor:
        if level is None:
            return torch.ones(frames.shape, dtype=torch.bool)
        if torch.equal(self.intensity.clip(torch.tensor(level)), torch.tensor(level)):
            tissue = (frames > level) & place.covered  # scaled MR may have its air below 0
        else:  # the level lies outside the window, so the frames no longer show it
            tissue = place.to_network(volume, lambda v: (v > level).float()) > 0.5
        return torch.from_numpy(heads(tissue.numpy()))

    def _measure(self, frames: torch.Tensor, head: torch.Tensor, white: float) -> Limits:
        inside = frames[_without_rim(head)]
        return self.intensity.measure((inside if len(inside) else frames.flatten()).numpy(), white)


def _without_rim(head: torch.Tensor) -> torch.Tensor:
    """Take the outermost pixels of heads (N, H, W) away, which are part air, part skin."""
    core = torch.empty_like(head)
    for one, inner in zip(head, core, strict=True):  # of a long series, no floats at once
        outside = (~one).float()[None]
        torch.eq(torch.nn.functional.max_pool2d(outside, 3, 1, 1)[0], 0, out=inner)
    return core


def full_white(image: MetaTensor) -> float:
    """Return full white of a picture, from the stored type: 65535 for 16 bit, else 255."""
    source: dict[str, Any] = image.meta.get("source", {})
    return 65535.0 if source.get("dtype") == "uint16" else 255.0


def _centre(volume: torch.Tensor, level: float | None) -> tuple[float, float, float]:
    """Voxel coordinates of the middle of the tissue's box, outliers left out."""
    x, y, z = volume.shape
    if level is None:
        return (x - 1) / 2, (y - 1) / 2, (z - 1) / 2
    looks = tuple(_coarse(n) for n in volume.shape)
    tissue = volume[looks] > level
    return tuple(
        look.start + look.step * _middle(tissue.sum([a for a in range(3) if a != axis]).numpy())
        for axis, look in enumerate(looks)
    )


def _coarse(length: int) -> slice:
    """A coarse look at an axis: enough for a threshold and for where the head is.

    It starts as far from one end as it stops from the other, give or take a voxel, so that a scan
    and its mirror image are looked at alike.
    """
    step = 4 if length > 64 else 1
    return slice((length - 1) % step // 2, length, step)


def _middle(profile: np.ndarray) -> float:
    total = np.cumsum(profile)
    if total[-1] == 0:
        return (len(profile) - 1) / 2
    low, high = np.searchsorted(total, [0.02 * total[-1], 0.98 * total[-1]])
    return float(low + high) / 2
