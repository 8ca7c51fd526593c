"""Which format a file is of, and which scans a folder holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medtranslate.errors import MedTranslateError
from medtranslate.imaging import archive, image2d, itk, nifti
from medtranslate.imaging.dicom.files import looks_like_dicom, walk
from medtranslate.imaging.itk_header import companion

NOT_SCANS = frozenset(
    {
        *(".txt", ".md", ".pdf", ".html", ".htm", ".log"),
        *(".json", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".ini", ".toml", ".bval", ".bvec"),
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
    **dict.fromkeys(image2d.SUFFIXES, "picture"),
    **dict.fromkeys((".dcm", ".ima"), "dicom"),
    archive.SUFFIX: "zip",
}
SUFFIXES = tuple(_SUFFIXES)
"""Suffixes of the formats that are read, and of zips."""

_MAGICS = {
    b"\x1f\x8b": "nifti",
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"II*\0": "picture",
    b"MM\0*": "picture",
    b"NRRD": "itk",
    b"PK\x03\x04": "zip",
    (348).to_bytes(4, "little"): "nifti",
    (348).to_bytes(4, "big"): "nifti",
    (540).to_bytes(4, "little"): "nifti",
    (540).to_bytes(4, "big"): "nifti",
}


@dataclass
class Contents:
    """What lies in a folder, by kind of reader.

    Parameters
    ----------
    dicom : list of Path
        DICOM files, of however many series.
    volumes : list of Path
        NIfTI, MetaImage and NRRD files, one scan each.
    pictures : dict
        Pictures by the folder that they lie in directly; a folder of them is a stack.
    zips : list of Path
        Zips.
    strangers : list of Path
        Files of no known format.
    """

    dicom: list[Path] = field(default_factory=list)
    volumes: list[Path] = field(default_factory=list)
    pictures: dict[Path, list[Path]] = field(default_factory=lambda: defaultdict(list))
    zips: list[Path] = field(default_factory=list)
    strangers: list[Path] = field(default_factory=list)


def format_of(path: Path) -> str:
    """Name the reader of a file: by its suffix if that is known, else by its first bytes.

    Returns
    -------
    str
        ``"nifti"``, ``"itk"``, ``"picture"``, ``"dicom"``, ``"zip"``, or ``""`` for a stranger.
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


def look(folder: Path) -> Contents:
    """Sort the files of a folder, nested ones included, hidden ones left out.

    Raises
    ------
    UntrustedInput
        Too many files, nested too deep, or a link that leaves the folder.
    """
    contents = Contents()
    files = [path for path in walk(folder) if not _hidden(path, folder)]
    partners = _companions(files)
    for path in files:
        if path in partners:
            continue
        match format_of(path):
            case "dicom":
                contents.dicom.append(path)
            case "nifti" | "itk":
                contents.volumes.append(path)
            case "picture":
                contents.pictures[path.parent].append(path)
            case "zip":
                contents.zips.append(path)
            case _ if not _is_beside(path):
                contents.strangers.append(path)
    return contents


def _is_beside(path: Path) -> bool:
    """Tell whether a file of no known format is a note, a table or a script by its name."""
    return path.suffix.lower() in NOT_SCANS or path.name.lower() in _NOT_SCANS_BY_NAME


def _hidden(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in parts)


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
