"""Which format a file is of, and what lies in a file, a folder or a zip, from headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from medtranslate.errors import MedTranslateError, Unreadable
from medtranslate.files import check_present
from medtranslate.imaging import archive, dicom, image2d, itk, nifti
from medtranslate.imaging.base import Finding, unforeseen_named
from medtranslate.imaging.contrast import of_name
from medtranslate.imaging.folder import looks_like_dicom, walk
from medtranslate.imaging.guess_modality import labeled
from medtranslate.imaging.image2d import look_at, natural_key
from medtranslate.imaging.itk import label_of, tagged_modality
from medtranslate.imaging.source import check_shape
from medtranslate.imaging.text_headers import companion, read_text_header

_UNTOLD = ("", "")
"""Modality, or contrast, and basis of what the voxels alone can tell."""


def survey(path: str | PathLike[str]) -> list[Finding]:
    """Say what scans lie at a path, without reading their voxels.

    Parameters
    ----------
    path : path
        A file, a folder (nested, mixed) or a zip.

    Returns
    -------
    list of Finding
        One a scan: each DICOM series, each volume file, each image. What cannot be read is a
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
    contents = list_folder(folder)
    found = dicom.find_series(folder) if contents.dicom else []
    images = [file for files in contents.images.values() for file in files]
    single = [*contents.volumes, *images, *contents.zips, *contents.strangers]
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
            found = dicom.find_series(path)
            return found or [Finding(str(path), error="not a DICOM file")]
        if format in _LOOKS:
            with unforeseen_named(path):
                return [_LOOKS[format](path)]
    except MedTranslateError as error:
        return [Finding(str(path), error=error.fault)]
    return [Finding(str(path), error=stranger(path).fault)]


def is_synthetic(found: Iterable[Finding]) -> bool:
    """Say whether all scans among findings are results of a translation, by their headers."""
    return all(one.synthetic for one in found if one.kind)


def _survey_zip(path: Path) -> list[Finding]:
    with archive.unpacked(path) as folder:
        found = _survey_folder(folder)
        return [replace(one, path=archive.member_name(path, folder, one.path)) for one in found]


def _look_at_nifti(path: Path) -> Finding:
    header = nifti.read_header(path)
    faults = nifti.judge(header, path)
    description = nifti.description(header)
    modality, basis = labeled(description) or _UNTOLD
    contrast, by = of_name(path) if modality != "CT" else _UNTOLD
    return Finding(
        str(path),
        format="nifti",
        kind="volume",
        modality=modality,
        modality_basis=basis,
        contrast=contrast,
        contrast_basis=by,
        description=description,
        shape=check_shape(header.get_data_shape(), path),
        spacing=_spacing(nifti.affine_mm(header)),
        faults=tuple(faults),
    )


def _look_at_itk(path: Path) -> Finding:
    header = read_text_header(path)
    modality, basis = tagged_modality(header) or _UNTOLD
    contrast, by = of_name(path) if modality != "CT" else _UNTOLD
    return Finding(
        str(path),
        format=header.format,
        kind="volume",
        modality=modality,
        modality_basis=basis,
        contrast=contrast,
        contrast_basis=by,
        description=label_of(header),
        shape=header.shape,
        spacing=_spacing(header.affine),
        faults=tuple(header.faults),
    )


def _look_at_image(path: Path) -> Finding:
    found = look_at(path)
    modality, basis = labeled(found.description) or _UNTOLD
    contrast, by = of_name(path) if modality != "CT" else _UNTOLD
    return Finding(
        str(path),
        format="image",
        kind="image",
        modality=modality,
        modality_basis=basis,
        contrast=contrast,
        contrast_basis=by,
        description=found.description,
        shape=(*check_shape((*found.size, 1), path)[:2], found.count),
    )


_LOOKS: dict[str, Callable[[Path], Finding]] = {
    "nifti": _look_at_nifti,
    "itk": _look_at_itk,
    "image": _look_at_image,
}


def _spacing(affine: np.ndarray) -> tuple[float, ...]:
    return tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))


NOT_SCANS = frozenset(
    {
        *(".txt", ".md", ".pdf", ".html", ".htm", ".log"),
        *(
            ".json",
            ".csv",
            ".tsv",
            ".parquet",
            ".xml",
            ".yaml",
            ".yml",
            ".ini",
            ".toml",
            ".bval",
            ".bvec",
        ),
        *(".sh", ".py", ".ipynb", ".bat", ".ps1", ".md5", ".sha256"),
    }
)
"""Suffixes of files beside scans that are none, so that they are no fault of a folder."""

_NOT_SCANS_BY_NAME = frozenset(
    {
        *("readme", "changes", "license", "licence", "copying", "authors", "notice", "citation"),
        *("makefile", "dockerfile", "snakefile", "md5sums", "sha256sums"),
    }
)
"""Files without a suffix that lie beside scans; BIDS asks for the first ones."""

_SUFFIXES = {
    **dict.fromkeys(nifti.SUFFIXES, "nifti"),
    **dict.fromkeys(itk.SUFFIXES, "itk"),
    **dict.fromkeys(image2d.SUFFIXES, "image"),
    **dict.fromkeys((".dcm", ".ima"), "dicom"),
    archive.SUFFIX: "zip",
}
SUFFIXES = tuple(_SUFFIXES)
"""Suffixes of the formats that are read, and of zips."""

