"""What grey levels mean: a unit and a range, stated with every paired figure."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Scale:
    """What the values of a picture mean: ``Scale("HU", -20, 100)``, ``Scale("grey", 0, 255)``."""

    unit: str
    low: float
    high: float

    @property
    def range(self) -> float:
        """Distance between the lowest and the highest value, the L of PSNR and SSIM."""
        return self.high - self.low

    def of_grey(self, grey: torch.Tensor) -> torch.Tensor:
        """Return grey 0 to 255 in this unit."""
        return self.low + grey * (self.range / 255)


GREY = Scale("grey", 0.0, 255.0)
