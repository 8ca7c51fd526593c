"""A BIDS app: the scans of a BIDS dataset, converted into a BIDS derivative dataset.

The raw dataset is read with pybids and never written to. Each scan goes through `convert`; beside
its result a JSON sidecar says from what, by which model and with what findings it was made. A scan
that fails leaves nothing and stops no other one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medtranslate import __version__
from medtranslate.conversion import Conversion, ConversionOptions, Observer, convert
from medtranslate.errors import (
    InputMissing,
    InvalidOption,
    MedTranslateError,
    OutputExists,
    OutputFailed,
    Unreadable,
)
from medtranslate.files import check_present, whole_file
from medtranslate.text import as_json

SUFFIXES = {"mri": ("ct",), "ct": ("T1w", "T2w", "PDw", "FLAIR")}
"""Suffixes of the scans that are converted, by what is made of them."""

MADE_SUFFIXES = {"t1": "T1w", "t1c": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR", "": "MR"}
"""Suffix of a synthetic MRI by its contrast; ``MR`` where the model does not say which it makes."""

_BEFORE_CE = ("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi")
"""Entities that BIDS has before ``ce-``, the contrast agent."""

BIDS_VERSION = "1.10.0"
RAW = "raw"
"""Name of the raw dataset in BIDS URIs, ``bids:raw:sub-01/...``."""

IGNORED = """\
# What BIDS has no names for yet: CT (BEP 024), MR of no stated contrast, maps and previews.
*_ct.*
*_MR.*
*_error.*
*_variation.*
*_preview.png
ct
"""
_DESCRIPTION = "dataset_description.json"
_ENDINGS = (".nii.gz", ".nii")
_README = """\
Synthetic images, made by medtranslate from the scans of the raw dataset: not for diagnosis, dose or
attenuation. A sidecar says from which scan an image was made, by which model, and what the checks
found.
"""


@dataclass(frozen=True)
class BidsScan:
    """A scan of a BIDS dataset and where its translation goes.

    Parameters
    ----------
    path : Path
        The raw scan.
    subject, session : str
        Labels; the session may be ``""``.
    output : Path
        The result, ``.nii.gz``.
    """

    path: Path
    subject: str
    session: str
    output: Path

    @property
    def sidecar(self) -> Path:
        """The result's JSON sidecar."""
        return _sidecar(self.output)


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
        What to convert to, and how; `output`, `format` and `reports` are set here.
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
    waiting = [scan for scan in scans if not (skip_existing and _is_done(scan))]
    if len(waiting) < len(scans):
        observer.note(f"{len(scans) - len(waiting)} of {len(scans)} scans are converted already")
    return _converted(bids, output, waiting, options, skip_existing, observer)


def _made_contrast(options: ConversionOptions) -> str:
    """Return the contrast that an MRI will have: the model's default where none is asked for."""
    if options.to != "mri" or options.contrast:
        return options.contrast
    from medtranslate.bundle import Bundle

    return Bundle.load(options.bundle or None).default_contrast


def check_output(bids: Path, output: Path) -> None:
    """Refuse an output that would change the raw dataset, or that is something else's folder.

    Raises
    ------
    OutputExists
        See there.
    """
    raw, out = bids.resolve(), output.resolve()
    inside = out == raw or raw in out.parents
    if inside and (
        len(out.relative_to(raw).parts) < 2 or out.relative_to(raw).parts[0] != "derivatives"
    ):
        raise OutputExists(
            "lies in the raw dataset, which is never written to",
            path=output,
            remedy=f"write to {bids / 'derivatives' / 'medtranslate'}, or elsewhere",
        )
    description = output / _DESCRIPTION
    if description.is_file():
        makers = _read_json(description).get("GeneratedBy")
        names = [one.get("Name") for one in makers if isinstance(one, dict)] if makers else []
        if "medtranslate" not in names:
            fault = "is a dataset that medtranslate did not make"
            raise OutputExists(fault, path=output, remedy="choose another folder")
    elif output.is_dir() and any(output.iterdir()):
        fault = f"is not empty and has no {_DESCRIPTION}"
        raise OutputExists(fault, path=output, remedy="choose another folder")


