"""A training run as MONAI's bundle workflows ask for one: a dataset, and an engine that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import Dataset

from medtranslate.errors import TrainingFailed
from medtranslate.packaging.export import RunPackager
from medtranslate.training.data import Data
from medtranslate.training.preparation import RecipeBook
from medtranslate.training.run import Training
from medtranslate.training.session import Outcome


class TrainingSlices(Dataset[dict[str, torch.Tensor]]):
    """The slices that a run trains on, prepared when first asked for.

    Item ``i`` is ``{"ct": uint8 (1, 256, 256), "mri": uint8 (1, 256, 256)}``: gray 0 is outside the
    head, 1 to 255 are -1 to 1. The sets are unpaired, and the smaller one starts again.

    Parameters
    ----------
    training : Training
        The run.
    data : mapping of str to path, optional
        ``"ct"`` and ``"mri"``: folders to train on, instead of those of the run.
    """

    def __init__(self, training: Training, data: Mapping[str, Any] | None = None) -> None:
        self.training = replace(training, **(data or {}))

    @cached_property
    def data(self) -> Data:
        """Both sets, and what is held out of them."""
        return self.training.data(RecipeBook.read(self.training.recipes))

    def __len__(self) -> int:
        return max(len(self.data.ct), len(self.data.mri))

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        if not 0 <= place < len(self):
            raise IndexError(place)
        sets = {"ct": self.data.ct, "mri": self.data.mri}
        return {name: one.slices[place % len(one)][None] for name, one in sets.items()}


@dataclass(frozen=True)
class TrainingEngine:
    """A run under the names that MONAI's workflows use: ``train::trainer`` of a bundle.

    Parameters
    ----------
    training : Training
        The run.
    max_epochs : int
        The run's.
    train_handlers : sequence
        MONAI's or Ignite's, attached to the `CycleGANTrainer` of the run.
    packager : RunPackager
        Makes the bundle of the finished run.

    Raises
    ------
    TrainingFailed
        The number of epochs is given twice, and differs.
    """

    training: Training
    max_epochs: int
    train_handlers: Sequence[Any] = ()
    packager: RunPackager = field(default_factory=RunPackager)

    def __post_init__(self) -> None:
        epochs = self.training.settings.epochs
        if epochs != self.max_epochs:
            raise TrainingFailed(
                f"{epochs} epochs in the settings, but max_epochs is {self.max_epochs}",
                remedy="set the bundle's key epochs alone",
            )

    def run(self) -> Outcome:
        """Train, then make the bundle of a finished run; see `Training.run`."""
        handlers = (*self.training.handlers, *self.train_handlers)
        return replace(self.training, handlers=handlers, on_finished=self.packager).run()
