"""Where each result goes, and in which format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medtranslate.conversion.inputs import Input, Item
from medtranslate.conversion.interface import UNKNOWN, ConversionOptions, ModalityBasis
from medtranslate.errors import (
    InvalidOption,
    Unsupported,
)

SUFFIXES = {
    ".nii.gz": "nii.gz",
    ".nii": "nii",
    ".mha": "mha",
    ".nrrd": "nrrd",
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".tif": "tif",
    ".tiff": "tif",
}
"""What the name of an output says about its format."""

IMAGES_2D = ("png", "jpg", "tif")
FOLDERS = ("dicom", "images")

_MAP_FORMATS = {"dicom": "dcm", "jpg": "png"}
"""What a map is written as where that is not the format of the result: one DICOM file (a Parametric
Map) beside a series, and PNG beside a JPEG, which changes values."""


@dataclass(frozen=True)
class PlannedScan:
    """One scan to convert, where its result goes and what is written beside it.

    Parameters
    ----------
    item : Item
        The scan.
    output : Path
        File or folder to write.
    format : str
        As ``Item.format``.
    home : Path or None
        Folder of results, created if it is missing.
    preview : Path or None
        Image to write; None where none is asked for, or one contact sheet shows a whole folder.
    error_map, variation_map, expected_error_map : Path or None
        Maps to write; None where none is asked for. A folder for a folder of 2D images.
    figures : Path or None
        For a DICOM result with maps, the structured report to write.
    beside : tuple of Path
        Preview, maps and figures, whether asked for or not.
    """

    item: Item
    output: Path
    format: str
    home: Path | None
    preview: Path | None
    error_map: Path | None = None
    variation_map: Path | None = None
    expected_error_map: Path | None = None
    figures: Path | None = None
    beside: tuple[Path, ...] = ()

    @property
    def maps(self) -> tuple[Path, ...]:
        """Maps to write."""
        maps = (self.expected_error_map, self.error_map, self.variation_map)
        return tuple(one for one in maps if one is not None)

    @property
    def targets(self) -> tuple[Path, ...]:
        """Everything to write."""
        more = (self.preview, *self.maps, self.figures)
        return (self.output, *(one for one in more if one is not None))

    @property
    def outdated(self) -> tuple[Path, ...]:
        """Files beside the result that are left over from an earlier result of its name."""
        others = (one for one in self.beside if one not in self.targets)
        return tuple(one for one in others if os.path.lexists(one))  # also of a name too long


@dataclass(frozen=True)
class Plan:
    """The jobs of one input.

    Parameters
    ----------
    source : Input
        The input.
    jobs : tuple of PlannedScan
        Its scans.
    home : Path or None
        For a folder of 2D images, the folder of results.
    sheet : Path or None
        For a folder of 2D images, the contact sheet to write.
    modality : (modality, basis)
        For a folder of 2D images, what it shows, once that is known.
    """

    source: Input
    jobs: tuple[PlannedScan, ...]
    home: Path | None = None
    sheet: Path | None = None
    modality: ModalityBasis = UNKNOWN


def format_by_name(output: str) -> str:
    """Return the format that the name of an output asks for, ``""`` where it names a folder.

    A suffix of digits alone is none: folders are named after UIDs and dates.

    Raises
    ------
    Unsupported
        The suffix is that of a format that is not written.
    """
    path, name = Path(output), output.lower()
    if not output or output.endswith(("/", os.sep)) or path.is_dir():
        return ""
    for suffix, format in SUFFIXES.items():
        if name.endswith(suffix):
            return format
    if path.suffix and not path.suffix[1:].isdecimal():
        known = " ".join(SUFFIXES)
        hint = f"{known}, or a folder" if path.suffix != ".dcm" else "a DICOM result is a folder"
        raise Unsupported(f"no file is written as {path.suffix}", path=output, remedy=hint)
    return ""


def check_options(options: ConversionOptions) -> None:
    """Refuse options that contradict one another.

    Raises
    ------
    InvalidOption
        Two options exclude each other, or one has no effect.
    Unsupported
        The suffix of the output is that of no format that is written.
    """
    named = format_by_name(options.output)
    if named and options.format and named != options.format:
        raise InvalidOption(f"--format {options.format} contradicts -o {options.output}")
    format = named or options.format
    moved = [name for name in ("untilt", "regrid") if getattr(options, name)]
    if moved and (format == "dicom" or options.template):
        raise InvalidOption(f"--{moved[0]} makes a grid that no DICOM slice has")
    if options.skip_existing and options.overwrite:
        raise InvalidOption("--skip-existing contradicts --overwrite")
    dicom_only = [n for n in ("template", "uid_seed", "keep_private") if getattr(options, n)]
    if dicom_only and (moved or format not in ("", "dicom")):
        option = dicom_only[0].replace("_", "-")
        raise InvalidOption(f"--{option} is for results in DICOM")


def parents_apart(sources: Sequence[Input]) -> list[Path]:
    """Give as many parents of each input as tell it from those whose results share its name.

    Below one ``-o``, results of ``P1/CT`` and ``P2/CT`` go to the folders ``P1`` and ``P2``.
    """
    parents = [source.given.parent.resolve().parts[1:] for source in sources]
    named: dict[Path, list[int]] = {}
    for number, source in enumerate(sources):
        names = {Path(source.given.name)} if source.together else {i.name for i in source.items}
        for name in names:
            named.setdefault(name, []).append(number)
    depths = [0] * len(sources)
    for numbers in named.values():
        different = len({parents[number] for number in numbers})
        depth = 0
        while len({_last(parents[number], depth) for number in numbers}) < different:
            depth += 1
        for number in numbers:
            depths[number] = max(depths[number], depth)
    return [_last(parts, depth) for parts, depth in zip(parents, depths, strict=True)]


def _last(parts: tuple[str, ...], count: int) -> Path:
    return Path(*parts[len(parts) - min(count, len(parts)) :])


def files_apart(plans: Sequence[Plan]) -> list[Plan]:
    """Name preview and maps after the format too, where results differ in their format alone."""
    taken: set[Path] = set()
    return [
        replace(plan, jobs=tuple(_beside_apart(job, taken) for job in plan.jobs)) for plan in plans
    ]


def _beside_apart(job: PlannedScan, taken: set[Path]) -> PlannedScan:
    clash = taken.intersection(path.resolve() for path in job.targets[1:])
    if clash and job.output.resolve() not in taken:
        stem = _beside(job.output, "", "").name
        other = f"{stem}{job.format.replace('.', '_')}_"
        moved = {one: one.with_name(one.name.replace(stem, other, 1)) for one in job.beside}
        kept = (job.preview, job.error_map, job.variation_map, job.expected_error_map, job.figures)
        preview, error, variation, expected, figures = (one and moved[one] for one in kept)
        beside = tuple(moved.values())
        job = replace(
            job,
            preview=preview,
            error_map=error,
            variation_map=variation,
            expected_error_map=expected,
            figures=figures,
            beside=beside,
        )
    taken.update(path.resolve() for path in job.targets)
    return job


def place(source: Input, options: ConversionOptions, *, alone: bool, below: Path = Path()) -> Plan:
    """Plan where the results of an input go.

    Parameters
    ----------
    source : Input
        The input with its scans.
    options : ConversionOptions
    alone : bool
        Whether it is the only input, so that ``-o`` may name its result.
    below : Path
        Folder below ``-o``, relative to it.

    Raises
    ------
    InvalidOption
        ``-o`` names one file for several results, or is missing for a BIDS dataset, which results
        beside the scans would change.
    """
    if not options.output and (source.given / "dataset_description.json").is_file():
        fault = f"{source.given} is a BIDS dataset, and results would be written into it"
        raise InvalidOption(fault, remedy="give -o FOLDER, or use medtranslate bids")
    named = format_by_name(options.output)
    single = alone and len(source.items) == 1 and not source.together
    if named and not single:
        raise InvalidOption(f"-o {options.output} names one file, but there are several scans")
    home = _home(source, options, alone, below)
    jobs = tuple(_job(item, source, options, home, single=single) for item in source.items)
    if not source.together:
        return Plan(source, jobs)
    sheet = _beside(home, _sheet_name(options.part), ".png") if options.preview else None
    return Plan(source, jobs, home, sheet)


def _sheet_name(part: str) -> str:
    """Name the contact sheet of a part apart from those of the others: ``preview_1of4``."""
    return f"preview_{part.replace('/', 'of')}" if part else "preview"


def _home(source: Input, options: ConversionOptions, alone: bool, below: Path) -> Path:
    given = source.given
    own = f"{given.name}_{options.to}"
    if options.output:
        out = Path(options.output) / below
        return out / own if source.together and not alone else out
    if source.together:
        return given.with_name(own)
    one_scan = all(item.path == given for item in source.items)
    return given.parent if one_scan else given


def _job(
    item: Item, source: Input, options: ConversionOptions, home: Path, *, single: bool
) -> PlannedScan:
    format = _format(item, options)
    check_pair(item, format, options)
    series_itself = format in FOLDERS
    if single and options.output and (format_by_name(options.output) or series_itself):
        output = Path(options.output)
        made = output.parent if series_itself else None
    else:
        last = item.name.name if source.together else f"{item.name.name}_{options.to}"
        ending = "" if format in FOLDERS else f".{format}"
        output, made = home / item.name.with_name(last + ending), home
    together = home if source.together else None
    preview = None if together else _preview(output)
    error, variation, expected = (
        _map(output, format, what, together) for what in ("error", "variation", "expected_error")
    )
    figures = _beside(output, "figures", ".dcm") if format == "dicom" else None
    return PlannedScan(
        item,
        output,
        format,
        made,
        preview if options.preview else None,
        error if options.map and options.cycle else None,
        variation if options.map and options.variation else None,
        expected if options.map else None,
        figures if options.map else None,
        beside=tuple(
            one for one in (preview, error, variation, expected, figures) if one is not None
        ),
    )


def _format(item: Item, options: ConversionOptions) -> str:
    asked = format_by_name(options.output) or options.format
    if asked:
        return asked
    if options.template:
        return "dicom"
    return "nii.gz" if options.untilt or options.regrid else item.format


def check_pair(item: Item, format: str, options: ConversionOptions) -> None:
    """Refuse a format that cannot hold a scan.

    Raises
    ------
    Unsupported
        A volume as a 2D image, a 2D image as DICOM, or DICOM without headers to derive from.
    """
    if item.kind == "volume" and format in IMAGES_2D:
        fault = "a volume would lose its spacing and its units in a 2D image"
        raise Unsupported(fault, path=item.path, remedy="write nii.gz, nii, mha, nrrd or dicom")
    if item.kind == "image" and format == "dicom":
        raise Unsupported(
            "a 2D image has no position in space, which DICOM requires", path=item.path
        )
    if item.format == "images" and format in ("png", "jpg"):
        fault = "several 2D images do not fit into one file of this format"
        raise Unsupported(fault, path=item.path, remedy="write a folder or a .tif")
    dicom_only = [n for n in ("uid_seed", "keep_private") if getattr(options, n)]
    if format != "dicom" and dicom_only:
        option = dicom_only[0].replace("_", "-")
        raise Unsupported(f"--{option} is for results in DICOM", path=item.path)
    if format == "dicom" and item.format != "dicom" and not options.template:
        fault = "has no DICOM headers that a series can be derived from"
        raise Unsupported(fault, path=item.path, remedy="give the --template series")


def _preview(output: Path) -> Path:
    return _beside(output, "preview", ".png")


def _map(output: Path, format: str, what: str, folder: Path | None) -> Path:
    """Name a map: beside the result, or for the results of one folder in a folder beside it."""
    ending = f".{_MAP_FORMATS.get(format, format)}" if format != "images" else ""
    if folder is None:
        return _beside(output, what, ending)
    inside = output.relative_to(folder)
    return _beside(folder, what, "") / inside.with_suffix(ending)


def _beside(output: Path, what: str, ending: str) -> Path:
    suffix = next((s for s in SUFFIXES if output.name.lower().endswith(s)), "")
    return output.with_name(f"{output.name[: len(output.name) - len(suffix)]}_{what}{ending}")
