"""Images held in memory: nibabel, SimpleITK, numpy and pydicom to ``MetaTensor``.

Each is read as if it came from a file: the same checks, the same voxels and the same metadata.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import ArrayLike

from medtranslate.errors import InvalidOption, MedTranslateError, Unsupported
from medtranslate.files import temporary_folder
from medtranslate.imaging import dicom, nifti
from medtranslate.imaging.base import settled, to_float32, to_integers
from medtranslate.imaging.contrast import of_name
from medtranslate.imaging.guess_modality import guess_volume, labeled
from medtranslate.imaging.io import read
from medtranslate.imaging.itk import LABEL_KEY
from medtranslate.imaging.nifti import derived_header
from medtranslate.imaging.source import (
    Scan,
    check_affine,
    check_modality,
    check_shape,
    check_source,
    make_source,
    synthesis_of,
)
from medtranslate.imaging.text_fields import affine_ras

if TYPE_CHECKING:
    import pydicom
    import SimpleITK as sitk

TensorScan: TypeAlias = (
    "str | PathLike[str] | MetaTensor | sitk.Image | np.ndarray | torch.Tensor"
    " | Sequence[pydicom.Dataset]"
)
"""What `as_image` takes beside nibabel's images."""

ScanLike: TypeAlias = "TensorScan | nib.Nifti1Image"
"""What `as_image` takes."""

_NIBABEL = Path("nibabel image")


def as_image(image: ScanLike, *, affine: ArrayLike | None = None, modality: str = "") -> MetaTensor:
    """Return whatever holds one scan as the image that medtranslate works on.

    Parameters
    ----------
    image : path, MetaTensor, nibabel image, SimpleITK image, array or list of pydicom datasets
        A path is read by `medtranslate.read`. A MetaTensor (1, X, Y, Z) is returned as it is.
        A SimpleITK image is a volume in LPS mm. A numpy array or tensor, (X, Y, Z) or
        (1, X, Y, Z), needs an `affine`. Datasets with pixel data are the slices of one series.
    affine : array-like (4, 4), optional
        Of an array: voxel to world, RAS mm.
    modality : str
        ``"CT"`` or ``"MR"`` settles it; ``""`` leaves it to DICOM's tag or a guess.

    Returns
    -------
    MetaTensor (1, X, Y, Z)
        Float32 in physical units, affine in RAS mm, with ``meta["source"]``.

    Raises
    ------
    InvalidOption
        An array comes without an affine, or anything else with one.
    TypeError
        The object holds no scan.
    MedTranslateError
        As for a file: several volumes, NaN or infinite voxels, an affine that places nothing.

    Examples
    --------
    >>> import numpy as np
    >>> image = as_image(np.zeros((8, 9, 4)), affine=np.diag([1, 1, 3, 1]), modality="CT")
    >>> image.shape, image.meta["source"]["modality"]
    (torch.Size([1, 8, 9, 4]), 'CT')
    """
    if isinstance(image, np.ndarray | torch.Tensor) and not isinstance(image, MetaTensor):
        if affine is None:
            raise InvalidOption("an array does not say where it lies: give its affine (RAS mm)")
        return _from_array(image, affine, modality)
    if affine is not None:
        raise InvalidOption(f"affine is for arrays, and {type(image).__name__} has its own")
    if isinstance(image, str | PathLike):
        return read(image, modality=modality)
    if isinstance(image, MetaTensor):
        if image.ndim != 4 or len(image) != 1 or not image.numel():
            raise Unsupported(f"shape {list(image.shape)} is no single scan of shape (1, X, Y, Z)")
        return image
    if isinstance(image, nib.Nifti1Image):
        return from_nibabel(image, modality=modality)
    if _is_of(image, "SimpleITK", "Image"):
        return _from_sitk(cast("sitk.Image", image), modality)
    datasets = isinstance(image, Sequence) and len(image) > 0
    if datasets and all(_is_of(one, "pydicom", "Dataset") for one in image):
        return _from_datasets(cast("Sequence[pydicom.Dataset]", image), modality)
    held = "a path, MetaTensor, nibabel or SimpleITK image, array or list of pydicom datasets"
    raise TypeError(f"{type(image).__name__} is no scan; give {held}")


def _is_of(candidate: Any, library: str, name: str) -> bool:
    """Say whether an object is of a library's class, which only an imported library can make."""
    module = sys.modules.get(library)
    return module is not None and isinstance(candidate, getattr(module, name))


def _from_array(array: np.ndarray | torch.Tensor, affine: ArrayLike, modality: str) -> MetaTensor:
    stored = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
    if stored.ndim == 4 and len(stored) == 1:
        stored = stored[0]
    placed = np.asarray(affine, dtype=np.float64)
    if placed.shape != (4, 4):
        raise InvalidOption(f"affine must be 4x4, got {'x'.join(map(str, placed.shape))}")
    return _volume(stored, placed, ("", ""), modality, "array")


