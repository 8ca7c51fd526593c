"""Bundles from whatever holds a model, and new weights for a bundle that is there already."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from medtranslate.bundle import Bundle, attach_domain
from medtranslate.bundle.domain import DOMAIN_FILE
from medtranslate.bundle.load import MODEL_FILE
from medtranslate.bundle.refresh import content_of, facts_of, refresh
from medtranslate.bundle.save import new_folder, write_texts
from medtranslate.errors import InputMissing
from medtranslate.files import whole_folder
from medtranslate.packaging.export import export, export_checkpoint
from medtranslate.packaging.reference import write_reference
from medtranslate.packaging.zoo import LICENSE_FILE, add_zoo_files
from medtranslate.training.run_folder import RunFolder

_PASSED_OVER = shutil.ignore_patterns("__pycache__", ".*", "eval", "evaluation", "run")
_OF_THE_WEIGHTS = ("models", "discriminators", "configs")


@dataclass(frozen=True)
class Handover:
    """How a bundle is to be written.

    Parameters
    ----------
    name, version : str
        Which model this is; ``""`` for what the source says.
    to : str
        Direction that its configs serve unless told otherwise; ``""`` for the source's.
    license : path, optional
        Of the weights: copied into the bundle.
    zoo : bool
        In the layout of MONAI's Model Zoo: without discriminators, with ``models/model.pt``.
    """

    name: str = ""
    version: str = ""
    to: str = ""
    license: Path | None = None
    zoo: bool = False


def hand_over(source: Path, folder: Path, wanted: Handover) -> list[Path]:
    """Write a bundle from a run, a checkpoint or another bundle.

    Parameters
    ----------
    source : path
        A run's folder, a checkpoint file or a bundle's folder.
    folder : path
        Must not exist.
    wanted : Handover

    Returns
    -------
    list of Path
        Files that the Model Zoo would not take for their size.

    Raises
    ------
    InputMissing, Unreadable, TrainingFailed, ModelUnusable
        There is no model at the source.
    OutputExists, OutputFailed
        See `save_bundle`; nothing is left behind.
    """
    large: list[Path] = []

    def fill(whole: Path) -> None:
        _write_bundle(source, whole, wanted)
        if wanted.to:
            _serve(whole, wanted.to)
        if wanted.license is not None:
            _check_file(wanted.license)
            shutil.copyfile(wanted.license, whole / LICENSE_FILE)
        if wanted.zoo:
            shutil.rmtree(whole / "discriminators", ignore_errors=True)
            large.extend(add_zoo_files(whole))

    new_folder(folder, fill)
    return large


def renew(
    folder: Path, source: Path | None = None, *, version: str = "", note: str = ""
) -> list[str]:
    """Write a bundle's generated files anew, with other weights where a source is given.

    What people wrote stays: the card and other documents, the licence, the words in the metadata;
    with other weights, figures of evaluation go, as they were of the old ones. The domain check
    stays where the source brings none and was trained on the same slices.

    Parameters
    ----------
    folder : path
        The bundle, replaced when all is done.
    source : path, optional
        Run, checkpoint or bundle whose weights, recipes and training facts it takes.
    version : str
        A new one; without it, the version stays.
    note : str
        What the version brings, for the changelog.

    Returns
    -------
    list of str
        What the bundle no longer has, a sentence each.

    Raises
    ------
    InputMissing, Unreadable, TrainingFailed, ModelUnusable
        As `hand_over`.
    OutputFailed
        It cannot be written; the bundle is as it was.
    """
    content, gone = content_of(folder), []
    with whole_folder(folder, overwrite=True) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True, ignore=_PASSED_OVER)
        if source is not None:
            gone = _take_weights(partial, source, str(content["name"]), str(content["version"]))
        refresh(partial, version=version, note=note)
        write_reference(partial)
    return gone


def _take_weights(folder: Path, source: Path, name: str, version: str) -> list[str]:
    facts, numbers = facts_of(folder), _domain_numbers(folder)
    with tempfile.TemporaryDirectory() as made:
        new = Path(made) / "bundle"
        new_folder(new, lambda whole: _write_bundle(source, whole, Handover(name, version)))
        for part in _OF_THE_WEIGHTS:
            shutil.rmtree(folder / part, ignore_errors=True)
            if (new / part).is_dir():
                shutil.copytree(new / part, folder / part)
    training = facts_of(folder).training
    refresh(folder, facts=replace(facts, training=training, eval_metrics={}))
    gone = ["its figures of evaluation were of other weights"] if facts.eval_metrics else []
    if numbers and not _domain_numbers(folder):
        if training.get("data", "") == facts.training.get("data"):
            attach_domain(folder, numbers)
        else:
            gone.append("its domain check was of other training data")
    return gone


def _domain_numbers(folder: Path) -> bytes:
    """Read the numbers of a bundle's domain check; nothing where it has none."""
    path = folder / DOMAIN_FILE
    known = (folder / MODEL_FILE).is_file() and "domain" in content_of(folder)
    return path.read_bytes() if known else b""


def _write_bundle(source: Path, whole: Path, wanted: Handover) -> None:
    """Write the bundle of a source under the name that its folder is given."""
    write = _writer(source)
    if write is None:
        Bundle.load(source)  # refuses what is no bundle before anything is copied
        shutil.copytree(source, whole, ignore=_PASSED_OVER)
        content = content_of(whole)
        content |= {"name": wanted.name} if wanted.name else {}
        write_texts(whole, {MODEL_FILE: yaml.safe_dump(content, sort_keys=False)})
        refresh(whole, version=wanted.version)
        write_reference(whole)
    else:
        write(whole, wanted.name or "trained", wanted.version or "1.0.0")


def _writer(source: Path) -> Callable[[Path, str, str], Path] | None:
    """Say how the source's bundle is written; None where the source is a bundle itself."""
    if source.is_file():
        return lambda whole, name, version: export_checkpoint(source, whole, name, version)
    if (source / MODEL_FILE).is_file():
        return None
    run = RunFolder(source)
    if run.last.is_file() or run.best.is_file():
        return lambda whole, name, version: _export_run(run, whole, name, version)
    raise InputMissing("no run, checkpoint or bundle there", path=source)


def _export_run(run: RunFolder, whole: Path, name: str, version: str) -> Path:
    export(run, whole, name, version)
    if numbers := _domain_numbers(run.bundle):  # calibrated when the training ended
        attach_domain(whole, numbers)
    return whole


def _serve(folder: Path, to: str) -> None:
    """Make a direction the first one, which the configs serve."""
    content = content_of(folder)
    Bundle.load(folder).generator(to)
    first = {to: content["generators"][to]}
    content["generators"] = first | content["generators"]
    write_texts(folder, {MODEL_FILE: yaml.safe_dump(content, sort_keys=False)})
    refresh(folder)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputMissing("no such file", path=path)
