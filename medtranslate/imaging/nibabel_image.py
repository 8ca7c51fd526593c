"""nibabel images to ``MetaTensor`` and back, for those who hold a scan in memory."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from medtranslate.errors import Unsupported
from medtranslate.imaging import nifti_header
from medtranslate.imaging.base import settled
from medtranslate.imaging.guess_modality import guess_volume, labelled
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
from medtranslate.imaging.voxels import to_float32, to_integers

_IN_MEMORY = Path("nibabel image")


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
    """
    if not isinstance(image, nib.Nifti1Image):
        raise Unsupported(f"{type(image).__name__} is no NIfTI image of nibabel", path=_IN_MEMORY)
    name = image.get_filename()
    path = Path(name or _IN_MEMORY)
    check_affine(image.affine, path)
    # A new image brings header and affine into agreement without touching the caller's.
    header = type(image)(image.dataobj, image.affine, image.header.copy()).header
    faults = nifti_header.judge(header, path)
    shape = check_shape(image.shape, path)
    numbers = image.get_fdata(caching="unchanged", dtype=np.float32).reshape(shape, order="F")
    voxels = to_float32(numbers, 1.0, 0.0, path)
    found, basis = labelled(nifti_header.description(header)) or guess_volume(voxels)
    source = make_source(
        format="nifti",
        kind="volume",
        files=[name] if name else [],
        modality=found,
        modality_basis=basis,
        shape=shape,
        affine=nifti_header.affine_mm(header),
        dtype=header.get_data_dtype(),
        faults=faults,
        header=nifti_header.packed(header),
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
    """
    source, synthesis = check_source(image), synthesis_of(image)
    header = derived_header(source, synthesis)
    voxels = image.as_tensor()[0].detach().cpu().numpy()
    stored = to_integers(voxels, synthesis["dtype"], _IN_MEMORY)
    header.set_data_dtype(stored.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    numbers = stored.reshape(header.get_data_shape(), order="F")
    return kind(numbers, header.get_best_affine(), header)
