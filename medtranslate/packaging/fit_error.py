"""The expected error of a bundle, fitted to rendered pairs and, where there are any, real ones."""

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
from medtranslate.errors import InvalidOption, TrainingFailed
from medtranslate.label_synthesis import LabelMaps
from medtranslate.label_synthesis.draw import Draw
from medtranslate.modality import Modality
from medtranslate.quality.expected_error import ErrorPredictor, ErrorPredictors, Ranking, rank
from medtranslate.training.contrasts import ContrastList
from medtranslate.training.pairs import Pairs, PairSource, PreparedPairs, prepare_pairs
from medtranslate.training.preparation import RecipeBook
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
        Registered pairs, where there are any, come beside them, at most as many.
    steps, batch_size : int
        Of the optimizer.
    learning_rate : float
        Highest of AdamW; it rises and falls once.
    moved : float
        Share of the rendered truths that are moved against the scan: no registration is perfect,
        and where the truth has an edge, a structure that lies some pixels off is an error. On real
        pairs the outline of the head has the largest ones, and networks that never saw that rank
        it low.
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
    paired: PreparedPairs | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = lambda step, done, of: None,
) -> dict[str, dict[str, Ranking]]:
    """Fit the expected error of a bundle, and store it in the bundle.

    Parameters
    ----------
    folder : path
        The bundle; what it predicts errors with already is replaced.
    labels : LabelMaps
        Two or more; a tenth of them, the last ones, are held out to measure on.
    settings : FitSettings, optional
    paired : PreparedPairs, optional
        Registered scans to fit to as well; a tenth of them is held out. Where the model has several
        contrasts, MRI are made of those alone whose contrast is known.
    seed : int
        Of every random choice.
    device : str
        Where slices are translated and networks fitted.
    progress : function

    Returns
    -------
    dict of str to dict of str to Ranking
        By target, how predicted errors rank those of the held-out slices: of ``"rendered"`` and,
        where there are pairs, of ``"registered"`` ones, whose mean error they are scaled to then.

    Raises
    ------
    ModelUnusable
        There is no bundle.
    TrainingFailed
        There are not enough label maps or pairs, or no MRI that its CT tells.
    OutputFailed
        The bundle cannot be written.
    """
    translator = Translator.load(Bundle.load(folder), device=device)
    predictors = fit_expected_error(
        translator, labels, settings, paired=paired, seed=seed, progress=progress
    )
    attach(folder, "expected_error", predictors.to_bytes())
    return {
        to: {kind: Ranking(**figures) for kind, figures in each.items()}
        for to, each in predictors.fitted["held_out"].items()
    }