_MAGICS = {
    b"\x1f\x8b": "nifti",
    b"\x89PNG": "image",
    b"\xff\xd8\xff": "image",
    b"II*\0": "image",
    b"MM\0*": "image",
    b"NRRD": "itk",
    b"PK\x03\x04": "zip",
    (348).to_bytes(4, "little"): "nifti",
    (348).to_bytes(4, "big"): "nifti",
    (540).to_bytes(4, "little"): "nifti",
    (540).to_bytes(4, "big"): "nifti",
}


@dataclass
class FolderContents:
    """What lies in a folder, by kind of reader.

    Parameters
    ----------
    dicom : list of Path
        DICOM files, of however many series.
    volumes : list of Path
        NIfTI, MetaImage and NRRD files, one scan each.
    images : dict
        2D images by the folder that they lie in directly; a folder of them is a stack.
    zips : list of Path
        Zips.
    strangers : list of Path
        Files of no known format.
    """

    dicom: list[Path] = field(default_factory=list)
    volumes: list[Path] = field(default_factory=list)
    images: dict[Path, list[Path]] = field(default_factory=lambda: defaultdict(list))
    zips: list[Path] = field(default_factory=list)
    strangers: list[Path] = field(default_factory=list)


def format_of(path: Path) -> str:
    """Name the reader of a file: by its suffix if that is known, else by its first bytes.

    Returns
    -------
    str
        ``"nifti"``, ``"itk"``, ``"image"``, ``"dicom"``, ``"zip"``, or ``""`` for a stranger.
    """
    name = path.name.lower()
    by_name = [kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)]
    if by_name:
        return by_name[0]
    if looks_like_dicom(path) or name == "dicomdir":
        return "dicom"
    with path.open("rb") as file:
        start = file.read(16)
    for magic, kind in _MAGICS.items():
        if start.startswith(magic):
            return kind
    return "itk" if start.startswith((b"ObjectType", b"NDims")) else ""


def stranger(path: Path) -> Unreadable:
    """Say what a file of no known format is, and what to do with it."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return Unreadable("the file is empty", path=path)
    for offset, magic, what, remedy in _STRANGERS:
        if start[offset : offset + len(magic)] == magic:
            return Unreadable(f"{what}, which is not read", path=path, remedy=remedy)
    if path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists():
        return Unreadable("the voxels of a pair of files", path=path, remedy="use .nii")
    return Unreadable(
        "of no known format",
        path=path,
        remedy="NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG, TIFF or a zip of them",
    )


_STRANGERS = (
    (0, b"BZh", "packed by bzip2", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ\0", "packed by xz", "unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "packed by Zstandard", "unpack it with unzstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, or make a zip"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "unpack it, or make a zip"),
    (257, b"ustar", "a tar archive", "unpack it, or make a zip"),
    (0, b"\0\0\0\1\0\0", "a volume of FreeSurfer (MGH)", "mri_convert makes a .nii.gz of it"),
    (0, b"\x89HDF\r\n", "an HDF5 file (MINC 2 is one)", "mnc2nii makes a .nii of MINC"),
    (0, b"CDF\x01", "a NetCDF file (MINC 1 is one)", "mnc2nii makes a .nii of MINC"),
    (0, b"GIF8", "a GIF image", "save it as PNG"),
    (0, b"BM", "a BMP image", "save it as PNG"),
    (8, b"WEBP", "a WebP image", "save it as PNG"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image", "save it as PNG"),
    (0, b"%PDF-", "a PDF document", "give the scan itself"),
)
"""What is met instead of a scan: offset, first bytes, name, remedy."""


def list_folder(folder: Path) -> FolderContents:
    """Sort the files of a folder, nested ones included, hidden ones left out.

    Raises
    ------
    UntrustedInput
        Too many files, nested too deep, or a linked folder elsewhere.
    """
    contents = FolderContents()
    files = list(walk(folder))
    partners = _companions(files)
    for path in files:
        if path in partners:
            continue
        match format_of(path) if path.exists() else "":
            case "dicom":
                contents.dicom.append(path)
            case "nifti" | "itk":
                contents.volumes.append(path)
            case "image":
                contents.images[path.parent].append(path)
            case "zip":
                contents.zips.append(path)
            case _ if not _is_beside(path):
                contents.strangers.append(path)
    return contents


def _is_beside(path: Path) -> bool:
    """Tell whether a file of no known format is a note, a table or a script by its name."""
    return path.suffix.lower() in NOT_SCANS or path.name.lower() in _NOT_SCANS_BY_NAME


def _companions(files: Iterable[Path]) -> set[Path]:
    """Give the files that hold the voxels of a header beside them, and are no scans themselves."""
    partners = set()
    for path in files:
        if path.suffix.lower() in (".mhd", ".nhdr"):
            try:
                partners.add(companion(path))
            except MedTranslateError:
                continue  # the header's own reader says what is wrong with it
    return {partner for partner in partners if partner is not None}
