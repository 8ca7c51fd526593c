"""What CT a slice of an MRI should lead to: put together from three generators' and its own greys.

No CT of the same head is at hand to learn from, and each generator is right about a part.
`Teachers.turned` turns contrast over (right for an MRI whose fluid is bright, T2), `kept` keeps it
(right for T1 and FLAIR), and `real` makes what looks like a real CT: it is right about skull, air
and where the brain lies, and wrong about fluid. So `lesson` makes

- of a slice through the brain: the real-looking one, with the brain inside an even grey and fluid
  darker, where the MRI's own greys say fluid;
- of a slice through the base of the skull: what keeps contrast, where it shows tissue, and the
  real-looking one where there is bone and air;
- of another: the teacher that suits the slice's contrast, if any does.

Slices of bright fluid are few, and of the top of a head there is none. `with_bright_fluid` makes
them of slices whose fluid is dark: the brain turned over, skull and skin as they are, and the same
CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.uint8]
Mask = NDArray[np.bool_]

BLACK, WHITE = 20, 225
"""Greys of a CT in the brain window that no brain has: air, and bone."""
FLUID = 38
"""Greys by which fluid is darker than brain in that window."""


@dataclass(frozen=True)
class Lesson:
    """A CT to learn from.

    Attributes
    ----------
    ct : uint8 array, (rows, columns)
    composed : bool
        Put together of several, and not one teacher's own.
    usable : bool
        Worth learning from.
    """

    ct: Plane
    composed: bool
    usable: bool


@dataclass(frozen=True)
class Teachers:
    """One MR slice and what three generators make of it: uint8 (rows, columns) each.

    Parameters
    ----------
    mri, head : array
        The slice, and its head as a mask.
    turned, kept, real : array
        CT with contrast turned over, CT with contrast kept, and one that looks real.
    """

    mri: Plane
    head: Mask
    turned: Plane
    kept: Plane
    real: Plane

    def lesson(self) -> Lesson:
        """Return what this slice should lead to."""
        if self._extremes(self.real, WHITE - 25, BLACK + 10) <= 0.04:
            return Lesson(self._brain(), composed=True, usable=True)
        if self._shows_base and not self._too_much_bone(base := self._base()):
            return Lesson(base, composed=True, usable=True)
        return Lesson(
            self._suited, composed=False, usable=min(self._amiss) <= 0.10 and self._air <= 0.1
        )

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
    def _turns(self) -> bool:
        """Whether contrast is to be turned over: by what looks less amiss, or else by fluid."""
        turned, kept = self._amiss
        return turned < kept if abs(turned - kept) > 0.03 else self._skew > 0.25

    @property
    def _suited(self) -> Plane:
        """The teacher's CT that suits the contrast."""
        return self.turned if self._turns else self.kept

    @property
    def _air(self) -> float:
        """Share of air deep in the head in that CT."""
        return float((self._suited[self.inner] < BLACK).mean())

    @cached_property
    def _skew(self) -> float:
        """From -1 to 1: whether the brightest or the darkest 3 % lie further from the median."""
        smooth = ndimage.gaussian_filter(self.mri.astype(float), 1)[self.inner]
        low, middle, high = np.percentile(smooth, (3, 50, 97))
        return float((high + low - 2 * middle) / max(high - low, 1))

    @property
    def _fluid_is_bright(self) -> bool:
        """By the teachers if they differ and one is right, and by the skew otherwise."""
        decided = self._air <= 0.1 and abs(self._amiss[0] - self._amiss[1]) >= 0.03
        return self._skew > 0 and self._turns if decided else self._skew > 0.25

    @property
    def _fluid(self) -> NDArray[np.float64]:
        """Share of fluid in each pixel, by the MRI's own greys."""
        smooth = ndimage.gaussian_filter(self.mri.astype(float), 0.7)
        low, middle, high = np.percentile(smooth[self.inner], (2, 50, 98))
        if self._fluid_is_bright:
            return _above(smooth, max(low + 0.72 * (high - low), 1.35 * middle), high - low)
        return 1 - _above(smooth, min(low + 0.33 * (middle - low), 0.62 * middle), middle - low)

    def _brain(self) -> Plane:
        """Return the real-looking CT with an even brain inside, and fluid where the MRI has it."""
        tissue = ndimage.binary_opening((self.real > 40) & (self.real < 190), iterations=2)
        places, _ = ndimage.label(tissue)
        largest = np.bincount(places[self.inner & (places > 0)], minlength=2).argmax()
        inside = ndimage.binary_erosion(ndimage.binary_fill_holes(places == largest), iterations=2)
        middle = float(np.median(self.real[self.inner]))
        smooth = ndimage.gaussian_filter(self.real.astype(float), 6)
        brain = middle + 0.3 * (smooth - middle) - FLUID * self._fluid
        return _mixed(brain, self.real, ndimage.gaussian_filter(inside.astype(float), 1))

    @property
    def _shows_base(self) -> bool:
        """Whether the real-looking CT has air deep in a head whose fluid is dark."""
        air = float((self.real[self.inner] < BLACK).mean())
        return not self._turns and self._amiss[1] <= 0.42 and self._skew <= 0.25 and air > 0.05

    def _base(self) -> Plane:
        """Return the CT that keeps contrast where it is tissue, the real-looking one elsewhere."""
        smooth = ndimage.gaussian_filter(self.mri.astype(float), 1)
        void = smooth < 0.7 * np.median(smooth[self.inner])  # bone gives no signal
        tissue = (self.kept >= 40) & (self.kept <= 200) & ~void
        return _mixed(self.kept, self.real, ndimage.gaussian_filter(tissue.astype(float), 1.2))

    def _too_much_bone(self, base: Plane) -> bool:
        deep = ndimage.binary_erosion(self.inner, iterations=8)
        return bool(deep.any() and (base[deep] > WHITE - 25).mean() > 0.16)

    def _extremes(self, ct: Plane, white: int, black: int) -> float:
        return float(((ct[self.inner] > white) | (ct[self.inner] < black)).mean())


