"""Small networks that name what is wrong with a slice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from medtranslate.domain_check.anomalies import CONTENTS, TURNS
from medtranslate.domain_check.features import FIGURES, SIDE, look, moved

_SEEN = 40
_CONVOLUTIONS = 6  # first layers of `Namer.see`: convolutions, each followed by its ReLU


class Namer(nn.Module):
    """Says of each slice how it lies, and what it shows."""

    middle: torch.Tensor
    spread: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(2, 16, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.1),
            nn.Linear(32 * (SIDE // 8) ** 2, _SEEN), nn.ReLU(),
        )  # fmt: skip
        self.register_buffer("middle", torch.zeros(FIGURES))
        self.register_buffer("spread", torch.ones(FIGURES))
        self.turn = _answer(1 + len(TURNS))
        self.content = _answer(1 + len(CONTENTS))

    def forward(
        self, pictures: torch.Tensor, figures: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give logits (N, 1 + turns) and (N, 1 + contents), the first of each for what is right.

        Parameters
        ----------
        pictures : tensor (N, 2, SIDE, SIDE)
        figures : tensor (N, FIGURES)
        """
        return self.answers(self.see(pictures), figures)

    def answers(
        self, seen: torch.Tensor, figures: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give what `forward` does, from what `see` made of the pictures."""
        figures = ((figures - self.middle) / self.spread).clamp(-5, 5)
        known = torch.cat([seen, figures], dim=1)
        return self.turn(known), self.content(known)


class Namers(nn.Module):
    """Several namers, fitted from different draws: what one says by chance, the others do not.

    An ensemble (Lakshminarayanan et al. 2017) over slices that are moved a little (`looks.moved`).

    Parameters
    ----------
    each : iterable of Namer
    """

    def __init__(self, each: Iterable[Namer]) -> None:
        super().__init__()
        self.each = nn.ModuleList(each)

    def odds(self, halves: torch.Tensor, modality: str) -> torch.Tensor:
        """Give the mean log-odds (N, faults) of each fault against what is right.

        Turns come first, then contents. A slice and its mirror image get the same.

        Parameters
        ----------
        halves : tensor (N, 2, 128, 128)
            Halved slices (`looks.halved`).
        modality : {"CT", "MR"}
        """
        looks = look(moved(halves).flatten(0, 1), modality).with_mirrored()
        namers = [cast("Namer", namer) for namer in self.each]
        answers = [
            namer.answers(seen, looks.figures)
            for namer, seen in zip(namers, _seen(namers, looks.pictures), strict=True)
        ]
        odds = torch.stack([_odds(*each) for each in answers])
        return odds.view(-1, len(halves), odds.shape[-1]).mean(0)


def _seen(namers: list[Namer], pictures: torch.Tensor) -> list[torch.Tensor]:
    """Give what each namer sees: their convolutions as one in groups take half the time."""
    seen, groups = pictures, 1
    for alike in zip(*(namer.see[:_CONVOLUTIONS:2] for namer in namers), strict=True):
        first = cast("nn.Conv2d", alike[0])
        weight = torch.cat([each.weight for each in alike])
        bias = torch.cat([each.bias for each in alike])
        seen = F.conv2d(seen, weight, bias, first.stride, first.padding, groups=groups).relu()
        groups = len(namers)
    parts = seen.chunk(len(namers), dim=1)
    return [namer.see[_CONVOLUTIONS:](part) for namer, part in zip(namers, parts, strict=True)]


def _odds(*answers: torch.Tensor) -> torch.Tensor:
    """Give log-odds (N, faults) from logits whose first column is what is right."""
    return torch.cat([each[:, 1:] - each[:, :1] for each in answers], dim=1)


def _answer(kinds: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(_SEEN + FIGURES, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, kinds)
    )
