"""Volumes as a page shows them: scan, result and maps, in NIfTI, compressed, with their windows.

A page contains NiiVue and the volumes and loads nothing: it opens from disk, without a network.
Values are those of the files wherever 16 bits hold them; else they are rounded, and the page says
to what. Of a large volume every second or third voxel along an axis is kept, with its value.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from medtranslate import html
from medtranslate.report.preview import default_window

LARGEST = 2**25
"""Voxels of a volume in a page, 512 x 512 x 128; a larger one is thinned."""

MOST_BYTES = 200 * 2**20
"""Compressed bytes of all volumes in one report; scans after that are shown without a viewer."""

NO_LIBRARY = (
    "This installation has no viewer of volumes: it was built where npm could not fetch NiiVue."
)

PLACES = 5

Voxels = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ViewedVolume:
    """A volume in a page.

    Parameters
    ----------
    role : str
        ``"source"``, ``"result"`` or ``"map"``.
    name, units : str
        As the page shows them.
    window : (low, high)
        Values from black to white, in units.
    limits : (low, high)
        Values between which the window is moved.
    step : float
        What values are rounded to; 0 where they are exact.
    data : bytes
        A NIfTI file, compressed.
    """

    role: str
    name: str
    units: str
    window: tuple[float, float]
    limits: tuple[float, float]
    step: float
    data: bytes

    def __repr__(self) -> str:
        return f"<ViewedVolume {self.name}, {len(self.data)} bytes>"


@dataclass(frozen=True, eq=False)
class ScanView:
    """What a viewer shows of one scan.

    Parameters
    ----------
    volumes : tuple of ViewedVolume
        Source, result, maps.
    shape : (X, Y, Z)
        Voxels in the page.
    affine : float array (4, 4)
        Voxels in the page to RAS millimeters.
    stride : (int, int, int)
        How many voxels of the scan there are for one in the page, along each axis.
    places : tuple of (name, voxel)
        Where to look first: names, and voxels of the volumes in the page.
    """

    volumes: tuple[ViewedVolume, ...]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    stride: tuple[int, int, int]
    places: tuple[tuple[str, tuple[int, int, int]], ...]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"<ScanView of {len(self.volumes)} volumes, {shape}, {self.size} bytes>"

    @property
    def size(self) -> int:
        """Compressed bytes of the volumes."""
        return sum(len(one.data) for one in self.volumes)


@dataclass(frozen=True, eq=False)
class ViewedGrid:
    """How the voxels of a scan become those of a page.

    Parameters
    ----------
    affine : float array (4, 4)
        Voxels of the scan to RAS millimeters.
    stride : (int, int, int)
        Every how many voxels of the scan one is taken, along each axis.
    """

    affine: NDArray[np.float64]
    stride: tuple[int, int, int]

    @classmethod
    def of(cls, shape: Sequence[int], affine: Any) -> ViewedGrid:
        """Thin a volume of some shape to at most `LARGEST` voxels, where it is sampled finest.

        Examples
        --------
        >>> ViewedGrid.of((512, 512, 160), np.diag([0.5, 0.5, 1.0, 1.0])).stride
        (2, 1, 1)
        """
        affine = np.asarray(affine, dtype=np.float64)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        stride = np.ones(3, dtype=int)
        while np.prod(-(-np.asarray(shape) // stride)) > LARGEST:
            stride[int(np.argmin(spacing * stride))] += 1
        x, y, z = stride.tolist()
        return cls(affine @ np.diag([x, y, z, 1.0]), (x, y, z))

    def thinned(self, voxels: Voxels) -> Voxels:
        """Return the voxels of the page; the first is the scan's first."""
        x, y, z = self.stride
        return voxels[::x, ::y, ::z]


def scan_view(
    source: Voxels,
    result: Voxels,
    affine: Any,
    *,
    modality: str,
    maps: Sequence[tuple[str, str, Voxels, float]] = (),
    slices: Sequence[int] = (),
    axis: int = 2,
) -> ScanView:
    """Prepare a scan, its translation and its maps, all on one grid, for a page.

    Parameters
    ----------
    source, result : float32 array (X, Y, Z)
        In physical units; of the result, the values that are written.
    affine : 4x4 array
        Voxels to RAS millimeters.
    modality : str
        ``"CT"`` or ``"MR"``: what the source is.
    maps : sequence of (name, units, float32 array (X, Y, Z), highest)
        Errors, below 0 where the model could not see, and the value to show in full color.
    slices : sequence of int
        Slices to look at first, along `axis`: at the largest error of the first map.
    axis : int
        Axis of the scan (0 for X).
    """
    grid = ViewedGrid.of(source.shape, affine)
    made = "MR" if modality == "CT" else "CT"
    volumes = [
        _volume(grid, "source", modality, source, default_window(source, modality)),
        _volume(grid, "result", f"SYNTHETIC {made}", result, default_window(result, made)),
    ]
    for name, units, voxels, highest in maps:
        window = (0.3 * highest, highest)
        volumes.append(_volume(grid, "map", name, voxels, window, units))
    places = _places(maps[0][2], slices, axis, grid) if maps else ()
    shape = grid.thinned(source).shape
    return ScanView(
        tuple(volumes), (shape[0], shape[1], shape[2]), grid.affine, grid.stride, places
    )


