"""The trainer: MONAI's, so that its handlers attach, with the CycleGAN step in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents

from medtranslate.training.augment import Augmentation, draw
from medtranslate.training.device import autocast
from medtranslate.training.distributed import World
from medtranslate.training.models import SIDES, Models
from medtranslate.training.objective import DiscriminatorObjective, GeneratorObjective
from medtranslate.training.randomness import generator
from medtranslate.training.slices import UnpairedBatches


class CycleGANTrainer(Trainer):
    """Trains both directions of a CycleGAN on unpaired slices.

    After each step ``state.output`` holds the losses by name (`objective.py`), as tensors on the
    device: reading them waits for it. ``state.iteration`` counts steps, each of `batch_size` pairs.

    Parameters
    ----------
    models : Models
    batches : UnpairedBatches
        Where it starts (`UnpairedBatches.step`) is where the trainer starts.
    precision : {"float32", "bf16"}
    world : World
    handlers : sequence
        MONAI's or Ignite's.
    """

    def __init__(
        self,
        models: Models,
        batches: UnpairedBatches,
        precision: str = "float32",
        world: World | None = None,
        handlers: Sequence[Any] = (),
    ) -> None:
        settings, world = models.settings, world or World()
        super().__init__(
            device=models.device,
            max_epochs=settings.epochs,
            data_loader=batches,
            epoch_length=len(batches),
            handlers=list(handlers),
            decollate=False,
        )
        self.models, self.world, self.precision = models, world, precision
        self.generate = world.wrap(GeneratorObjective(models.generators, settings))
        self.judge = world.wrap(DiscriminatorObjective(models.discriminators, settings))
        self.state.iteration = batches.step
        self.state.epoch = batches.step // len(batches)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return bool(self.state.iteration >= self.state.max_epochs * self.state.epoch_length)

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        step = self.state.iteration - 1
        models, optimizers = self.models, self.models.optimizers
        models.set_rates(self.state.epoch)
        augment = Augmentation(models.settings.in_epoch(self.state.epoch))
        ct, mri = (
            augment(batchdata[name], self._changes(name, len(batchdata[name]), step))
            for name in ("ct", "mri")
        )

        models.discriminators.requires_grad_(False)
        optimizers["generators"].zero_grad(set_to_none=True)
        with autocast(self.precision, models.device):
            total, losses, fakes = self.generate(
                ct, mri, models.discriminators, self._draws("noise", step)
            )
        total.backward()
        optimizers["generators"].step()

        models.discriminators.requires_grad_(True)
        optimizers["discriminators"].zero_grad(set_to_none=True)
        choice = self._draws("pool", step)
        shown = {name: models.pools[name].exchange(fakes[name], choice) for name in SIDES}
        with autocast(self.precision, models.device):
            total, judged = self.judge({"mri": mri.image, "ct": ct.image}, shown)
        total.backward()
        optimizers["discriminators"].step()

        if models.average is not None:
            models.average.update(step)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {**losses, **judged}

    def _changes(self, name: str, count: int, step: int) -> torch.Tensor:
        # Drawn for all processes' pictures, of which this one takes its share: so many processes
        # see what one would with the whole batch.
        draws = draw(
            count * self.world.size, generator(self.models.settings.seed, f"augment {name}", step)
        )
        return draws[self.world.rank * count :][:count]

    def _draws(self, purpose: str, step: int) -> torch.Generator:
        seed = self.models.settings.seed
        return generator(seed, purpose, step, self.world.rank, device=self.models.device)
