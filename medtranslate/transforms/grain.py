"""The grain of a head CT: noise that neighbors share, as reconstruction leaves it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

SPREAD = 0.25
"""Share by which grain is stronger or weaker from image to image; its deviation is about 4 HU."""

_FALL = 10.6  # of the power, per cycle per pixel
_REACH = 10  # pixels over which it is shared


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
    amplitude = torch.exp(-_FALL / 2 * torch.hypot(frequencies[:, None], frequencies))
    # Fourier's sum of what is even in both directions; in plain products, as a CUDA graph holds.
    waves = torch.cos(2 * math.pi * steps[:, None] * frequencies)
    kernel = waves @ amplitude @ waves.T
    return kernel / kernel.square().sum().sqrt()
