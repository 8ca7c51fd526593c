"""Small networks that classify the anomaly of a slice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from medtranslate.domain_check.anomalies import CONTENT_ANOMALIES, ORIENTATION_ANOMALIES
from medtranslate.domain_check.features import (
    IMAGE_SIZE,
    SCALARS,
    Features,
    augmented,
    extract_features,
)

_ENCODED = 40


class AnomalyClassifier(nn.Module):
    """Classify the orientation and the content of a slice from its features."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, 16, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.1),
            nn.Linear(32 * (IMAGE_SIZE // 8) ** 2, _ENCODED), nn.ReLU(),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(SCALARS))
        self.register_buffer("std", torch.ones(SCALARS))
        self.orientation = _head(1 + len(ORIENTATION_ANOMALIES))
        self.content = _head(1 + len(CONTENT_ANOMALIES))

    def forward(
        self, images: torch.Tensor, scalars: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits of the orientations and of the contents, the first of each for normal.

        Parameters
        ----------
        images : float32 tensor (N, 2, IMAGE_SIZE, IMAGE_SIZE)
        scalars : float32 tensor (N, SCALARS)

        Returns
        -------
        (tensor (N, 1 + orientations), tensor (N, 1 + contents))
        """
        normalized = ((scalars - self.mean) / self.std).clamp(-5, 5)
        known = torch.cat([self.encoder(images), normalized], dim=1)
        return self.orientation(known), self.content(known)

    def log_odds(self, features: Features) -> torch.Tensor:
        """Return the log-odds (N, anomalies) of each anomaly against normal."""
        logits = self(features.images, features.scalars)
        return torch.cat([each[:, 1:] - each[:, :1] for each in logits], dim=1)


class AnomalyEnsemble(nn.Module):
    """Average classifiers trained from different seeds (Lakshminarayanan et al. 2017).

    Parameters
    ----------
    members : iterable of AnomalyClassifier
    """

    def __init__(self, members: Iterable[AnomalyClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def log_odds(self, halves: torch.Tensor, modality: str) -> torch.Tensor:
        """Return the mean log-odds (N, anomalies) of each anomaly, in the order of `ANOMALIES`.

        The mean runs over the members, the augmented slices and their mirror images, so a slice and
        its mirror image get the same.

        Parameters
        ----------
        halves : float32 tensor (N, 2, 128, 128)
            From `features.half_resolution`.
        modality : {"CT", "MR"}
        """
        features = extract_features(augmented(halves).flatten(0, 1), modality).with_mirrored()
        members = (cast("AnomalyClassifier", member) for member in self.members)
        odds = torch.stack([member.log_odds(features) for member in members])
        return odds.view(-1, len(halves), odds.shape[-1]).mean(0)


def _head(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(_ENCODED + SCALARS, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, classes)
    )
