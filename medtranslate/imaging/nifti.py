"""NIfTI-1 and NIfTI-2, plain or gzipped, in and out.

Placement is written back as it was read, to the last bit: the source's header travels in
``meta["source"]["header"]``. NIfTI stores the first axis fastest, so voxels stay in Fortran order
and are handled slice by slice without another copy.

nibabel repairs a header while it loads it (a voxel size of zero becomes 1, for one), so the raw
header is judged first. Source: NIfTI-1.1 and NIfTI-2, ``nifti1.h`` and ``nifti2.h``.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging.base import (
    RefusingReader,
    ScanWriter,
    beyond_float32,
    check_even,
    to_derived,
    to_float32,
    to_stored,
)
from medtranslate.imaging.contrast import of_name
from medtranslate.imaging.folder import mistaken
from medtranslate.imaging.guess_modality import guess_volume, labeled
from medtranslate.imaging.limits import (
    SLACK,
    check_claim,
    check_memory,
    left_over,
    opened,
    packer,
)
from medtranslate.imaging.source import (
    Scan,
    check_affine,
    check_shape,
    make_source,
    short_label,
    synthesis_of,
)

if TYPE_CHECKING:
    from monai.data import MetaTensor

SUFFIXES = (".nii", ".nii.gz")

_GEOMETRY_FIELDS = (
    *("dim", "pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""All that a derived image takes from its source's header; free text may name a patient."""


class NiftiReader(RefusingReader):
    """MONAI reader of one volume in a ``.nii`` or ``.nii.gz`` file.

    Every integer and float type, both byte orders, scl_slope and scl_inter applied, affine in RAS
    mm from the sform, else the qform. A 4D file is read if its fourth axis has length 1.

    Raises
    ------
    Unreadable
        From `get_data`: empty, truncated, damaged, or no NIfTI file.
    Unsupported
        From `get_data`: several volumes, fewer than 3 voxels in plane, NaN or infinite voxels,
        complex or RGB voxels, an affine that is zero, singular or not finite.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from monai.transforms import LoadImage
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "head.nii.gz")
    ...     NiftiWriter().save(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), path)
    ...     image = LoadImage(reader=NiftiReader(), ensure_channel_first=True)(path)
    >>> image.shape, image.meta["source"]["dtype"]
    (torch.Size([1, 32, 40, 3]), 'int16')
    """

    suffixes = SUFFIXES

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the volume of the one path given."""
        if len(paths) != 1:
            raise Unsupported("several NIfTI files are several scans", path=paths[0])
        (path,) = paths
        header = read_header(path)
        faults = judge(header, path)
        stored, notes = _read_stored(path, header)
        faults.extend(notes)
        if beyond_float32(stored):
            faults.append("Integers beyond 2^24 are rounded to float32.")
        voxels = to_float32(stored, *scaling(header), path=path)
        modality, basis = labeled(description(header)) or guess_volume(voxels)
        source = make_source(
            format="nifti",
            kind="volume",
            files=[path],
            modality=modality,
            modality_basis=basis,
            contrast=of_name(path),
            shape=voxels.shape,
            affine=affine_mm(header),
            dtype=stored.dtype,
            faults=faults,
            header=packed(header),
        )
        return Scan(voxels, source)


class NiftiWriter(ScanWriter):
    """MONAI writer of one volume to a ``.nii`` or ``.nii.gz`` file.

    A translated image is written in ``synthesis["dtype"]`` (int16) with slope 1, says in
    ``descrip`` that it is synthetic, and carries its full record in a header extension (code 6,
    comment). Any other image goes back in its source's stored type and scaling where that loses
    nothing, else as float32.

    Raises
    ------
    Unsupported
        The image no longer agrees with its source, its slices are not evenly spaced (which NIfTI
        cannot say), or values do not fit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import nibabel as nib
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "head.nii.gz")
    ...     NiftiWriter().save(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), path)
    ...     [float(mm) for mm in nib.load(path).header.get_zooms()]
    [6.0, 6.0, 40.0]
    """

    def encode(
        self, image: MetaTensor, source: dict[str, Any], temporary: Path, path: Path
    ) -> None:
        """Write header, extension and voxels."""
        check_even(source, path)
        voxels = image.as_tensor()[0].detach().cpu().numpy()
        synthesis = synthesis_of(image)
        if synthesis:
            header = derived_header(source, synthesis)
            stored = to_derived(voxels, synthesis["dtype"], path)
            header.set_slope_inter(1.0, 0.0)
        else:
            header = _plain_header(source)
            stored = _as_source(voxels, source, header)
        header.set_data_dtype(stored.dtype.newbyteorder("<"))
        _write(temporary, header, stored)


def _read_stored(path: Path, header: Header) -> tuple[np.ndarray, list[str]]:
    """Read the numbers of the volume, shape (X, Y, Z), as stored, in Fortran order; and notes."""
    shape = check_shape(header.get_data_shape(), path)
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    wanted = math.prod(shape) * dtype.itemsize
    with opened(path) as file:
        packing = "gzip" if isinstance(file, gzip.GzipFile) else "raw"
        check_claim(offset + wanted, path.stat().st_size, path, packing=packing)
        check_memory(wanted + 4 * math.prod(shape), path)
        stored = np.empty(shape, dtype=dtype, order="F")
        target: Any = stored.T.reshape(-1).view(np.uint8)
        file.seek(offset)
        got = 0
        while got < wanted and (count := file.readinto(target[got:])):
            got += count
        if got < wanted:
            raise Unreadable(f"truncated: {got} of {wanted} bytes of voxels", path=path)
        # The checksum of a gzip stream is tested only where its end is reached.
        extra = 0
        while extra <= SLACK and (rest := file.read(SLACK)):
            extra += len(rest)
        notes = left_over(extra, wanted // shape[2], path)
    return stored, notes


def _plain_header(source: dict[str, Any]) -> Header:
    if source["format"] == "nifti":
        return unpacked(source["header"])
    return _header_from_affine(source)


def derived_header(source: dict[str, Any], synthesis: dict[str, Any]) -> Header:
    """Make the header of a translated image: the source's placement, the label, nothing else."""
    original = _plain_header(source)
    header = type(original)(endianness="<")
    for field in _GEOMETRY_FIELDS:
        header[field] = original[field]
    header["descrip"] = short_label(synthesis, 79).encode("ascii")
    if synthesis["window"]:
        header["cal_min"], header["cal_max"] = synthesis["window"]
    comment = f"{synthesis['label']}\n{json.dumps(synthesis, ensure_ascii=False)}"
    header.extensions.append(nib.nifti1.Nifti1Extension(6, comment.encode()))
    return header


