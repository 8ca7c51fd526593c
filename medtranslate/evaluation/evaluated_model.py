"""A model as the evaluation sees it: slices in, slices out, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.protocol import MODALITIES
from medtranslate.evaluation.slices import SIDE, GrayArray, gray_levels, to_eight_bit, to_network
from medtranslate.modality import Modality, Target

if TYPE_CHECKING:
    from medtranslate.translation import Translator

BATCH = 16


@dataclass(frozen=True)
class Cost:
    """What one slice costs: trainable parameters, and 10^9 operations (a multiply-add is two)."""

    parameters: int
    gflop: float


@dataclass(frozen=True)
class Candidate:
    """One model to evaluate.

    Attributes
    ----------
    name, version : str
        What its rows are called.
    translate_slices : callable
        ``translate_slices(slices, to)`` with float32 slices (N, 1, 256, 256) in [-1, 1] and `to`
        "mri" or "ct"; returns the same shape and range. Where there is `tell_contrast`, it also
        takes the contrast of each slice's MRI, made or given; "" where it is not known.
    costs : mapping of modality to Cost
        By the direction's target; may be empty for a translation that is no network.
    weights_sha256 : mapping of modality to str
        By the direction's target.
    tell_contrast : callable, optional
        ``tell_contrast(slices, head)`` with the slices of one MRI as above and its heads, bool
        (N, 256, 256): its contrast, such as "flair", "" where that is not clear.
    """

    name: str
    translate_slices: Callable[..., torch.Tensor]
    version: str = ""
    costs: Mapping[Target, Cost] = field(default_factory=dict)
    weights_sha256: Mapping[Target, str] = field(default_factory=dict)
    tell_contrast: Callable[[torch.Tensor, torch.Tensor], str] | None = None

    def translated(
        self, slices: torch.Tensor, to: str, contrasts: Sequence[str] = ()
    ) -> torch.Tensor:
        """Translate slices, and check what comes back.

        Parameters
        ----------
        slices, to
            As `translate_slices` takes them.
        contrasts : sequence of str, optional
            Of each slice's MRI, for a candidate with `tell_contrast`. Left out, it makes the MRI
            that it makes by default, and tells the contrast of each that it is given.

        Raises
        ------
        EvaluationFailed
            The model gives another shape, or values that are not finite.
        """
        given = (list(contrasts),) if contrasts else ()
        got = self.translate_slices(slices, to, *given)
        if got.shape != slices.shape:
            raise EvaluationFailed(
                f"model '{self.name}' turns slices {tuple(slices.shape)} into {tuple(got.shape)}"
            )
        if not torch.isfinite(got).all():
            raise EvaluationFailed(f"model '{self.name}' gives values that are not finite")
        return got

    @classmethod
    def of(cls, translator: Translator) -> Candidate:
        """Return a loaded model as a candidate.

        Raises
        ------
        ModelUnusable
            It has no generator for one of the directions: cycle errors need both.
        """
        bundle = translator.bundle
        return cls(
            name=bundle.name,
            version=bundle.version,
            translate_slices=partial(_translated, translator),
            costs={to: cost(bundle.generator(to).network) for to in MODALITIES},
            weights_sha256={to: bundle.generator(to).sha256 for to in MODALITIES},
            tell_contrast=_teller(translator),
        )


def _teller(translator: Translator) -> Callable[[torch.Tensor, torch.Tensor], str] | None:
    """Return what tells the contrast of an MRI; None where the model has no choice of any."""
    classifier, contrast = translator.contrast_classifier, translator.contrast
    if contrast:
        return lambda slices, head: contrast
    if classifier is None or not translator.bundle.contrasts:
        return None
    known = translator.bundle.contrasts

    def tell(slices: torch.Tensor, head: torch.Tensor) -> str:
        told = classifier.tell(slices, head)
        return told.clear if told is not None and told.clear in known else ""

    return tell


def _translated(
    translator: Translator, slices: torch.Tensor, to: str, contrasts: Sequence[str] = ()
) -> torch.Tensor:
    """Translate slices, each to or from an MRI of its own contrast."""
    if not contrasts and to == Modality.CT.target and (tell := _teller(translator)) is not None:
        contrasts = [tell(one, one[:, 0] > -1) for one in slices.split(1)]
    if not contrasts:
        return translator.translate_slices(slices, to=to, in_window=True)
    made = torch.empty_like(slices)
    for contrast in sorted(set(contrasts)):
        these = torch.tensor([each == contrast for each in contrasts])
        chosen = translator.for_contrast(contrast)
        made[these] = chosen.translate_slices(slices[these], to=to, in_window=True).to(made)
    return made


@dataclass(frozen=True)
class Translated:
    """Slices of one direction after a translation and after the reconstruction.

    Attributes
    ----------
    slices, cycled : uint8 arrays (N, 256, 256)
    cycle_errors : float64 array (N,)
        Mean distance between source and cycled slice inside the head, in gray levels of 255,
        before rounding to 8 bits.
    seconds : float
        Spent in the translation alone.
    """

    slices: GrayArray
    cycled: GrayArray
    cycle_errors: NDArray[np.float64]
    seconds: float


def translate(
    candidate: Candidate,
    slices: GrayArray,
    heads: NDArray[np.bool_],
    *,
    masked: bool,
    source: Target,
    target: Target,
    done: Callable[[int], None],
    contrasts: Sequence[str] = (),
) -> Translated:
    """Translate slices, and reconstruct them for the cycle error.

    Cycle errors are measured inside the heads. With `masked`, what a translation says outside them
    is background. `contrasts` are those of each slice's MRI, made or given, there and back.

    Raises
    ------
    EvaluationFailed
        The model gives another shape, or values that are not finite.
    """
    there, back = np.empty_like(slices), np.empty_like(slices)
    errors, seconds = np.empty(len(slices)), 0.0
    for places in _batches(len(slices), contrasts):
        batch, head = slices[places], heads[places]
        asked = [contrasts[place] for place in places] if contrasts else ()
        network_slices = to_network(batch)
        start = perf_counter()
        translated = candidate.translated(network_slices, target, asked)
        seconds += perf_counter() - start
        if masked:
            translated = translated.where(torch.from_numpy(head).unsqueeze(1), -1.0)
        cycled = candidate.translated(translated, source, asked)
        gray = gray_levels(cycled)
        there[places] = to_eight_bit(gray_levels(translated))
        back[places] = to_eight_bit(gray)
        errors[places] = _mean_inside(np.abs(gray.numpy() - batch), head)
        done(len(batch))
    return Translated(there, back, errors, seconds)


def cost(network: torch.nn.Module) -> Cost:
    """Count a network's parameters and the operations of one 256x256 slice."""
    parameters = sum(p.numel() for p in network.parameters())
    device = next(network.parameters()).device
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, SIDE, SIDE, device=device))
    return Cost(parameters, counter.get_total_flops() / 1e9)


def _batches(count: int, contrasts: Sequence[str]) -> Iterator[NDArray[np.intp]]:
    """Yield the places of slices that are translated together, those of one contrast in a row."""
    order = np.argsort(np.array(contrasts), kind="stable") if contrasts else np.arange(count)
    for start in range(0, count, BATCH):
        yield order[start : start + BATCH]


def _mean_inside(values: NDArray[np.float32], head: NDArray[np.bool_]) -> NDArray[np.float64]:
    total = np.where(head, values, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(total / head.sum(axis=(1, 2)))
