"""What all our MONAI readers and writers share.

A reader's refusal survives ``LoadImage``; a writer's output is whole or absent; stored numbers
become float32 voxels and back, and a survey of any format makes the same record (`Finding`).

``LoadImage`` swallows what a reader raises in `read` and tries the next reader, so a series that
we refuse would come back from ITK as an even volume with wrong spacing. Ours therefore return the
refusal from `read` and raise it from `get_data`, where nothing catches it.

Voxels are converted slab by slab, which keeps the peak at the stored array plus one float32 copy,
whatever the type.
"""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtranslate.errors import (
    MedTranslateError,
    Unreadable,
    Unsupported,
    UntrustedInput,
)
from medtranslate.files import check_present, whole_file
from medtranslate.imaging.source import Scan, check_modality, check_source

if TYPE_CHECKING:
    from monai.data import MetaTensor

_OF_DAMAGE = (ArithmeticError, EOFError, LookupError, ValueError, struct.error, zlib.error)
"""What readers of ours and of others raise on values that no regular file has."""

Paths = Sequence[str | PathLike[str]] | str | PathLike[str]


@dataclass(frozen=True)
class Refusal:
    """What went wrong in `read`, kept for `get_data`."""

    error: Exception


@contextmanager
def unforeseen_named(path: Path) -> Iterator[None]:
    """Turn what a damaged file may still lead a library to raise into an error that names it.

    Raises
    ------
    Unreadable
        With the exception as its cause.
    UntrustedInput
        There is not as much memory as the file asks for.
    """
    try:
        yield
    except MedTranslateError:
        raise
    except MemoryError as error:
        raise UntrustedInput("asks for more memory than there is", path=path) from error
    except _OF_DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise Unreadable(f"damaged: {reason[:200]}", path=path) from error