def _header_from_affine(source: dict[str, Any]) -> Header:
    """Make a header that places the voxels in scanner coordinates (code 1)."""
    affine = np.asarray(source["affine"], dtype=np.float64)
    fits = max(source["shape"]) <= np.iinfo(np.int16).max
    header = (nib.Nifti1Header if fits else nib.Nifti2Header)(endianness="<")
    header.set_data_shape(source["shape"])
    header.set_xyzt_units("mm" if source["kind"] == "volume" else "unknown")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1, strip_shears=True)
    spacing = nib.affines.voxel_sizes(affine)
    if np.abs(header.get_qform() - affine).max() > 1e-3 * spacing.min():
        header["qform_code"] = 0  # a quaternion cannot say a shear (gantry tilt)
    return header


def _as_source(voxels: np.ndarray, source: dict[str, Any], header: Header) -> np.ndarray:
    """Give the voxels in the source's stored type and scaling, else float32 without scaling."""
    slope, inter = scaling(header) if source["format"] == "nifti" else (1.0, 0.0)
    stored = to_stored(voxels, source["dtype"], slope, inter)
    if stored is not None:
        return stored
    header.set_slope_inter(1.0, 0.0)
    return voxels.astype(np.float32, copy=False)


def _write(temporary: Path, header: Header, stored: np.ndarray) -> None:
    header["vox_offset"] = 0  # nibabel puts in what header and extensions take
    dtype = header.get_data_dtype()
    with temporary.open("wb") as raw, packer(raw, temporary) as file:
        header.write_to(file)
        for z in range(stored.shape[2]):
            file.write(np.ascontiguousarray(stored[..., z].T, dtype=dtype).data)


Header = nib.Nifti1Header | nib.Nifti2Header

MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
"""Spatial units of ``xyzt_units``; unknown is taken as mm, as every reader does."""

_SMALLEST_VOXEL, _LARGEST_VOXEL = 0.01, 100.0  # mm
_ROUNDING = 1e-4
"""How far over 1 the length of a quaternion may be for want of digits."""

_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


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
    raise mistaken(block, path)


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
    settled = [*_settled_shape(header), *_settled_sform(header)]
    shape = _shape(header, path)
    check_shape(shape, path)
    _check_sizes(header, shape, path)
    try:
        dtype = header.get_data_dtype()
        _check_offset(header)
        faults = [*settled, *_repaired(header), *_settled_qform(header)]
        header.get_slope_inter()
        affine = header.get_best_affine()
    except KeyError as error:
        raise Unreadable(f"damaged header: no data type {error}", path=path) from error
    except (HeaderDataError, ValueError) as error:
        raise Unreadable(f"damaged header: {error}", path=path) from error
    if dtype.kind not in "iuf":
        name = nib.nifti1.data_type_codes.label[int(header["datatype"])]
        raise Unsupported(f"voxels of type {name} are no scan", path=path)
    check_affine(affine, path)
    return [*faults, *_placement_faults(header, path)]


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
    stored = kind(block, endianness=record["endianness"], check=False)
    swapped: Header = stored.as_byteswapped("<")
    return swapped