def registered_pairs(
    folder: Path,
    path: Path,
    contrasts: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> PreparedPairs:
    """Prepare registered scans by the recipes of a bundle, to fit its expected error to.

    Parameters
    ----------
    folder : path
        The bundle.
    path, cache, progress
        As `prepare_pairs`.
    contrasts : path, optional
        List of the MRI's contrasts (`ContrastList`); it names scans of the pairs alone.

    Raises
    ------
    InputMissing, WrongModality, TrainingFailed
        As `prepare_pairs` and `ContrastList.read`.
    InvalidOption
        The model has no contrasts, or the list names a scan that is not there.
    ModelUnusable
        There is no bundle.
    """
    bundle = Bundle.load(folder)
    if contrasts is not None and not bundle.contrasts:
        raise InvalidOption(f"{bundle.name} has no contrasts to choose from")
    pairs = prepare_pairs(path, RecipeBook.read(folder / "configs/recipes"), cache, progress)
    if contrasts is None:
        return pairs
    read = ContrastList.read(contrasts, bundle.contrasts)
    known = read.codes(pairs.mri.names, bundle.contrasts)
    return replace(pairs, mri=pairs.mri.coded(known))


def fit_expected_error(
    translator: Translator,
    labels: LabelMaps,
    settings: FitSettings | None = None,
    *,
    paired: PreparedPairs | None = None,
    seed: int = 0,
    progress: Progress = lambda step, done, of: None,
) -> ErrorPredictors:
    """Fit networks that predict the errors of a model's results.

    Parameters
    ----------
    translator : Translator
        The model.
    labels, settings, paired, seed, progress
        As `fit_bundle`.

    Raises
    ------
    TrainingFailed
        As `fit_bundle`.
    """
    settings = settings or FitSettings()
    rendered = _split(labels)
    registered = {to: _registered(translator, paired, to) for to in translator.bundle.generators}
    networks, figures = {}, {}
    for to, pairs in registered.items():
        examples = partial(_examples, translator, to, settings, seed, progress)
        fitted, held_out = examples(rendered)
        real = None
        if pairs is not None:
            more, real = examples(pairs)
            fitted = _joined([fitted, more])
        fitting = partial(progress, f"fitting the error to {to}")
        networks[to] = _fit(fitted, settings, seed, fitting)
        _calibrate(networks[to], held_out if real is None else real)
        figures[to] = {"rendered": asdict(measure(networks[to], held_out))}
        if real is not None:
            figures[to]["registered"] = asdict(measure(networks[to], real))
    about = {"label_maps": len(labels), "settings": asdict(settings), "held_out": figures}
    if paired is not None:
        about["registered_slices"] = len(paired)
    return ErrorPredictors(networks, about)


def _examples(
    translator: Translator,
    to: str,
    settings: FitSettings,
    seed: int,
    progress: Progress,
    parts: tuple[LabelMaps | PreparedPairs, ...],
) -> tuple[Examples, ...]:
    """Make the examples to fit to, and those to measure on."""
    sizes = (settings.slices, settings.held_out)
    return tuple(
        make_examples(translator, part, to, size, settings, seed + place, progress)
        for place, (part, size) in enumerate(zip(parts, sizes, strict=True))
    )


def _split(labels: LabelMaps) -> tuple[LabelMaps, LabelMaps]:
    """Return the label maps to fit to, and the last ones, to measure on."""
    count = _tenth(len(labels))
    if len(labels) <= count:
        raise TrainingFailed("an expected error is fitted to two label maps or more")
    return replace(labels, maps=labels.maps[:-count]), replace(labels, maps=labels.maps[-count:])


def _registered(
    translator: Translator, paired: PreparedPairs | None, to: str
) -> tuple[PreparedPairs, PreparedPairs] | None:
    """Return the pairs of a direction to fit to, and the last ones, to measure on.

    Where the model has several contrasts, an MRI can be made of those whose contrast is known.
    """
    if paired is None:
        return None
    if to == Modality.MR.target and translator.bundle.contrasts:
        codes = paired.mri.codes
        known = torch.zeros(len(paired)) if codes is None else codes
        without = {paired.mri.records[n].name for n in paired.mri.scans[known == 0].tolist()}
        paired = paired.without(without)
    names = [record.name for record in paired.ct.records]
    if len(names) < 2:
        raise TrainingFailed(
            f"an expected error of synthetic {Modality.parse(to)} is fitted to two registered "
            f"pairs of known contrast or more, and there are {len(names)}",
            remedy="say which contrasts they have: --contrasts",
        )
    count = _tenth(len(names))
    return paired.without(names[-count:]), paired.without(names[:-count])


def _tenth(count: int) -> int:
    """Return how many of them are held out."""
    return max(1, count // _FOLD)


def make_examples(
    translator: Translator,
    of: LabelMaps | PreparedPairs,
    to: str,
    count: int,
    settings: FitSettings,
    seed: int,
    progress: Progress = lambda step, done, of: None,
) -> Examples:
    """Translate one side of pairs, and compare the result with the other.

    Parameters
    ----------
    translator : Translator
    of : LabelMaps or PreparedPairs
        What pairs are rendered from, or the pairs.
    to : str
        ``"mri"`` or ``"ct"``: which side is made.
    count : int
        How many slices; of registered pairs at most all.
    settings, seed, progress
        As `fit_bundle`.

    Raises
    ------
    TrainingFailed
        No MRI can be told from its CT.
    """
    cpu = torch.device("cpu")
    if isinstance(of, PreparedPairs):
        # They lie a little off as they are.
        count, settings = min(count, len(of)), replace(settings, moved=0.0)
    size = min(_BLOCK, count)
    contrasts = cast(Any, translator.bundle.contrasts)  # of names that `Settings` knows too
    source: PairSource
    if isinstance(of, LabelMaps):
        drawn = Settings(rendered_block_size=size, contrasts=contrasts, seed=seed)
        source, kind = RenderedSource(of, drawn, cpu), "rendered"
    else:
        source, kind = of.source(seed, cpu), "registered"
    made: list[Examples] = []
    done = 0
    for block in range(_MOST_BLOCKS * -(-count // size)):
        pairs = source.pairs(block * size, size)
        for one in _usable(pairs, to, known=bool(contrasts)):
            if done == count:
                return _joined(made)
            draw = Draw(seed + done, 1, one.ct.shape[-1], cpu)
            made.append(_example(translator, one, to, settings, draw))
            done += 1
            progress(f"translating {kind} slices to {to}", done, count)
    if not made:
        raise TrainingFailed(f"none of the {kind} MRI can be told from its CT")
    return _joined(made)


def _usable(pairs: Pairs, to: str, *, known: bool) -> list[Pairs]:
    """Return the pairs one by one, without those whose MRI no model could make from the CT.

    Where the contrast has to be `known`, that is those of any.
    """
    follows = (pairs.contrast > 0) | (not known)
    if pairs.mri_follows is not None:
        follows = follows & pairs.mri_follows
    chosen = [n for n in range(len(pairs.ct)) if to == "ct" or bool(follows[n])]
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
