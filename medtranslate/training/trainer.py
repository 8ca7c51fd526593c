"""The trainer: MONAI's, so that its handlers attach, with the CycleGAN step in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents

from medtranslate.training.augment import Augmentation, draw
from medtranslate.training.distributed import World
from medtranslate.training.graph import CapturedStep
from medtranslate.training.models import Models
from medtranslate.training.objective import DiscriminatorObjective, GeneratorObjective, Losses
from medtranslate.training.randomness import generator, reseed
from medtranslate.training.settings import Settings
from medtranslate.training.slices import UnpairedBatches
from medtranslate.training.step import Given, Step


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
        self.generate = world.wrap(GeneratorObjective(models.generators, settings, models.held))
        self.judge = world.wrap(DiscriminatorObjective(models.discriminators, settings))
        self._draws = {purpose: torch.Generator(models.device) for purpose in ("noise", "pool")}
        self._settings, self._step = settings, self._make_step(settings)
        self.state.iteration = batches.step
        self.state.epoch = batches.step // len(batches)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return bool(self.state.iteration >= self.state.max_epochs * self.state.epoch_length)

    def _iteration(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        step = self.state.iteration - 1
        self.models.set_rates(self.state.epoch)
        changes = {
            f"{name} changes": self._changes(name, len(slices), step)
            for name, slices in batchdata.items()
        }
        for purpose, draws in self._draws.items():
            reseed(draws, self.models.settings.seed, purpose, step, self.world.rank)
        losses = self._step_of(self.state.epoch)({**batchdata, **changes})
        if self.models.average is not None:
            self.models.average.update(step)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return losses

    def _step_of(self, epoch: int) -> Callable[[Given], Losses]:
        """Return the step of an epoch: made anew where the networks come to see whole frames."""
        settings = self.models.settings.in_epoch(epoch)
        if settings != self._settings:
            self._settings, self._step = settings, self._make_step(settings)
        return self._step

    def _make_step(self, settings: Settings) -> Callable[[Given], Losses]:
        models, draws = self.models, self._draws
        step = Step(
            models, self.generate, self.judge, Augmentation(settings), self.precision, draws
        )
        if not settings.cuda_graph:
            return step

        def pools_full() -> bool:
            return all(pool.full((1, *settings.picture)) for pool in models.pools.values())

        return CapturedStep(step, pools_full, draws.values(), models.device)

    def _changes(self, name: str, count: int, step: int) -> torch.Tensor:
        # Drawn for all processes' pictures, of which this one takes its share: so many processes
        # see what one would with the whole batch.
        draws = draw(
            count * self.world.size, generator(self.models.settings.seed, f"augment {name}", step)
        )
        own = draws[self.world.rank * count :][:count]
        return own.to(self.models.device, non_blocking=True)