def with_bright_fluid(mri: Plane, head: Mask, ct: Plane) -> Plane | None:
    """Return an MR slice whose fluid is bright, of one whose fluid is dark; None of others.

    Parameters
    ----------
    mri, head : array
        The slice, and its head as a mask.
    ct : array
        What it should lead to, which says where the brain lies.
    """
    inside = ndimage.binary_erosion(_brain_of(ct, head))
    smooth = ndimage.gaussian_filter(mri.astype(float), 0.7)
    if inside.sum() < 1500:
        return None
    low, middle, high = np.percentile(smooth[inside], (2, 50, 98))
    if (low + high - 2 * middle) / max(high - low, 1) > 0.1:
        return None  # bright already, or a bright tumour
    brain, fluid = np.percentile(mri[inside], (60, 1))
    share = np.clip((brain - mri) / max(brain - fluid, 1), -0.15, 1)
    skin = float(np.percentile(mri[head & ~inside], 90))
    around = mri * min(1.0, 110 / max(skin, 1.0))
    return _mixed(75 + 150 * share, around, ndimage.gaussian_filter(inside.astype(float), 0.7))


def _brain_of(ct: Plane, head: Mask) -> Mask:
    """Return the largest piece of tissue in a CT's head, filled."""
    tissue = ndimage.binary_opening((ct > 40) & (ct < 190) & head, iterations=2)
    places, _ = ndimage.label(tissue)
    largest = np.bincount(places[places > 0], minlength=2).argmax()
    brain: Mask = ndimage.binary_fill_holes(places == largest) & tissue.any()
    return brain


def _above(values: NDArray[np.float64], cut: float, span: float) -> NDArray[np.float64]:
    """Return 0 below a value and 1 above it, with a slope of a twentieth of the span."""
    return 1 / (1 + np.exp(-(values - cut) / (0.05 * span + 1e-6)))


def _mixed(
    inside: NDArray[np.generic], outside: NDArray[np.generic], share: NDArray[np.float64]
) -> Plane:
    mixed: Plane = (share * inside + (1 - share) * outside).round().clip(0, 255).astype(np.uint8)
    return mixed
