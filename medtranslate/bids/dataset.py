"""The scans of a raw BIDS dataset, and where their results go in a derivative dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtranslate.errors import (
    InputMissing,
    InvalidOption,
    MedTranslateError,
    OutputExists,
    Unreadable,
)
from medtranslate.files import check_present

SUFFIXES = {"mri": ("ct",), "ct": ("T1w", "T2w", "PDw", "FLAIR")}
"""Suffixes of the scans that are converted, by what is made of them."""

MADE_SUFFIXES = {"t1": "T1w", "t1c": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR", "": "MR"}
"""Suffix of a synthetic MRI by its contrast; ``MR`` where the model does not say which it makes."""

_BEFORE_CE = ("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi")
"""Entities that BIDS has before ``ce-``, the contrast agent."""

DESCRIPTION = "dataset_description.json"
FIGURES = "figures"
"""Folder of a participant's reports, named as other BIDS apps name it."""

_ENDINGS = (".nii.gz", ".nii")


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
    participant : Path
        Folder of the participant in the derivative dataset.
    """

    path: Path
    subject: str
    session: str
    output: Path
    participant: Path

    @property
    def sidecar(self) -> Path:
        """The result's JSON sidecar, which is written last: with it the scan is done."""
        return self.output.with_name(f"{self.stem}.json")

    @property
    def stem(self) -> str:
        """The name of the result without its suffix."""
        return self.output.name.removesuffix(".nii.gz")

    @property
    def reports(self) -> tuple[Path, Path]:
        """The page and the JSON report of the conversion."""
        folder = self.participant / FIGURES
        return folder / f"{self.stem}.html", folder / f"{self.stem}.json"

    @property
    def is_done(self) -> bool:
        """Whether there are a result and its sidecar."""
        return self.output.exists() and self.sidecar.exists()


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
    description = output / DESCRIPTION
    if description.is_file():
        makers = read_json(description).get("GeneratedBy")
        names = [one.get("Name") for one in makers if isinstance(one, dict)] if makers else []
        if "medtranslate" not in names:
            fault = "is a dataset that medtranslate did not make"
            raise OutputExists(fault, path=output, remedy="choose another folder")
    elif output.is_dir() and any(output.iterdir()):
        fault = f"is not empty and has no {DESCRIPTION}"
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
        scan = BidsScan(Path(file.path), subject, session, target, output / folders[0])
        found.append(scan)
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


def _layout(bids: Path) -> Any:
    """Return pybids's layout of a dataset; its sidecars are not read, so none can break it."""
    check_present(bids)
    description = bids / DESCRIPTION
    if not description.is_file():
        fault = f"is no BIDS dataset: it has no {DESCRIPTION}"
        raise InputMissing(fault, path=bids, remedy="`medtranslate convert` converts any folder")
    read_json(description)
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


def read_json(path: Path) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises
    ------
    Unreadable
        It is none.
    """
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
