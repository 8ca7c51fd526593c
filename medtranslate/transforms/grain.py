"""The grain of a head CT: noise that neighbors share, as reconstruction leaves it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from nibabel.affines import voxel_sizes
from nibabel.orientations import io_orientation

from medtranslate.modality import check_grain
from medtranslate.transforms.base import as_image, like
from medtranslate.transforms.placement import Affine
from medtranslate.transforms.units import ALL_HU, BRAIN_WINDOW

SPREAD = 0.25
"""Share by which grain is stronger or weaker from image to image; its deviation is about 4 HU."""

_FALL = 10.6  # of the power, per cycle per pixel of 0.9 mm
_PIXEL = 0.9  # mm
_REACH = 10  # pixels over which it is shared
_AIR = -1000.0  # HU


def ct_grain(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Draw noise with the spectrum of a head CT, of mean 0 and standard deviation 1.

    Its power falls by exp(-10.6 f) with the frequency f in cycles per pixel. That is how it falls
    in patches of even brain of 948 CT-ICH slices (Hssayeni et al. 2020), of 0.9 mm, from 0.1 on;
    below lies anatomy.

    Parameters
    ----------
    images : tensor (N, 1, H, W)
        Noise has its shape and is on its device.
    draws : torch.Generator
        On that device.

    Returns
    -------
    float32 tensor (N, 1, H, W)

    Examples
    --------
    >>> noise = ct_grain(torch.zeros(2, 1, 64, 64), torch.Generator().manual_seed(0))
    >>> noise.shape, round(float(noise.std()), 1)
    (torch.Size([2, 1, 64, 64]), 1.0)
    """
    count, _, rows, columns = images.shape
    sides = (rows + 2 * _REACH, columns + 2 * _REACH)
    white = torch.randn(count, 1, *sides, generator=draws, device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        return F.conv2d(white, _kernel(images.device)[None, None])


def _kernel(device: torch.device) -> torch.Tensor:
    """Return what white noise is convolved with: the square root of the spectrum, in space."""
    steps = torch.arange(-_REACH, _REACH + 1, device=device, dtype=torch.float32)
    frequencies = steps / len(steps)
    amplitude = _amplitude(frequencies[:, None], frequencies)
    # Fourier's sum of what is even in both directions; in plain products, as a CUDA graph holds.
    waves = torch.cos(2 * math.pi * steps[:, None] * frequencies)
    kernel = waves @ amplitude @ waves.T
    return kernel / kernel.square().sum().sqrt()


def _amplitude(down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Return the square root of the power at frequencies in cycles per 0.9 mm."""
    return torch.exp(-_FALL / 2 * torch.hypot(down, across))


class AddCTGrain(Transform):
    """Add grain to a CT, so that it looks like a scan while its texture stands for no anatomy.

    A synthetic CT has none. Every axial slice gets its own, with the spectrum of `ct_grain` in mm
    (a pixel of a 2D image counts as 0.9 mm). What was set and not measured stays: background, and
    values at the ends of the range, such as the white bone of a 2D image. Range and background are
    those of ``meta["synthesis"]`` where there is one, which also gets the ``"grain"``.

    Parameters
    ----------
    deviation : float
        Standard deviation in HU; that of a head CT of 5 mm slices is about 4.
    seed : int, optional
        Of the noise. By default it follows from the image: the same CT gets the same grain, and
        another one other grain.

    Raises
    ------
    InvalidOption
        No CT has such a deviation.

    Examples
    --------
    >>> ct = MetaTensor(torch.full((1, 64, 64, 2), 37.0))
    >>> ct[..., 0] = -1000
    >>> grainy = AddCTGrain(4.0)(ct)
    >>> [round(float(each.std())) for each in grainy[0].unbind(-1)]
    [0, 4]
    """

    def __init__(self, deviation: float = 4.0, seed: int | None = None) -> None:
        check_grain(deviation)
        self.deviation, self.seed = deviation, seed

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return the CT (1, X, Y, Z), in HU or a 2D image, with grain and in its own type."""
        image = as_image(image)
        synthesis = dict(image.meta.get("synthesis") or {})
        is_image = dict(image.meta.get("source") or {}).get("kind") == "image"
        low, high = (0.0, 255.0) if is_image else synthesis.get("range") or ALL_HU
        floor = max(low, synthesis.get("background", low if is_image else _AIR))
        unit = (high - low) / (BRAIN_WINDOW[1] - BRAIN_WINDOW[0]) if is_image else 1.0
        axis, sides = (2, (_PIXEL, _PIXEL)) if is_image else _slicing(image.affine.numpy())
        voxels = image.as_tensor().clone()
        draws = torch.Generator().manual_seed(_seed(voxels) if self.seed is None else self.seed)
        for one in voxels[0].unbind(axis):
            noise = _field((one.shape[0], one.shape[1]), sides, draws).to(one.device)
            grainy = (one.float() + self.deviation * unit * noise).clamp_(low, high)
            if not one.is_floating_point():
                grainy.round_()
            one.copy_(torch.where((one > floor) & (one < high), grainy, one.float()))
        out = like(voxels, image)
        if synthesis:
            out.meta["synthesis"] = synthesis | {"grain": self.deviation}
        return out


class AddCTGraind(MapTransform):
    """Add grain to CT of a dictionary.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to change: MetaTensors (1, X, Y, Z) in HU, or 2D images.
    deviation, seed
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
        seed: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = AddCTGrain(deviation, seed)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with grainy CT."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out


def _field(
    shape: tuple[int, int], sides: tuple[float, float], draws: torch.Generator
) -> torch.Tensor:
    """Draw noise of deviation 1 for pixels with these sides in mm; it wraps around."""
    down = torch.fft.fftfreq(shape[0])[:, None] * _PIXEL / sides[0]
    amplitude = _amplitude(down, torch.fft.fftfreq(shape[1]) * _PIXEL / sides[1])
    amplitude = amplitude / amplitude.square().mean().sqrt()
    white = torch.randn(shape, generator=draws)
    noise: torch.Tensor = torch.fft.ifft2(torch.fft.fft2(white) * amplitude).real
    return noise


def _slicing(affine: Affine) -> tuple[int, tuple[float, float]]:
    """Return the axis across axial slices, and the sides of their pixels in mm."""
    axis = io_orientation(affine)[:, 0].tolist().index(2)
    first, second = np.delete(voxel_sizes(affine), axis).tolist()
    return axis, (first, second)


def _seed(voxels: torch.Tensor) -> int:
    return zlib.crc32(voxels.cpu().contiguous().numpy().tobytes())
