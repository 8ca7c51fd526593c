"""Small networks that name what is wrong with a slice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from medtranslate.assurance.domain.faults import CONTENTS, TURNS
from medtranslate.assurance.domain.looks import FIGURES, SIDE, Looks, look, moved

_SEEN = 40


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
        figures = ((figures - self.middle) / self.spread).clamp(-5, 5)
        known = torch.cat([self.see(pictures), figures], dim=1)
        return self.turn(known), self.content(known)

    def odds(self, looks: Looks) -> torch.Tensor:
        """Give the log-odds (N, faults) of each fault against what is right.

        Turns come first, then contents.
        """
        answers = self(looks.pictures, looks.figures)
        return torch.cat([each[:, 1:] - each[:, :1] for each in answers], dim=1)


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
        """Give the mean log-odds (N, faults) of each fault, in the order of `Namer.odds`.

        A slice and its mirror image get the same.

        Parameters
        ----------
        halves : tensor (N, 2, 128, 128)
            Halved slices (`looks.halved`).
        modality : {"CT", "MR"}
        """
        moves = moved(halves)
        looks = look(moves.flatten(0, 1), modality).with_mirrored()
        odds = torch.stack([namer.odds(looks) for namer in cast("Iterable[Namer]", self.each)])
        return odds.view(-1, len(halves), odds.shape[-1]).mean(0)


def _answer(kinds: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(_SEEN + FIGURES, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, kinds)
    )
