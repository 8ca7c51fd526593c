"""nibabel images to ``MetaTensor`` and back, for those who hold a scan in memory."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from medtranslate.imaging import nifti_header
from medtranslate.imaging.modality import guess_volume
from medtranslate.imaging.nifti import derived_header
from medtranslate.imaging.source import Scan, make_source, synthesis_of
from medtranslate.imaging.voxels import to_integers

_IN_MEMORY = Path("nibabel image")


def from_nibabel(image: nib.Nifti1Image, *, modality: str = "") -> MetaTensor:
    """Take a nibabel NIfTI image: float32 (1, X, Y, Z), affine in RAS mm.

    Parameters
    ----------
    image : nibabel.Nifti1Image or Nifti2Image
        One volume.
    modality : str
        ``"CT"`` or ``"MR"`` settles it; ``""`` leaves it to a guess.

    Raises
    ------
    Unsupported
        As for a NIfTI file: several volumes, NaN or infinite voxels, an affine that places nothing.
    """
    header = image.header.copy()
    name = image.get_filename()
    path = Path(name or _IN_MEMORY)
    faults = nifti_header.judge(header, path)
    voxels = np.array(image.dataobj, dtype=np.float32, order="F", copy=None)
    voxels = voxels.reshape((*voxels.shape, 1, 1)[:3], order="F")
    guess, basis = guess_volume(voxels)
    source = make_source(
        format="nifti",
        kind="volume",
        files=[name] if name else [],
        modality=modality or guess,
        modality_basis="given" if modality else basis,
        shape=voxels.shape,
        affine=nifti_header.affine_mm(header),
        dtype=image.get_data_dtype(),
        faults=faults,
        header=nifti_header.packed(header),
    )
    return Scan(voxels, source).image()


def to_nibabel(image: MetaTensor) -> nib.Nifti1Image:
    """Give a translated image back as nibabel knows it, with the label in its header.

    Parameters
    ----------
    image : MetaTensor (1, X, Y, Z)
        With ``meta["synthesis"]``, from a NIfTI source.

    Returns
    -------
    nibabel.Nifti1Image or Nifti2Image
        int16, both transform codes and the affine of the source.
    """
    synthesis = synthesis_of(image)
    header = derived_header(image.meta["source"], synthesis)
    stored = to_integers(image.as_tensor()[0].numpy(), synthesis["dtype"], _IN_MEMORY)
    header.set_data_dtype(stored.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(stored, header.get_best_affine(), header)
