"""A translated image to a folder with one DICOM instance a slice, whole or not at all.

A scan from another format borrows the headers of the DICOM series it was made from
(`adopt_template`).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from medtranslate.errors import OutputExists, Unsupported, WrongModality
from medtranslate.files import whole_folder
from medtranslate.imaging.base import ScanWriter
from medtranslate.imaging.dicom.attributes import keep_bytes
from medtranslate.imaging.dicom.derive.instances import derive, instance
from medtranslate.imaging.dicom.derive.repair import private_elements
from medtranslate.imaging.dicom.read.grouping import choose, group_series, volume
from medtranslate.imaging.dicom.read.reader import source_of
from medtranslate.imaging.source import SourceRecord, check_source

IMPLEMENTATION_UID = "2.25.214749216107834269283467502933161748211"
"""ImplementationClassUID of this writer, PS3.10 7.1."""
IMPLEMENTATION_NAME = "MEDTRANSLATE"


def write_series(
    image: MetaTensor,
    folder: str | Path,
    *,
    overwrite: bool = False,
    template: str | Path | None = None,
    uid_seed: str = "",
    keep_private: bool = False,
) -> Path:
    """Write a translated image as a derived series, single-frame CT or MR Image Storage.

    Parameters
    ----------
    image : MetaTensor
        Float32 (1, X, Y, Z) with ``meta["source"]`` and ``meta["synthesis"]``.
    folder : path
        The folder to be; ``0001.dcm`` and on are slices by position along the normal.
    overwrite : bool
        Replace a folder that holds a series.
    template : path, optional
        A DICOM series on the same grid, for an image that was read from another format.
    uid_seed : str
        ``""`` for new UIDs each time; else UIDs follow from it, source, model, options and pixels.
    keep_private : bool
        Copy the private attributes of the source's files, which must still be there.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    Unsupported
        The image was not translated, has no DICOM source or template on its grid, was resampled,
        or does not fit 16 bits.
    OutputExists, OutputFailed
        The folder exists, holds something else than a series, or cannot be written.
    """
    folder = Path(folder)
    if template is not None:
        image = adopt_template(image, template)
    source = check_source(image, folder)
    series = derive(image, source, uid_seed)
    check_replaceable(folder, source["files"])
    with whole_folder(folder, overwrite=overwrite) as temporary:
        for index, path in enumerate(source["files"]):
            built = instance(series, index)
            if keep_private:
                for element in private_elements(Path(path), series.header["slices"][index]):
                    built[element.tag] = element
            save(built, temporary / f"{index + 1:04d}.dcm")
    return folder


def check_replaceable(folder: Path, sources: list[str]) -> None:
    """Refuse to replace a folder that holds the source, or anything but DICOM files.

    Raises
    ------
    OutputExists
        It does, whether overwriting was asked for or not.
    """
    if not folder.is_dir():
        return
    inside = [name for name in sources if Path(name).resolve().is_relative_to(folder.resolve())]
    if inside:
        raise OutputExists("holds the source series", path=folder, remedy="choose another folder")
    foreign = [one.name for one in folder.iterdir() if one.suffix != ".dcm" or not one.is_file()]
    if foreign:
        raise OutputExists(
            f"holds {foreign[0]}, which is no part of a series",
            path=folder,
            remedy="choose another folder",
        )


def save(dataset: Dataset, path: Path) -> None:
    """Write one instance as explicit VR little endian with file meta information, PS3.10 7."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    with warnings.catch_warnings():
        # Names that the source wrote in a broken way are kept, and reported among the repairs.
        warnings.simplefilter("ignore")
        keep_bytes(dataset).file_meta = meta
        dcmwrite(path, dataset, enforce_file_format=True)


class DicomWriter(ScanWriter):
    """A MONAI writer of derived series: the name becomes a folder, also where it ends in .dcm.

    Examples
    --------
    >>> import tempfile
    >>> from pydicom import dcmread, examples
    >>> from medtranslate.imaging import as_image
    >>> from medtranslate.translation import Translator
    >>> scan = as_image(examples.get_path("ct"))
    >>> result = Translator.load(device="cpu").translate(scan, to="mri", force=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     DicomWriter().save(result, Path(folder, "mri"))
    ...     (written,) = Path(folder, "mri").iterdir()
    ...     dcmread(written).Modality
    'MR'
    """

    def save(self, image: MetaTensor, path: Path, *, overwrite: bool = False) -> None:
        """Write an image of shape (1, X, Y, Z); see `write_series`."""
        write_series(image, path, overwrite=overwrite)


