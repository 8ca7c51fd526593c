"""The expected error of a bundle, fitted to pairs rendered from label maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F

from medtranslate.bundle import Bundle, attach
from medtranslate.errors import TrainingFailed
from medtranslate.label_synthesis import LabelMaps
from medtranslate.label_synthesis.draw import Draw
from medtranslate.modality import Modality
from medtranslate.quality.expected_error import ErrorPredictor, ErrorPredictors, Ranking, rank
from medtranslate.training.pairs import Pairs
from medtranslate.training.rendered import RenderedSource
from medtranslate.training.settings import Settings
from medtranslate.translation import Translator

Progress = Callable[[str, int, int], None]
"""Called with the step of the work, the number done and the number of all."""

_BLOCK = 8
_MOST_BLOCKS = 4  # for each that is needed; of some contrasts an MRI cannot be told from its CT
_FOLD = 10  # one label map in so many is held out
_TOLD = 0.75  # share of the MRI whose contrast a generator of CT is told, as a user may or may not
_NEIGHBORHOOD = 5  # pixels of half resolution, as wide as the errors that are ranked
_FEWEST = 400  # pixels of a head to rank


@dataclass(frozen=True)
class FitSettings:
    """How much work a fit does, and what its pairs are like.

    Parameters
    ----------
    slices, held_out : int
        Rendered slices for each direction: to fit to, and to measure on, of other label maps.
    steps, batch_size : int
        Of the optimizer.
    learning_rate : float
        Highest of AdamW; it rises and falls once.
    moved : float
        Share of the truths that are moved against the scan: no registration is perfect, and where
        the truth has an edge, a structure that lies some pixels off is an error. On real pairs the
        outline of the head has the largest ones, and networks that never saw that rank it low.
    shift, warp : float
        How far, in pixels: the most that all of a slice is shifted by, and the largest standard
        deviation of a smooth field.
    """

    slices: int = 600
    held_out: int = 80
    steps: int = 1500
    batch_size: int = 8
    learning_rate: float = 4e-3
    moved: float = 0.8
    shift: float = 6.0
    warp: float = 3.0


@dataclass(frozen=True, eq=False)
class Examples:
    """Translated slices with their errors, at half resolution.

    Attributes
    ----------
    inputs : float16 tensor (N, channels, H, W)
        As `ErrorPredictor.inputs`; the first channel is the head.
    error : float16 tensor (N, 1, H, W)
        Mean absolute error of values in [-1, 1].
    """

    inputs: torch.Tensor
    error: torch.Tensor

    def __len__(self) -> int:
        return len(self.error)


def fit_bundle(
    folder: Path,
    labels: LabelMaps,
    settings: FitSettings | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = lambda step, done, of: None,
) -> dict[str, Ranking]:
    """Fit the expected error of a bundle, and store it in the bundle.

    Parameters
    ----------
    folder : path
        The bundle; what it predicts errors with already is replaced.
    labels : LabelMaps
        Two or more; a tenth of them, the last ones, are held out to measure on.
    settings : FitSettings, optional
    seed : int
        Of every random choice.
    device : str
        Where slices are translated and networks fitted.
    progress : function

    Returns
    -------
    dict of str to Ranking
        By target, how predicted errors rank those of the held-out slices.

    Raises
    ------
    ModelUnusable
        There is no bundle.
    TrainingFailed
        There are not enough label maps, or no MRI that its CT tells.
    OutputFailed
        The bundle cannot be written.
    """
    translator = Translator.load(Bundle.load(folder), device=device)
    predictors = fit_expected_error(translator, labels, settings, seed=seed, progress=progress)
    attach(folder, "expected_error", predictors.to_bytes())
    return {to: Ranking(**each) for to, each in predictors.fitted["held_out"].items()}


def fit_expected_error(
    translator: Translator,
    labels: LabelMaps,
    settings: FitSettings | None = None,
    *,
    seed: int = 0,
    progress: Progress = lambda step, done, of: None,
) -> ErrorPredictors:
    """Fit networks that predict the errors of a model's results.

    Parameters
    ----------
    translator : Translator
        The model.
    labels, settings, seed, progress
        As `fit_bundle`.

    Raises
    ------
    TrainingFailed
        As `fit_bundle`.
    """
    settings = settings or FitSettings()
    count = max(1, len(labels) // _FOLD)
    if len(labels) <= count:
        raise TrainingFailed("an expected error is fitted to two label maps or more")
    apart = (
        (settings.slices, replace(labels, maps=labels.maps[:-count])),
        (settings.held_out, replace(labels, maps=labels.maps[-count:])),
    )
    networks, figures = {}, {}
    for to in translator.bundle.generators:
        fitted, held_out = (
            make_examples(translator, maps, to, size, settings, seed + place, progress)
            for place, (size, maps) in enumerate(apart)
        )
        networks[to] = _fit(
            fitted,
            settings,
            seed,
            partial(progress, f"fitting the error to {to}"),
        )
        _calibrate(networks[to], held_out)
        figures[to] = asdict(measure(networks[to], held_out))
    about = {"label_maps": len(labels), "settings": asdict(settings), "held_out": figures}
    return ErrorPredictors(networks, about)


def make_examples(
    translator: Translator,
    labels: LabelMaps,
    to: str,
    count: int,
    settings: FitSettings,
    seed: int,
    progress: Progress = lambda step, done, of: None,
) -> Examples:
    """Render pairs, translate one side of each, and compare the result with the other.

    Parameters
    ----------
    translator : Translator
    labels : LabelMaps
        What is rendered.
    to : str
        ``"mri"`` or ``"ct"``: which side is made.
    count : int
        How many slices.
    settings, seed, progress
        As `fit_bundle`.

    Raises
    ------
    TrainingFailed
        No MRI can be told from its CT.
    """
    contrasts = cast(Any, translator.bundle.contrasts)  # of names that `Settings` knows too
    size = min(_BLOCK, count)
    drawn = Settings(rendered_block_size=size, contrasts=contrasts, seed=seed)
    source = RenderedSource(labels, drawn, torch.device("cpu"))
    made: list[Examples] = []
    done = 0
    for block in range(_MOST_BLOCKS * -(-count // size)):
        pairs = source.pairs(block * size, size)
        for one in _usable(pairs, to):
            if done == count:
                return _joined(made)
            draw = Draw(seed + done, 1, one.ct.shape[-1], torch.device("cpu"))
            made.append(_example(translator, one, to, settings, draw))
            done += 1
            progress(f"translating rendered slices to {to}", done, count)
    if not made:
        raise TrainingFailed("none of the rendered MRI can be told from its CT")
    return _joined(made)


def _usable(pairs: Pairs, to: str) -> list[Pairs]:
    """Return the pairs one by one, without those whose MRI no model could make from the CT."""
    follows = pairs.mri_follows
    places = range(len(pairs.ct))
    chosen = [n for n in places if to == "ct" or follows is None or bool(follows[n])]
    return [
        Pairs(
            pairs.ct[[n]],
            pairs.mri[[n]],
            pairs.head[[n]],
            pairs.contrast[[n]],
            (pairs.ct if pairs.source_ct is None else pairs.source_ct)[[n]],
        )
        for n in chosen
    ]


def _example(
    translator: Translator, pair: Pairs, to: str, settings: FitSettings, draw: Draw
) -> Examples:
    """Translate one pair; the CT has grain on either side, as a real one does."""
    ct = cast(torch.Tensor, pair.source_ct)
    source, truth = (ct, pair.mri) if to == Modality.MR.target else (pair.mri, ct)
    code = int(pair.contrast[0])
    if code and (to == Modality.MR.target or bool(draw.chance(_TOLD))):
        translator = translator.for_contrast(translator.bundle.contrasts[code - 1])
    result = translator.translate_slices(source, to=to, in_window=True)
    result = result.masked_fill(~pair.head, -1)
    truth = _moved(truth, settings, draw).masked_fill(~pair.head, -1)
    inputs = ErrorPredictor.inputs(source, result, pair.head)
    return Examples(inputs.half(), F.avg_pool2d((result - truth).abs(), 2).half())


def _moved(truth: torch.Tensor, settings: FitSettings, draw: Draw) -> torch.Tensor:
    """Shift and warp slices (1, 1, H, W) a little, in some of them."""
    size = truth.shape[-1]
    shift = draw.uniform(-settings.shift, settings.shift, 2)
    spread = draw.uniform(0, settings.warp, 2)
    fields = torch.stack([draw.field(size / 6), draw.field(size / 6)], -1)
    offsets = shift[:, None, None] + spread[:, None, None] * fields
    offsets = offsets * draw.chance(settings.moved)[:, None, None, None]
    still = F.affine_grid(torch.eye(2, 3)[None], list(truth.shape), align_corners=False)
    grid = still + 2 / size * offsets
    return F.grid_sample(truth + 1, grid, align_corners=False) - 1


def _joined(examples: list[Examples]) -> Examples:
    return Examples(
        torch.cat([one.inputs for one in examples]), torch.cat([one.error for one in examples])
    )


def _fit(
    examples: Examples, settings: FitSettings, seed: int, progress: Callable[[int, int], None]
) -> ErrorPredictor:
    """Fit a network by the likelihood of Laplace's distribution, whose scale is the mean error."""
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initial weights
        network = ErrorPredictor()
        inside = examples.inputs[:, :1]
        mean = float((examples.error.float() * inside).sum() / inside.float().sum().clamp(min=1))
        torch.nn.init.constant_(network.bias, math.log(max(mean, 1e-3)))
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=settings.steps
        )
        for step in range(settings.steps):
            places = torch.randint(len(examples), (settings.batch_size,), generator=random)
            inputs, error = examples.inputs[places].float(), examples.error[places].float()
            if torch.rand((), generator=random) < 0.5:
                inputs, error = inputs.flip(3), error.flip(3)
            predicted, weight = network.of_inputs(inputs), inputs[:, :1]
            loss = (weight * (error / predicted + predicted.log())).sum() / weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1, settings.steps)
    return network.eval().requires_grad_(False)


