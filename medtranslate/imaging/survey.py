"""What lies in a file, a folder or a zip: one finding a scan, from headers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from medtranslate.errors import MedTranslateError
from medtranslate.files import check_present
from medtranslate.imaging import archive, nifti_header
from medtranslate.imaging.contents import format_of, look
from medtranslate.imaging.dicom import find_series
from medtranslate.imaging.finding import Finding
from medtranslate.imaging.guess_modality import labelled
from medtranslate.imaging.image2d import described, natural_key, opened_picture
from medtranslate.imaging.itk import judge, label_of, open_header, tagged_modality
from medtranslate.imaging.source import check_shape

_UNTOLD = ("", "")
"""Modality and basis of what the voxels alone can tell."""


def survey(path: str | PathLike[str]) -> list[Finding]:
    """Say what scans lie at a path, without reading their voxels.

    Parameters
    ----------
    path : path
        A file, a folder (nested, mixed) or a zip.

    Returns
    -------
    list of Finding
        One a scan: each DICOM series, each volume file, each picture. What cannot be read is a
        finding with an `error`. In DICOM and of a translated image the modality is known;
        elsewhere it takes the voxels, and `read` guesses it.

    Raises
    ------
    InputMissing
        There is nothing at the path, or no permission.
    UntrustedInput
        A folder or zip breaks a limit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate import survey, write
    >>> from medtranslate.phantom import Phantom
    >>> head = Phantom(shape=(64, 64, 2), spacing=(3.0, 3.0, 20.0)).volume()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(head, Path(folder) / "head.nii.gz")
    ...     [(found.kind, found.shape) for found in survey(folder)]
    [('volume', (64, 64, 2))]
    """
    path = Path(path)
    check_present(path)
    if path.is_dir():
        return _survey_folder(path)
    return _survey_file(path)


def _survey_folder(folder: Path) -> list[Finding]:
    contents = look(folder)
    found = find_series(folder) if contents.dicom else []
    pictures = [file for files in contents.pictures.values() for file in files]
    single = [*contents.volumes, *pictures, *contents.zips, *contents.strangers]
    for file in sorted(single, key=lambda file: (str(file.parent), natural_key(file))):
        found.extend(_survey_file(file))
    return found


def _survey_file(path: Path) -> list[Finding]:
    try:
        check_present(path)
        format = format_of(path)
        if format == "zip":
            return _survey_zip(path)
        if format == "dicom":
            found = find_series(path)
            return found or [Finding(str(path), error="not a DICOM file")]
        if format in _LOOKS:
            return [_LOOKS[format](path)]
    except MedTranslateError as error:
        return [Finding(str(path), error=error.fault)]
    empty = path.stat().st_size == 0
    return [Finding(str(path), error="the file is empty" if empty else "of no known format")]


def _survey_zip(path: Path) -> list[Finding]:
    with archive.unpacked(path) as folder:
        found = _survey_folder(folder)
        return [replace(one, path=archive.member_name(path, folder, one.path)) for one in found]


def _look_at_nifti(path: Path) -> Finding:
    header = nifti_header.read_header(path)
    faults = nifti_header.judge(header, path)
    description = nifti_header.description(header)
    modality, basis = labelled(description) or _UNTOLD
    return Finding(
        str(path),
        format="nifti",
        kind="volume",
        modality=modality,
        modality_basis=basis,
        description=description,
        shape=check_shape(header.get_data_shape(), path),
        spacing=_spacing(nifti_header.affine_mm(header)),
        faults=tuple(faults),
    )


def _look_at_itk(path: Path) -> Finding:
    header, reader = open_header(path)
    shape, affine, faults = judge(reader, path)
    modality, basis = tagged_modality(reader) or _UNTOLD
    return Finding(
        str(path),
        format=header.format,
        kind="volume",
        modality=modality,
        modality_basis=basis,
        description=label_of(reader),
        shape=shape,
        spacing=_spacing(affine),
        faults=tuple(faults),
    )


def _look_at_picture(path: Path) -> Finding:
    with opened_picture(path) as picture:
        shape = (picture.width, picture.height, getattr(picture, "n_frames", 1))
        description = described(picture)
    modality, basis = labelled(description) or _UNTOLD
    return Finding(
        str(path),
        format="picture",
        kind="picture",
        modality=modality,
        modality_basis=basis,
        description=description,
        shape=check_shape((*shape[:2], 1), path)[:2] + shape[2:],
    )


_LOOKS: dict[str, Callable[[Path], Finding]] = {
    "nifti": _look_at_nifti,
    "itk": _look_at_itk,
    "picture": _look_at_picture,
}


def _spacing(affine: np.ndarray) -> tuple[float, ...]:
    return tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
