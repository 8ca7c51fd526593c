"""Bundles from a training run, a checkpoint or another bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from medtranslate.bundle import Bundle, Networks, attach, save_bundle
from medtranslate.bundle.load import MODEL_FILE
from medtranslate.bundle.metadata import Facts
from medtranslate.bundle.save import (
    PARTS,
    check_name,
    content_of,
    facts_of,
    refresh,
    write_texts,
)
from medtranslate.errors import InputMissing, TrainingFailed
from medtranslate.files import temporary_folder, whole_folder
from medtranslate.packaging.calibrate import calibrate_from_run
from medtranslate.packaging.contrasts import fit_contrasts
from medtranslate.packaging.reference import write_reference
from medtranslate.packaging.zoo import LICENSE_FILE, add_zoo_files
from medtranslate.training.checkpoints import Checkpoint, load_weights
from medtranslate.training.data import Data
from medtranslate.training.models import Models
from medtranslate.training.run_folder import RunFolder
from medtranslate.training.settings import Settings

Fitted = Mapping[str, bytes | None]
"""By name, the file of what is fitted on a run's data; None where there is too little of it."""

_KEPT = ("domain", "contrast")  # an expected error is of the weights that it was fitted to


@dataclass(frozen=True)
class RunPackager:
    """Make the bundle of a training run when it is finished: `Training.on_finished`.

    The bundle also gets a domain check, calibrated on the run's slices, where there are enough of
    them (`calibrate_from_run`), and where the generator of CT is told contrasts, a classifier that
    tells them (`fit_contrasts`). A run that has its bundle already is left alone.

    Parameters
    ----------
    name, version : str
        Of the model.

    Examples
    --------
    >>> RunPackager("mine")
    RunPackager(name='mine', version='1.0.0')
    """

    name: str = "trained"
    version: str = "1.0.0"

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.version, "version")

    def __call__(self, run: RunFolder, data: Data) -> None:
        """Write ``RUN/bundle``.

        Raises
        ------
        TrainingFailed, OutputFailed
            As `export`.
        """
        if run.bundle.exists():
            return
        settings = Settings.from_dict(Checkpoint.load(run.last).about["settings"])
        seed = settings.seed
        fitted: dict[str, bytes | None] = {"domain": calibrate_from_run(data, seed)}
        if settings.contrast_generators == "both":
            fitted["contrast"] = fit_contrasts(data, settings.contrasts, seed)
        export(run, run.bundle, self.name, self.version, fitted=fitted)


def export(
    run: RunFolder, folder: Path, name: str, version: str, *, fitted: Fitted | None = None
) -> Path:
    """Write a run's result as a bundle: its best checkpoint where it was validated, else its last.

    The averaged generators go in, where the settings have averages, with both discriminators, so
    that training can go on from the bundle, and the recipes that the scans were prepared by.

    Parameters
    ----------
    run : RunFolder
        Finished or not.
    folder : path
        Must not exist, or be empty.
    name, version : str
        Of the model.
    fitted : mapping of str to bytes or None, optional
        What is fitted on its data and carried by it: ``"domain"`` (`calibrate_from_run`) and
        ``"contrast"`` (`fit_contrasts`).

    Returns
    -------
    path
        The folder.

    Raises
    ------
    TrainingFailed
        The run has saved nothing yet.
    OutputExists, OutputFailed
        See `save_bundle`.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from medtranslate.files import shipped
    >>> from medtranslate.training.checkpoints import network_state
    >>> settings = Settings(
    ...     network="compact", network_arguments={"width": 16, "blocks": 1}, discriminator_width=8
    ... )
    >>> models = Models(settings, torch.device("cpu"))
    >>> recipes = {f"{of}-volume": shipped(f"transforms/{of}-volume.yaml") for of in ("ct", "mr")}
    >>> about = {"step": 1, "seconds": 1.0, "processes": 1, "precision": "float32"}
    >>> about |= {"versions": {}, "data": "", "settings": settings.as_dict()}
    >>> about["recipes"] = {name: path.read_text("utf-8") for name, path in recipes.items()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = RunFolder(Path(folder))
    ...     run.last.parent.mkdir()
    ...     Checkpoint(network_state(models), about).save(run.last)
    ...     Bundle.load(export(run, run.bundle, "mine", "1"))
    Bundle('mine', '1', makes mri and ct)
    """
    path = run.best if run.best.is_file() else run.last
    if not path.is_file():
        raise TrainingFailed("this run has saved no checkpoint yet", path=run.folder)
    return export_checkpoint(path, folder, name, version, fitted=fitted)


