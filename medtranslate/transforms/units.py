"""Units: what values in [-1, 1] are written as, and CT of all HU in them.

A network that makes CT of the brain window gives it all of its range. One that makes all HU gives
the window a share of it, and air and bone the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor

from medtranslate.transforms.base import (
    HEAD,
    ImageTransform,
    KeyedTransform,
    as_image,
    head_of,
    like,
)

ALL_HU = (-1024.0, 2000.0)
"""HU of a CT that goes beyond the window: from air to compact bone and teeth."""

BRAIN_WINDOW = (-20.0, 100.0)
"""HU, level 40 and width 120: what a head CT is read for brain in."""

WINDOW_SHARE = 0.6
"""Share of [-1, 1] that the brain window takes where a CT goes beyond it."""


@dataclass(frozen=True)
class Limits:
    """The values that became -1 and 1.

    Parameters
    ----------
    low, high : float
        In the image's units, ``low < high``.

    Examples
    --------
    >>> Limits(-20, 100).to_unit(torch.tensor([-1000.0, 40, 100]))
    tensor([-1.,  0.,  1.])
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


class ToUnits(ImageTransform):
    """Give [-1, 1] units: what a conversion applies of the target's recipe.

    Linear from -1 to 1; or, with a window, in three pieces: a network that makes CT of all HU
    spends most of its range on the brain.

    Parameters
    ----------
    low, high : float
        What -1 and 1 are written as: HU for CT, arbitrary units for MR, gray levels for 2D images.
    background : float
        What is written outside ``meta["head"]``.
    window : (float, float), optional
        The units, within `low` and `high`, that ``-share`` and ``share`` are written as.
    share : float, optional
        Of [-1, 1] that the window takes, above 0 and below 1; `WINDOW_SHARE` by default.

    Examples
    --------
    >>> image = MetaTensor(torch.tensor([-1.2, 0.0, 1.0]).reshape(1, 3, 1, 1))
    >>> ToUnits(-20, 100, background=-1000)(image).flatten().tolist()
    [-20.0, 40.0, 100.0]
    >>> image = MetaTensor(torch.tensor([-1.0, -0.6, 0.0, 0.6, 0.8]).reshape(1, 5, 1, 1))
    >>> whole = ToUnits(-1024, 2000, background=-1000, window=(-20, 100), share=0.6)
    >>> whole(image).flatten().tolist()
    [-1024.0, -20.0, 40.0, 100.0, 1050.0]
    """

    def __init__(
        self,
        low: float,
        high: float,
        background: float,
        window: Sequence[float] | None = None,
        share: float | None = None,
    ) -> None:
        if not low < high:
            raise ValueError(f"from {low} to {high} is no range")
        self.limits, self.background = Limits(float(low), float(high)), float(background)
        self.shown, self.share = self.limits, 1.0
        if window is not None:
            if len(window) != 2 or not low <= window[0] < window[1] <= high:
                raise ValueError(f"window {list(window)} is no range within {low} and {high}")
            share = WINDOW_SHARE if share is None else share
            if not 0 < share < 1:
                raise ValueError(f"a window cannot take {share} of the range: above 0, below 1")
            self.shown, self.share = Limits(*map(float, window)), float(share)
        elif share is not None:
            raise ValueError("a share of the range is that of a window, and there is none")

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return (1, X, Y, Z) in whole units within the range, background outside the head."""
        image = as_image(image)
        inside = head_of(image)
        out = like(self.written(image.as_tensor(), inside), image)
        out.meta.pop(HEAD, None)
        return self.note(out, image, head=image.meta.get(HEAD, ""))

    def inverse(self, image: torch.Tensor) -> MetaTensor:
        """Return units as [-1, 1]; -1 outside the head."""
        image = as_image(image)
        if text := self.noted(image)["head"]:
            image.meta[HEAD] = text
        unit = self.to_unit(image.as_tensor())
        inside = head_of(image)
        return like(unit if inside is None else unit.where(inside.to(unit.device), -1), image)

    def written(self, unit: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
        """Return values of any shape as they are written; `inside` is where the head is."""
        values = self.from_unit(unit).round_()
        return values if inside is None else values.where(inside.to(unit.device), self.background)

    def from_unit(self, unit: torch.Tensor) -> torch.Tensor:
        """Map [-1, 1] of any shape to units, clipping to the limits."""
        if self.share == 1:
            return self.limits.from_unit(unit)
        return _between_knots(unit, *zip(*self._knots, strict=True))

    def to_unit(self, values: torch.Tensor) -> torch.Tensor:
        """Map units of any shape to [-1, 1], clipping what lies outside the limits."""
        if self.share == 1:
            return self.limits.to_unit(values)
        units, grays = zip(*self._knots, strict=True)
        return _between_knots(values, grays, units)

    def in_window(self, unit: torch.Tensor) -> torch.Tensor:
        """Return [-1, 1] of any shape as the window shows it, itself as [-1, 1].

        That is what a network which translates back takes, and what CT of the window alone can be
        compared with. Without a window nothing changes but that values are clipped.
        """
        return (unit / self.share).clamp(-1, 1)

    @property
    def _knots(self) -> list[tuple[float, float]]:
        ends, window = self.limits, self.shown
        return [
            (-1.0, ends.low),
            (-self.share, window.low),
            (self.share, window.high),
            (1.0, ends.high),
        ]


class ToUnitsd(KeyedTransform):
    """Dictionary form of `ToUnits`.

    Examples
    --------
    >>> data = {"pred": MetaTensor(torch.tensor([-1.2, 0.0, 1.0]).reshape(1, 3, 1, 1))}
    >>> ToUnitsd("pred", -20, 100, background=-1000)(data)["pred"].flatten().tolist()
    [-20.0, 40.0, 100.0]
    """

    def __init__(
        self,
        keys: KeysCollection,
        low: float,
        high: float,
        background: float,
        window: Sequence[float] | None = None,
        share: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        units = ToUnits(low, high, background, window, share)
        super().__init__(keys, units, allow_missing_keys)


class CompressHU(ImageTransform):
    """Map the whole range of a CT to [-1, 1], most of it on the brain window.

    Linear between knots, so that it is monotone and its inverse exact to rounding. By default -20
    to 100 HU take six tenths of [-1, 1], and air and bone a fifth each. For pipelines of your own;
    in a recipe, `ToUnits` with a window does the same for what a network gives.

    Parameters
    ----------
    hu, unit : sequence of float
        Knots: ascending HU, and the value in [-1, 1] that each becomes, from -1 to 1. What lies
        beyond the ends is clipped.

    Examples
    --------
    >>> compress = CompressHU()
    >>> hu = torch.tensor([-2000.0, -20, 40, 100, 2000]).reshape(1, 5, 1, 1)
    >>> scaled = compress(MetaTensor(hu))
    >>> scaled.flatten().tolist()
    [-1.0, -0.6..., 0.0, 0.6..., 1.0]
    >>> compress.inverse(scaled).flatten().round().tolist()
    [-1024.0, -20.0, 40.0, 100.0, 2000.0]
    """

    def __init__(
        self,
        hu: Sequence[float] = (ALL_HU[0], *BRAIN_WINDOW, ALL_HU[1]),
        unit: Sequence[float] = (-1.0, -WINDOW_SHARE, WINDOW_SHARE, 1.0),
    ) -> None:
        self.hu, self.unit = tuple(map(float, hu)), tuple(map(float, unit))
        if len(self.hu) != len(self.unit) or len(self.hu) < 2:
            raise ValueError(f"{len(self.hu)} HU for {len(self.unit)} values: two knots or more")
        if any(
            later <= earlier for knots in (self.hu, self.unit) for earlier, later in pairwise(knots)
        ):
            raise ValueError("the knots do not ascend")
        if (self.unit[0], self.unit[-1]) != (-1.0, 1.0):
            raise ValueError(
                f"the ends become {self.unit[0]:g} and {self.unit[-1]:g}, not -1 and 1"
            )

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Map HU (1, X, Y, Z) to [-1, 1]; -1 outside ``meta["head"]``, where there is one."""
        image = as_image(image)
        scaled, head = self.to_unit(image.as_tensor()), head_of(image)
        if head is not None:
            scaled = scaled.where(head.to(scaled.device), -1.0)
        return self.note(like(scaled, image), image)

    def inverse(self, image: torch.Tensor) -> MetaTensor:
        """Return values in [-1, 1] as HU."""
        image = as_image(image)
        self.noted(image)
        return like(self.from_unit(image.as_tensor()), image)

    def to_unit(self, hu: torch.Tensor) -> torch.Tensor:
        """Map HU of any shape to [-1, 1]; gradients pass."""
        return _between_knots(hu, self.hu, self.unit)

    def from_unit(self, unit: torch.Tensor) -> torch.Tensor:
        """Map [-1, 1] of any shape to HU; gradients pass."""
        return _between_knots(unit, self.unit, self.hu)

    def in_window(
        self, unit: torch.Tensor, level: float = 40.0, width: float = 120.0
    ) -> torch.Tensor:
        """Show values in [-1, 1] through a window in HU, itself as [-1, 1]; gradients pass.

        What a discriminator sees whose real CT end at the window.
        """
        return Limits(level - width / 2, level + width / 2).to_unit(self.from_unit(unit))


