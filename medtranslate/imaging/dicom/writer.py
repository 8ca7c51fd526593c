"""A translated image to a folder with one DICOM instance a slice, whole or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path

from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from medtranslate.errors import OutputExists
from medtranslate.files import whole_folder
from medtranslate.imaging.base import ScanWriter
from medtranslate.imaging.dicom.carry import keep_bytes
from medtranslate.imaging.dicom.derive import derive, instance
from medtranslate.imaging.dicom.private import private_elements
from medtranslate.imaging.dicom.template import adopt_template
from medtranslate.imaging.source import check_source

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
        # Names that the source wrote in a broken way are kept, and told in the repairs.
        warnings.simplefilter("ignore")
        keep_bytes(dataset).file_meta = meta
        dcmwrite(path, dataset, enforce_file_format=True)


class DicomWriter(ScanWriter):
    """A MONAI writer of derived series: the name becomes a folder, also where it ends in .dcm."""

    def save(self, image: MetaTensor, path: Path, *, overwrite: bool = False) -> None:
        """Write an image of shape (1, X, Y, Z); see `write_series`."""
        write_series(image, path, overwrite=overwrite)
