"""What a run changes: two generators, two discriminators, their optimizers, averages and pools."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from medtranslate.device import choose_layout
from medtranslate.networks import PatchGAN, build_generator, draw_weights
from medtranslate.networks.kernels import quicken
from medtranslate.training.settings import WHICH, Settings

SIDES = WHICH["both"]
"""What a generator makes, or a discriminator judges."""


@dataclass
class Models:
    """Everything that a checkpoint holds, built from settings.

    Attributes
    ----------
    generators, discriminators : torch.nn.ModuleDict
        ``"mri"`` and ``"ct"``, by what they make or judge.
    averages : torch.nn.ModuleDict
        The generators' moving averages; the generators themselves where the settings have none.
    anchors : torch.nn.ModuleDict
        The generators with the run's initial weights, where `Settings.anchor_weight` asks for them.
    optimizers : dict of str to torch.optim.Adam
        ``"generators"`` and ``"discriminators"``.
    pools : dict of str to ImagePool
        ``"mri"`` and ``"ct"``.
    """

    settings: Settings
    device: torch.device
    generators: nn.ModuleDict = field(init=False)
    discriminators: nn.ModuleDict = field(init=False)
    averages: nn.ModuleDict = field(init=False)
    average: MovingAverage | None = field(init=False, default=None)
    anchors: nn.ModuleDict = field(init=False)
    optimizers: dict[str, torch.optim.Adam] = field(init=False)
    pools: dict[str, ImagePool] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.generators = self._placed(
                {n: draw_weights(make_generator(settings, n)) for n in SIDES}
            )
            self.discriminators = self._placed(
                {n: draw_weights(make_discriminator(settings, n)) for n in SIDES}
            )
        if settings.winograd and self.device.type == "cpu":
            quicken(self.generators)
            quicken(self.discriminators)
        for name in SIDES:
            self.generators[name].requires_grad_(name in WHICH[settings.trained_generators])
        self.averages = self.generators
        if settings.ema_decay:
            self.averages = self._placed({n: make_generator(settings, n) for n in SIDES})
            self.average = MovingAverage(self.averages, self.generators, settings.ema_decay)
        self.anchors = self._placed({n: make_generator(settings, n) for n in settings.anchored})
        self.anchors.requires_grad_(False)
        self.optimizers = {
            "generators": self._adam(self.generators, settings.learning_rate),
            "discriminators": self._adam(self.discriminators, settings.discriminator_learning_rate),
        }
        self.pools = {name: ImagePool(settings.pool_size) for name in SIDES}

    def set_rates(self, epoch: int) -> None:
        """Set the learning rates of an epoch, counted from 1."""
        factor = self.settings.rate_factor(epoch)
        for name, rate in (
            ("generators", self.settings.learning_rate),
            ("discriminators", self.settings.discriminator_learning_rate),
        ):
            for group in self.optimizers[name].param_groups:
                if isinstance(group["lr"], torch.Tensor):  # a captured step reads it there
                    group["lr"].fill_(rate * factor)
                else:
                    group["lr"] = rate * factor

    def start_here(self) -> None:
        """Set the averages and the anchors to the generators' present weights."""
        if self.average is not None:
            self.averages.load_state_dict(self.generators.state_dict())
        for name, network in self.anchors.items():
            network.load_state_dict(self.generators[name].state_dict())

    def compile(self) -> None:
        """Compile every network in place; names of weights stay as they are.

        A step has few sizes of batch (real with fake, with identity or without), and each is worth
        its own kernels.
        """
        trained = (*self.generators.values(), *self.discriminators.values())
        for network in (*trained, *self.anchors.values()):
            network.compile(dynamic=False)

    def finite(self) -> bool:
        """Say whether every weight is a finite number."""
        weights = [*self.generators.parameters(), *self.discriminators.parameters()]
        with torch.no_grad():
            sums = torch.stack([weight.sum() for weight in weights])
        return bool(torch.isfinite(sums).all())

    def _placed(self, networks: dict[str, nn.Module]) -> nn.ModuleDict:
        placed = nn.ModuleDict(networks).to(self.device)
        layout = choose_layout(self.settings.memory_format, self.device)
        placed.to(memory_format=layout)  # type: ignore[call-overload]
        return placed

    def _adam(self, networks: nn.Module, rate: float) -> torch.optim.Adam:
        captured = self.settings.cuda_graph
        return torch.optim.Adam(
            networks.parameters(),
            torch.tensor(rate, device=self.device) if captured else rate,
            betas=self.settings.betas,
            fused=self.device.type in ("cpu", "cuda"),
            capturable=captured,
        )