class CompressHUd(KeyedTransform):
    """Dictionary form of `CompressHU`.

    Examples
    --------
    >>> slices = MetaTensor(torch.tensor([-2000.0, -20, 40, 100]).reshape(1, 4, 1, 1))
    >>> CompressHUd("image")({"image": slices})["image"].flatten().tolist()
    [-1.0, -0.6..., 0.0, 0.6...]
    """

    def __init__(
        self,
        keys: KeysCollection,
        hu: Sequence[float] = (ALL_HU[0], -20.0, 100.0, ALL_HU[1]),
        unit: Sequence[float] = (-1.0, -WINDOW_SHARE, WINDOW_SHARE, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, CompressHU(hu, unit), allow_missing_keys)


def _between_knots(
    values: torch.Tensor, knots: Sequence[float], images: Sequence[float]
) -> torch.Tensor:
    """Map values linearly from each interval of knots to that of their images, ends clipped."""
    ends = values.clamp(knots[0], knots[-1])
    mapped = torch.full_like(ends, images[0])
    for (low, high), (first, last) in zip(pairwise(knots), pairwise(images), strict=True):
        if low == high:  # a window that ends with the range leaves nothing beyond it
            continue
        share = ((ends - low) / (high - low)).clamp(0, 1)
        mapped = torch.where(ends >= low, first + (last - first) * share, mapped)
    return torch.where(values.isnan(), values, mapped)  # for the writers to refuse
