"""Intensity: from physical units to [-1, 1] for the network, and from [-1, 1] to units.

Each kind of intensity measures its limits once an image, records them, and inverts by them;
MONAI's scaling transforms have no inverse and keep no record of the limits that they used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Limits:
    """The values that became -1 and 1.

    Parameters
    ----------
    low, high : float
        In the image's units, ``low < high``.
    """

    low: float
    high: float

    def to_unit(self, values: torch.Tensor) -> torch.Tensor:
        """Map units to [-1, 1], clipping what lies outside the limits; any shape."""
        return (values - self.low).mul_(2 / (self.high - self.low)).sub_(1).clamp_(-1, 1)

    def from_unit(self, unit: torch.Tensor) -> torch.Tensor:
        """Map [-1, 1] to units, clipping to the limits; any shape."""
        half = (self.high - self.low) / 2
        return (unit + 1).mul_(half).add_(self.low).clamp_(self.low, self.high)


class Intensity(Protocol):
    """What a recipe asks of its intensity half."""

    @property
    def background(self) -> float:
        """The value of nothing, in the image's units."""

    @property
    def written(self) -> Limits:
        """The limits of a translated image, in the units of the target."""

    def clip(self, values: torch.Tensor) -> torch.Tensor:
        """Clip before resampling, so that what lies far outside cannot bleed in."""

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Find the limits of one image from its values inside the head, 1-D, in units."""


@dataclass(frozen=True)
class Window:
    """A CT window in HU.

    Parameters
    ----------
    level, width : float
        Centre and width in HU (DICOM PS3.3 C.11.2.1.2): 40 and 120 are the brain window.
    background : float
        HU of what is not there (-1000, air).
    """

    level: float
    width: float
    background: float = -1000.0

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"a window {self.width} wide shows nothing")

    @property
    def written(self) -> Limits:
        """The window's ends in HU: a translated CT holds nothing beyond them."""
        return Limits(self.level - self.width / 2, self.level + self.width / 2)

    def clip(self, values: torch.Tensor) -> torch.Tensor:
        """Clip HU to the window: bone of 1000 HU would otherwise shine into the brain beside it."""
        return values.clamp(self.written.low, self.written.high)

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return the window: HU mean the same in every scan."""
        return self.written


@dataclass(frozen=True)
class Percentiles:
    """MR in scanner units, which mean nothing alone: scaled by percentiles over the head.

    Parameters
    ----------
    lower, upper : float
        Percentiles in [0, 100] that become -1 and 1; one scale for the whole volume.
    high : float
        A translated MR is written from 0 to this, in arbitrary units.
    background : float
        The value of air.
    """

    lower: float
    upper: float
    high: float = 4095.0
    background: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper <= 100:
            raise ValueError(f"percentiles {self.lower} and {self.upper} are not in order")
        if self.high <= 0:
            raise ValueError(f"high is {self.high}, not above 0")

    @property
    def written(self) -> Limits:
        """The arbitrary units of a translated MR."""
        return Limits(0.0, self.high)

    def clip(self, values: torch.Tensor) -> torch.Tensor:
        """Leave the values: what is too bright is known only once the head is found."""
        return values

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return the percentiles of the values inside the head; widened where they coincide."""
        low, high = (float(v) for v in np.percentile(values, [self.lower, self.upper]))
        return Limits(low, high if high > low else low + 1.0)


@dataclass(frozen=True)
class Grey:
    """A picture's grey levels, from black to full white: taken as already windowed.

    Parameters
    ----------
    background : float
        The grey level of air.
    """

    background: float = 0.0

    @property
    def written(self) -> Limits:
        """Eight bits."""
        return Limits(0.0, 255.0)

    def clip(self, values: torch.Tensor) -> torch.Tensor:
        """Leave the values: they are windowed."""
        return values

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return black and full white of the picture's own depth (255 or 65535)."""
        return Limits(0.0, white)
