"""Every setting of a training run; the defaults are the CycleGAN paper's recipe.

Zhu et al. 2017, section 4 ("Training details") and appendix 7.1: Adam at 2e-4, batch 1, a pool of
50 pictures, lambda 10, 200 epochs of which the second half decays to zero, weights from N(0, 0.02).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from medtranslate.errors import TrainingFailed
from medtranslate.networks import (
    GENERATOR_NAMES,
    InvalidSpec,
    PatchGAN,
    build_generator,
    generator_spec,
)

ADVERSARIAL = ("least-squares", "log")
WHICH = {"both": ("mri", "ct"), "mri": ("mri",), "ct": ("ct",)}
"""Generators, by what they make."""

PRECISIONS = ("auto", "float32", "bf16")
LAYOUTS = ("auto", "contiguous", "channels-last")
FRAME = 256
"""Rows and columns of a prepared slice."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Parameters
    ----------
    network : str
        The generator, one for each direction: ``"resnet9"``, ``"unet256"``, ``"compact"``, or a
        network of `monai.networks.nets` such as ``"BasicUNet"`` (`networks.GENERATOR_NAMES`).
    network_arguments : dict
        What its class takes, such as ``{"width": 96, "blocks": 6}``; its own defaults elsewhere.
    discriminator_width, discriminator_layers : int
        Of the PatchGAN; 64 and 3 make the paper's 70x70.
    epochs : int
        The first half at a constant rate, the second falling linearly to zero.
    steps_per_epoch : int
        0 means once through the larger set.
    batch_size : int
        Pairs a step and process.
    rate, discriminator_rate : float
        Adam's learning rates.
    betas : (float, float)
        Adam's.
    adversarial : {"least-squares", "log"}
        Form of equation 1.
    cycle : float
        Lambda of equation 3.
    cycle_of_mri : float
        Weight of an MRI's way back, as a share of lambda. The paper has 1. MRI of many contrasts
        lead to one CT, and no CT tells which it came from: below 1, that is asked for less.
    identity : float
        Weight of the identity term as a share of lambda; 0 leaves it out.
    identity_of : {"both", "mri", "ct"}
        Of which generators it is asked: of both (the paper), of the one that makes MRI, or of the
        one that makes CT.
    learns : {"both", "mri", "ct"}
        Which generators learn. The other one stays as it was given and serves the cycle; so one
        direction is mended and the other not touched. Not in the paper.
    hold : float
        Weight of what keeps generators close to those that the run started with: the mean
        difference of what the two make, averaged over blocks of 4x4 pixels. So what a picture
        shows stays, and how it looks may change. Not in the paper, and not a share of lambda.
    hold_of : {"both", "mri", "ct"}
        Which generators are held, of those that learn.
    pool : int
        Earlier fakes kept for each discriminator; 0 shows it only the newest.
    hiding_noise : float
        Standard deviation of noise laid over a fake before the way back (grey from -1 to 1),
        against hiding the source in fine patterns. The paper has none.
    average : float
        Decay of the generators' moving average, which is what a run exports; 0 exports the
        generators as they are.
    flip : bool
        Mirror left and right, half of the time.
    size : float
        Pictures are made larger or smaller by up to this share: the same on both sides.
    rotation : float
        Up to so many degrees either way.
    shift : float
        Up to so many pixels either way, both axes.
    crop : (rows, columns) or None
        Train on a window of this size centred on the head; None takes the whole frame, 256x256.
    reduce : int
        Average so many pixels a side into one first: small pictures for early steps.
    whole_epochs : int
        The last epochs, in which the networks see whole frames at full size, whatever `crop` and
        `reduce` say. A conversion shows them nothing else, and they normalise over the picture:
        trained on windows alone, they are far off on frames.
    precision : {"auto", "float32", "bf16"}
        bf16 computes the networks in bfloat16 where that loses nothing; weights stay float32. Auto
        takes it where the processor has bfloat16 arithmetic.
    layout : {"auto", "contiguous", "channels-last"}
        Of pictures in memory. Auto takes channels-last on a GPU; on CPUs instance normalisation
        undoes it at every layer, and a step takes a tenth longer.
    compile : bool
        Compile the networks with ``torch.compile``: minutes once, then faster steps on a GPU.
    cuda_graph : bool
        Capture a step as one CUDA graph and replay it: a GPU that waits for Python no longer does.
        Needs a GPU and one process.
    seed : int
        Of every random choice; each is a function of the seed and the step.

    Raises
    ------
    TrainingFailed
        A setting is out of its range, or they do not fit each other.
    """

    network: str = "resnet9"
    network_arguments: dict[str, Any] = field(default_factory=dict)
    discriminator_width: int = 64
    discriminator_layers: int = 3
    epochs: int = 200
    steps_per_epoch: int = 0
    batch_size: int = 1
    rate: float = 2e-4
    discriminator_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    adversarial: str = "least-squares"
    cycle: float = 10.0
    cycle_of_mri: float = 1.0
    identity: float = 0.5
    identity_of: str = "both"
    learns: str = "both"
    hold: float = 0.0
    hold_of: str = "both"
    pool: int = 50
    hiding_noise: float = 0.0
    average: float = 0.999
    flip: bool = True
    size: float = 0.10
    rotation: float = 0.0
    shift: float = 8.0
    crop: tuple[int, int] | None = None
    reduce: int = 1
    whole_epochs: int = 0
    precision: str = "auto"
    layout: str = "auto"
    compile: bool = False
    cuda_graph: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        # From a YAML or JSON file these come as lists.
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.crop is not None:
            object.__setattr__(self, "crop", tuple(self.crop))
        for name, allowed in (
            ("network", GENERATOR_NAMES), ("adversarial", ADVERSARIAL),
            ("identity_of", tuple(WHICH)), ("learns", tuple(WHICH)),
            ("hold_of", tuple(WHICH)), ("precision", PRECISIONS), ("layout", LAYOUTS),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise TrainingFailed(f"{name} must be one of {', '.join(allowed)}")
        for name in ("discriminator_width", "discriminator_layers", "epochs", "batch_size"):
            _at_least(self, name, 1)
        for name in (
            "steps_per_epoch", "rate", "discriminator_rate", "cycle", "cycle_of_mri",
            "identity", "hold", "pool", "hiding_noise", "rotation", "shift", "whole_epochs",
        ):  # fmt: skip
            _at_least(self, name, 0)
        if self.hold and not self.held:
            raise TrainingFailed(f"hold_of is {self.hold_of}, and {self.learns} alone learns")
        if self.whole_epochs > self.epochs:
            raise TrainingFailed(f"whole_epochs is {self.whole_epochs} of {self.epochs} epochs")
        for name in ("average", "size"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingFailed(f"{name} must lie in [0, 1), not {getattr(self, name)}")
        self._check_picture()

    def _multiple(self) -> int:
        """Return the number that must divide the sides of what the generators take."""
        try:
            with torch.device("meta"):
                network = build_generator(generator_spec(self.network, self.network_arguments))
        except InvalidSpec as error:
            raise TrainingFailed(f"network {self.network}: {error}") from error
        return int(network.multiple)  # type: ignore[arg-type]

    def _check_picture(self) -> None:
        if self.reduce < 1 or FRAME % self.reduce:
            raise TrainingFailed(f"reduce must divide {FRAME}, not {self.reduce}")
        largest = FRAME // self.reduce
        rows, columns = self.picture
        if any(not 0 < side <= largest for side in (rows, columns)):
            raise TrainingFailed(f"the crop must fit into {largest}x{largest} pixels")
        multiple = self._multiple()
        if rows % multiple or columns % multiple:
            raise TrainingFailed(
                f"{self.network} takes sides that {multiple} divides, not {rows}x{columns}"
            )
        least = PatchGAN.least_side(self.discriminator_layers)
        if min(rows, columns) < least:
            raise TrainingFailed(
                f"the discriminators take sides from {least} pixels on, not {rows}x{columns}"
            )

    @property
    def held(self) -> tuple[str, ...]:
        """Generators that learn and are held, by what they make."""
        if not self.hold:
            return ()
        return tuple(name for name in WHICH[self.hold_of] if name in WHICH[self.learns])

    @property
    def picture(self) -> tuple[int, int]:
        """Rows and columns of what the networks see."""
        return self.crop or (FRAME // self.reduce, FRAME // self.reduce)

    def in_epoch(self, epoch: int) -> Settings:
        """Return the settings for an epoch, counted from 1: the last ones see whole frames."""
        if epoch <= self.epochs - self.whole_epochs:
            return self
        return replace(self, crop=None, reduce=1)

    def rate_factor(self, epoch: int) -> float:
        """Share of the learning rates in an epoch, counted from 1."""
        constant = self.epochs // 2
        return min(1.0, (self.epochs - epoch + 1) / (self.epochs - constant + 1))

    def as_dict(self) -> dict[str, Any]:
        """Give the settings as builtins, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Make settings from what `as_dict` gave; names it does not know are an error."""
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise TrainingFailed(f"no such setting: {', '.join(sorted(unknown))}")
        return cls(**values)


def _at_least(settings: Settings, name: str, least: float) -> None:
    if not getattr(settings, name) >= least:
        raise TrainingFailed(f"{name} must be at least {least}, not {getattr(settings, name)}")
