"""What CT a slice of an MRI should lead to: put together from three generators' and its own greys.

No CT of the same head is at hand to learn from, and each generator is right about a part.
`Teachers.turned` turns contrast over (right for an MRI whose fluid is bright, T2), `kept` keeps it
(right for T1 and FLAIR), and `real` makes what looks like a real CT: it is right about skull, air
and where the brain lies, and wrong about fluid. So `lesson` makes

- of a slice through the brain: the real-looking one, with the brain inside an even grey and fluid
  darker, where the MRI's own greys say fluid;
- of a slice through the base of the skull, if fluid is dark: what keeps contrast, where it shows
  tissue, and the real-looking one where there is bone and air;
- of another: the teacher that suits the slice's contrast, if any does.

Slices of bright fluid are few, and of the top of a head there is none. `with_bright_fluid` makes
them of slices whose fluid is dark: the brain turned over, skull and skin as they are, and the same
CT.

Greys are those of prepared slices: 1 to 255 in the head, 0 outside it. The bounds were set by eye,
on sheets of the data's slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

BLACK, WHITE = 20, 225
"""Greys of a CT in the brain window that no brain has: air, and bone."""
FLUID = 38
"""Greys by which fluid is darker than brain in that window."""
DIFFER = 0.03
"""From so much amiss more on, one teacher's contrast is taken to be wrong."""


@dataclass(frozen=True)
class Lesson:
    """A CT to learn from.

    Attributes
    ----------
    ct : uint8 array, (rows, columns)
    kind : {"brain", "base", "teacher"}
        How it was made.
    """

    ct: Grey
    kind: str


@dataclass(frozen=True)
class Teachers:
    """One MR slice and what three generators make of it: uint8 (rows, columns) each.

    Parameters
    ----------
    mri : array
        The slice.
    turned, kept, real : array
        CT with contrast turned over, CT with contrast kept, and one that looks real.
    """

    mri: Grey
    turned: Grey
    kept: Grey
    real: Grey

    def lesson(self) -> Lesson | None:
        """Return what this slice should lead to; None where nothing suits."""
        if self._shows_brain:
            return Lesson(self._brain(), "brain")
        if self._shows_base and not self._too_much_bone(base := self._base()):
            return Lesson(base, "base")
        if min(self._amiss) <= 0.10 and self._air <= 0.1:
            return Lesson(self._suited, "teacher")
        return None

    @property
    def head(self) -> Mask:
        """Where the slice shows a head."""
        return self.mri > 0

    @cached_property
    def inner(self) -> Mask:
        """The part of the head that lies deeper than skull and most of its base."""
        filled = np.pad(ndimage.binary_fill_holes(self.head), 1)
        depth = ndimage.distance_transform_edt(filled)[1:-1, 1:-1]
        inner: Mask = depth > 0.35 * depth.max()
        return inner

    @cached_property
    def _amiss(self) -> tuple[float, float]:
        """How much of each teacher's CT, deep in the head, is bone or air: turned and kept."""
        turned, kept = (
            float((ct[self.inner] > WHITE).mean() + 0.5 * (ct[self.inner] < BLACK).mean())
            for ct in (self.turned, self.kept)
        )
        return turned, kept

    @property
    def _differ(self) -> bool:
        return abs(self._amiss[0] - self._amiss[1]) >= DIFFER

    @property
    def _turns(self) -> bool:
        """Whether contrast is to be turned over: by what looks less amiss, or else by the skew."""
        return self._amiss[0] < self._amiss[1] if self._differ else self._skew > 0.25

    @property
    def _suited(self) -> Grey:
        """The teacher's CT that suits the contrast."""
        return self.turned if self._turns else self.kept

    @property
    def _air(self) -> float:
        """Share of air deep in the head in that CT."""
        return float((self._suited[self.inner] < BLACK).mean())

    @cached_property
    def _skew(self) -> float:
        return skew(ndimage.gaussian_filter(self.mri.astype(float), 1)[self.inner])

    @property
    def _fluid_is_bright(self) -> bool:
        """By teachers and skew, where teachers differ and one is right; else by the skew alone."""
        if self._differ and self._air <= 0.1:
            return self._turns and self._skew > 0
        return self._skew > 0.25

    @property
    def _fluid(self) -> Values:
        """Share of fluid in each pixel, by the MRI's own greys."""
        smooth = ndimage.gaussian_filter(self.mri.astype(float), 0.7)
        low, middle, high = np.percentile(smooth[self.inner], (2, 50, 98))
        if self._fluid_is_bright:
            return _above(smooth, max(low + 0.72 * (high - low), 1.35 * middle), high - low)
        return 1 - _above(smooth, min(low + 0.33 * (middle - low), 0.62 * middle), middle - low)

    @property
    def _shows_brain(self) -> bool:
        """Whether the real-looking CT has next to no bone and air deep in the head."""
        deep = self.real[self.inner]
        return bool(((deep > WHITE - 25) | (deep < BLACK + 10)).mean() <= 0.04)

    def _brain(self) -> Grey:
        """Return the real-looking CT with an even brain inside, and fluid where the MRI has it."""
        inside = ndimage.binary_erosion(brain_of(self.real), iterations=2)
        middle = float(np.median(self.real[self.inner]))
        smooth = ndimage.gaussian_filter(self.real.astype(float), 6)
        brain = middle + 0.3 * (smooth - middle) - FLUID * self._fluid
        return _mixed(brain, self.real, ndimage.gaussian_filter(inside.astype(float), 1), self.head)

    @property
    def _shows_base(self) -> bool:
        """Whether the real-looking CT has air deep in a head whose fluid is dark."""
        air = float((self.real[self.inner] < BLACK).mean())
        return not self._turns and self._amiss[1] <= 0.42 and self._skew <= 0.25 and air > 0.05

    def _base(self) -> Grey:
        """Return the CT that keeps contrast where it is tissue, the real-looking one elsewhere."""
        smooth = ndimage.gaussian_filter(self.mri.astype(float), 1)
        void = smooth < 0.7 * np.median(smooth[self.inner])  # bone gives no signal
        tissue = (self.kept >= 40) & (self.kept <= 200) & ~void
        share = ndimage.gaussian_filter(tissue.astype(float), 1.2)
        return _mixed(self.kept, self.real, share, self.head)

    def _too_much_bone(self, base: Grey) -> bool:
        deep = ndimage.binary_erosion(self.inner, iterations=8)
        return bool(deep.any() and (base[deep] > WHITE - 25).mean() > 0.16)