def embedded(view: ScanView, name: str) -> dict[str, Any]:
    """Return a view for the templates.

    Parameters
    ----------
    view : ScanView
    name : str
        Of the viewer in its page, unique there, of letters, digits and hyphens.
    """
    volumes = [
        {
            "role": one.role,
            "name": one.name,
            "units": one.units,
            "window": one.window,
            "limits": one.limits,
            "step": one.step,
        }
        for one in view.volumes
    ]
    content = {
        "id": name,
        "volumes": volumes,
        "places": [{"name": text, "voxel": voxel} for text, voxel in view.places],
        "center": [length // 2 for length in view.shape],
        "stride": view.stride,
        "affine": view.affine.tolist(),
        "note": " ".join(_notes(view)),
    }
    text = json.dumps(content).replace("<", "\\u003c")
    return {
        "id": name,
        "content": Markup(text),
        "volumes": [Markup(base64.b64encode(one.data).decode()) for one in view.volumes],
    }


def library() -> dict[str, Any] | None:
    """Return NiiVue and its license for the templates; None where this install has none."""
    found = html.niivue()
    if found is None:
        return None
    code, license = found
    return {"code": Markup(base64.b64encode(code).decode()), "license": license}


def _notes(view: ScanView) -> list[str]:
    notes = [
        "Click or drag to move the crosshair, scroll through slices, drag with the right button to "
        "move a view; both views are linked. The patient's right is on the left."
    ]
    if max(view.stride) > 1:
        taken = ", ".join(map(str, view.stride))
        notes.append(f"The volume is thinned: one of {taken} voxels along X, Y, Z is in this page.")
    rounded = [f"{one.name} to {one.step:.3g}" for one in view.volumes if one.step]
    if rounded:
        notes.append(f"Values are rounded here: {', '.join(rounded)}.")
    return notes


def _volume(
    grid: ViewedGrid,
    role: str,
    name: str,
    voxels: Voxels,
    window: tuple[float, float],
    units: str = "",
) -> ViewedVolume:
    thinned = grid.thinned(voxels)
    stored, slope, offset, exact = _stored(thinned)
    limits = (float(min(thinned.min(), window[0])), float(max(thinned.max(), window[1])))
    if role == "map":
        limits = (0.0, limits[1])
    if role != "map" and name.endswith("CT"):
        units = "HU"
    data = _nifti(stored, grid.affine, slope, offset)
    return ViewedVolume(role, name, units, window, limits, 0.0 if exact else slope, data)


def _stored(voxels: Voxels) -> tuple[NDArray[Any], float, float, bool]:
    """Return integers, their slope and offset, and whether they hold the values exactly."""
    low, high = float(voxels.min()), float(voxels.max())
    largest = max(abs(low), abs(high))
    for power in range(15):
        slope = 2.0**-power
        if largest / slope > 32767:
            break
        scaled = voxels / np.float32(slope)
        if np.array_equal(scaled, np.rint(scaled)):
            kind = np.uint8 if low >= 0 and largest / slope <= 255 else np.int16
            return scaled.astype(kind), slope, 0.0, True
    slope = (high - low) / 65000 or 1.0
    middle = (low + high) / 2
    return (
        np.rint((voxels.astype(np.float64) - middle) / slope).astype(np.int16),
        slope,
        middle,
        False,
    )


def _nifti(stored: NDArray[Any], affine: NDArray[np.float64], slope: float, offset: float) -> bytes:
    """Return a compressed NIfTI-1 file; its header has nothing but the grid."""
    header = Nifti1Header(endianness="<")
    header.set_data_shape(stored.shape)
    header.set_data_dtype(stored.dtype)
    header.set_sform(affine, code=1)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header.set_xyzt_units("mm")
    header.set_slope_inter(slope, offset)
    header["vox_offset"] = 352
    pack = zlib.compressobj(3, zlib.DEFLATED, 31)  # 31: gzip
    parts = [pack.compress(header.binaryblock + b"\0\0\0\0")]
    parts += [pack.compress(stored[..., z].tobytes("F")) for z in range(stored.shape[2])]
    return b"".join([*parts, pack.flush()])


def _places(
    error: Voxels, slices: Sequence[int], axis: int, grid: ViewedGrid
) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Return the voxel of the largest error in each slice, in the voxels of the page."""
    found = []
    for number in slices[:PLACES]:
        plane = np.take(error, number, axis=axis)
        at = [int(one) for one in np.unravel_index(int(np.argmax(plane)), plane.shape)]
        at.insert(axis, number)
        x, y, z = (one // stride for one, stride in zip(at, grid.stride, strict=True))
        found.append((f"slice {number}", (x, y, z)))
    return tuple(found)


def map_of(measure: Mapping[str, Any], name: str, voxels: Voxels) -> tuple[str, str, Voxels, float]:
    """Describe a map for `scan_view`: full color is half of the range, as in the worst slices."""
    low, high = measure["range"]
    return name, measure["units"], voxels, (high - low) / 2
