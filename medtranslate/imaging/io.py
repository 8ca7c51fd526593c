"""Read what holds one scan (a file, a series, a folder of 2D images, a zip); write by suffix."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from medtranslate.errors import AmbiguousInput, Unreadable, Unsupported
from medtranslate.files import check_present
from medtranslate.imaging import archive, dicom, image2d, nifti
from medtranslate.imaging.base import Paths, Refusal, RefusingReader, ScanWriter
from medtranslate.imaging.image2d import Image2DReader, Image2DWriter, write_stack
from medtranslate.imaging.itk import ItkReader, ItkWriter
from medtranslate.imaging.nifti import NiftiReader, NiftiWriter
from medtranslate.imaging.source import Scan, check_source
from medtranslate.imaging.survey import (
    FolderContents,
    format_of,
    is_synthetic,
    list_folder,
    stranger,
    survey,
)

if TYPE_CHECKING:
    from monai.data import MetaTensor

_READERS: dict[str, type[RefusingReader]] = {
    "nifti": NiftiReader,
    "itk": ItkReader,
    "image": Image2DReader,
}


def read(path: str | PathLike[str], *, modality: str = "", series: str = "") -> MetaTensor:
    """Read one scan.

    Parameters
    ----------
    path : path
        A NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF or DICOM file, a folder that holds one DICOM
        series or equal 2D images (read as a stack), or a zip of any of these.
    modality : str
        ``"CT"`` or ``"MR"`` settles it; ``""`` leaves it to DICOM's tag or a guess.
    series : str
        SeriesInstanceUID, where a folder holds several.

    Returns
    -------
    MetaTensor
        Float32 of shape (1, X, Y, Z), affine in RAS mm, ``meta["source"]`` as in
        ``docs/architecture.md``.

    Raises
    ------
    InputMissing, Unreadable, Unsupported, AmbiguousInput, UntrustedInput
        The message names the file and the fault.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate import read, write
    >>> from medtranslate.phantom import Phantom
    >>> head = Phantom(shape=(64, 64, 2), spacing=(3.0, 3.0, 20.0)).volume()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(head, Path(folder) / "head.nii.gz")
    ...     tuple(read(path).shape)
    (1, 64, 64, 2)
    """
    return read_scan(path, modality=modality, series=series).image()


def read_scan(path: str | PathLike[str], *, modality: str = "", series: str = "") -> Scan:
    """Read one scan as numpy voxels with its source record, without torch; see `read`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), Path(folder, "head.nii"))
    ...     scan = read_scan(path)
    >>> scan.voxels.shape, scan.voxels.dtype.name, scan.source["modality"]
    ((32, 40, 3), 'float32', 'CT')
    """
    scan = ScanReader(modality=modality, series=series).read(path)
    if isinstance(scan, Refusal):
        raise scan.error
    return scan


class ScanReader(RefusingReader):
    """MONAI reader that picks among ours by what lies at the path: ``LoadImage(reader=...)``.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"`` settles it; ``""`` leaves it to DICOM's tag or a guess.
    series : str
        SeriesInstanceUID, where a folder holds several.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from monai.transforms import LoadImage
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), Path(folder, "head.nrrd"))
    ...     image = LoadImage(reader=ScanReader(modality="CT"), ensure_channel_first=True)(path)
    >>> image.meta["source"]["format"], image.meta["source"]["modality"]
    ('nrrd', 'CT')
    """

    def __init__(self, modality: str = "", series: str = "") -> None:
        super().__init__(modality)
        self.series = series

    def verify_suffix(self, filename: Paths) -> bool:
        """Accept every name: the content decides."""
        return True

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the one scan at the path, or the slices or 2D images at the paths."""
        if len(paths) > 1:
            return self._load_files(paths)
        (path,) = paths
        if path.is_dir():
            return self._load_folder(path)
        if format_of(path) == "zip":
            return self._load_zip(path)
        return self._load_files(paths)

    def _load_files(self, paths: tuple[Path, ...]) -> Scan:
        formats = {format_of(path) for path in paths}
        if len(formats) > 1:
            raise AmbiguousInput(f"files of several formats: {sorted(formats)}", path=paths[0])
        (format,) = formats
        if format == "dicom":
            return dicom.DicomReader(series=self.series).load(paths)
        if format not in _READERS:
            raise stranger(paths[0])
        return _READERS[format]().load(paths)

    def _load_folder(self, folder: Path) -> Scan:
        contents = list_folder(folder)
        series, volumes = bool(contents.dicom), contents.volumes
        if self.series and series:
            return dicom.DicomReader(series=self.series).load((folder,))
        if len(volumes) + series > 1:  # results beside their source are passed over
            volumes = [path for path in volumes if not is_synthetic(survey(path))]
            series = series and not is_synthetic(dicom.find_series(folder))
        images = [] if series else [*contents.images]  # beside a series they are thumbnails
        scans = [*volumes, *contents.zips, *images]
        if len(scans) + series > 1:
            remedy = "give one of them, or the UID of a series" if series else "give one of them"
            raise AmbiguousInput(_listing(contents), path=folder, remedy=remedy)
        if series:
            return dicom.DicomReader().load((folder,))
        if scans or contents.strangers:
            check_present([*scans, *contents.strangers][0])
        if images:
            return Image2DReader().load((scans[0],))
        if scans:
            return self.load((scans[0],))
        raise Unreadable("no scan in this folder", path=folder)

    def _load_zip(self, path: Path) -> Scan:
        with archive.unpacked(path) as folder:
            scan = self._load_folder(folder)
            files = [archive.member_name(path, folder, file) for file in scan.source["files"]]
            return Scan(scan.voxels, {**scan.source, "files": files})


def _listing(contents: FolderContents) -> str:
    kinds = {
        "DICOM files": len(contents.dicom),
        "volume files": len(contents.volumes),
        "folders of 2D images": len(contents.images),
        "zips": len(contents.zips),
    }
    held = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return f"several scans: {held}"


_WRITERS: dict[str, type[ScanWriter]] = {
    **dict.fromkeys(nifti.SUFFIXES, NiftiWriter),
    **dict.fromkeys((".mha", ".nrrd"), ItkWriter),
    **dict.fromkeys(image2d.SUFFIXES, Image2DWriter),
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
        ``.nii``, ``.nii.gz``, ``.mha``, ``.nrrd``; for 2D images ``.png``, ``.jpg``, ``.tif``; no
        suffix, ``.dcm`` or an existing folder for a folder: of DICOM, or of PNGs for 2D images.
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
        if source["kind"] == "image":
            write_stack(image, path, overwrite=overwrite)
        else:
            dicom.write_series(image, path, overwrite=overwrite)
        return path
    writers = [kind for suffix, kind in _WRITERS.items() if path.name.lower().endswith(suffix)]
    if not writers:
        known = " ".join(WRITABLE)
        raise Unsupported(f"no format is written as {path.suffix}", path=path, remedy=known)
    writers[0]().save(image, path, overwrite=overwrite)
    return path
