"""The lesion test: slices without a lesion and with each kind of it, through a model and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import max_pool2d

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.evaluated_model import Candidate
from medtranslate.evaluation.lesions.planting import (
    CONTRASTS,
    DIAMETERS,
    PIXEL,
    Mask,
    Planted,
    brain,
    depth,
    has_room,
    kinds,
    parts,
    plant,
)
from medtranslate.evaluation.lesions.results import LesionResult, LesionTest, groups
from medtranslate.evaluation.paired import bootstrap, mean_by_case
from medtranslate.evaluation.slices import (
    GrayArray,
    SliceSet,
    gray_levels,
    to_eight_bit,
    to_network,
)
from medtranslate.modality import Target
from medtranslate.quality.cycle import NOISE

GAP, RING = 2.0, 6.0  # pixels: the surroundings lie between so far and so far from the lesion
AWAY = 10.0  # mm from the lesion, where nothing should change
SMALLEST_ECHO = math.pi * 2.5**2  # mm^2: a disc of 5 mm
ECHO = 0.5  # of the contrast that was put in, in the target's terms
SPOT = 1.0  # spreads: as strong as the strongest lesions that are put in
SPOT_DIAMETERS = (8.0, 12.0, 18.0)  # mm
SPOT_NEAR = 5.0  # mm: anatomy may move this far
LEAST_SPREAD = 10.0  # gray levels: a brain with less to show is blank, whatever it hides
LEAST_VARIABILITY = 1.0  # gray level: the rounding


def spread(image: GrayArray, brain: Mask) -> float:
    """Return what a contrast is measured against: from the 10th to the 90th percentile of brain."""
    low, high = np.percentile(image[brain], [10, 90])
    return max(float(high - low), LEAST_SPREAD)


@dataclass(frozen=True)
class Regions:
    """Where one lesion is measured.

    Parameters
    ----------
    lesion, brain : bool array (H, W)

    Attributes
    ----------
    ring : bool array (H, W)
        Its surroundings, inside the brain.
    away : bool array (H, W)
        The rest of the brain.
    """

    lesion: Mask
    brain: Mask
    ring: Mask = field(init=False)
    away: Mask = field(init=False)

    def __post_init__(self) -> None:
        distance = -depth(self.lesion)
        object.__setattr__(self, "ring", (distance > GAP) & (distance <= RING) & self.brain)
        object.__setattr__(self, "away", (distance > AWAY / PIXEL) & self.brain)

    def contrast(self, difference: NDArray[np.float32]) -> float:
        """Return the mean of a difference in the lesion less that in its surroundings."""
        return float(difference[self.lesion].mean() - difference[self.ring].mean())

    def echoes(self, difference: NDArray[np.float32], level: float) -> int:
        """Count changes away from the lesion: connected, of 5 mm or more, as strong as a level.

        A change of all that is away from the lesion alike is no echo of it.
        """
        if not self.away.any():
            return 0
        change = np.abs(difference - np.median(difference[self.away]))
        sizes = np.bincount(parts((change >= level) & self.away).ravel())[1:]
        return int((sizes * PIXEL**2 >= SMALLEST_ECHO).sum())


def disc_contrasts(image: GrayArray, diameter: float) -> NDArray[np.float32]:
    """Return the contrast that a disc would have at each pixel, by what the image holds there.

    Parameters
    ----------
    image : uint8 array (H, W)
    diameter : float
        In pixels.

    Returns
    -------
    float32 array (H, W)
        Mean inside the disc less mean in its surroundings. Edges wrap round: read it deep inside.
    """
    size = torch.tensor(image.shape)
    rows, columns = (torch.fft.fftfreq(int(n), 1 / int(n)) for n in size)
    distance = torch.hypot(rows[:, None], columns[None]) - diameter / 2
    disc, ring = distance <= 0, (distance > GAP) & (distance <= RING)
    kernel = disc / disc.sum() - ring / ring.sum()
    spectrum = torch.fft.rfft2(torch.from_numpy(image.astype(np.float32)))
    return np.asarray(torch.fft.irfft2(spectrum * torch.fft.rfft2(kernel), s=image.shape))


def invented(
    source: GrayArray, translated: GrayArray, brain: Mask, spreads: tuple[float, float]
) -> int:
    """Count spots of a translation that stand out like lesions where its source has none.

    A spot is a connected place where a disc of 8, 12 or 18 mm has a contrast of `SPOT` spreads or
    more, and no disc of that size within 5 mm in the source has half of that. No lesion is put in.

    Parameters
    ----------
    source, translated : uint8 arrays (H, W)
    brain : bool array (H, W)
    spreads : tuple of float
        Of the source's and of the translation's brain, in gray levels.
    """
    spots = np.zeros_like(brain)
    deepness = depth(brain)
    for diameter in (each / PIXEL for each in SPOT_DIAMETERS):
        before, after = (
            np.abs(disc_contrasts(image, diameter)) / unit
            for image, unit in zip((source, translated), spreads, strict=True)
        )
        near = 2 * round(SPOT_NEAR / PIXEL) + 1
        known = max_pool2d(torch.from_numpy(before)[None], near, 1, near // 2)[0].numpy()
        fits = deepness >= diameter / 2 + GAP
        spots |= (after >= SPOT) & (known < SPOT / 2) & fits
    return int(parts(spots).max())


def variability(image: GrayArray, brain: Mask, diameter: float) -> float:
    """Return how far an image's own disc contrasts scatter over the brain: their deviation.

    This is what a change must stand out from to be seen (an observer that matches a template).
    """
    deep = depth(brain) >= diameter / 2 + GAP
    return max(float(disc_contrasts(image, diameter)[deep].std()), LEAST_VARIABILITY)


Done = Callable[[int], None]


def lesion_test(
    candidate: Candidate,
    images: SliceSet,
    heads: NDArray[np.bool_],
    *,
    target: Target,
    slices: int,
    seed: int,
    done: Done = lambda count: None,
) -> LesionTest:
    """Put lesions into slices, translate them, and measure what is left.

    Parameters
    ----------
    candidate : Candidate
    images : SliceSet
        Of the source's modality.
    heads : bool array (N, 256, 256)
        Of the images. Where `images` has heads of its own, what the model says outside them is
        background.
    target : {"ct", "mri"}
    slices : int
        How many slices every kind of lesion is put into, drawn by `seed` from those with room for
        lesions of every size.
    seed : int
        Of slices, places, shapes and intervals.
    done : callable, optional
        Called after each slice with the number done.

    Raises
    ------
    EvaluationFailed
        No slice has enough brain for them, or the model's output cannot be used.
    """
    trial = Trial(candidate, images, heads, target, seed)
    drawn = trial.draw(slices)
    plain = [trial.without_lesion(number) for number in drawn]
    spreads = (
        float(np.median([each.spreads[0] for each in plain])),
        float(np.median([each.spreads[1] for each in plain])),
    )
    found: list[LesionResult] = []
    for each in plain:
        found.extend(trial.with_lesions(each, spreads))
        done(1)
    contrasts = CONTRASTS[images.modality]
    cases = [images.cases[number] for number in drawn]
    return LesionTest(
        slices=len(drawn),
        cases=len(set(cases)),
        contrasts=contrasts,
        diameters=DIAMETERS,
        spread_source=spreads[0],
        spread_target=spreads[1],
        invented=bootstrap(mean_by_case([each.invented for each in plain], cases), seed=seed),
        groups=groups(found, contrasts, seed=seed),
        lesions=tuple(found),
    )


@dataclass(frozen=True)
class _Plain:
    """A slice without any lesion: itself, translated and back, and what it shows by itself.

    Spreads and variabilities (by diameter in mm) are those of source and translation.
    """

    number: int
    brain: Mask
    image: GrayArray
    translated: GrayArray
    returned: GrayArray
    spreads: tuple[float, float]
    variabilities: dict[float, tuple[float, float]]
    invented: int


@dataclass(frozen=True)
class Trial:
    """What `lesion_test` does with one slice at a time; parameters as there."""

    candidate: Candidate
    images: SliceSet
    heads: NDArray[np.bool_]
    target: Target
    seed: int

    def draw(self, slices: int) -> list[int]:
        """Draw slices with room for lesions of every size, in an order by seed."""
        drawn: list[int] = []
        for number in np.random.default_rng(self.seed).permutation(len(self.images)):
            image = self.images.slices[number]
            if has_room(image, self._brain(number), self.images.modality):
                drawn.append(int(number))
            if len(drawn) == slices:
                break
        if not drawn:
            raise EvaluationFailed(
                f"no {self.images.modality.upper()} slice has enough brain for a lesion of "
                f"{max(DIAMETERS):g} mm",
                path=self.images.folder or None,
            )
        return drawn

    def planted(self, number: int) -> list[Planted]:
        """Return a slice with each kind of lesion, in the order of `kinds`."""
        images = self.images
        return plant(
            images.slices[number],
            self._brain(number),
            images.modality,
            images.scale,
            kinds(images.modality),
            (self.seed, number),
        )

    def without_lesion(self, number: int) -> _Plain:
        """Translate a slice as it is, and measure what it shows by itself."""
        image, inside = self.images.slices[number], self._brain(number)
        translated, returned = self.there_and_back(image[None], number)
        spreads = (spread(image, inside), spread(translated[0], inside))
        return _Plain(
            number=number,
            brain=inside,
            image=image,
            translated=translated[0],
            returned=returned[0],
            spreads=spreads,
            variabilities={
                diameter: (
                    variability(image, inside, diameter / PIXEL),
                    variability(translated[0], inside, diameter / PIXEL),
                )
                for diameter in DIAMETERS
            },
            invented=invented(image, translated[0], inside, spreads),
        )

    def with_lesions(self, plain: _Plain, spreads: tuple[float, float]) -> list[LesionResult]:
        """Translate a slice with each kind of lesion, and measure what is left."""
        planted = self.planted(plain.number)
        slices = np.stack([each.image for each in planted])
        translated, returned = self.there_and_back(slices, plain.number)
        return [
            self._result(plain, spreads, *each)
            for each in zip(planted, translated, returned, strict=True)
        ]

    def _result(
        self,
        plain: _Plain,
        spreads: tuple[float, float],
        planted: Planted,
        translated: GrayArray,
        returned: GrayArray,
    ) -> LesionResult:
        regions = Regions(planted.lesion, plain.brain)
        change = _difference(translated, plain.translated)
        put_in = regions.contrast(_difference(planted.image, plain.image))
        became = regions.contrast(change)
        in_targets_terms = put_in * spreads[1] / spreads[0]
        noise = plain.variabilities[planted.kind.diameter]
        return LesionResult(
            name=self.images.names[plain.number],
            case=self.images.cases[plain.number],
            shape=planted.kind.shape,
            contrast=str(planted.kind.contrast),
            diameter=planted.kind.diameter,
            row=planted.row,
            column=planted.column,
            planted=put_in,
            translated=became,
            returned=regions.contrast(_difference(returned, plain.returned)),
            survival=became / in_targets_terms,
            seen_in_source=abs(put_in) / noise[0],
            seen=abs(became) / noise[1],
            echoes=regions.echoes(change, ECHO * abs(in_targets_terms)),
        )

    def there_and_back(self, slices: GrayArray, number: int) -> tuple[GrayArray, GrayArray]:
        """Translate copies of one slice, and back: rounded, and with the cycle error's noise.

        Generators hide the source in patterns that nobody sees (`quality.cycle`).
        """
        contrasts = self._contrasts(number, len(slices))
        translated = self._translated(to_network(slices), self.target, number, contrasts)
        noise = NOISE * torch.randn(
            slices.shape[1:], generator=torch.Generator().manual_seed(number)
        )
        noisy = (to_network(translated) + noise).clamp(-1, 1)
        return translated, self._translated(noisy, self.images.modality, number, contrasts)

    def _contrasts(self, number: int, copies: int) -> list[str]:
        """Return the contrast of a given MRI, once for each copy: no lesion is to change it.

        Of a CT the MRI is made that the model makes by default.
        """
        if self.candidate.tell_contrast is None:
            return []
        if self.images.modality == "ct":
            return [""] * copies
        plain = to_network(self.images.slices[number : number + 1])
        head = torch.from_numpy(self.heads[number : number + 1])
        return [self.candidate.tell_contrast(plain, head)] * copies

    def _translated(
        self, slices: torch.Tensor, to: Target, number: int, contrasts: Sequence[str]
    ) -> GrayArray:
        translated = self.candidate.translated(slices, to, contrasts)
        if self.images.heads is not None:
            head = torch.from_numpy(self.images.heads[number])
            translated = translated.where(head, -1.0)
        return to_eight_bit(gray_levels(translated))

    def _brain(self, number: int) -> Mask:
        return brain(self.images.slices[number], self.heads[number], self.images.modality)


def _difference(first: GrayArray, second: GrayArray) -> NDArray[np.float32]:
    return first.astype(np.float32) - second