def _from_sitk(image: sitk.Image, modality: str) -> MetaTensor:
    import SimpleITK as sitk

    path = Path("SimpleITK image")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise Unsupported("voxels with several or complex components are no scan", path=path)
    label = image.GetMetaData(LABEL_KEY) if image.HasMetaDataKey(LABEL_KEY) else ""
    affine = affine_ras(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    stated = labeled(label) or ("", "")
    return _volume(sitk.GetArrayFromImage(image).T, affine, stated, modality, str(path))


def _volume(
    stored: np.ndarray, affine: np.ndarray, stated: tuple[str, str], modality: str, name: str
) -> MetaTensor:
    """Check voxels and affine as those of a file, and find out the modality."""
    path = Path(name)
    if not (np.issubdtype(stored.dtype, np.number) and not np.iscomplexobj(stored)):
        raise Unsupported(f"voxels of type {stored.dtype} are no scan", path=path)
    placed, shape = check_affine(affine, path), check_shape(stored.shape, path)
    voxels = to_float32(stored.reshape(shape), 1.0, 0.0, path)
    found, basis = stated if stated[0] else guess_volume(voxels)
    source = make_source(
        format="array",
        kind="volume",
        shape=shape,
        affine=placed,
        dtype=stored.dtype,
        modality=found,
        modality_basis=basis,
    )
    # A copy, so that the caller's array and the image do not change each other.
    return settled(Scan(voxels.copy(), source), check_modality(modality)).image()


def _from_datasets(datasets: Sequence[pydicom.Dataset], modality: str) -> MetaTensor:
    """Read a series as from its files, which it is written to for as long as that takes."""
    with temporary_folder() as folder:
        origins: dict[str, str] = {}
        for number, dataset in enumerate(datasets):
            path = folder / f"{number:06}.dcm"
            origins[str(path)] = str(getattr(dataset, "filename", None) or "")
            _write_dataset(dataset, path, number)
        try:
            scan = dicom.DicomReader().load((folder,))
        except MedTranslateError as error:
            fault = error.fault.replace(f"{folder}/", "")
            raise type(error)(fault, path="pydicom datasets", remedy=error.remedy) from error
        files = [origins.get(file, "") for file in scan.source["files"]]
        # Files that are not all known are none: a writer must not take some for the series.
        source = {**dict(scan.source), "files": files if all(files) else []}
        return settled(Scan(scan.voxels, source), check_modality(modality)).image()


def _write_dataset(dataset: pydicom.Dataset, path: Path, number: int) -> None:
    import pydicom

    whole = copy.copy(dataset)
    if "TransferSyntaxUID" not in getattr(whole, "file_meta", {}):
        whole.file_meta = pydicom.dataset.FileMetaDataset()
        whole.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    try:
        pydicom.dcmwrite(path, whole, enforce_file_format=True)
    except Exception as error:  # pydicom raises whatever a damaged data set leads it to
        fault = f"number {number} cannot be encoded: {error}"
        raise Unsupported(fault, path="pydicom datasets") from error


def from_nibabel(image: nib.Nifti1Image, *, modality: str = "") -> MetaTensor:
    """Take over an image that the caller holds in nibabel, as if it were read from a file.

    Parameters
    ----------
    image : nibabel.Nifti1Image or nibabel.Nifti2Image
        One volume; it is not changed.
    modality : str
        ``"CT"`` or ``"MR"`` settles it; ``""`` leaves it to a guess.

    Returns
    -------
    MetaTensor
        Float32 of shape (1, X, Y, Z), affine in RAS mm.

    Raises
    ------
    Unsupported, Unreadable, UntrustedInput
        As for a NIfTI file: several volumes, NaN or infinite voxels, an affine that places nothing.

    Examples
    --------
    >>> held = nib.Nifti1Image(np.zeros((8, 9, 4), dtype=np.int16), np.diag([1, 1, 3, 1]))
    >>> image = from_nibabel(held, modality="MR")
    >>> image.shape, image.meta["source"]["modality"]
    (torch.Size([1, 8, 9, 4]), 'MR')
    """
    if not isinstance(image, nib.Nifti1Image):
        raise Unsupported(f"{type(image).__name__} is no NIfTI image of nibabel", path=_NIBABEL)
    name = image.get_filename()
    path = Path(name or _NIBABEL)
    check_affine(image.affine, path)
    # A new image brings header and affine into agreement without touching the caller's.
    header = type(image)(image.dataobj, image.affine, image.header.copy()).header
    faults = nifti.judge(header, path)
    shape = check_shape(image.shape, path)
    numbers = image.get_fdata(caching="unchanged", dtype=np.float32).reshape(shape, order="F")
    voxels = to_float32(numbers, 1.0, 0.0, path)
    found, basis = labeled(nifti.description(header)) or guess_volume(voxels)
    source = make_source(
        format="nifti",
        kind="volume",
        files=[name] if name else [],
        modality=found,
        modality_basis=basis,
        contrast=of_name(name) if name else ("", ""),
        shape=shape,
        affine=nifti.affine_mm(header),
        dtype=header.get_data_dtype(),
        faults=faults,
        header=nifti.packed(header),
    )
    return settled(Scan(voxels, source), check_modality(modality)).image()


def to_nibabel(image: MetaTensor) -> nib.Nifti1Image:
    """Give a translated image back as nibabel knows it, with the label in its header.

    Parameters
    ----------
    image : MetaTensor
        Shape (1, X, Y, Z), with ``meta["synthesis"]``.

    Returns
    -------
    nibabel.Nifti1Image or nibabel.Nifti2Image
        In ``synthesis["dtype"]`` (int16), with both transform codes and the affine of the source.

    Raises
    ------
    Unsupported
        The image no longer agrees with its source, or values do not fit.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> from medtranslate.translation import Translator
    >>> head = Phantom((32, 40, 1), (6.0, 6.0, 5.0)).volume()
    >>> result = Translator.load(device="cpu").translate(head, to="mri", force=True)
    >>> to_nibabel(result).shape
    (32, 40, 1)
    """
    source, synthesis = check_source(image), synthesis_of(image)
    header = derived_header(source, synthesis)
    voxels = image.as_tensor()[0].detach().cpu().numpy()
    stored = to_integers(voxels, synthesis["dtype"], _NIBABEL)
    header.set_data_dtype(stored.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    numbers = stored.reshape(header.get_data_shape(), order="F")
    return kind(numbers, header.get_best_affine(), header)
