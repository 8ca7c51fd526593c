"""NIfTI-1 and NIfTI-2, plain or gzipped, in and out.

Placement is written back as it was read, to the last bit: the source's header travels in
``meta["source"]["header"]``. NIfTI stores the first axis fastest, so voxels stay in Fortran order
and are handled slice by slice without another copy.
"""

from __future__ import annotations

import gzip
import json
import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from medtranslate.errors import Unreadable, Unsupported
from medtranslate.imaging import nifti_header
from medtranslate.imaging.base import RefusingReader, ScanWriter, check_even
from medtranslate.imaging.guess_modality import guess_volume, labelled
from medtranslate.imaging.nifti_header import Header
from medtranslate.imaging.source import Scan, check_shape, make_source, short_label, synthesis_of
from medtranslate.imaging.voxels import beyond_float32, to_derived, to_float32, to_stored

SUFFIXES = (".nii", ".nii.gz")

GZIP_LEVEL = 1
"""A higher level takes many times as long and saves a few per cent on a scan."""

_GREATEST_DEFLATE_RATIO = 1032
"""Bytes that one byte of a deflate stream can stand for at most (zlib's technical notes)."""

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
    """

    suffixes = SUFFIXES

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the volume of the one path given."""
        if len(paths) != 1:
            raise Unsupported("several NIfTI files are several scans", path=paths[0])
        (path,) = paths
        header = nifti_header.read_header(path)
        faults = nifti_header.judge(header, path)
        stored = _read_stored(path, header)
        if beyond_float32(stored):
            faults.append("Integers beyond 2^24 are rounded to float32.")
        voxels = to_float32(stored, *nifti_header.scaling(header), path=path)
        modality, basis = labelled(nifti_header.description(header)) or guess_volume(voxels)
        source = make_source(
            format="nifti",
            kind="volume",
            files=[path],
            modality=modality,
            modality_basis=basis,
            shape=voxels.shape,
            affine=nifti_header.affine_mm(header),
            dtype=stored.dtype,
            faults=faults,
            header=nifti_header.packed(header),
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


def _read_stored(path: Path, header: Header) -> np.ndarray:
    """Read the numbers of the volume, shape (X, Y, Z), as stored, in Fortran order."""
    shape = check_shape(header.get_data_shape(), path)
    dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
    wanted = math.prod(shape) * dtype.itemsize
    with nifti_header.opened(path) as file:
        _check_length(path, offset + wanted, packed=isinstance(file, gzip.GzipFile))
        stored = np.empty(shape, dtype=dtype, order="F")
        target: Any = stored.T.reshape(-1).view(np.uint8)
        file.seek(offset)
        got = 0
        while got < wanted and (count := file.readinto(target[got:])):
            got += count
        if got < wanted:
            raise Unreadable(f"truncated: {got} of {wanted} bytes of voxels", path=path)
        # The checksum of a gzip stream is tested only where its end is reached.
        file.read(1)
    return stored


def _check_length(path: Path, wanted: int, *, packed: bool) -> None:
    """Refuse, before memory is taken, a file that cannot hold what its header claims."""
    most = path.stat().st_size * (_GREATEST_DEFLATE_RATIO if packed else 1)
    if most < wanted:
        raise Unreadable(f"truncated: at most {most} of {wanted} bytes are there", path=path)


def _plain_header(source: dict[str, Any]) -> Header:
    if source["format"] == "nifti":
        return nifti_header.unpacked(source["header"])
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
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(header.get_qform() - affine).max() > 1e-3 * spacing.min():
        header["qform_code"] = 0  # a quaternion cannot say a shear (gantry tilt)
    return header


def _as_source(voxels: np.ndarray, source: dict[str, Any], header: Header) -> np.ndarray:
    """Give the voxels in the source's stored type and scaling, else float32 without scaling."""
    slope, inter = nifti_header.scaling(header) if source["format"] == "nifti" else (1.0, 0.0)
    stored = to_stored(voxels, source["dtype"], slope, inter)
    if stored is not None:
        return stored
    header.set_slope_inter(1.0, 0.0)
    return voxels.astype(np.float32, copy=False)


def _write(temporary: Path, header: Header, stored: np.ndarray) -> None:
    header["vox_offset"] = 0  # nibabel puts in what header and extensions take
    dtype = header.get_data_dtype()
    with temporary.open("wb") as raw, _packer(raw, temporary) as file:
        header.write_to(file)
        for z in range(stored.shape[2]):
            file.write(np.ascontiguousarray(stored[..., z].T, dtype=dtype).data)


def _packer(raw: IO[bytes], path: Path) -> AbstractContextManager[Any]:
    """Give what to write through: gzip without name or time, so the same image is the same file."""
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0)
    return nullcontext(raw)
