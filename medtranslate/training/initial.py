"""Start from earlier weights: a bundle, a run, or one of its checkpoints."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from medtranslate.errors import InputMissing, Unreadable
from medtranslate.training.checkpoints import Checkpoint, Tensors, load_weights
from medtranslate.training.layout import RunFolder
from medtranslate.training.models import SIDES, Models

_FILES = {"mri": "ct_to_mri.safetensors", "ct": "mri_to_ct.safetensors"}


def start_from(models: Models, path: Path) -> str:
    """Load generators, and discriminators where they are kept, from earlier training.

    A checkpoint gives its averaged generators, where it has them: those are its result.

    Parameters
    ----------
    models : Models
        Fresh ones, of the same networks.
    path : path
        A bundle's folder, a run's folder, or a checkpoint file.

    Returns
    -------
    str
        What was found, for the user.

    Raises
    ------
    InputMissing, Unreadable
        There is no such thing at the path.
    TrainingFailed
        The weights are of other networks.
    """
    if path.is_file():
        return _from_checkpoint(models, path)
    if RunFolder(path).last.is_file():
        return _from_checkpoint(models, RunFolder(path).last)
    if (path / "models").is_dir():
        return _from_bundle(models, path)
    raise InputMissing("no bundle, run or checkpoint there", path=path)


def _from_checkpoint(models: Models, path: Path) -> str:
    checkpoint = Checkpoint.load(path)
    generators = checkpoint.part("averages") or checkpoint.part("generators")
    load_weights(models.generators, generators, path)
    load_weights(models.discriminators, checkpoint.part("discriminators"), path)
    models.start_here()
    return f"generators and discriminators of step {checkpoint.step}"


def _from_bundle(models: Models, bundle: Path) -> str:
    for side in SIDES:
        path = bundle / "models" / _FILES[side]
        load_weights(models.generators[side], _weights(path), path)
    models.start_here()
    judges = {side: bundle / "discriminators" / f"{side}.safetensors" for side in SIDES}
    if not all(path.is_file() for path in judges.values()):
        return "generators; the bundle has no discriminators, so those start fresh"
    for side, path in judges.items():
        load_weights(models.discriminators[side], _weights(path), path)
    return "generators and discriminators"


def _weights(path: Path) -> Tensors:
    if not path.is_file():
        raise InputMissing("no such weights", path=path)
    try:
        # A bundle may keep 16 bit; training goes on in 32.
        return {name: value.float() for name, value in load_file(path).items()}
    except SafetensorError as error:
        raise Unreadable("no safetensors, or damaged", path=path) from error