def export_checkpoint(
    path: Path,
    folder: Path,
    name: str,
    version: str,
    facts: Facts | None = None,
    *,
    fitted: Fitted | None = None,
) -> Path:
    """Write a checkpoint as a bundle, as `export` does.

    Parameters
    ----------
    path : path
        The checkpoint.
    folder, name, version
        As `export`.
    facts : Facts, optional
        What the metadata say in words; how it was trained is added.
    fitted : mapping of str to bytes or None, optional
        As `export`.

    Returns
    -------
    path
        The folder.

    Raises
    ------
    InputMissing, Unreadable
        As `Checkpoint.load`.
    OutputExists, OutputFailed
        See `save_bundle`.
    """
    checkpoint = Checkpoint.load(path)
    settings = Settings.from_dict(checkpoint.about["settings"])
    models = Models(settings, torch.device("cpu"))
    result = "averages" if settings.ema_decay else "generators"
    load_weights(models.averages, checkpoint.part(result), path)
    load_weights(models.discriminators, checkpoint.part("discriminators"), path)
    specs = {side: settings.generator(side) for side in models.averages}
    networks = Networks(specs, dict(models.averages.items()), dict(models.discriminators.items()))

    def finish(whole: Path) -> None:
        _attach(whole, fitted or {})
        if checkpoint.about["recipes"]:  # of slices made in memory there are none to translate by
            write_reference(whole)

    with temporary_folder() as made:
        recipes = []
        for recipe, text in checkpoint.about["recipes"].items():
            recipes.append(made / f"{recipe}.yaml")
            recipes[-1].write_text(text, encoding="utf-8")
        return save_bundle(
            folder,
            networks,
            recipes,
            name=name,
            version=version,
            facts=replace(facts or Facts(), training=training_facts(checkpoint)),
            finish=finish,
        )


def training_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return in builtins how the networks of a checkpoint were trained."""
    about = checkpoint.about
    pairs = checkpoint.step * about["settings"]["batch_size"] * about["processes"]
    return {
        "steps": checkpoint.step,
        "pairs": pairs,
        "seconds": round(about["seconds"]),
        "processes": about["processes"],
        "precision": about["precision"],
        "versions": about["versions"],
        "data": about["data"],
        "settings": about["settings"],
    }


_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*", "eval", "evaluation", "run")
_OF_THE_WEIGHTS = ("models", "discriminators", "configs")


@dataclass(frozen=True)
class ExportOptions:
    """How a bundle is to be written.

    Parameters
    ----------
    name, version : str
        Which model this is; ``""`` for what the source says.
    to : str
        Direction that its configs serve unless another is asked for; ``""`` for the source's.
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

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.version, "version")


