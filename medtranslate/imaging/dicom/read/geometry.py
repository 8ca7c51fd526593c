"""Where slices lie: order along the normal, spacing, tilt and the affine.

The truth is ImagePositionPatient and ImageOrientationPatient of each slice (PS3.3 C.7.6.2.1.1);
InstanceNumber, SliceLocation, SpacingBetweenSlices and GantryDetectorTilt are never asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom.read.headers import TELLING_APART, Slice
from medtranslate.imaging.dicom.read.values import shown
from medtranslate.imaging.source import LPS_TO_RAS, TILTED

UNIT_TOLERANCE = 1e-3
"""Largest error of a direction cosine's length, and of the angle between the two (radian)."""
SAME_DIRECTION = 1e-4
"""Largest difference of direction cosines within one volume."""
SAME_SPACING = 1e-4
"""Largest difference of PixelSpacing within one volume, mm."""
SAME_POSITION = 1e-2
"""Slices nearer to one another along the normal are at one position, mm."""
EVEN = 1e-2
"""Farthest that a slice of an even volume may be from where the affine puts it, mm."""


@dataclass(frozen=True)
class Stack:
    """The slices of one volume in order, and where they are.

    Parameters
    ----------
    slices : tuple of Slice
        By increasing position along the normal.
    affine : numpy.ndarray
        4x4, (column, row, slice) to RAS mm. Its slice axis is the step between slices; where
        they are not even, the mean step.
    distances : tuple of float
        Position of each slice along the normal, mm.
    even : bool
        Whether the affine puts every slice where it is.
    tilt : float
        Angle between the slice axis and the normal, degrees.
    notes : tuple of str
        What was noticed, a sentence each.
    """

    slices: tuple[Slice, ...]
    affine: np.ndarray
    distances: tuple[float, ...]
    even: bool
    tilt: float
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(columns, rows, slices)."""
        encoding = self.slices[0].encoding
        return encoding.columns, encoding.rows, len(self.slices)


def stack(slices: Sequence[Slice]) -> Stack:
    """Order slices along their normal and place them.

    Raises
    ------
    Unsupported
        Orientations, spacings or sizes differ, direction cosines are none, or two slices are at
        one position.
    """
    check_same_grid(slices)
    normal = slice_normal(slices[0])
    place = {id(one): float(np.dot(one.position, normal)) for one in slices}
    ordered = sorted(slices, key=lambda one: place[id(one)])
    distances = tuple(place[id(one)] for one in ordered)
    check_apart(ordered, distances)
    step, notes = _step(ordered, normal)
    affine = _affine(ordered[0], step)
    tilt = float(np.degrees(np.arccos(min(1.0, abs(normal @ step) / np.linalg.norm(step)))))
    if tilt >= TILTED:
        notes.append(f"slices are tilted by {tilt:.1f} degrees: kept as shear in the affine")
    error = _misplacement(ordered, step)
    even = error <= EVEN
    if not even:
        gaps = np.diff(distances)
        notes.append(
            f"slices are not even: gaps from {gaps.min():.3g} to {gaps.max():.3g} mm, "
            f"median {np.median(gaps):.3g} mm; each slice keeps its own position"
        )
    return Stack(tuple(ordered), affine, distances, even, tilt, tuple(notes))


def slice_normal(one: Slice) -> np.ndarray:
    """Give the unit normal of a slice, LPS: rows' direction times columns' direction.

    Raises
    ------
    Unsupported
        ImageOrientationPatient does not hold two perpendicular unit vectors.
    """
    row, column = np.array(one.orientation[:3]), np.array(one.orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.any(np.abs(lengths - 1) > UNIT_TOLERANCE) or abs(row @ column) > UNIT_TOLERANCE:
        raise Unsupported(
            "ImageOrientationPatient does not hold two perpendicular unit vectors", path=one.path
        )
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def check_same_grid(slices: Sequence[Slice]) -> None:
    """Refuse slices whose grids differ, naming the attribute and the files."""
    head = slices[0]
    tests = (
        ("Rows", lambda s: (s.encoding.rows,), 0.0),
        ("Columns", lambda s: (s.encoding.columns,), 0.0),
        ("PixelSpacing", lambda s: s.spacing, SAME_SPACING),
        ("ImageOrientationPatient", lambda s: s.orientation, SAME_DIRECTION),
    )
    for keyword, take, tolerance in tests:
        first = np.array(take(head))
        odd = [s for s in slices if np.abs(np.array(take(s)) - first).max() > tolerance]
        if odd:
            raise Unsupported(
                f"{keyword} differs within the series: {len(odd)} of {len(slices)} slices differ "
                f"from {head.path.name}, among them {label(odd[0])}",
                path=head.path.parent,
                remedy="separate the slices into one folder a volume",
            )
    if min(head.spacing) <= 0 or max(head.spacing) > 1000:
        raise Unsupported(f"PixelSpacing is {head.spacing}", path=head.path)
    far = [s for s in slices if max(map(abs, s.position)) > 1e5]
    if far:
        raise Unsupported("ImagePositionPatient is farther than 100 m away", path=far[0].path)


def check_apart(ordered: Sequence[Slice], distances: Sequence[float]) -> None:
    """Refuse two slices at one position, naming what tells them apart."""
    gaps = np.diff(distances)
    same = np.flatnonzero(gaps < SAME_POSITION)
    if same.size == 0:
        return
    one, other = ordered[same[0]], ordered[same[0] + 1]
    raise Unsupported(
        f"{same.size + 1} or more slices share positions with others: {label(one)} and "
        f"{label(other)} are at one position; {difference(one, other)}",
        path=one.path.parent,
        remedy="give a folder with one slice a position",
    )


def difference(one: Slice, other: Slice) -> str:
    """Say what tells two slices at one position apart, by attribute and values."""
    if (one.instance, one.frame) == (other.instance, other.frame):
        return "they are the same instance (SOPInstanceUID)"
    keywords = [*TELLING_APART, *one.telling, *other.telling]
    for keyword in dict.fromkeys(keywords):
        mine, theirs = one.telling.get(keyword, "none"), other.telling.get(keyword, "none")
        if mine != theirs:
            return f"{keyword} tells them apart: {shown(mine)} and {shown(theirs)}"
    return "no attribute but SOPInstanceUID tells them apart: they are duplicates"


def label(one: Slice) -> str:
    """Give the name of a slice for messages: its file, and its frame if it has one."""
    return f"{one.path.name} frame {one.frame}" if one.frame else one.path.name


def _step(ordered: Sequence[Slice], normal: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Give the mean vector from one slice to the next, LPS mm."""
    if len(ordered) > 1:
        span = np.subtract(ordered[-1].position, ordered[0].position)
        return span / (len(ordered) - 1), []
    written = ordered[0].attributes.get("SliceThickness", "")
    try:
        thickness = float(written)
    except ValueError:
        thickness = 0.0
    if not 0 < thickness < 1000:
        return normal.copy(), ["there is one slice and no SliceThickness: 1 mm is taken"]
    return normal * thickness, ["there is one slice: its SliceThickness is taken as spacing"]


def _affine(lowest: Slice, step: np.ndarray) -> np.ndarray:
    """Give the affine of PS3.3 C.7.6.2.1-1 with the slice axis added, in RAS."""
    between_rows, between_columns = lowest.spacing
    lps = np.eye(4)
    lps[:3, 0] = np.array(lowest.orientation[:3]) * between_columns
    lps[:3, 1] = np.array(lowest.orientation[3:]) * between_rows
    lps[:3, 2] = step
    lps[:3, 3] = lowest.position
    return LPS_TO_RAS @ lps


def _misplacement(ordered: Sequence[Slice], step: np.ndarray) -> float:
    """Give how far the farthest slice is from where even steps put it, mm."""
    numbers = np.arange(len(ordered))[:, None]
    expected = np.array(ordered[0].position) + numbers * step
    return float(np.abs(np.array([s.position for s in ordered]) - expected).max())