class RefusingReader:
    """A MONAI reader of one scan: subclasses say how to `load` it and what its files are called.

    It is an ``ImageReader`` wherever MONAI looks, without importing MONAI, or torch, to read.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"`` where the caller knows it, which settles it; ``""`` to find out.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, modality: str = "") -> None:
        if "monai.data" in sys.modules:
            register_with_monai()
        self.modality = check_modality(modality)

    def verify_suffix(self, filename: Paths) -> bool:
        """Say whether every name ends like a file of this format."""
        return all(str(name).lower().endswith(self.suffixes) for name in _each(filename))

    def read(self, data: Paths, **kwargs: Any) -> Scan | Refusal:
        """Read one scan; never raises (see the module's docstring).

        Parameters
        ----------
        data : path or sequence of paths
            What makes up one scan.
        **kwargs
            Passed to `load`.
        """
        try:
            paths = tuple(Path(name) for name in _each(data))
            for path in paths:
                check_present(path)
            with unforeseen_named(paths[0]):
                return settled(self.load(paths, **kwargs), self.modality)
        except Exception as error:
            return Refusal(error)

    def get_data(self, img: Scan | Refusal) -> tuple[np.ndarray, dict[str, Any]]:
        """Give float32 voxels of shape (X, Y, Z) and their metadata, or raise the refusal."""
        if isinstance(img, Refusal):
            raise img.error
        return img.voxels, img.meta()

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the scan that lies in `paths`, or raise a `MedTranslateError`."""
        raise NotImplementedError


def register_with_monai() -> None:
    """Make our readers instances of MONAI's ``ImageReader``, which ``LoadImage`` asks for."""
    from monai.data import ImageReader

    if not issubclass(RefusingReader, ImageReader):
        ImageReader.register(RefusingReader)


def _each(names: Paths) -> Sequence[str | PathLike[str]]:
    return (names,) if isinstance(names, str | PathLike) else tuple(names)


def settled(scan: Scan, modality: str) -> Scan:
    """Give the scan with the modality that the caller gave, if any; a contradiction is a fault."""
    if not modality:
        return scan
    found, basis = scan.source["modality"], scan.source["modality_basis"]
    faults = scan.source["faults"]
    if found not in ("", modality) and basis.startswith("DICOM"):
        faults = [*faults, f"{basis} says {found}, but {modality} was given and is believed."]
    source = {**scan.source, "modality": modality, "modality_basis": "given", "faults": faults}
    return Scan(scan.voxels, source)


class ScanWriter:
    """A MONAI writer of one scan into one file: subclasses say how to `encode` it.

    It has the methods of MONAI's ``ImageWriter`` that ``SaveImage`` calls.

    Type and grid of what is written are fixed by ``meta["source"]`` and ``meta["synthesis"]``;
    ``output_dtype`` and the resampling options that ``SaveImage`` always passes are not used.

    Parameters
    ----------
    output_dtype : dtype, optional
        Accepted for ``SaveImage``.
    scale : int, optional
        Must be None: values are physical and are not rescaled.
    """

    def __init__(self, output_dtype: Any = None, scale: int | None = None) -> None:
        if scale is not None:
            raise Unsupported("values are physical: they are not rescaled when written")
        self.meta: dict[str, Any] = {}

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take voxels of shape (1, X, Y, Z), or (X, Y, Z) where `channel_dim` is None."""
        import torch
        from monai.data import MetaTensor

        data = torch.as_tensor(data_array)
        if isinstance(data, MetaTensor):
            data = data.as_tensor()
        self.data_obj = data[None] if channel_dim is None else data.movedim(channel_dim, 0)

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, **options: Any) -> None:
        """Take the metadata, with ``"source"``, that belong to the voxels."""
        self.meta = dict(meta_dict or {})

    def write(self, filename: str | PathLike[str], verbose: bool = True, **kwargs: Any) -> None:
        """Write what was set, replacing an existing file as MONAI's writers do."""
        from monai.data import MetaTensor

        if verbose:
            logging.getLogger(__name__).info("writing: %s", filename)
        self.save(MetaTensor(self.data_obj, meta=self.meta), Path(filename), overwrite=True)

    def save(self, image: MetaTensor, path: Path, *, overwrite: bool = False) -> None:
        """Write an image of shape (1, X, Y, Z) whole or not at all.

        Raises
        ------
        Unsupported
            The image no longer agrees with its source, or this format cannot say what it holds.
        OutputExists, OutputFailed
            See `whole_file`.
        """
        source = check_source(image, path)
        with whole_file(path, overwrite=overwrite) as temporary:
            self.encode(image, source, temporary, path)

    def encode(
        self, image: MetaTensor, source: dict[str, Any], temporary: Path, path: Path
    ) -> None:
        """Write the image to `temporary`; `path` is the name to use in messages."""
        raise NotImplementedError


def check_even(source: dict[str, Any], path: Path) -> None:
    """Refuse slices that are not evenly spaced, for formats that place them by an affine alone.

    Raises
    ------
    Unsupported
        ``source["even"]`` is false.
    """
    if not source["even"]:
        raise Unsupported(
            "the slices are not evenly spaced, which this format cannot say",
            path=path,
            remedy="write DICOM, or make an even grid first",
        )


_LABEL = "SYNTHETIC"
"""How the description of every result begins, as in ``meta["synthesis"]``."""


NO_SERIES = "no series of slices"
"""How the error of a DICOM object ends that is no scan: a report, a presentation state."""


@dataclass(frozen=True)
class Finding:
    """One scan, or one file that cannot be read.

    Parameters
    ----------
    path : str
        The file, or for a DICOM series and a stack of 2D images the folder that holds it. Inside a
        zip: the zip's path, ``!/``, and the member's name.
    format : str
        ``"nifti"``, ``"metaimage"``, ``"nrrd"``, ``"image"``, ``"dicom"`` or ``""`` (unknown).
    kind : str
        ``"volume"``, ``"image"`` or ``""``.
    modality : str
        ``"CT"``, ``"MR"`` or ``""`` where headers do not tell.
    modality_basis : str
        What the modality rests on, as in ``meta["source"]``.
    contrast, contrast_basis : str
        Of an MR, as header or file name state it, and what states it; ``""`` where neither does.
    series : str
        SeriesInstanceUID for DICOM, else ``""``: what ``read(path, series=...)`` takes.
    description : str
        SeriesDescription or the header's free text.
    shape : tuple of int
        (X, Y, Z) in voxels; empty where unknown.
    spacing : tuple of float
        (x, y, z) in mm; empty for a 2D image and where unknown.
    faults : tuple of str
        What was noticed and how it is dealt with, a sentence each.
    error : str
        Why it cannot be read, in one sentence; ``""`` where it can.
    home : str
        For a DICOM series the file, or the innermost folder, that holds all of it; else ``""``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate.imaging import survey, write
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), Path(folder, "head.nii"))
    ...     (found,) = survey(folder)
    >>> found.format, found.shape, found.spacing
    ('nifti', (32, 40, 3), (6.0, 6.0, 40.0))
    """

    path: str
    format: str = ""
    kind: str = ""
    modality: str = ""
    modality_basis: str = ""
    contrast: str = ""
    contrast_basis: str = ""
    series: str = ""
    description: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    faults: tuple[str, ...] = ()
    error: str = ""
    home: str = ""

    @property
    def synthetic(self) -> bool:
        """Whether its header says that it is the result of a translation."""
        return self.description.startswith(_LABEL)

    def as_dict(self) -> dict[str, Any]:
        """Give the record as builtins, for JSON."""
        return asdict(self)


FLOAT32_INTEGERS = 2**24
"""Up to this magnitude float32 holds every integer."""


def to_float32(
    stored: np.ndarray, slope: float, inter: float, path: str | Path | None = None
) -> np.ndarray:
    """Give ``stored * slope + inter`` as float32, computed in float64 and rounded once.

    Parameters
    ----------
    stored : numpy.ndarray
        Integers or floats of shape (X, Y, Z), any byte order.
    slope, inter : float
        The scaling.
    path : path, optional
        The file, for the message.

    Returns
    -------
    numpy.ndarray
        Float32 of shape (X, Y, Z) in native byte order, memory order as stored.

    Raises
    ------
    Unsupported
        A voxel is NaN, infinite or beyond float32.
    """
    scaled = (slope, inter) != (1.0, 0.0)
    native_float = stored.dtype == np.float32 and stored.dtype.isnative
    voxels = stored if native_float and not scaled else np.empty_like(stored, dtype=np.float32)
    check = scaled or stored.dtype.kind == "f"
    bad = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for z in range(stored.shape[2]):
            if scaled:
                voxels[..., z] = stored[..., z].astype(np.float64) * slope + inter
            elif voxels is not stored:
                voxels[..., z] = stored[..., z]
            if check:
                bad += int(np.size(voxels[..., z]) - np.isfinite(voxels[..., z]).sum())
    if bad:
        raise Unsupported(f"{bad} of {stored.size} voxels are NaN or infinite", path=path)
    return voxels


def beyond_float32(stored: np.ndarray) -> bool:
    """Say whether integers are too large for float32 to hold each of them."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize < 4:
        return False
    return bool(int(stored.max()) > FLOAT32_INTEGERS or int(stored.min()) < -FLOAT32_INTEGERS)


def to_integers(
    voxels: np.ndarray, dtype: np.dtype | type | str, path: str | Path | None = None
) -> np.ndarray:
    """Round voxels to the nearest integers of a type.

    Parameters
    ----------
    voxels : numpy.ndarray
        Float32 of shape (X, Y, Z); integers of the type itself are returned as they are.
    dtype : dtype
        An integer type.
    path : path, optional
        The output, for the message.

    Raises
    ------
    Unsupported
        A voxel is not finite or does not fit the type.
    """
    dtype = np.dtype(dtype)
    if voxels.dtype == dtype:
        return voxels
    limits = np.iinfo(dtype)
    integers = np.empty_like(voxels, dtype=dtype)
    for z in range(voxels.shape[2]):
        rounded = np.rint(voxels[..., z], dtype=np.float64)
        # Written so that NaN, which compares false with everything, is caught as well.
        if not (rounded.min() >= limits.min and rounded.max() <= limits.max):
            raise Unsupported(
                f"values from {rounded.min():g} to {rounded.max():g} do not fit {dtype.name}",
                path=path,
            )
        integers[..., z] = rounded
    return integers


def to_derived(
    voxels: np.ndarray, dtype: np.dtype | type | str, path: str | Path | None = None
) -> np.ndarray:
    """Give voxels in the type that a derived image says: floats as they are, integers rounded.

    Parameters and errors are those of `to_integers`.
    """
    if np.dtype(dtype).kind == "f":
        return voxels.astype(dtype, copy=False)
    return to_integers(voxels, dtype, path)


def to_stored(
    voxels: np.ndarray, dtype: np.dtype | type | str, slope: float = 1.0, inter: float = 0.0
) -> np.ndarray | None:
    """Give the numbers of a stored type that read back as exactly these voxels, if there are any.

    Parameters
    ----------
    voxels : numpy.ndarray
        Float32 of shape (X, Y, Z).
    dtype : dtype
        The type to store.
    slope, inter : float
        The scaling with which the numbers will be read.

    Returns
    -------
    numpy.ndarray or None
        Shape (X, Y, Z) of type `dtype`; None where that would lose something.
    """
    dtype = np.dtype(dtype)
    stored = np.empty_like(voxels, dtype=dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for z in range(voxels.shape[2]):
            slab = voxels[..., z].astype(np.float64)
            numbers = (slab - inter) / slope
            if dtype.kind in "iu":
                numbers = np.rint(numbers)
                limits = np.iinfo(dtype)
                if not (numbers.min() >= limits.min and numbers.max() <= limits.max):
                    return None
            stored[..., z] = numbers
            again = (stored[..., z].astype(np.float64) * slope + inter).astype(np.float32)
            if not np.array_equal(again, voxels[..., z]):
                return None
    return stored
