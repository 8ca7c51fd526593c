"""The viewer of a result that exists: its scan and its maps are found from the result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from medtranslate import html
from medtranslate.errors import InputMissing, InvalidOption, Unsupported
from medtranslate.files import check_present, whole_file
from medtranslate.imaging import Finding, dicom, read_scan, survey
from medtranslate.imaging.source import Scan
from medtranslate.report.page import MEANINGS
from medtranslate.report.viewer import NO_LIBRARY, Voxels, embedded, library, scan_view

_SUFFIX = re.compile(r"\.(nii\.gz|nii|mha|nrrd|dcm)$", re.IGNORECASE)
_RESULT = re.compile(r"_(mri|ct)(_\d+)?$")
_MAP = re.compile(
    r"SYNTHETIC (expected error|cycle error|variation) in (HU|scanner units|arbitrary units)"
)
_MEANT = ("Expected error", "Cycle error", "Variation")
_LARGEST_REPORT = 2**26  # bytes
_MAPS = {
    "expected_error_map": "_expected_error",
    "error_map": "_error",
    "variation_map": "_variation",
}

_Path = str | PathLike[str]


@dataclass(frozen=True)
class Related:
    """Where a result comes from.

    Parameters
    ----------
    source : Path
        The scan.
    series : str
        SeriesInstanceUID of the scan, where its folder holds several; else ``""``.
    maps : tuple of Path
        Error maps.
    """

    source: Path
    series: str = ""
    maps: tuple[Path, ...] = ()


def write_view(
    result: _Path,
    output: _Path,
    *,
    source: _Path = "",
    maps: tuple[_Path, ...] = (),
    anonymous: bool = False,
    overwrite: bool = False,
) -> Related:
    """Write the viewer of a result as a page: the scan, the result and the maps, linked.

    Parameters
    ----------
    result : path
        A volume that `medtranslate.convert` wrote: a file, or the folder of a DICOM series.
    output : path
        The page to write, ``.html``.
    source : path
        The scan; by default it is found, as `related` describes.
    maps : tuple of paths
        Error maps; by default those beside the result.
    anonymous : bool
        Name no file in the page. Its volumes remain those of a head, which show a face.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Related
        What is shown beside the result.

    Raises
    ------
    InputMissing
        The scan is not found.
    InvalidOption
        `output` does not end in ``.html``, or this installation has no viewer.
    Unsupported
        It is a 2D image, no result of medtranslate, or lies on another grid than the scan.

    Examples
    --------
    >>> write_view("scan_mri.nii.gz", "page.html").source  # doctest: +SKIP
    PosixPath('scan.nii.gz')
    """
    result, output = Path(result), Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise InvalidOption(f"-o {output} is no name of a page", remedy="end it in .html")
    niivue = library()
    if niivue is None:
        raise InvalidOption(NO_LIBRARY.rstrip("."), remedy="install a wheel, or build with npm")
    finding = _looked_at(result)
    found = related(result, source=source, maps=maps)
    made = read_scan(result)
    scan = read_scan(found.source, series=found.series)
    _check_pair(made, scan, result, found.source)
    shown = scan_view(
        scan.voxels,
        made.voxels,
        scan.source["affine"],
        modality="MR" if made.source["modality"] == "CT" else "CT",
        maps=[_map(path, made, number) for number, path in enumerate(found.maps)],
    )
    files = [("Scan", found.source), ("Result", result), *(("Map", one) for one in found.maps)]
    text = html.render(
        "view",
        title="medtranslate: scan and result" if anonymous else f"medtranslate: {result.name}",
        label=finding.description or f"SYNTHETIC {made.source['modality']}, NOT FOR DIAGNOSIS",
        view=embedded(shown, "view-0"),
        files=[] if anonymous else [(name, str(path)) for name, path in files],
        meanings=[(name, MEANINGS[name]) for name in _MEANT if found.maps],
        niivue=niivue,
    )
    with whole_file(output, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return found


def related(result: Path, *, source: _Path = "", maps: tuple[_Path, ...] = ()) -> Related:
    """Find the scan of a result, and its maps.

    Looked into, in this order: JSON reports of medtranslate and BIDS sidecars beside the result;
    for DICOM, the series that its instances name, in the folder that holds the result; the names
    that `medtranslate.convert` gives, such as ``scan_mri.nii.gz`` for ``scan.nii.gz``.

    Parameters
    ----------
    result : Path
    source, maps
        What is known already.

    Raises
    ------
    InputMissing
        The scan is not found, or what is found is not there any more.
    """
    reported = next(_reported(result), None)
    beside = reported or Related(Path(), maps=())
    named = tuple(Path(one) for one in maps) or beside.maps or tuple(_maps_beside(result))
    for path in named:
        check_present(path)
    if source:
        check_present(Path(source))
        return Related(Path(source), maps=named)
    if reported is not None and reported.source.exists():
        return Related(reported.source, reported.series, named)
    found = _referenced(result) if result.is_dir() else None
    found = found or _named_alike(result)
    if found is None:
        hint = f" ({reported.source} is gone)" if reported else ""
        fault = f"its scan is not found beside it{hint}"
        raise InputMissing(fault, path=result, remedy="give it with --source")
    return Related(found.source, found.series, named)


def _looked_at(result: Path) -> Finding:
    check_present(result)
    found = survey(result)
    if len(found) != 1 or found[0].error:
        fault = found[0].error if len(found) == 1 else f"holds {len(found)} scans"
        raise Unsupported(fault, path=result, remedy="give one result")
    if found[0].kind == "image":
        raise Unsupported(
            "is a 2D image, which needs no viewer", path=result, remedy="the preview shows it"
        )
    if not found[0].synthetic:
        raise Unsupported("is no result of medtranslate by its header", path=result)
    return found[0]


def _reported(result: Path) -> Iterator[Related]:
    """Yield what reports and sidecars beside a result say of it."""
    for path in sorted(result.parent.glob("*.json")):
        try:
            if path.stat().st_size > _LARGEST_REPORT:
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # somebody else's file
        if isinstance(content, dict) and "conversions" in content:
            yield from _of_report(content, result)
        elif isinstance(content, dict) and "Sources" in content and path.stem == _stem(result):
            yield from _of_sidecar(content, result)


def _of_report(content: dict[str, Any], result: Path) -> Iterator[Related]:
    try:
        for one in content["conversions"]:
            if one["output"] and Path(one["output"]["path"]).resolve() == result.resolve():
                written = (one.get(key) for key in _MAPS)
                maps = (Path(each["path"]) for each in written if each)
                yield Related(Path(one["input"]["path"]), maps=tuple(m for m in maps if m.exists()))
    except (LookupError, TypeError):
        return  # no report of medtranslate, or a damaged one


def _of_sidecar(content: dict[str, Any], result: Path) -> Iterator[Related]:
    """Yield the scan that a BIDS sidecar names, in the dataset that its own links to."""
    try:
        kind, dataset, inside = content["Sources"][0].split(":", 2)
        described = (folder / "dataset_description.json" for folder in result.parents)
        description = next(one for one in described if one.is_file())
        link = json.loads(description.read_text(encoding="utf-8"))["DatasetLinks"][dataset]
        if kind == "bids":
            yield Related(description.parent / link / inside)
    except (LookupError, TypeError, ValueError, AttributeError, OSError, StopIteration):
        return  # of another dataset, or a damaged one


def _referenced(folder: Path) -> Related | None:
    """Find the series that a derived series was made from, in the folder that holds both."""
    import pydicom

    first = next((one for one in sorted(folder.iterdir()) if dicom.is_dicom(one)), None)
    if first is None:
        return None
    header = pydicom.dcmread(first, stop_before_pixels=True)
    uids = {str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", [])}
    by_name = _named_alike(folder)
    places = [by_name.source] if by_name else []
    for place in [*places, folder.parent]:
        for found in dicom.find_series(place):
            if found.series in uids and not found.error:
                return Related(Path(found.path), found.series)
    return None


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else _SUFFIX.sub("", path.name)


def _named_alike(result: Path) -> Related | None:
    stem = _stem(result)
    name = _RESULT.sub("", stem)
    if name == stem:
        return None
    others = (one for one in sorted(result.parent.iterdir()) if one != result)
    found = next((one for one in others if _stem(one) == name and not _is_report(one)), None)
    return Related(found) if found else None


def _is_report(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".html", ".png", ".txt")


def _maps_beside(result: Path) -> Iterator[Path]:
    stem = _stem(result)
    for ending in _MAPS.values():
        names = [f"{stem}{ending}.{suffix}" for suffix in ("nii.gz", "nii", "mha", "nrrd", "dcm")]
        yield from (one for one in map(result.with_name, names) if one.exists())


def _check_pair(made: Scan, scan: Scan, result: Path, source: Path) -> None:
    if not scan.source["even"]:
        fault = "its slices are not evenly spaced, so one grid cannot show them"
        raise Unsupported(fault, path=source)
    near = np.allclose(made.source["affine"], scan.source["affine"], atol=1e-3)
    if made.voxels.shape != scan.voxels.shape or not near:
        fault = f"lies on another grid than {source}"
        raise Unsupported(fault, path=result, remedy="give its own scan with --source")


def _map(path: Path, made: Scan, number: int) -> tuple[str, str, Voxels, float]:
    if path.suffix.lower() == ".dcm":
        name, units, voxels = dicom.read_parametric_map(path, made.source)
    else:
        scan = read_scan(path)
        described = survey(path)[0].description
        found = _MAP.match(described)
        name, units = (found[1], found[2]) if found else (f"map {number + 1}", "")
        voxels = scan.voxels
    if voxels.shape != made.voxels.shape:
        raise Unsupported("lies on another grid than the result", path=path)
    above = voxels[voxels > 0]
    return name, units, voxels, float(np.percentile(above, 99.5)) if above.size else 1.0
