"""Every setting of a training run; the defaults are the CycleGAN paper's recipe.

Zhu et al. 2017, section 4 ("Training details") and appendix 7.1: Adam at 2e-4, batch 1, a pool of
50 images, lambda 10, 200 epochs of which the second half decays to zero, weights from N(0, 0.02).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from medtranslate.errors import InputMissing, TrainingFailed
from medtranslate.networks import (
    GENERATOR_NAMES,
    InvalidSpec,
    PatchGAN,
    build_generator,
    generator_spec,
)
from medtranslate.transforms.units import WINDOW_SHARE

WHICH = {"both": ("mri", "ct"), "mri": ("mri",), "ct": ("ct",)}
"""Generators, by what they make."""

GRID_SIZE = 256
"""Rows and columns of a prepared slice."""

Generators = Literal["both", "mri", "ct"]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

_STRICT = ConfigDict(extra="forbid")


class _Explained:
    """A dataclass whose wrong values are one line that says which, why and what was meant."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return handler(values)
        except ValidationError as error:
            names = [each.name for each in dataclasses.fields(cls)]  # type: ignore[arg-type]
            faults = dict.fromkeys(_fault(one, names) for one in error.errors())
            raise TrainingFailed("; ".join(faults)) from None


@dataclass(frozen=True, config=_STRICT)
class Settings(_Explained):
    """How to train: what determines the weights, bit for bit, beside the data.

    Parameters
    ----------
    network : str
        The generator, one for each direction: ``"resnet9"``, ``"unet256"``, ``"compact"``, or a
        network of `monai.networks.nets` such as ``"BasicUNet"`` (`networks.GENERATOR_NAMES`).
    network_arguments : dict
        Arguments of its class, such as ``{"width": 96, "blocks": 6}``; its defaults elsewhere.
    contrasts : tuple of str
        MR contrasts (``t1``, ``t1c``, ``t2``, ``flair``, ``pd``) that the generator of MRI takes as
        an input and its discriminator judges by; none by default. Not in the paper.
    contrast_generators : {"mri", "both"}
        Generators that take the contrast as an input, by what they make: with "both", the one that
        makes CT is told the contrast of the MRI that it gets.
    ct_range : {"window", "full"}
        HU that the generator of CT makes: those of the brain window, as in the paper's data, or
        -1024 to 2000, taught beyond the window by label maps alone. Real CT are compared, judged
        and translated in the window all the same. Not in the paper.
    discriminator_width, discriminator_layers : int
        Channels and layers of the PatchGAN; 64 and 3 give the paper's 70x70.
    epochs : int
        The first half at a constant rate, the second falling linearly to zero.
    steps_per_epoch : int
        0 means once through the larger set; 1000 where a run has label maps alone.
    batch_size : int
        Unpaired images of each modality, per step and process.
    learning_rate, discriminator_learning_rate : float
        Of Adam.
    betas : (float, float)
        Of Adam.
    adversarial_loss : {"least-squares", "log"}
        Form of equation 1.
    adversarial_weight : float
        Of the adversarial losses; 1 in the paper. 0 leaves them and the discriminators out.
    cycle_weight : float
        Lambda of equation 3.
    mri_cycle_share : float
        Weight of an MRI's cycle reconstruction as a share of lambda; the paper has 1. MRI of many
        contrasts lead to one CT that does not say which it came from, so less may be asked.
    identity_share : float
        Weight of the identity term as a share of lambda; 0 leaves it out.
    identity_generators : {"both", "mri", "ct"}
        Generators with an identity term, by what they make; both in the paper.
    trained_generators : {"both", "mri", "ct"}
        Generators that learn. The other stays as ``--init-from`` gives it and serves the cycle.
        Not in the paper.
    anchor_weight : float
        Weight of the penalty on the distance to the initial weights' output, averaged over blocks
        of 4x4 pixels: what an image shows stays, its texture may change. Not in the paper, and not
        a share of lambda.
    anchored_generators : {"both", "mri", "ct"}
        Generators with that penalty, of those that learn.
    paired_weight : float
        Weight of the L1 distance to the truth, where a run has pairs. Not in the paper.
    gradient_share : float
        Weight of the gradient difference to the truth, as a share of `paired_weight`.
    paired_batch_size : int
        Pairs per step and process, where a run has pairs.
    rendered_weight : float
        Weight of the L1 distance to the truth on pairs rendered from label maps, where a run has
        any; `gradient_share` holds for them too. Not in the paper.
    rendered_batch_size : int
        Rendered pairs per step and process.
    rendered_block_size : int
        Pairs rendered at once and used one batch after another: larger blocks are faster on a GPU
        and take more memory.
    rendered_contrasts : dict of str to float
        How often each MR contrast is rendered: ``t1``, ``t1c``, ``t2``, ``flair``, ``pd``,
        ``random``; where empty, as `label_synthesis.MRSettings` has it.
    rendered_ct_grain : float
        Largest standard deviation, in HU, of the grain on a rendered CT that is translated. A CT
        that is the truth has none.
    judged_ct_grain : float
        Standard deviation, in HU, of grain on a CT that is made, before its discriminator sees it:
        4 as real ones have (`transforms.grain`). What then tells it from a real one is mostly its
        structure, and a generator that makes no grain is not punished for it (after Bora et al.
        2018, "AmbientGAN"). At full size only. Not in the paper.
    fluid_weight : float
        Weight of fluid in the L1 distance on rendered pairs; healthy tissue weighs 1.
    lesion_weight : float
        Least weight of lesions of the brain there, which are small and rare; a cyst is fluid, too.
    pool_size : int
        Earlier synthetic images kept for each discriminator; 0 shows it the newest only.
    intermediate_noise : float
        Standard deviation of noise on the intermediate image of a cycle, in units of [-1, 1],
        against steganography: a source hidden in fine patterns. The paper has none.
    ema_decay : float
        Decay of the moving average of the generators, which is the result of a run; 0: none.
    flip : bool
        Mirror left and right half of the time.
    scaling : float
        Enlarge or shrink by up to this share, alike for both modalities.
    rotation_degrees : float
        Rotate by up to this angle either way.
    shift_pixels : float
        Shift by up to this distance either way, on both axes.
    crop : (rows, columns) or None
        Train on a window of this size centered on the head; None takes the whole slice, 256x256.
    downsampling : int
        Average this many pixels a side into one: small images for early steps.
    full_slice_epochs : int
        Last epochs on whole slices at full size, whatever `crop` and `downsampling` are. A
        conversion has nothing else, and instance normalization depends on the size of the image.
    precision : {"auto", "float32", "bf16"}
        bf16 computes the networks in bfloat16; weights stay float32. Auto takes it where the
        processor has bfloat16 arithmetic.
    memory_format : {"auto", "contiguous", "channels-last"}
        Auto takes channels-last on a GPU; on CPUs instance normalization undoes it at every layer.
    winograd : bool
        Where the device is a CPU and the precision float32, compute wide 3x3 and 4x4 convolutions
        with a third of the multiplications (`networks.kernels`). Losses differ by rounding alone.
    compile : bool
        Compile the networks with ``torch.compile`` where the device is a CUDA device: minutes once,
        then faster steps. Other devices train without, so that one config serves them all.
    cuda_graph : bool
        Capture a step as one CUDA graph and replay it. Needs a GPU and one process.
    seed : int
        Of every random choice; each is a function of the seed and the step.

    Raises
    ------
    TrainingFailed
        A setting has an unknown name, the wrong type or range, or does not fit the others.

    Examples
    --------
    >>> Settings(network="compact", epochs=20).learning_rate
    0.0002
    >>> Settings(lerning_rate=1e-4)
    Traceback (most recent call last):
    medtranslate.errors.TrainingFailed: no setting 'lerning_rate' (did you mean learning_rate?)
    """

    network: str = "resnet9"
    network_arguments: dict[str, Any] = field(default_factory=dict)
    contrasts: tuple[Literal["t1", "t1c", "t2", "flair", "pd"], ...] = ()
    contrast_generators: Literal["mri", "both"] = "mri"
    ct_range: Literal["window", "full"] = "window"
    discriminator_width: Count = 64
    discriminator_layers: Count = 3
    epochs: Count = 200
    steps_per_epoch: CountOrNone = 0
    batch_size: Count = 1
    learning_rate: Weight = 2e-4
    discriminator_learning_rate: Weight = 2e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    adversarial_loss: Literal["least-squares", "log"] = "least-squares"
    adversarial_weight: Weight = 1.0
    cycle_weight: Weight = 10.0
    mri_cycle_share: Weight = 1.0
    identity_share: Weight = 0.5
    identity_generators: Generators = "both"
    trained_generators: Generators = "both"
    anchor_weight: Weight = 0.0
    anchored_generators: Generators = "both"
    paired_weight: Weight = 10.0
    gradient_share: Weight = 1.0
    paired_batch_size: Count = 1
    rendered_weight: Weight = 10.0
    rendered_batch_size: Count = 1
    rendered_block_size: Count = 8
    rendered_contrasts: dict[str, Weight] = field(default_factory=dict)
    rendered_ct_grain: Weight = 6.0
    judged_ct_grain: Weight = 0.0
    fluid_weight: Weight = 3.0
    lesion_weight: Weight = 1.0
    pool_size: CountOrNone = 50
    intermediate_noise: Weight = 0.0
    ema_decay: Fraction = 0.999
    flip: bool = True
    scaling: Fraction = 0.10
    rotation_degrees: Weight = 0.0
    shift_pixels: Weight = 8.0
    crop: tuple[Count, Count] | None = None
    downsampling: Count = 1
    full_slice_epochs: CountOrNone = 0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels-last"] = "auto"
    winograd: bool = True
    compile: bool = False
    cuda_graph: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network not in GENERATOR_NAMES:
            raise TrainingFailed(
                f"network must be one of {', '.join(GENERATOR_NAMES)}, not {self.network!r}"
            )
        if "contrasts" in self.network_arguments:
            raise TrainingFailed(
                "contrasts are a setting of their own", remedy="--set contrasts=[t1,t2]"
            )
        if self.anchor_weight and not self.anchored:
            raise TrainingFailed(
                f"anchored_generators is {self.anchored_generators}, but only "
                f"{self.trained_generators} is trained"
            )
        if self.full_slice_epochs > self.epochs:
            raise TrainingFailed(
                f"full_slice_epochs is {self.full_slice_epochs} of {self.epochs} epochs"
            )
        if self.judged_ct_grain and self.downsampling > 1:
            raise TrainingFailed(
                f"judged_ct_grain is that of pixels at full size; downsampling is "
                f"{self.downsampling}"
            )
        self._check_image_size()

    def _check_image_size(self) -> None:
        if GRID_SIZE % self.downsampling:
            raise TrainingFailed(f"downsampling must divide {GRID_SIZE}, not {self.downsampling}")
        largest = GRID_SIZE // self.downsampling
        rows, columns = self.image_size
        if max(rows, columns) > largest:
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

    def _multiple(self) -> int:
        """Return the number that must divide the sides of the generators' input."""
        try:
            with torch.device("meta"):
                network = build_generator(self.generator("mri"))
        except InvalidSpec as error:
            raise TrainingFailed(f"network {self.network}: {error}") from error
        return int(network.multiple)  # type: ignore[arg-type]

    def generator(self, side: str) -> dict[str, Any]:
        """Return the spec of the generator of ``"mri"`` or ``"ct"``, as bundles have it."""
        coded = {"contrasts": list(self.contrasts)} if side in self.coded else {}
        return generator_spec(self.network, {**self.network_arguments, **coded})

    def window_share(self, side: str) -> float:
        """Return the share of [-1, 1] that the window takes of what a generator makes."""
        return WINDOW_SHARE if side == "ct" and self.ct_range == "full" else 1.0

    @property
    def coded(self) -> tuple[str, ...]:
        """Generators that take a contrast code, by what they make."""
        return WHICH[self.contrast_generators] if self.contrasts else ()

    @property
    def anchored(self) -> tuple[str, ...]:
        """Generators that learn under the anchor penalty, by what they make."""
        if not self.anchor_weight:
            return ()
        trained = WHICH[self.trained_generators]
        return tuple(name for name in WHICH[self.anchored_generators] if name in trained)

    @property
    def unpaired(self) -> bool:
        """Whether any term is asked of unpaired images."""
        return bool(self.adversarial_weight or self.cycle_weight or self.anchor_weight)

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of the networks' input."""
        return self.crop or (GRID_SIZE // self.downsampling, GRID_SIZE // self.downsampling)

    def in_epoch(self, epoch: int) -> Settings:
        """Return the settings for an epoch, counted from 1: the last ones have whole slices."""
        if epoch <= self.epochs - self.full_slice_epochs:
            return self
        return replace(self, crop=None, downsampling=1)

    def rate_factor(self, epoch: int) -> float:
        """Return the share of the learning rates in an epoch, counted from 1."""
        constant = self.epochs // 2
        return min(1.0, (self.epochs - epoch + 1) / (self.epochs - constant + 1))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as builtins, for JSON and YAML."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings that `as_dict` gave; unknown names are an error."""
        return cls(**values)


@dataclass(frozen=True, config=_STRICT)
class Cadence(_Explained):
    """How often things are done beside training; a resumed run may have another.

    Parameters
    ----------
    record_steps : int
        Steps whose mean is one recorded loss.
    grid_steps : int
        Steps between sample grids; 0 draws none.
    validate_epochs : int
        Epochs between validations.
    checkpoint_minutes : float
        Minutes between checkpoints.

    Examples
    --------
    >>> Cadence(grid_steps=0).record_steps  # draws no sample grids
    50
    """

    record_steps: Count = 50
    grid_steps: CountOrNone = 1000
    validate_epochs: Count = 1
    checkpoint_minutes: Weight = 5.0


def load_config(
    path: Path | None = None, assignments: Sequence[str] = (), **given: Any
) -> tuple[Settings, Cadence]:
    """Return the settings of a YAML file, of ``name=value`` texts, and those given by name.

    A later one of these three wins. The file has the names of `Settings` and, under ``cadence``,
    those of `Cadence`; an assignment reaches below a name by a dot.

    Parameters
    ----------
    path : path, optional
        A file such as `dump_config` writes.
    assignments : sequence of str
        Such as ``"crop=[224, 192]"`` or ``"network_arguments.blocks=6"``: values as in YAML.
    **given
        Settings by name; None leaves one as it is.

    Raises
    ------
    InputMissing
        There is no such file.
    TrainingFailed
        It is no YAML mapping, or a setting has an unknown name, the wrong type or range.

    Examples
    --------
    >>> settings, cadence = load_config(None, ["epochs=20", "cadence.grid_steps=0"], batch_size=8)
    >>> settings.epochs, settings.batch_size, cadence.grid_steps
    (20, 8, 0)
    """
    values = {} if path is None else _read_mapping(path)
    for text in assignments:
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise TrainingFailed(f"{text!r} is not name=value", remedy="such as epochs=20")
        _assign(values, name.strip().split("."), _value(text, value))
    values |= {name: value for name, value in given.items() if value is not None}
    cadence = values.pop("cadence", None) or {}
    if not isinstance(cadence, dict):
        raise TrainingFailed("cadence must hold names and values", path=path)
    try:
        return Settings(**values), Cadence(**cadence)
    except TrainingFailed as error:
        raise TrainingFailed(error.fault, path=path) from None


def dump_config(settings: Settings, cadence: Cadence) -> str:
    """Return the settings as the YAML text that `load_config` reads back."""
    values = {**settings.as_dict(), "cadence": dataclasses.asdict(cadence)}
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputMissing(f"not readable: {error.strerror}", path=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingFailed(f"not valid YAML: {str(error).splitlines()[0]}", path=path) from error
    if not (isinstance(values, dict) and all(isinstance(name, str) for name in values)):
        raise TrainingFailed("must hold names and values, such as epochs: 20", path=path)
    return values


def _value(text: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise TrainingFailed(f"the value in {text!r} is not valid YAML") from error


def _assign(values: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        below = values.setdefault(name, {})
        if not isinstance(below, dict):
            raise TrainingFailed(f"{'.'.join(names)}: {name} has no names below it")
        values = below
    values[names[-1]] = value


def _fault(error: Any, names: list[str]) -> str:
    """Return one of pydantic's errors in a line."""
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(name, names, n=1)
        return f"no setting {name!r}" + (f" (did you mean {near[0]}?)" if near else "")
    if error["type"] == "missing":
        return f"{name} is missing"
    message = error["msg"].replace("Input should be", "must be")
    return f"{name} {message}, not {error['input']!r}"