def with_bright_fluid(mri: Grey, ct: Grey) -> Grey | None:
    """Return an MR slice whose fluid is bright, of one whose fluid is dark; None of others.

    Parameters
    ----------
    mri : array
        The slice.
    ct : array
        What it should lead to, which says where the brain lies.
    """
    inside, head = ndimage.binary_erosion(brain_of(ct)), mri > 0
    if inside.sum() < 1500:
        return None
    if skew(ndimage.gaussian_filter(mri.astype(float), 0.7)[inside]) > 0.1:
        return None  # bright already, or a bright tumour
    brain, fluid = np.percentile(mri[inside], (60, 1))
    share = np.clip((brain - mri.astype(float)) / max(brain - fluid, 1), -0.15, 1)
    skin = float(np.percentile(mri[head & ~inside], 90))
    around = mri * min(1.0, 110 / max(skin, 1.0))
    soft = ndimage.gaussian_filter(inside.astype(float), 0.7)
    return _mixed(75 + 150 * share, around, soft, head)


def brain_of(ct: NDArray[np.generic], iterations: int = 2) -> Mask:
    """Return the largest piece of tissue of a CT in greys, filled; nothing where there is none."""
    tissue = ndimage.binary_opening((ct > 40) & (ct < 190), iterations=iterations)
    places, count = ndimage.label(tissue)
    if not count:
        return np.zeros(ct.shape, bool)
    largest = np.bincount(places[places > 0]).argmax()
    brain: Mask = ndimage.binary_fill_holes(places == largest)
    return brain


def skew(values: Values) -> float:
    """Return from -1 to 1 whether the darkest or the brightest lie further from the median."""
    low, middle, high = np.percentile(values, (3, 50, 97))
    return float((high + low - 2 * middle) / max(high - low, 1))


def _above(values: Values, cut: float, span: float) -> Values:
    """Return 0 below a value and 1 above it, with a slope of a twentieth of the span."""
    return 1 / (1 + np.exp(-(values - cut) / (0.05 * span + 1e-6)))


def _mixed(
    inside: NDArray[np.generic], outside: NDArray[np.generic], share: Values, head: Mask
) -> Grey:
    mixed = (share * inside + (1 - share) * outside).round().clip(1, 255)
    return np.where(head, mixed, 0).astype(np.uint8)
