"""From what a network says to a false-alarm rate: the calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch

RATES = (0.5, 0.2, 0.1, 0.05, 0.02)
"""Shares of genuine scans at whose values the scale is known; beyond them it is carried on."""

HIGHEST = 9.0
"""No score is higher: one genuine scan in a thousand million is as good as none."""

_TAIL = 2  # the scale is carried on as it runs from this rate to the last; what is rarer than that
# in a training folder may be a scan that does not belong there, and must not stretch the scale


@dataclass(frozen=True)
class Scale:
    """How rare a value is among genuine scans, for several values side by side.

    Attributes
    ----------
    knots : float32 tensor (K, len(RATES))
        For each of K values, what is exceeded by these shares of genuine scans; rising.
    """

    knots: torch.Tensor

    @classmethod
    def measure(cls, genuine: torch.Tensor) -> Scale:
        """Measure the scale on the values (N, K) of genuine scans."""
        shares = 1 - torch.tensor(RATES)
        knots = torch.quantile(genuine.float(), shares, dim=0).T
        least = torch.arange(len(RATES)) * 1e-4  # so that it rises where values coincide
        return cls((knots + least).contiguous())

    def score(self, values: torch.Tensor) -> torch.Tensor:
        """Give scores (N, K) of values (N, K): one in ``10 ** score`` genuine scans has as much.

        Log-linear between the rates, and beyond the last as between the third and the last: the
        tail of an exponential distribution. From 0 to `HIGHEST`.
        """
        levels = -torch.tensor(RATES).log10()
        knots = self.knots.T  # (rates, K)
        rise = (levels[1:, None] - levels[:-1, None]) / (knots[1:] - knots[:-1])
        within = (values[:, None] - knots[:-1]).clamp(min=0).minimum(knots[1:] - knots[:-1])
        tail = (levels[-1] - levels[_TAIL]) / (knots[-1] - knots[_TAIL])
        beyond = (values - knots[-1]).clamp(min=0) * tail
        below = (values - knots[0]).clamp(max=0) * rise[0]
        return (levels[0] + below + (within * rise).sum(1) + beyond).clamp(0, HIGHEST)
