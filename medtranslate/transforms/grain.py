"""The grain of a head CT: noise that neighbors share, as reconstruction leaves it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from medtranslate.transforms.base import as_image, like
from medtranslate.transforms.placement import Affine
from medtranslate.transforms.units import BRAIN_WINDOW

SPREAD = 0.25
"""Share by which grain is stronger or weaker from image to image; its deviation is about 4 HU."""

_FALL = 10.6  # of the power, per cycle per pixel of 0.9 mm
_PIXEL = 0.9  # mm
_REACH = 9.0  # mm over which it is shared


def ct_grain(images: torch.Tensor, draws: torch.Generator, pixel: float = _PIXEL) -> torch.Tensor:
    """Draw noise with the spectrum of a head CT, of mean 0 and standard deviation 1.

    Its power falls by exp(-10.6 f) with the frequency f in cycles per pixel of 0.9 mm. That is how
    it falls in patches of even brain of 948 CT-ICH slices (Hssayeni et al. 2020), from 0.1 on;
    below lies anatomy.

    Parameters
    ----------
    images : tensor (N, 1, H, W)
        Noise has its shape and is on its device.
    draws : torch.Generator
        On that device.
    pixel : float
        Side of a pixel in mm.

    Returns
    -------
    float32 tensor (N, 1, H, W)

    Examples
    --------
    >>> noise = ct_grain(torch.zeros(2, 1, 64, 64), torch.Generator().manual_seed(0))
    >>> noise.shape, round(float(noise.std()), 1)
    (torch.Size([2, 1, 64, 64]), 1.0)
    """
    count, _, *sides = images.shape
    with torch.autocast(images.device.type, enabled=False):
        kernel = _kernel(pixel, images.device)
        sides = [side + len(kernel) - 1 for side in sides]
        white = torch.randn(count, 1, *sides, generator=draws, device=images.device)
        return F.conv2d(white, kernel[None, None])


def _kernel(pixel: float, device: torch.device) -> torch.Tensor:
    """Return what white noise is convolved with: the square root of the spectrum, in space."""
    reach = max(1, round(_REACH / pixel))
    steps = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    frequencies = steps / len(steps)
    fall = _FALL / 2 * _PIXEL / pixel
    amplitude = torch.exp(-fall * torch.hypot(frequencies[:, None], frequencies))
    # Fourier's sum of what is even in both directions; in plain products, as a CUDA graph holds.
    waves = torch.cos(2 * math.pi * steps[:, None] * frequencies)
    kernel = waves @ amplitude @ waves.T
    return kernel / kernel.square().sum().sqrt()


class AddCTGrain(Transform):
    """Lay grain on a CT, so that it looks like a scan and its texture stands for no anatomy.

    A synthetic CT has none. Every axial slice gets its own, with the spectrum of `ct_grain` at the
    size of its pixels. What was set and not measured stays: background, and values at the ends
    of the range, as an image's white bone.

    Parameters
    ----------
    deviation : float
        Standard deviation in HU; that of a head CT of 5 mm slices is about 4.
    seed : int
        The same seed gives the same grain.
    ends : (low, high)
        In the image's units; what is not between them is left alone. In a 2D image, whose
        ``meta["source"]["kind"]`` is ``"image"``, they are black and white, and show the brain
        window.

    Examples
    --------
    >>> ct = MetaTensor(torch.full((1, 64, 64, 2), 37.0))
    >>> ct[..., 0] = -1000
    >>> grainy = AddCTGrain(4.0)(ct)
    >>> [round(float(each.std())) for each in grainy[0].unbind(-1)]
    [0, 4]
    """

    def __init__(
        self, deviation: float = 4.0, seed: int = 0, ends: tuple[float, float] | None = None
    ) -> None:
        if deviation < 0:
            raise ValueError(f"a deviation of {deviation:g} HU is not possible")
        self.deviation, self.seed, self.ends = deviation, seed, ends

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return the CT (1, X, Y, Z) with grain, in its own type."""
        image = as_image(image)
        is_image = dict(image.meta.get("source") or {}).get("kind") == "image"
        low, high = self.ends or ((0.0, 255.0) if is_image else (-1000.0, 2000.0))
        unit = (high - low) / (BRAIN_WINDOW[1] - BRAIN_WINDOW[0]) if is_image else 1.0
        axis, pixel = (2, _PIXEL) if is_image else _slicing(image.affine.numpy())
        voxels = image.as_tensor().clone()
        draws = torch.Generator(voxels.device).manual_seed(self.seed)
        for one in voxels[0].unbind(axis):
            grain = ct_grain(one[None, None], draws, pixel)[0, 0].mul_(self.deviation * unit)
            grainy = (one.float() + grain).clamp_(low, high)
            if not one.is_floating_point():
                grainy.round_()
            one.copy_(torch.where((one > low) & (one < high), grainy, one.float()))
        return like(voxels, image)


class AddCTGraind(MapTransform):
    """Lay grain on CT of a dictionary.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to change: MetaTensors (1, X, Y, Z) in HU, or 2D images.
    deviation, seed, ends
        As `AddCTGrain`.
    allow_missing_keys : bool
        Skip entries that are missing.

    Examples
    --------
    >>> AddCTGraind(keys="image", deviation=4.0).keys
    ('image',)
    """

    def __init__(
        self,
        keys: KeysCollection,
        deviation: float = 4.0,
        seed: int = 0,
        ends: tuple[float, float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = AddCTGrain(deviation, seed, ends)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with grainy CT."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out


def _slicing(affine: Affine) -> tuple[int, float]:
    """Return the axis across axial slices, and the side of their pixels in mm."""
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    axis = int(np.abs(axes[2] / sizes).argmax())
    return axis, float(np.delete(sizes, axis).mean())
