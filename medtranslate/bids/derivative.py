"""The scans of a BIDS dataset, converted into a BIDS derivative dataset.

Each scan goes through `convert`; beside its result a JSON sidecar says from what, by which model
and with what findings it was made. Its report lies among the figures of its participant, and one
page a participant collects these reports. A scan that fails leaves nothing but its report, and
stops no other one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medtranslate import __version__
from medtranslate.bids.dataset import (
    DESCRIPTION,
    FIGURES,
    BidsScan,
    check_output,
    find_bids_scans,
)
from medtranslate.conversion import Conversion, ConversionOptions, Observer, convert
from medtranslate.errors import OutputFailed
from medtranslate.files import create_folder, whole_file
from medtranslate.text import as_json

BIDS_VERSION = "1.10.0"
RAW = "raw"
"""Name of the raw dataset in BIDS URIs, ``bids:raw:sub-01/...``."""

IGNORED = """\
# What BIDS has no names for yet: CT (BEP 024), MR of no stated contrast, maps and reports.
*_ct.*
*_MR.*
*_error.*
*_variation.*
*_preview.png
*.html
figures
ct
"""
_README = """\
Synthetic images, made by medtranslate from the scans of the raw dataset: not for diagnosis, dose or
attenuation. A sidecar says from which scan an image was made, by which model, and what the checks
found. Open sub-LABEL.html for the results of a participant at a glance.
"""


def convert_dataset(
    bids: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    options: ConversionOptions,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    suffixes: Sequence[str] = (),
    skip_existing: bool = False,
    observer: Observer | None = None,
) -> Iterator[Conversion]:
    """Convert the scans of a BIDS dataset, and yield each conversion when it is done.

    Parameters
    ----------
    bids : path
        Folder of the raw dataset, which has a ``dataset_description.json``. It is only read.
    output : path
        Folder of the derivative dataset, created if missing: elsewhere, or below ``derivatives`` of
        the raw dataset.
    options : ConversionOptions
        What to convert to, and how; `output` and `reports` are set here. With `anonymous`, sidecars
        name no source, the dataset links to no raw dataset, and reports and pages number scans.
    participants, sessions : sequence of str
        Labels to convert, with or without ``sub-`` and ``ses-``; all by default.
    suffixes : sequence of str
        Suffixes of the scans to convert; by default `SUFFIXES`.
    skip_existing : bool
        Leave out scans that have a result with its sidecar.
    observer : Observer, optional
        Receives progress and notes.

    Raises
    ------
    InputMissing, Unreadable
        It is no BIDS dataset, its description is damaged, or it holds no such scan.
    InvalidOption
        There is no such participant or session, or pybids is not installed.
    OutputExists
        The output would change the raw dataset, or is a folder of something else.

    Examples
    --------
    >>> options = ConversionOptions(to="mri", modality="CT", preview=False)
    >>> done = convert_dataset("raw", "raw/derivatives/medtranslate", options=options)
    ... # doctest: +SKIP
    >>> [one.output.name for one in done]  # doctest: +SKIP
    ['sub-01_desc-synthetic_MR.nii.gz']
    """
    bids, output = Path(bids), Path(output)
    observer = observer or Observer()
    check_output(bids, output)
    scans = find_bids_scans(
        bids,
        output,
        to=options.to,
        contrast=_made_contrast(options),
        participants=participants,
        sessions=sessions,
        suffixes=suffixes,
    )
    waiting = [scan for scan in scans if not (skip_existing and scan.is_done)]
    if len(waiting) < len(scans):
        observer.note(f"{len(scans) - len(waiting)} of {len(scans)} scans are converted already")
    asked = replace(options, overwrite=options.overwrite or skip_existing)  # what was cut off
    return _converted(bids, output, waiting, asked, observer)


def _made_contrast(options: ConversionOptions) -> str:
    """Return the contrast that an MRI will have: the model's default where none is asked for."""
    if options.to != "mri":
        return ""
    if options.contrast:
        return options.contrast
    from medtranslate.bundle import Bundle

    return Bundle.load(options.bundle or None).default_contrast


