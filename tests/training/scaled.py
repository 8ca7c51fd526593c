"""A generator whose result can be worked out by hand."""

from __future__ import annotations

import torch
from torch import nn


class Scaled(nn.Module):
    """A generator that multiplies by one weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.weight * image
