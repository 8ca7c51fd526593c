"""One door to all writers: the name of the output says the format."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from monai.data import MetaTensor

from medtranslate.errors import Unsupported
from medtranslate.imaging import image2d, nifti
from medtranslate.imaging.base import ScanWriter
from medtranslate.imaging.dicom import write_series
from medtranslate.imaging.image2d import PictureWriter, write_stack
from medtranslate.imaging.itk import ItkWriter
from medtranslate.imaging.nifti import NiftiWriter
from medtranslate.imaging.source import check_source

_WRITERS: dict[str, type[ScanWriter]] = {
    **dict.fromkeys(nifti.SUFFIXES, NiftiWriter),
    **dict.fromkeys((".mha", ".nrrd"), ItkWriter),
    **dict.fromkeys(image2d.SUFFIXES, PictureWriter),
}

WRITABLE = (*_WRITERS, ".dcm")
"""Suffixes that `write` knows; ``.dcm``, or none, is a folder."""


def write(image: MetaTensor, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write an image, whole or not at all.

    Parameters
    ----------
    image : MetaTensor
        Float32 of shape (1, X, Y, Z) whose shape and affine agree with its ``meta["source"]``.
    path : path
        ``.nii``, ``.nii.gz``, ``.mha``, ``.nrrd``; for pictures ``.png``, ``.jpg``, ``.tif``; no
        suffix, ``.dcm`` or an existing folder for a folder: of DICOM, or of PNGs for pictures.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    Unsupported
        The image no longer agrees with its source, or the format cannot say what it holds.
    OutputExists
        The output exists and `overwrite` is false.
    OutputFailed
        No permission, no space, no such folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate import write
    >>> from medtranslate.phantom import Phantom
    >>> head = Phantom(shape=(64, 64, 2), spacing=(3.0, 3.0, 20.0)).volume()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(head, Path(folder) / "head.nii.gz")
    ...     path.name
    'head.nii.gz'
    """
    path = Path(path)
    source = check_source(image, path)
    if path.is_dir() or path.suffix.lower() in ("", ".dcm"):
        if source["kind"] == "picture":
            write_stack(image, path, overwrite=overwrite)
        else:
            write_series(image, path, overwrite=overwrite)
        return path
    writers = [kind for suffix, kind in _WRITERS.items() if path.name.lower().endswith(suffix)]
    if not writers:
        known = " ".join(WRITABLE)
        raise Unsupported(f"no format is written as {path.suffix}", path=path, remedy=known)
    writers[0]().save(image, path, overwrite=overwrite)
    return path