def export_bundle(source: Path, folder: Path, options: ExportOptions) -> list[Path]:
    """Write a bundle from a run, a checkpoint or another bundle.

    Parameters
    ----------
    source : path
        A run's folder, a checkpoint file or a bundle's folder.
    folder : path
        Must not exist, or be empty.
    options : ExportOptions

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
    with whole_folder(folder, parents=True) as whole:
        _write_bundle(source, whole, options)
        if options.to:
            _serve(whole, options.to)
        if options.license is not None:
            _check_file(options.license)
            shutil.copyfile(options.license, whole / LICENSE_FILE)
        if options.zoo:
            shutil.rmtree(whole / "discriminators", ignore_errors=True)
            large.extend(add_zoo_files(whole))
    return large


def refresh_bundle(
    folder: Path, source: Path | None = None, *, version: str = "", note: str = ""
) -> list[str]:
    """Regenerate a bundle's files, with other weights where a source is given.

    What people wrote stays: the card and other documents, the license, the words in the metadata;
    with other weights, figures of evaluation go, as they were of the old ones. The domain check
    stays where the source brings none and was trained on the same slices; the expected error goes
    where the source brings none.

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
        As `export_bundle`.
    OutputFailed
        It cannot be written; the bundle is as it was.
    """
    content, gone = content_of(folder), []
    with whole_folder(folder, overwrite=True) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True, ignore=_NOT_COPIED)
        if source is not None:
            gone = _take_weights(partial, source, str(content["name"]), str(content["version"]))
        refresh(partial, version=version, note=note)
        write_reference(partial)
    return gone


def _take_weights(folder: Path, source: Path, name: str, version: str) -> list[str]:
    predicted_errors = "expected_error" in content_of(folder)
    facts, fitted = facts_of(folder), _read_fitted(folder)
    with temporary_folder() as made:
        new = made / "bundle"
        new.mkdir()
        _write_bundle(source, new, ExportOptions(name, version))
        for part in _OF_THE_WEIGHTS:
            shutil.rmtree(folder / part, ignore_errors=True)
            if (new / part).is_dir():
                shutil.copytree(new / part, folder / part)
    training = facts_of(folder).training
    refresh(folder, facts=replace(facts, training=training, eval_metrics={}))
    gone = ["its figures of evaluation were of other weights"] if facts.eval_metrics else []
    if predicted_errors and "expected_error" not in content_of(folder):
        gone.append(
            "its expected error was of other weights (medtranslate bundle fit-expected-error)"
        )
    brought = _read_fitted(folder)
    kept = {name: each for name, each in fitted.items() if name not in brought}
    if "domain" in kept and training.get("data", "") != facts.training.get("data"):
        del kept["domain"]
        gone.append("its domain check was of other training data")
    _attach(folder, kept)
    return gone


def _attach(folder: Path, fitted: Fitted) -> None:
    for name, numbers in fitted.items():
        if numbers is not None:
            attach(folder, name, numbers)


def _read_fitted(folder: Path) -> dict[str, bytes]:
    """Return the files that a bundle carries beside its weights, by their names in its content."""
    content = content_of(folder) if (folder / MODEL_FILE).is_file() else {}
    return {name: (folder / PARTS[name]).read_bytes() for name in _KEPT if name in content}


def _write_bundle(source: Path, whole: Path, options: ExportOptions) -> None:
    """Write the bundle of a source under the name that its folder is given."""
    write = _writer(source)
    if write is None:
        Bundle.load(source)  # refuses what is no bundle before anything is copied
        shutil.copytree(source, whole, ignore=_NOT_COPIED, dirs_exist_ok=True)
        content = content_of(whole)
        content |= {"name": options.name} if options.name else {}
        write_texts(whole, {MODEL_FILE: yaml.safe_dump(content, sort_keys=False)})
        refresh(whole, version=options.version)
        write_reference(whole)
    else:
        write(whole, options.name or "trained", options.version or "1.0.0")


def _writer(source: Path) -> Callable[[Path, str, str], Path] | None:
    """Return the function that writes the source's bundle; None where it is a bundle itself."""
    if source.is_file():
        return lambda whole, name, version: export_checkpoint(source, whole, name, version)
    if (source / MODEL_FILE).is_file():
        return None
    run = RunFolder(source)
    if run.last.is_file() or run.best.is_file():
        return lambda whole, name, version: _export_run(run, whole, name, version)
    raise InputMissing("no run, checkpoint or bundle there", path=source)


def _export_run(run: RunFolder, whole: Path, name: str, version: str) -> Path:
    # Fitted when the training ended.
    return export(run, whole, name, version, fitted=_read_fitted(run.bundle))


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