def _predicted(network: ErrorPredictor, examples: Examples) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([network.of_inputs(part.float()) for part in examples.inputs.split(16)])


def _calibrate(network: ErrorPredictor, held_out: Examples) -> None:
    """Scale the errors so that their mean is the true one."""
    weight = held_out.inputs[:, :1].float()
    true = (held_out.error.float() * weight).sum()
    factor = true / (_predicted(network, held_out) * weight).sum().clamp(min=1e-6)
    network.bias.add_(factor.clamp(min=1e-3).log())


def measure(network: ErrorPredictor, examples: Examples) -> Ranking:
    """Measure how predicted errors rank the true ones, as the mean over slices.

    Parameters
    ----------
    network : ErrorPredictor
    examples : Examples
        That it was not fitted to.
    """
    predicted = _predicted(network, examples)
    near = F.avg_pool2d(examples.error.float(), _NEIGHBORHOOD, 1, _NEIGHBORHOOD // 2)
    heads = examples.inputs[:, :1] > 0.5
    found: list[Ranking] = [
        rank(first[head].numpy(), second[head].numpy())
        for first, second, head in zip(predicted, near, heads, strict=True)
        if head.sum() >= _FEWEST
    ]
    fields: dict[str, Any] = {
        name: sum(getattr(one, name) for one in found) / max(1, len(found))
        for name in ("spearman", "auroc")
    }
    return Ranking(**fields)
