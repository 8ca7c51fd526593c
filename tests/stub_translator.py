"""Translators whose generators do what a test says, and scans on a grid of the network's pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from head_scans import centered, head_ct, head_mr
from monai.data import MetaTensor
from torch import nn

from medtranslate.translation import Translator

SHAPE = (180, 212, 4)
PIXELS = np.diag([-0.9, -0.9, 30.0])
"""As the network has them: nothing is lost on the way to its grid and back."""


class Does(nn.Module):
    """A generator that is a function of slices (n, 1, 256, 256) in [-1, 1]."""

    def __init__(self, work: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.work = work

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return self.work(slices)


def translator(
    bundle: Path, generators: Mapping[str, Callable[[torch.Tensor], torch.Tensor]], batch: int = 4
) -> Translator:
    """A translator of float32 on the processor whose generators are functions; by target."""
    loaded = Translator.load(bundle, device="cpu", precision="float32", batch_size=batch)
    return replace(loaded, networks={to: Does(work) for to, work in generators.items()})


def ct() -> MetaTensor:
    return head_ct(SHAPE, centered(PIXELS, SHAPE))


def mr() -> MetaTensor:
    return head_mr(SHAPE, centered(PIXELS, SHAPE))


def same(slices: torch.Tensor) -> torch.Tensor:
    return slices.clone()
