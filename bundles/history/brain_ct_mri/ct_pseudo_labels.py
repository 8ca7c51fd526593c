"""CT pseudo-labels for MR slices, composed from three generators and the slice's own gray values.

There is no CT of the same head to learn from, but each of three generators is right about a part.
`Teachers.turned` inverts the contrast, which is right where fluid is bright in the MRI (T2);
`Teachers.kept` keeps it, which is right where fluid is dark (T1, FLAIR); `Teachers.real` looks like
a real CT and is right about skull, air and the position of the brain, but not about fluid. The
pseudo-label is

- for a slice through the brain: the realistic CT with an even gray brain, darker where the MRI's
  own gray values indicate fluid;
- for a slice through the skull base with dark fluid: the CT that keeps contrast in tissue, the
  realistic one in bone and air;
- for any other slice: the output of the teacher that suits its contrast, if there is one.

Slices with bright fluid are rare, and there are none near the vertex. `with_bright_fluid` makes
them from slices with dark fluid by inverting the brain and keeping skull, skin and the CT.

Gray values are those of prepared slices: 1 to 255 inside the head, 0 outside. The thresholds were
chosen by eye on contact sheets of training slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

BLACK, WHITE = 20, 225
"""Gray values of a CT in the brain window that no brain has: air, and bone."""
FLUID = 38
"""Gray values by which fluid is darker than brain in that window."""
DIFFER = 0.03
"""Difference in implausible share from which one teacher's contrast counts as wrong."""


@dataclass(frozen=True)
class PseudoLabel:
    """A CT to learn from, and how it was composed.

    Attributes
    ----------
    ct : uint8 array, (rows, columns)
    kind : {"brain", "base", "teacher"}
        Which of the three rules composed it.
    """

    ct: Gray
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

    mri: Gray
    turned: Gray
    kept: Gray
    real: Gray

    def pseudo_label(self) -> PseudoLabel | None:
        """Return the pseudo-label of this slice, or None where no rule applies."""
        if self._shows_brain:
            return PseudoLabel(self._brain(), "brain")
        if self._shows_base and not self._too_much_bone(base := self._base()):
            return PseudoLabel(base, "base")
        if min(self._implausible) <= 0.10 and self._air <= 0.1:
            return PseudoLabel(self._suited, "teacher")
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
    def _implausible(self) -> tuple[float, float]:
        """Share of bone and air deep in the head, in `turned` and in `kept`."""
        turned, kept = (
            float((ct[self.inner] > WHITE).mean() + 0.5 * (ct[self.inner] < BLACK).mean())
            for ct in (self.turned, self.kept)
        )
        return turned, kept

    @property
    def _differ(self) -> bool:
        return abs(self._implausible[0] - self._implausible[1]) >= DIFFER

    @property
    def _turns(self) -> bool:
        """Whether to invert contrast: by the more plausible teacher, else by the skew."""
        return self._implausible[0] < self._implausible[1] if self._differ else self._skew > 0.25

    @property
    def _suited(self) -> Gray:
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
        """Share of fluid in each pixel, by the MRI's own gray values."""
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

    def _brain(self) -> Gray:
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
        return (
            not self._turns and self._implausible[1] <= 0.42 and self._skew <= 0.25 and air > 0.05
        )

    def _base(self) -> Gray:
        """Return the CT that keeps contrast where it is tissue, the real-looking one elsewhere."""
        smooth = ndimage.gaussian_filter(self.mri.astype(float), 1)
        void = smooth < 0.7 * np.median(smooth[self.inner])  # bone gives no signal
        tissue = (self.kept >= 40) & (self.kept <= 200) & ~void
        share = ndimage.gaussian_filter(tissue.astype(float), 1.2)
        return _mixed(self.kept, self.real, share, self.head)

    def _too_much_bone(self, base: Gray) -> bool:
        deep = ndimage.binary_erosion(self.inner, iterations=8)
        return bool(deep.any() and (base[deep] > WHITE - 25).mean() > 0.16)


def with_bright_fluid(mri: Gray, ct: Gray) -> Gray | None:
    """Return an MR slice whose fluid is bright, of one whose fluid is dark; None of others.

    Parameters
    ----------
    mri : array
        The slice.
    ct : array
        Its pseudo-label, which shows where the brain is.
    """
    inside, head = ndimage.binary_erosion(brain_of(ct)), mri > 0
    if inside.sum() < 1500:
        return None
    if skew(ndimage.gaussian_filter(mri.astype(float), 0.7)[inside]) > 0.1:
        return None  # bright already, or a bright tumor
    brain, fluid = np.percentile(mri[inside], (60, 1))
    share = np.clip((brain - mri.astype(float)) / max(brain - fluid, 1), -0.15, 1)
    skin = float(np.percentile(mri[head & ~inside], 90))
    around = mri * min(1.0, 110 / max(skin, 1.0))
    soft = ndimage.gaussian_filter(inside.astype(float), 0.7)
    return _mixed(75 + 150 * share, around, soft, head)


def brain_of(ct: NDArray[np.generic], iterations: int = 2) -> Mask:
    """Return the largest piece of tissue of a CT (gray values), filled; empty without one."""
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
) -> Gray:
    mixed = (share * inside + (1 - share) * outside).round().clip(1, 255)
    return np.where(head, mixed, 0).astype(np.uint8)
