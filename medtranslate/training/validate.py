"""Validation: held-out slices through the averaged generators, scored against real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medtranslate.training.objective import in_head
from medtranslate.training.pictures import shown
from medtranslate.training.precision import autocast
from medtranslate.training.prepared import PreparedSet, from_grey

Score = Callable[[np.ndarray, np.ndarray], float]
"""Takes judged and real frames, each uint8 (N, 256, 256); lower is better (KID)."""

_BATCH = 8


@dataclass(frozen=True)
class Validation:
    """How good both directions are on slices that are not trained on.

    Parameters
    ----------
    ct, mri : PreparedSet
        Held out of training.
    score : callable
        See `Score`.
    precision : {"float32", "bf16"}
    """

    ct: PreparedSet
    mri: PreparedSet
    score: Score
    precision: str = "float32"

    def measure(self, generators: nn.ModuleDict, device: torch.device) -> dict[str, float]:
        """Return the scores by the modality made, and their mean under ``"mean"``."""
        scores = {}
        for made, source, real in (("mri", self.ct, self.mri), ("ct", self.mri, self.ct)):
            judged = self._translated(generators[made], source, device)
            scores[made] = self.score(judged, shown(from_grey(real.slices)[0]))
        return {**scores, "mean": (scores["mri"] + scores["ct"]) / 2}

    @torch.inference_mode()
    def _translated(
        self, generator: nn.Module, source: PreparedSet, device: torch.device
    ) -> np.ndarray:
        made = []
        for grey in source.slices.split(_BATCH):
            image, head = from_grey(grey.to(device))
            with autocast(self.precision, device):
                made.append(shown(in_head(generator(image), head)))
        return np.concatenate(made)