def find_bids_scans(
    bids: Path,
    output: Path,
    *,
    to: str,
    contrast: str = "",
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    suffixes: Sequence[str] = (),
) -> list[BidsScan]:
    """Find the scans of a BIDS dataset that can be converted, with the names of their results.

    Parameters and exceptions as for `convert_dataset`.
    """
    layout = _layout(bids)
    subjects = _chosen(bids, "participant", "sub-", participants, layout.get_subjects())
    visits = _chosen(bids, "session", "ses-", sessions, layout.get_sessions())
    wanted = {"subject": subjects} | ({"session": visits} if sessions else {})
    found = []
    for file in layout.get(
        suffix=list(suffixes or SUFFIXES[to]), extension=list(_ENDINGS), **wanted
    ):
        entities = dict(file.get_entities())
        name = result_name(Path(file.path).name, str(entities["suffix"]), to=to, contrast=contrast)
        session = str(entities.get("session", ""))
        subject = str(entities["subject"])
        folders = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
        target = output.joinpath(*folders, "anat" if to == "mri" else "ct", name)
        found.append(BidsScan(Path(file.path), subject, session, target))
    if not found:
        kinds = ", ".join(suffixes or SUFFIXES[to])
        fault = f"holds no scan with a suffix of {kinds} for these participants"
        raise InputMissing(fault, path=bids, remedy="name others with --suffix")
    return sorted(found, key=lambda one: str(one.path))


def result_name(name: str, suffix: str, *, to: str, contrast: str = "") -> str:
    """Return the name of a translation in BIDS.

    The entities of the scan stay. A CT made from an MRI says from which by ``mod-``, so that those
    of a T1w and a T2w of one session have names of their own.

    Examples
    --------
    >>> result_name("sub-01_run-1_ct.nii.gz", "ct", to="mri", contrast="flair")
    'sub-01_run-1_desc-synthetic_FLAIR.nii.gz'
    >>> result_name("sub-01_run-1_ct.nii.gz", "ct", to="mri", contrast="t1c")
    'sub-01_ce-synthetic_run-1_desc-synthetic_T1w.nii.gz'
    >>> result_name("sub-01_T1w.nii", "T1w", to="ct")
    'sub-01_mod-T1w_desc-synthetic_ct.nii.gz'
    """
    stem = name[: name.rindex(f"_{suffix}.")]
    if contrast == "t1c":
        entities = stem.split("_")
        before = sum(one.partition("-")[0] in _BEFORE_CE for one in entities)
        stem = "_".join([*entities[:before], "ce-synthetic", *entities[before:]])
    if to == "ct":
        return f"{stem}_mod-{suffix}_desc-synthetic_ct.nii.gz"
    return f"{stem}_desc-synthetic_{MADE_SUFFIXES[contrast]}.nii.gz"


