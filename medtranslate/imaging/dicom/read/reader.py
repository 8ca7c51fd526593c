"""A DICOM series to one image: MONAI's reader, and what a folder holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtranslate.errors import MedTranslateError
from medtranslate.imaging.base import NO_SERIES, Finding, RefusingReader
from medtranslate.imaging.contrast import agreed
from medtranslate.imaging.dicom.attributes import carried, differ, to_text
from medtranslate.imaging.dicom.read.geometry import Stack
from medtranslate.imaging.dicom.read.grouping import (
    DicomContents,
    choose,
    describe,
    group_series,
    left_out,
    names,
    volume,
)
from medtranslate.imaging.dicom.read.headers import Header, Slice
from medtranslate.imaging.dicom.read.pixels import Voxels, decode
from medtranslate.imaging.folder import looks_like_dicom, walk
from medtranslate.imaging.source import Scan, make_source, pack_bits

MODALITY_BASIS = "DICOM (0008,0060)"


class DicomReader(RefusingReader):
    """A MONAI reader of one DICOM series: a folder, a list of files, or one multi-frame file.

    Voxels are float32 (X, Y, Z) = (columns, rows, slices by position along the normal), HU for
    CT and scanner units for MR. The affine (RAS mm) is that of positions and orientation, shear
    of a tilted gantry included.

    Parameters
    ----------
    series : str
        SeriesInstanceUID to read; ``""`` where there is one series.
    modality : str
        ``"CT"`` or ``"MR"`` where the caller settles it.

    Examples
    --------
    >>> from pydicom import examples
    >>> scan = DicomReader().read(examples.get_path("ct"))
    >>> scan.voxels.shape, scan.source["modality"]
    ((128, 128, 1), 'CT')
    """

    suffixes = (".dcm", ".ima", "")

    def __init__(self, series: str = "", modality: str = "") -> None:
        super().__init__(modality)
        self.series = series

    def load(self, paths: tuple[Path, ...], series: str = "") -> Scan:
        """Read one series.

        Parameters
        ----------
        paths : tuple of path
            A folder, or the files of one series.
        series : str
            SeriesInstanceUID; that of the constructor where it is empty.

        Raises
        ------
        AmbiguousInput
            There are several series.
        Unreadable, Unsupported, UntrustedInput
            The fault, the files and the remedy are in the message.
        """
        wanted = series or self.series
        contents = self._contents(paths, wanted)
        headers = choose(contents, wanted)
        stacked = volume(headers)
        voxels = decode(stacked.slices, headers[0].modality)
        return Scan(voxels.values, source_of(contents, headers, stacked, voxels))

    def _contents(self, paths: tuple[Path, ...], series: str) -> DicomContents:
        return group_series(paths)


class FolderReader(DicomReader):
    """A reader of one series of a folder after another, which reads each header once.

    What the folder read last holds is kept, and read anew where a file of the series has changed.

    Examples
    --------
    >>> from pydicom import examples
    >>> reader, path = FolderReader(), examples.get_path("ct")
    >>> [reader.read(path).voxels.shape for _ in range(2)]
    [(128, 128, 1), (128, 128, 1)]
    """

    def __init__(self) -> None:
        super().__init__()
        self._paths: tuple[Path, ...] = ()
        self._held = DicomContents(Path(), {}, [], [], [])
        self._stamps: dict[Path, tuple[int, ...]] = {}

    def _contents(self, paths: tuple[Path, ...], series: str) -> DicomContents:
        if paths != self._paths or not self._unchanged(series):
            self._paths, self._held = paths, group_series(paths)
            every = (header for headers in self._held.series.values() for header in headers)
            self._stamps = {header.path: _stamp(header.path) for header in every}
        return self._held

    def _unchanged(self, series: str) -> bool:
        headers = self._held.series.get(series, ())
        return bool(headers) and all(
            _stamp(header.path) == self._stamps[header.path] for header in headers
        )


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another at its place, or from itself after a change."""
    try:
        found = path.stat()
    except OSError:  # it is gone, which reading it will say
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def source_of(
    contents: DicomContents, headers: Sequence[Header], stacked: Stack, voxels: Voxels | None
) -> dict[str, Any]:
    """Build ``meta["source"]`` of a volume.

    Parameters
    ----------
    contents : DicomContents
        Where it was found, for what was left out.
    headers : sequence of Header
        Its files.
    stacked : Stack
        Its slices in order.
    voxels : Voxels or None
        Its pixels; None where only headers are asked for.
    """
    encoding = stacked.slices[0].encoding
    lowest = next(header for header in headers if header.path == stacked.slices[0].path)
    packed, damaged = carried(lowest.kept, lowest.path)
    faults = [*stacked.notes, *left_out(contents, headers), *_remarks(headers, voxels)]
    faults += [f"{keyword} is damaged and is not carried" for keyword in damaged]
    return make_source(
        format="dicom",
        kind="volume",
        shape=stacked.shape,
        affine=stacked.affine,
        dtype=f"{'int' if encoding.signed else 'uint'}{encoding.allocated}",
        files=[one.path for one in stacked.slices],
        modality=headers[0].modality,
        modality_basis=MODALITY_BASIS,
        contrast=agreed(header.contrast for header in headers),
        faults=faults,
        even=stacked.even,
        header=header_of(lowest, packed, stacked, voxels),
    )