def make_generator(settings: Settings, side: str) -> nn.Module:
    """Build the generator of ``"mri"`` or ``"ct"``, its weights not yet drawn."""
    return build_generator(settings.generator(side))


def make_discriminator(settings: Settings, side: str) -> nn.Module:
    """Build the discriminator of ``"mri"`` or ``"ct"``, its weights not yet drawn."""
    return PatchGAN(
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        contrasts=len(settings.contrasts) if side == "mri" else 0,
    )


class ImagePool:
    """Keeps some of the fakes of earlier steps, and shows one of them half of the time.

    Parameters
    ----------
    size : int
        Images kept; 0 makes a pool that gives back what it is given.

    Attributes
    ----------
    kept : tensor (N, C, H, W) or None
        N grows to `size` before anything is exchanged. Fakes of another size empty the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: torch.Tensor | None = None

    def full(self, shape: tuple[int, ...]) -> bool:
        """Say whether as many fakes of a shape (C, H, W) are kept as ever will be."""
        if self.size == 0:
            return True
        return self.kept is not None and self.kept.shape == (self.size, *shape)

    def exchange(self, fakes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Take in new fakes, give as many, some of them older.

        Parameters
        ----------
        fakes : tensor (B, C, H, W)
            Without gradient.
        generator : torch.Generator
            On the fakes' device: nothing here waits for it.
        """
        if self.size == 0:
            return fakes
        if self.kept is not None and self.kept.shape[1:] != fakes.shape[1:]:
            self.kept = None
        fresh = self.size - (0 if self.kept is None else len(self.kept))
        filling, rest = fakes[:fresh], fakes[fresh:]
        if len(filling):
            self.kept = filling.clone() if self.kept is None else torch.cat([self.kept, filling])
        if not len(rest):
            return filling
        return torch.cat([filling, *(self._swap(p, generator) for p in rest.split(self.size))])

    def _swap(self, fakes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Exchange each fake for a different kept image with probability one half."""
        assert self.kept is not None
        device = fakes.device
        places = torch.rand(self.size, generator=generator, device=device).argsort()[: len(fakes)]
        older = torch.rand(len(fakes), 1, 1, 1, generator=generator, device=device) < 0.5
        earlier = self.kept[places]
        self.kept[places] = torch.where(older, fakes, earlier)
        return torch.where(older, earlier, fakes)


class MovingAverage:
    """Keeps a second set of weights that follows the first slowly.

    Early on the decay is smaller, ``(1 + n) / (10 + n)`` after n updates, so that the first
    weights, which are noise, are soon forgotten.

    Parameters
    ----------
    module : torch.nn.Module
        What is averaged; it has the same parameters as `source`.
    source : torch.nn.Module
        What is trained.
    decay : float
        In [0, 1).
    """

    def __init__(self, module: nn.Module, source: nn.Module, decay: float) -> None:
        module.load_state_dict(source.state_dict())
        self.module = module.requires_grad_(False)
        self.source, self.decay = source, decay
        self._pairs = list(zip(module.parameters(), source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Follow the source, `updates` being how often this was done before."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages, current = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(averages, current, 1 - decay)
        for kept, now in zip(self.module.buffers(), self.source.buffers(), strict=True):
            kept.copy_(now)  # statistics of batch normalization follow at once