def sidecar(done: Conversion, bids: Path, *, anonymous: bool = False) -> dict[str, Any]:
    """Return the sidecar of a result: BIDS's own keys, and what was found under ``medtranslate``.

    Parameters
    ----------
    done : Conversion
    bids : Path
        Folder of the raw dataset.
    anonymous : bool
        Name no source.
    """
    synthesis, checks = done.synthesis, done.checks
    source = done.path.resolve().relative_to(bids.resolve()).as_posix()
    figures = {
        key: {name: checks[key][name] for name in ("error", "units", "share_of_range")}
        for key in ("expected_error", "cycle_error", "variation")
        if checks.get(key)
    }
    content: dict[str, Any] = {
        "Description": synthesis["label"],
        **({} if anonymous else {"Sources": [f"bids:{RAW}:{source}"]}),
        "GeneratedBy": [{"Name": "medtranslate", "Version": __version__}],
        "SkullStripped": False,
        "medtranslate": {
            "Synthetic": True,
            "Modality": synthesis["modality"],
            "Contrast": synthesis.get("contrast", ""),
            "Model": synthesis["model"],
            "ModelVersion": synthesis["version"],
            "WeightsSHA256": synthesis["weights_sha256"],
            "Grain": synthesis.get("grain", 0.0),
            "DomainCheck": {
                key: value
                for key, value in checks.get("domain", {}).items()
                if key in ("verdict", "score", "limits", "reasons", "forced")
            },
            **{_camel(key): value for key, value in figures.items()},
            "Coverage": checks.get("unseen", {}),
            "Warnings": _warnings(done) if anonymous else list(done.notes),
        },
    }
    if synthesis["modality"] == "CT":
        content["Units"] = "HU"
    return content


def _warnings(done: Conversion) -> list[str]:
    """Return the notes of a conversion without the names of files."""
    from medtranslate.report.record import without_paths

    named = [str(path) for path in (done.given, done.path, done.output) if path]
    return [without_paths(named, "the scan", note) for note in done.notes]


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _converted(
    bids: Path,
    output: Path,
    scans: Sequence[BidsScan],
    options: ConversionOptions,
    observer: Observer,
) -> Iterator[Conversion]:
    if not scans:
        return
    from medtranslate.translation import Translator

    _write_description(bids, output, linked=not options.anonymous)
    translator = Translator.load(
        options.bundle or None,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        contrast=options.contrast,
        engine=options.engine,
    )
    for scan in scans:
        kept = scan.output.exists() and not options.overwrite  # the result, and so its report
        asked = replace(
            options, output=str(scan.output), reports=[] if kept else list(map(str, scan.reports))
        )
        try:
            create_folder(scan.output.parent)
            create_folder(scan.reports[0].parent)
            for path in asked.report_files:
                path.unlink(missing_ok=True)  # of a scan that failed, or of an earlier result
            done = convert(scan.path, options=asked, translator=translator, observer=observer)
            _write_page(scan, anonymous=options.anonymous)
            text = as_json(sidecar(done, bids, anonymous=options.anonymous))
            with whole_file(scan.sidecar, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
            yield done
        except Exception as error:
            with suppress(OutputFailed):  # of a full disk, which is what failed already
                _write_page(scan, anonymous=options.anonymous)
            for folder in (scan.output.parent, scan.reports[0].parent):
                _remove_empty(folder, output)
            yield Conversion(scan.path, scan.path, error=error)


def _write_page(scan: BidsScan, *, anonymous: bool) -> None:
    """Write the page of a participant, of all reports that lie among its figures."""
    from pydantic import ValidationError

    from medtranslate.report.model import ConversionReport
    from medtranslate.report.page import CollectedScan, write_collected
    from medtranslate.report.record import anonymous_scan

    found: list[CollectedScan] = []
    for path in sorted((scan.participant / FIGURES).glob("*.json")):
        try:
            checked = ConversionReport.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # no report, or a damaged one
        report = checked.model_dump(mode="json", by_alias=True, exclude_unset=True)
        preview = next(scan.participant.rglob(f"{path.stem}_preview.png"), None)
        for one in report["conversions"]:
            shown = anonymous_scan(f"scan {len(found) + 1}", one) if anonymous else one
            page = path.with_suffix(".html").relative_to(scan.participant.parent).as_posix()
            link = quote(page) if one["status"] == "converted" and not anonymous else ""
            found.append(CollectedScan(report, shown, preview, link))
    if found:
        title = "a participant" if anonymous else scan.participant.name
        page_file = scan.participant.with_name(f"{scan.participant.name}.html")
        write_collected(title, found, page_file)


def _write_description(bids: Path, output: Path, *, linked: bool) -> None:
    """Write what makes a folder a derivative dataset; an earlier one is brought up to date."""
    link = Path(os.path.relpath(bids.resolve(), output.resolve())).as_posix()
    maker = {"Name": "medtranslate", "Version": __version__}
    content: dict[str, Any] = {
        "Name": "Synthetic images by medtranslate",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": "as that of the raw dataset",
        "GeneratedBy": [{**maker, "Description": "CT to MRI and MRI to CT translation"}],
    }
    if linked:
        content |= {"SourceDatasets": [{"URL": link}], "DatasetLinks": {RAW: link}}
    create_folder(output)
    files = {DESCRIPTION: as_json(content), "README": _README, ".bidsignore": IGNORED}
    for name, text in files.items():
        with whole_file(output / name, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