def _remarks(headers: Sequence[Header], voxels: Voxels | None) -> list[str]:
    remarks = []
    if any(header.synthetic for header in headers):
        remarks.append("the source says that it is synthetic itself (SyntheticData is YES)")
    odd = [header.path.name for header in headers if differ(header.kept, headers[0].kept)]
    if odd:
        remarks.append(f"attributes of patient, study or series differ in {names(odd)}")
    if voxels is not None:
        count = sum(int(mask.sum()) for mask in voxels.masks if mask is not None)
        if count:
            remarks.append(f"{count} voxels were not imaged (padding): taken as air or background")
    return remarks


def header_of(
    lowest: Header, packed: bytes, stacked: Stack, voxels: Voxels | None
) -> dict[str, Any]:
    """Build ``meta["source"]["header"]``: what the writer of a derived series needs.

    Keys: ``study``, ``series``, ``sop_class``, ``tilt`` (degrees), ``shared`` (base64 of the
    series' attributes, see `carry`) and ``slices``, for each: ``instance``, ``frame`` (0 for a
    single-frame file), ``position`` (mm, LPS), ``attributes`` (strings), ``transfer_syntax``,
    ``ratio`` (of compression) and ``padding`` (packed mask of what was not imaged, or ``""``).
    """
    masks = voxels.masks if voxels is not None else (None,) * len(stacked.slices)
    return {
        "study": lowest.study,
        "series": lowest.series,
        "sop_class": lowest.sop_class,
        "description": lowest.description,
        "tilt": stacked.tilt,
        "shared": to_text(packed),
        "slices": [
            _slice_record(one, mask) for one, mask in zip(stacked.slices, masks, strict=True)
        ],
    }


def _slice_record(one: Slice, mask: np.ndarray | None) -> dict[str, Any]:
    return {
        "instance": one.instance,
        "frame": one.frame,
        "position": [float(number) for number in one.position],
        "attributes": dict(one.attributes),
        "transfer_syntax": one.encoding.transfer_syntax,
        "ratio": f"{one.encoding.ratio:.2f}",
        "padding": "" if mask is None else pack_bits(mask),
    }


def is_dicom(path: str | Path) -> bool:
    """Say whether a file is DICOM, or a folder holds at least one such file."""
    path = Path(path)
    if path.is_dir():
        try:
            return any(looks_like_dicom(file) for file in walk(path))
        except MedTranslateError:
            return False
    return looks_like_dicom(path)


def find_series(path: str | Path) -> list[Finding]:
    """Say what DICOM lies in a file or folder, from headers alone.

    One finding a series, readable or not, one for each object that is no series of slices and one
    for each damaged DICOM file. Files that are not DICOM have none.

    Raises
    ------
    InputMissing, UntrustedInput
        The folder is missing or breaks a limit.
    """
    path = Path(path)
    contents = group_series([path])
    found = [_series_finding(contents, headers) for headers in contents.series.values()]
    for header in contents.others:
        found.append(
            Finding(
                path=str(header.path),
                format="dicom",
                modality="",
                series=header.series,
                description=header.description,
                error=f"is {describe(header)}, {NO_SERIES}",
            )
        )
    for error in contents.broken:
        if looks_like_dicom(Path(error.path or path)):
            found.append(Finding(path=str(error.path), format="dicom", error=error.fault))
    return found


def _home(headers: Sequence[Header]) -> str:
    files = {header.path for header in headers}
    if len(files) == 1:
        return str(files.pop())
    return os.path.commonpath({file.parent for file in files})


def _series_finding(contents: DicomContents, headers: list[Header]) -> Finding:
    contrast, contrast_basis = agreed(header.contrast for header in headers)
    common: dict[str, Any] = {
        "path": str(contents.place),
        "format": "dicom",
        "kind": "volume",
        "modality": headers[0].modality if headers[0].modality in ("CT", "MR") else "",
        "modality_basis": MODALITY_BASIS,
        "contrast": contrast,
        "contrast_basis": contrast_basis,
        "series": headers[0].series,
        "description": headers[0].description,
        "home": _home(headers),
    }
    try:
        stacked = volume(headers)
    except MedTranslateError as error:
        return Finding(**common, error=str(error))
    spacing = tuple(float(length) for length in np.linalg.norm(stacked.affine[:3, :3], axis=0))
    copies = [copy for copy in contents.copies if copy.series == headers[0].series]
    alone = DicomContents(contents.place, {headers[0].series: headers}, [], copies, [])
    return Finding(
        **common,
        shape=stacked.shape,
        spacing=spacing,
        faults=(*stacked.notes, *left_out(alone, headers), *_remarks(headers, None)),
    )
