"""The CycleGAN step on slices and random draws, and MONAI's trainer around it.

`Step` is one optimization step, `CapturedStep` the same as one CUDA graph, `CycleGANTrainer` the
epoch loop: MONAI's, so that any MONAI or Ignite handler attaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import nn

from medtranslate.device import autocast
from medtranslate.training.augmentation import Augmentation, draw
from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.distributed import World
from medtranslate.training.models import SIDES, Models
from medtranslate.training.objective import DiscriminatorObjective, GeneratorObjective, Losses
from medtranslate.training.pairs import Pairs, PairSource
from medtranslate.training.randomness import generator, reseed
from medtranslate.training.settings import Settings


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
    pairs : PairSource, optional
        Registered scans for the supervised terms; they are augmented as unpaired slices are.
    rendered : PairSource, optional
        Pairs for the supervised terms that vary by themselves: whole slices, as they are.

    Examples
    --------
    >>> settings = Settings(
    ...     network="compact",
    ...     network_arguments={"width": 8, "blocks": 1},
    ...     discriminator_width=8,
    ...     discriminator_layers=1,
    ...     epochs=1,
    ... )
    >>> from medtranslate.training.prepared import PreparedSet, ScanRecord
    >>> device, gray = torch.device("cpu"), torch.zeros(2, 256, 256, dtype=torch.uint8)
    >>> records = (ScanRecord("a.png", "", used=2, empty=0),)
    >>> ct, mri = (PreparedSet(name, gray, torch.zeros(2).int(), records) for name in ("CT", "MR"))
    >>> batches = UnpairedBatches(ct, mri, 1, 0, device, steps_per_epoch=1)
    >>> trainer = CycleGANTrainer(Models(settings, device), batches)
    >>> trainer.state.max_epochs, trainer.state.epoch_length, trainer.finished
    (1, 1, False)
    """

    def __init__(
        self,
        models: Models,
        batches: UnpairedBatches,
        precision: str = "float32",
        world: World | None = None,
        handlers: Sequence[Any] = (),
        pairs: PairSource | None = None,
        rendered: PairSource | None = None,
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
        self.pairs, self.rendered = pairs, rendered
        self.generate = world.wrap(GeneratorObjective(models.generators, settings, models.anchors))
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
        step, settings = self.state.iteration - 1, self.models.settings
        self.models.set_rates(self.state.epoch)
        changes = {
            f"{name} changes": self._changes(name, len(slices), step)
            for name, slices in batchdata.items()
            if name in SIDES
        }
        for purpose, draws in self._draws.items():
            reseed(draws, settings.seed, purpose, step, self.world.rank)
        given = {**batchdata, **changes}
        if self.pairs is not None:
            given |= self._paired(self.pairs, step)
        if self.rendered is not None:
            count = settings.rendered_batch_size
            given |= flattened("rendered", self._share(self.rendered, count, step))
        losses = self._step_of(self.state.epoch)(given)
        if self.models.average is not None:
            self.models.average.update(step)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return losses

    def _step_of(self, epoch: int) -> Callable[[Given], Losses]:
        """Return the step of an epoch: built again where the networks begin to see whole slices."""
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
            size = settings.image_size
            shapes = {"mri": (1 + bool(settings.contrasts), *size), "ct": (1, *size)}
            return not step.judged or all(
                pool.full(shapes[name]) for name, pool in models.pools.items()
            )

        return CapturedStep(step, pools_full, draws.values(), models.device)

    def _paired(self, source: PairSource, step: int) -> Given:
        """Return this process's pairs of a step, and their changes."""
        count = self.models.settings.paired_batch_size
        given = flattened("paired", self._share(source, count, step))
        return given | {"paired changes": self._changes("pairs", count, step)}

    def _share(self, source: PairSource, count: int, step: int) -> Pairs:
        return source.pairs((step * self.world.size + self.world.rank) * count, count)

    def _changes(self, name: str, count: int, step: int) -> torch.Tensor:
        # Drawn for all processes' images, of which this one takes its share: so many processes
        # see what one would with the whole batch.
        draws = draw(
            count * self.world.size, generator(self.models.settings.seed, f"augment {name}", step)
        )
        own = draws[self.world.rank * count :][:count]
        return own.to(self.models.device, non_blocking=True)


KINDS = ("paired", "rendered")
"""Kinds of pairs: registered scans, and those rendered from label maps."""

Given = dict[str, torch.Tensor]
"""``"ct"``, ``"mri"``: uint8 (B, 256, 256); ``"ct changes"``, ``"mri changes"``: float32 (B, 5).

``"mri contrast"``: int64 (B,), where MR slices have contrast codes.
Where there are pairs also the tensors of `Pairs` under their names: ``"paired ct"``, ``"rendered
head"``; and ``"paired changes"``: float32 (P, 5).
"""


def flattened(kind: str, pairs: Pairs) -> Given:
    """Return the tensors of pairs by names that begin with their kind."""
    named = {f"{kind} {each.name}": getattr(pairs, each.name) for each in fields(pairs)}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


@dataclass(frozen=True)
class Step:
    """The step, as a function of tensors on the device and of generators of random numbers.

    Nothing in it waits for the device or depends on a value there, so it can be captured
    (`CapturedStep`).

    Parameters
    ----------
    models : Models
    generate, judge : torch.nn.Module
        `GeneratorObjective` and `DiscriminatorObjective`, wrapped where there are many processes.
    augment : Augmentation
    precision : {"float32", "bf16"}
    draws : dict of str to torch.Generator
        ``"noise"`` and ``"pool"``, on the device, seeded by the caller.
    """

    models: Models
    generate: nn.Module
    judge: nn.Module
    augment: Augmentation
    precision: str
    draws: dict[str, torch.Generator]

    @property
    def judged(self) -> bool:
        """Whether discriminators learn."""
        return self.augment.settings.adversarial_weight > 0

    def __call__(self, given: Given) -> Losses:
        """Take the step; return its losses, on the device."""
        models, optimizers = self.models, self.models.optimizers
        ct, mri = (self.augment(given[name], given[f"{name} changes"]) for name in ("ct", "mri"))
        if self.augment.settings.contrasts:
            mri = replace(mri, contrast=_codes(given, len(mri), models.device))
        pairs = {kind: self._pairs(kind, given) for kind in KINDS if f"{kind} ct" in given}

        models.discriminators.requires_grad_(False)
        optimizers["generators"].zero_grad(set_to_none=True)
        with autocast(self.precision, models.device):
            total, losses, fakes = self.generate(
                ct, mri, models.discriminators, self.draws["noise"], pairs
            )
        total.backward()
        optimizers["generators"].step()

        if not self.judged:
            return dict(losses)
        models.discriminators.requires_grad_(True)
        optimizers["discriminators"].zero_grad(set_to_none=True)
        codes = None
        if mri.contrast is not None:  # a fake of an earlier step keeps its code
            fakes["mri"] = with_code(fakes["mri"], mri.contrast)
        shown = {
            name: models.pools[name].exchange(fakes[name], self.draws["pool"]) for name in SIDES
        }
        if mri.contrast is not None:
            shown["mri"], earlier = without_code(shown["mri"])
            codes = torch.cat([mri.contrast, earlier])
        with autocast(self.precision, models.device):
            total, judged = self.judge({"mri": mri.image, "ct": ct.image}, shown, codes)
        total.backward()
        optimizers["discriminators"].step()
        return {**losses, **judged}

    def _pairs(self, kind: str, given: Given) -> Pairs:
        """Return the pairs of a kind, registered ones changed as unpaired slices are."""
        names = [each.name for each in fields(Pairs) if f"{kind} {each.name}" in given]
        pairs = Pairs(**{name: given[f"{kind} {name}"] for name in names})
        if f"{kind} changes" not in given:
            return self.augment.reduced(pairs)
        both = torch.cat([pairs.ct, pairs.mri], dim=1)
        changed = self.augment.change(both, pairs.head, given[f"{kind} changes"])
        ct, mri = changed.image[:, :1], changed.image[:, 1:]
        return replace(pairs, ct=ct, mri=mri, head=changed.head)


def with_code(fakes: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return fakes (B, 1, H, W) with their codes (B,) as a second channel, for an image pool."""
    plane = codes.to(fakes.dtype)[:, None, None, None].expand_as(fakes)
    return torch.cat([fakes, plane], dim=1)


def without_code(fakes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the fakes and the codes that `with_code` put together."""
    return fakes[:, :1], fakes[:, 1, 0, 0].round().long()


def _codes(given: Given, count: int, device: torch.device) -> torch.Tensor:
    codes = given.get("mri contrast")
    return torch.zeros(count, dtype=torch.int64, device=device) if codes is None else codes


class CapturedStep:
    """Runs a step as it is until it is ready, then captures it, and replays it from there on.

    What is captured reads and writes the same memory every time, so what a step is given is copied
    into place first, and generators of random numbers take the seed that they have at the replay.
    The sizes of what it is given must not change.

    Parameters
    ----------
    step : callable
        Of a dict of tensors; returns the losses.
    ready : callable
        Says whether the step does the same as all later ones will: image pools are full.
    draws : iterable of torch.Generator
        Those that the step draws from.
    device : torch.device
        A CUDA device.
    """

    WARM_UP = 3
    """Steps before it can be captured: kernels are compiled and chosen, Adam's moments made."""

    def __init__(
        self,
        step: Callable[[Given], Losses],
        ready: Callable[[], bool],
        draws: Iterable[torch.Generator],
        device: torch.device,
    ) -> None:
        self._step, self._ready, self._draws = step, ready, tuple(draws)
        self._stream = torch.cuda.Stream(device)
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, given: Given) -> Losses:
        """Take the step."""
        if self._graph is None and (self._taken < self.WARM_UP or not self._ready()):
            self._taken += 1
            return self._beside(given)
        if self._graph is None:
            self._graph = self._capture(given)
        for name, tensor in given.items():
            self._given[name].copy_(tensor)
        self._graph.replay()
        return dict(zip(self._names, self._losses.clone(), strict=True))

    def _beside(self, given: Given) -> Losses:
        """Run it on the stream on which it will be captured: gradients belong to their stream."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = self._step(given)
        current.wait_stream(self._stream)
        return losses

    def _capture(self, given: Given) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for draws in self._draws:
            graph.register_generator_state(draws)
        self._given = {name: tensor.clone() for name, tensor in given.items()}
        with torch.cuda.graph(graph, stream=self._stream):
            losses = self._step(self._given)
            self._names, self._losses = list(losses), torch.stack(list(losses.values()))
        return graph
