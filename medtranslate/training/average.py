"""Exponential moving average of weights (as in Karras et al. 2018, section 5)."""

from __future__ import annotations

import torch
from torch import nn


class MovingAverage:
    """Keeps a second set of weights that follows the first slowly.

    Early on the decay is smaller, ``(1 + n) / (10 + n)`` after n updates, so that the first
    weights, which are noise, are soon forgotten.

    Parameters
    ----------
    module : torch.nn.Module
        What is averaged; it has the same parameters as `source`.
    source : torch.nn.Module
        What is trained.
    decay : float
        In [0, 1).
    """

    def __init__(self, module: nn.Module, source: nn.Module, decay: float) -> None:
        module.load_state_dict(source.state_dict())
        self.module = module.requires_grad_(False)
        self.decay = decay
        self._pairs = list(zip(module.parameters(), source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Follow the source, `updates` being how often this was done before."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages, current = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(averages, current, 1 - decay)
