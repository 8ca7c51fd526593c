"""What a NIfTI header says: read unrepaired, judged, and given back.

nibabel repairs a header while it loads it (a voxel size of zero becomes 1, for one), so the raw
header is judged first. Source: NIfTI-1.1 and NIfTI-2, ``nifti1.h`` and ``nifti2.h``.
"""

from __future__ import annotations

import base64
import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging.source import check_affine, check_shape

Header = nib.Nifti1Header | nib.Nifti2Header

MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
"""Spatial units of ``xyzt_units``; unknown is taken as mm, as every reader does."""

_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open a file that may be gzipped (its content decides); damage becomes `Unreadable`."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked
            else:
                yield raw
    except EOFError as error:
        raise Unreadable("truncated: the gzip stream ends early", path=path) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Unreadable(f"damaged gzip stream: {error}", path=path) from error
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", path=path) from error


def read_header(path: Path) -> Header:
    """Read the raw header, without nibabel's repairs.

    Raises
    ------
    Unreadable
        Empty, truncated, or no NIfTI file.
    Unsupported
        A header whose voxels lie in a second file (``.hdr`` and ``.img``).
    """
    with opened(path) as file:
        block = file.read(540)
    if not block:
        raise Unreadable("the file is empty", path=path)
    for order, sign in (("little", "<"), ("big", ">")):
        size = int.from_bytes(block[:4], order)  # type: ignore[arg-type]
        if size not in _KINDS:
            continue
        if len(block) < size:
            raise Unreadable("truncated inside the header", path=path)
        kind = _KINDS[size]
        header = kind(block[:size], endianness=sign, check=False)
        magic = header["magic"].item()
        if magic == kind.pair_magic:
            raise Unsupported("the voxels lie in a second file", path=path, remedy="use .nii")
        if magic == kind.single_magic:
            return header
    raise Unreadable("not a NIfTI file", path=path)


def judge(header: Header, path: Path) -> list[str]:
    """Repair in place what a header may get wrong without harm, and refuse the rest.

    Returns
    -------
    list of str
        What was repaired or noticed.

    Raises
    ------
    Unsupported
        Type, shape or affine cannot be translated exactly.
    Unreadable
        The header contradicts itself.
    """
    shape = _shape(header, path)
    check_shape(shape, path)
    _check_sizes(header, shape, path)
    try:
        dtype = header.get_data_dtype()
        faults = _repaired(header)
        header.get_slope_inter()
        affine = header.get_best_affine()
    except KeyError as error:
        raise Unreadable(f"damaged header: no data type {error}", path=path) from error
    except HeaderDataError as error:
        raise Unreadable(f"damaged header: {error}", path=path) from error
    if dtype.kind not in "iuf":
        name = nib.nifti1.data_type_codes.label[int(header["datatype"])]
        raise Unsupported(f"voxels of type {name} are no scan", path=path)
    check_affine(affine, path)
    return [*faults, *_placement_faults(header)]


def affine_mm(header: Header) -> np.ndarray:
    """Give the 4x4 voxel-to-world affine, RAS mm; as nibabel's unless the unit is not mm."""
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    scale = MM_PER_UNIT[spatial_unit(header)]
    if scale != 1.0:
        affine[:3] *= scale
    return affine


def description(header: Header) -> str:
    """Give the text of ``descrip``, up to its first zero byte."""
    text = bytes(header["descrip"].tobytes()).split(b"\0")[0]
    return text.decode("utf-8", "replace").strip()


def spatial_unit(header: Header) -> str:
    """Give the name of the spatial unit, ``"unknown"`` where the code means nothing."""
    code = int(header["xyzt_units"]) & 7
    return {1: "meter", 2: "mm", 3: "micron"}.get(code, "unknown")


def scaling(header: Header) -> tuple[float, float]:
    """Give slope and intercept; (1, 0) where the header says that there is no scaling."""
    slope, inter = header.get_slope_inter()
    return (1.0, 0.0) if slope is None else (float(slope), float(inter))


def packed(header: Header) -> dict[str, Any]:
    """Give the header as builtins for ``meta["source"]["header"]``."""
    return {
        "version": 2 if isinstance(header, nib.Nifti2Header) else 1,
        "endianness": header.endianness,
        "block": base64.b64encode(header.binaryblock).decode("ascii"),
    }


def unpacked(record: dict[str, Any]) -> Header:
    """Give back, little-endian, the header that `packed` made a record of."""
    kind = nib.Nifti2Header if record["version"] == 2 else nib.Nifti1Header
    block = base64.b64decode(record["block"])
    return kind(block, endianness=record["endianness"], check=False).as_byteswapped("<")


def _shape(header: Header, path: Path) -> tuple[int, ...]:
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise Unreadable(f"damaged header: {axes} axes", path=path)
    return tuple(int(length) for length in header["dim"][1 : axes + 1])


def _check_sizes(header: Header, shape: tuple[int, ...], path: Path) -> None:
    """Refuse voxel sizes of zero or NaN where the affine rests on them (no sform)."""
    if int(header["sform_code"]) > 0:
        return
    for axis, (length, size) in enumerate(zip(shape[:3], header["pixdim"][1:4], strict=False)):
        if length > 1 and (size == 0 or not math.isfinite(size)):
            raise Unsupported(
                f"the affine is zero or not finite: voxel size {float(size):g} along {'XYZ'[axis]}",
                path=path,
            )


def _repaired(header: Header) -> list[str]:
    """Let nibabel repair the header, and hand on what it says."""
    said: list[str] = []
    log = logging.Logger("medtranslate.imaging.nifti")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(f"header: {record.getMessage()}.")  # type: ignore[method-assign]
    log.addHandler(handler)
    header.check_fix(logger=log)
    return said


def _placement_faults(header: Header) -> list[str]:
    faults = []
    qform, sform = header.get_qform(coded=True)[0], header.get_sform(coded=True)[0]
    if qform is None and sform is None:
        faults.append("Neither sform nor qform: position and left-right are assumed.")
    if qform is not None and sform is not None:
        gap = float(np.abs(qform - sform).max())
        if gap > 0.1:
            faults.append(f"sform and qform differ by up to {gap:.3g}; the sform is used.")
    unit = spatial_unit(header)
    if MM_PER_UNIT[unit] != 1.0:
        faults.append(f"The header's unit is {unit}; the affine is given in mm.")
    return faults
