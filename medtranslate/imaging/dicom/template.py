"""A scan from another format that borrows the headers of the DICOM series it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medtranslate.errors import Unsupported, WrongModality
from medtranslate.imaging.dicom.grouping import choose, look, volume
from medtranslate.imaging.dicom.reader import source_of
from medtranslate.imaging.source import SourceRecord

SAME_GRID = 1e-2
"""Farthest that a voxel centre may be from the template's, mm."""


def adopt_template(image: MetaTensor, template: str | Path, series: str = "") -> MetaTensor:
    """Give a translated image the source of a DICOM series on the same grid.

    The grids are equal if their voxel centres are the same points; axes may be stored in another
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
    contents = look([template])
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