SAME_GRID = 1e-2
"""Farthest that a voxel center may be from the template's, mm."""


def adopt_template(image: MetaTensor, template: str | Path, series: str = "") -> MetaTensor:
    """Give a translated image the source of a DICOM series on the same grid.

    The grids are equal if their voxel centers are the same points; axes may be stored in another
    order or direction, as converters to NIfTI do, and are turned without resampling.

    Parameters
    ----------
    image : MetaTensor
        Float32 (1, X, Y, Z) with ``meta["synthesis"]``.
    template : path
        Folder of the series.
    series : str
        SeriesInstanceUID where the folder holds several.

    Returns
    -------
    MetaTensor
        Float32 (1, columns, rows, slices) with the template's affine and source.

    Raises
    ------
    Unsupported
        The grids differ, or the template is not even.
    WrongModality
        The template is of another modality than the image's source.
    MedTranslateError
        The template cannot be read.
    """
    template = Path(template)
    contents = group_series([template])
    headers = choose(contents, series)
    stacked = volume(headers)
    source = source_of(contents, headers, stacked, None)
    check_modalities(image, source, template)
    if not stacked.even:
        raise Unsupported("its slices are not even, so no affine can equal them", path=template)
    turned = turn(image, np.asarray(stacked.affine), stacked.shape, template)
    meta = {
        **image.meta,
        "source": SourceRecord.of(source),
        "affine": torch.as_tensor(stacked.affine),
    }
    return MetaTensor(turned, meta=meta)


def check_modalities(image: MetaTensor, source: dict[str, Any], template: Path) -> None:
    """Refuse a template of another modality than the image was translated from."""
    own = image.meta.get("source", {}).get("modality", "")
    if own and own != source["modality"]:
        raise WrongModality(
            f"is a series of {source['modality']}, the scan is {own}", path=template
        )


def turn(
    image: MetaTensor, affine: np.ndarray, shape: tuple[int, int, int], template: Path
) -> torch.Tensor:
    """Turn voxels so that their grid, which must be the same points, is stored as `affine` says.

    Parameters
    ----------
    image : MetaTensor
        (1, X, Y, Z).
    affine : numpy.ndarray
        4x4 of the grid to store it in, RAS mm.
    shape : tuple of int
        Of that grid.
    template : path
        For messages.

    Raises
    ------
    Unsupported
        It is another grid.
    """
    own = np.asarray(image.affine, dtype=np.float64)
    # Index in the template -> index in the image: a signed permutation if the grids are equal.
    steps = np.linalg.solve(own[:3, :3], affine[:3, :3])
    signed = np.rint(steps)
    axes = np.abs(signed).argmax(axis=0)
    one_to_one = sorted(axes) == [0, 1, 2] and np.array_equal(np.abs(signed).sum(axis=0), [1, 1, 1])
    remedy = "give the series that the scan was made from"
    if not one_to_one or tuple(image.shape[1 + axis] for axis in axes) != shape:
        raise Unsupported(
            f"its grid {list(shape)} is not the scan's {list(image.shape[1:])}",
            path=template,
            remedy=remedy,
        )
    flips = [int(axis) for number, axis in enumerate(axes) if signed[axis, number] < 0]
    turned = torch.flip(torch.as_tensor(image).as_subclass(torch.Tensor)[0], flips)
    turned = turned.permute(*(int(axis) for axis in axes))[None]
    start = np.array([image.shape[1 + axis] - 1 if axis in flips else 0 for axis in range(3)])
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in shape])).reshape(3, -1)
    mine = own[:3, :3] @ (signed @ corners + start[:, None]) + own[:3, 3:]
    theirs = affine[:3, :3] @ corners + affine[:3, 3:]
    apart = float(np.linalg.norm(mine - theirs, axis=0).max())
    if apart > SAME_GRID:
        raise Unsupported(
            f"its grid is not the scan's: voxels are up to {apart:.3g} mm apart",
            path=template,
            remedy=remedy,
        )
    return turned