def _shape(header: Header, path: Path) -> tuple[int, ...]:
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise Unreadable(f"damaged header: {axes} axes", path=path)
    return tuple(int(length) for length in header["dim"][1 : axes + 1])


def _settled_shape(header: Header) -> list[str]:
    """Take an axis of length 0 beyond the third as one of length 1, as other readers do."""
    empty = [n for n in range(4, min(int(header["dim"][0]), 7) + 1) if header["dim"][n] == 0]
    for number in empty:
        header["dim"][number] = 1
    return [f"header: dim[{number}] is 0; setting to 1." for number in empty]


def _settled_sform(header: Header) -> list[str]:
    """Leave out an sform that places no voxels, where there is a qform that does."""
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return []
    sizes = header["pixdim"][1:4]
    try:
        check_affine(header.get_sform())
    except Unsupported:
        try:
            check_affine(header.get_qform())
        except (ValueError, HeaderDataError, Unsupported):
            return []
        if not (np.isfinite(sizes).all() and (sizes > 0).all()):
            return []
        header["sform_code"] = 0
        return ["The sform is unusable and is left out; the qform is used."]
    return []


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


def _check_offset(header: Header) -> None:
    """Refuse an offset of the voxels that is none, before nibabel makes an integer of it."""
    offset = float(header["vox_offset"])
    if not (0 <= offset < 2**62 and offset.is_integer()):
        raise HeaderDataError(f"vox_offset is {offset:g}")


def _settled_qform(header: Header) -> list[str]:
    """Make the qform of a header usable, or leave it out where the sform says it all.

    A quaternion a hair over unit length is scaled, as NIfTI's own library does it.

    Raises
    ------
    ValueError
        There is no sform either.
    """
    if int(header["qform_code"]) <= 0:
        return []
    quaternion = np.array([float(header[f"quatern_{part}"]) for part in "bcd"])
    length = float(np.linalg.norm(quaternion))
    if 1 < length < 1 + _ROUNDING:
        for part, value in zip("bcd", quaternion / length, strict=True):
            header[f"quatern_{part}"] = value
    try:
        usable = bool(np.isfinite(header.get_qform()).all())
    except (ValueError, HeaderDataError):
        usable = False
    if usable:
        return []
    if int(header["sform_code"]) <= 0:
        raise ValueError(f"the qform is unusable: its quaternion has length {length:g}")
    header["qform_code"] = 0
    return ["The qform is unusable and is left out; the sform is used."]


_NO_SCAN = {
    **{3: "t-values", 4: "F-values", 5: "z-values", 22: "p-values", 1001: "an estimate"},
    **{1002: "labels", 1003: "names of labels", 1006: "displacements", 1007: "vectors"},
}
"""By ``intent_code`` of nifti1.h: values that were computed from scans."""


def _placement_faults(header: Header, path: Path) -> list[str]:
    faults = []
    meaning = _NO_SCAN.get(int(header["intent_code"]))
    if meaning:
        faults.append(f"The header's intent is {meaning}: the values may be no scan's.")
    qform, sform = header.get_qform(coded=True)[0], header.get_sform(coded=True)[0]
    if qform is None and sform is None:
        faults.append("Neither sform nor qform: position and left-right are assumed.")
    if qform is not None and sform is not None:
        gap = float(np.abs(qform - sform).max())
        if gap > 0.1:
            faults.append(f"sform and qform differ by up to {gap:.3g}; the sform is used.")
    unit = spatial_unit(header)
    if MM_PER_UNIT[unit] != 1.0:
        _check_unit(header, unit, path)
        faults.append(f"The header's unit is {unit}; the affine is given in mm.")
    return faults


def _check_unit(header: Header, unit: str, path: Path) -> None:
    """Refuse voxels that no scanner makes, where the header's unit is not the usual one."""
    sizes = np.linalg.norm(affine_mm(header)[:3, :3], axis=0)
    if sizes.max() > _LARGEST_VOXEL or sizes.min() < _SMALLEST_VOXEL:
        size = " x ".join(f"{side:g}" for side in sizes)
        raise Unsupported(
            f"voxels of {size} mm: the header says {unit}s",
            path=path,
            remedy="set its unit (xyzt_units) to mm, if that is what its numbers are",
        )
