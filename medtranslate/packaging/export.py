"""Export a training run or one of its checkpoints as a bundle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medtranslate.bundle import Networks, attach_domain, save_bundle
from medtranslate.bundle.facts import Facts
from medtranslate.errors import TrainingFailed
from medtranslate.packaging.domain import domain_numbers
from medtranslate.packaging.reference import write_reference
from medtranslate.training.checkpoints import Checkpoint, load_weights
from medtranslate.training.models import Models, generator_config
from medtranslate.training.prepared import Data
from medtranslate.training.run_folder import RunFolder
from medtranslate.training.settings import Settings


@dataclass(frozen=True)
class RunPackager:
    """Make the bundle of a training run when it is finished: `Training.on_finished`.

    The bundle also gets a domain check, calibrated on the run's slices, where there are enough of
    them (`domain_numbers`). A run that has its bundle already is left alone.

    Parameters
    ----------
    name, version : str
        Of the model.
    """

    name: str = "trained"
    version: str = "1.0.0"

    def __call__(self, run: RunFolder, data: Data) -> None:
        """Write ``RUN/bundle``.

        Raises
        ------
        TrainingFailed, OutputFailed
            As `export`.
        """
        if run.bundle.exists():
            return
        seed = Checkpoint.load(run.last).about["settings"]["seed"]
        numbers = domain_numbers(data, seed)
        export(run, run.bundle, self.name, self.version)
        if numbers is not None:
            attach_domain(run.bundle, numbers)


def export(run: RunFolder, folder: Path, name: str, version: str) -> Path:
    """Write a run's result as a bundle: its best checkpoint where it was validated, else its last.

    The averaged generators go in, where the settings have averages, with both discriminators, so
    that training can go on from the bundle, and the recipes that the scans were prepared by.

    Parameters
    ----------
    run : RunFolder
        Finished or not.
    folder : path
        Must not exist.
    name, version : str
        Of the model.

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
    """
    path = run.best if run.best.is_file() else run.last
    if not path.is_file():
        raise TrainingFailed("this run has saved no checkpoint yet", path=run.folder)
    return export_checkpoint(path, folder, name, version)


def export_checkpoint(
    path: Path, folder: Path, name: str, version: str, facts: Facts | None = None
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
    specs = {side: generator_config(settings) for side in models.averages}
    networks = Networks(specs, dict(models.averages.items()), dict(models.discriminators.items()))
    with tempfile.TemporaryDirectory() as made:
        recipes = []
        for recipe, text in checkpoint.about["recipes"].items():
            recipes.append(Path(made) / f"{recipe}.yaml")
            recipes[-1].write_text(text, encoding="utf-8")
        return save_bundle(
            folder,
            networks,
            recipes,
            name=name,
            version=version,
            facts=replace(facts or Facts(), training=training_facts(checkpoint)),
            # Slices made in memory have no recipes, and nothing can be translated without.
            finish=write_reference if recipes else lambda folder: None,
        )


def training_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Say in builtins how the networks of a checkpoint were trained."""
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