def sidecar(done: Conversion, bids: Path) -> dict[str, Any]:
    """Return the sidecar of a result: BIDS's own keys, and what was found under ``medtranslate``.

    Parameters
    ----------
    done : Conversion
    bids : Path
        Folder of the raw dataset.
    """
    synthesis, checks = done.synthesis, done.checks
    source = done.path.resolve().relative_to(bids.resolve()).as_posix()
    figures = {
        key: {name: checks[key][name] for name in ("error", "units", "share_of_range")}
        for key in ("cycle_error", "variation")
        if checks.get(key)
    }
    content: dict[str, Any] = {
        "Description": synthesis["label"],
        "Sources": [f"bids:{RAW}:{source}"],
        "GeneratedBy": [{"Name": "medtranslate", "Version": __version__}],
        "SkullStripped": False,
        "medtranslate": {
            "Synthetic": True,
            "Modality": synthesis["modality"],
            "Contrast": synthesis.get("contrast", ""),
            "Model": synthesis["model"],
            "ModelVersion": synthesis["version"],
            "WeightsSHA256": synthesis["weights_sha256"],
            "DomainCheck": {
                key: value
                for key, value in checks.get("domain", {}).items()
                if key in ("verdict", "score", "limits", "reasons", "forced")
            },
            **{_camel(key): value for key, value in figures.items()},
            "Coverage": checks.get("unseen", {}),
            "Warnings": list(done.notes),
        },
    }
    if synthesis["modality"] == "CT":
        content["Units"] = "HU"
    return content


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _converted(
    bids: Path,
    output: Path,
    scans: Sequence[BidsScan],
    options: ConversionOptions,
    skip_existing: bool,
    observer: Observer,
) -> Iterator[Conversion]:
    if not scans:
        return
    from medtranslate.translation import Translator

    _write_description(bids, output)
    translator = Translator.load(
        options.bundle or None,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        contrast=options.contrast,
    )
    for scan in scans:
        unfinished = skip_existing and scan.output.exists()  # without a sidecar: it was cut off
        asked = replace(
            options,
            output=str(scan.output),
            reports=(),
            overwrite=options.overwrite or unfinished,
        )
        try:
            _make_folder(scan.output.parent)
            done = convert(scan.path, options=asked, translator=translator, observer=observer)
            text = as_json(sidecar(done, bids))
            with whole_file(scan.sidecar, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
            yield done
        except Exception as error:
            _remove_empty(scan.output.parent, output)
            yield Conversion(scan.path, scan.path, error=error)


def _write_description(bids: Path, output: Path) -> None:
    """Write what makes a folder a derivative dataset; an earlier one is brought up to date."""
    link = Path(os.path.relpath(bids.resolve(), output.resolve())).as_posix()
    maker = {"Name": "medtranslate", "Version": __version__}
    content = {
        "Name": "Synthetic images by medtranslate",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": "as that of the raw dataset",
        "GeneratedBy": [{**maker, "Description": "CT to MRI and MRI to CT translation"}],
        "SourceDatasets": [{"URL": link}],
        "DatasetLinks": {RAW: link},
    }
    _make_folder(output)
    files = {_DESCRIPTION: as_json(content), "README": _README, ".bidsignore": IGNORED}
    for name, text in files.items():
        with whole_file(output / name, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot be created: {error.strerror}", path=folder) from error


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _is_done(scan: BidsScan) -> bool:
    return scan.output.exists() and scan.sidecar.exists()


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".nii.gz") + ".json")


def _layout(bids: Path) -> Any:
    """Return pybids's layout of a dataset; its sidecars are not read, so none can break it."""
    check_present(bids)
    description = bids / _DESCRIPTION
    if not description.is_file():
        fault = f"is no BIDS dataset: it has no {_DESCRIPTION}"
        raise InputMissing(fault, path=bids, remedy="`medtranslate convert` converts any folder")
    _read_json(description)
    try:
        from bids import BIDSLayout, BIDSLayoutIndexer
    except ModuleNotFoundError as error:
        remedy = "pip install 'medtranslate[bids]'"
        raise InvalidOption(f"BIDS datasets need {error.name}", remedy=remedy) from error
    try:
        indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
        return BIDSLayout(bids, validate=False, derivatives=False, indexer=indexer)
    except MedTranslateError:
        raise
    except Exception as error:  # pybids has many of its own, and lets those of others through
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unreadable(f"cannot be read as a BIDS dataset: {reason}", path=bids) from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(f"is no readable JSON: {error}", path=path) from error
    if not isinstance(content, dict):
        raise Unreadable("is no JSON object", path=path)
    return content


def _chosen(
    bids: Path, what: str, prefix: str, labels: Sequence[str], known: Sequence[str]
) -> list[str]:
    asked = [label.removeprefix(prefix) for label in labels]
    unknown = [label for label in asked if label not in known]
    if unknown:
        has = ", ".join(known[:20]) or "none"
        raise InvalidOption(f"{bids} has no {what} {', '.join(unknown)}", remedy=f"it has {has}")
    return asked or list(known)
