"""The evaluation itself: models through two test sets, with what makes their figures readable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.distances import Floor, RealSet, at_floor_size, distances, floor
from medtranslate.evaluation.evaluated_model import Candidate, Translated, translate
from medtranslate.evaluation.features import FeatureExtractor
from medtranslate.evaluation.gallery import galleries, lesion_gallery
from medtranslate.evaluation.inception import EXTRACTOR
from medtranslate.evaluation.lesions import LesionTest, lesion_test
from medtranslate.evaluation.paired import (
    PairedErrors,
    bootstrap,
    errors_of_slices,
    mean_by_case,
    summarize,
)
from medtranslate.evaluation.protocol import PUBLISHED, Protocol
from medtranslate.evaluation.results import (
    Baselines,
    CaseResult,
    DirectionResult,
    Evaluation,
    Gallery,
    RealData,
    machine,
    paper_fid,
)
from medtranslate.evaluation.slices import SliceSet, head_masks, to_network, with_grain
from medtranslate.modality import Target, check_grain

DIRECTIONS: tuple[tuple[Target, Target], ...] = (("ct", "mri"), ("mri", "ct"))

Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates models on one set of data.

    Parameters
    ----------
    candidates : sequence of Candidate
        One table for all; names with versions differ.
    data : RealData
    extractor : FeatureExtractor
    protocol : Protocol
        What the data was read by; named with the figures.
    seed : int
        Of every random choice.
    images : int
        How many rows each gallery shows; 0 keeps none.
    lesions : int
        How many slices each kind of lesion is put into, a direction; 0 leaves the test out.
    grain : float
        Standard deviation in HU of noise to add to synthetic CT before FID and KID are measured.
    progress : callable
        Called with the step, the number of slices done and the total.
    """

    candidates: Sequence[Candidate]
    data: RealData
    extractor: FeatureExtractor
    protocol: Protocol = PUBLISHED
    seed: int = 2020
    images: int = 6
    lesions: int = 0
    grain: float = 0.0
    progress: Progress = silent

    def __post_init__(self) -> None:
        check_grain(self.grain)
        names = Counter(f"{each.name} {each.version}".strip() for each in self.candidates)
        twice = [name for name, count in names.items() if count > 1]
        if not names or twice:
            fault = f"given twice: {', '.join(twice)}" if twice else "no model to evaluate"
            raise EvaluationFailed(fault)

    def run(self) -> Evaluation:
        """Translate, measure, and return everything found.

        Raises
        ------
        EvaluationFailed
            A model's output has another shape or is not finite.
        """
        return _Run(self).evaluation()


@dataclass
class _Run:
    """One evaluation under way: the real sets' features and where the time goes."""

    plan: Evaluator
    seconds: dict[str, float] = field(default_factory=dict)
    real: dict[Target, RealSet] = field(default_factory=dict)
    heads: dict[Target, NDArray[np.bool_]] = field(default_factory=dict)
    told: dict[str, tuple[str, ...]] = field(default_factory=dict)
    floors: dict[Target, Floor | None] = field(default_factory=dict)

    def evaluation(self) -> Evaluation:
        plan, data = self.plan, self.plan.data
        for modality in ("ct", "mri"):
            self._measure_real(modality)
        baselines = self._baselines()
        rows: list[DirectionResult] = []
        shown: list[Gallery] = []
        for candidate in plan.candidates:
            for source, target in DIRECTIONS:
                row, images = self._direction(candidate, source, target)
                rows.append(row)
                shown.extend(images)
        weights = plan.extractor.weights
        return Evaluation(
            protocol={
                "name": plan.protocol.name,
                "description": plan.protocol.description,
                "sizing": plan.protocol.sizing,
                "include": ", ".join(each.name for each in plan.protocol.include),
            },
            seed=plan.seed,
            extractor={"name": EXTRACTOR, "weights": weights.origin, "sha256": weights.digest},
            sets=data.records(),
            baselines=baselines,
            directions=tuple(rows),
            warnings=data.warnings(),
            machine=machine(plan.extractor.device),
            seconds=self.seconds,
            galleries=tuple(shown),
        )

    def _measure_real(self, modality: Target) -> None:
        test, reference = self.plan.data.test(modality), self.plan.data.reference(modality)
        with self._timed("heads"):
            known = test.heads
            self.heads[modality] = head_masks(test.slices, modality) if known is None else known
        with self._timed("features of real images"):
            self.real[modality] = RealSet(
                self._kept_features(test),
                None if reference is None else self._kept_features(reference),
            )

    def _kept_features(self, images: SliceSet) -> torch.Tensor:
        done = self._counting(f"features of real {images.modality.upper()}", len(images))
        return self.plan.extractor.kept_features(images.slices, done=done)

    def _baselines(self) -> dict[Target, Baselines]:
        seed, ct, mri = self.plan.seed, self.real["ct"], self.real["mri"]
        with self._timed("distances"):
            self.floors = {
                "mri": floor(mri, judged=len(ct.test), seed=seed),
                "ct": floor(ct, judged=len(mri.test), seed=seed),
            }
            untranslated_ct = distances(ct.test, mri.test, seed=seed)
        ceilings = {"mri": untranslated_ct, "ct": untranslated_ct.swapped()}
        return {
            target: Baselines(
                floor=found.distances if found else None,
                floor_kind=found.kind if found else "",
                ceiling=ceilings[target],
            )
            for target, found in self.floors.items()
        }

    def _direction(
        self, candidate: Candidate, source: Target, target: Target
    ) -> tuple[DirectionResult, list[Gallery]]:
        plan, images = self.plan, self.plan.data.test(source)
        step = f"{candidate.name}: {source.upper()} to {target.upper()}"
        grain = plan.grain if target == "ct" else 0.0
        with self._timed("contrasts"):
            contrasts = self._contrasts(candidate, source)
        with self._timed("translation"):
            translated = translate(
                candidate,
                images.slices,
                self.heads[source],
                masked=images.heads is not None,
                source=source,
                target=target,
                done=self._counting(step, len(images)),
                contrasts=contrasts,
            )
        with self._timed("features of translated images"):
            counting = self._counting(f"{step}, features", len(images))
            judged = with_grain(translated.slices, grain, plan.seed) if grain else translated.slices
            features = plan.extractor.features(judged, done=counting)
        with self._timed("distances"):
            whole = distances(features, self.real[target].test, seed=plan.seed)
            beside = self.floors[target]
            same_size = (
                at_floor_size(features, self.real[target], beside, whole=whole, seed=plan.seed)
                if beside
                else None
            )
        with self._timed("paired errors"):
            paired = self._paired(translated, target)
        with self._timed("lesions"):
            lesions = self._lesions(candidate, images, target)
        cost = candidate.costs.get(target)
        scale = plan.data.test(target).scale
        row = DirectionResult(
            model=candidate.name,
            version=candidate.version,
            weights_sha256=candidate.weights_sha256.get(target, ""),
            source=source,
            target=target,
            distances=whole,
            at_floor_size=same_size,
            cycle_error=bootstrap(
                mean_by_case(translated.cycle_errors, images.cases), seed=plan.seed
            ),
            parameters=cost.parameters if cost else None,
            gflop=cost.gflop if cost else None,
            seconds_per_slice=translated.seconds / len(images),
            paper_fid=paper_fid(cost.parameters, target) if cost else None,
            paired=summarize(paired, images.cases, scale, seed=plan.seed) if paired else None,
            lesions=lesions,
            cases=_cases(images, translated, paired),
            mr_contrasts=dict(sorted(Counter(contrasts).items())),
            grain=grain,
        )
        truth = plan.data.test(target) if plan.data.paired else None
        shown = galleries(row, images, translated, truth, count=plan.images, seed=plan.seed)
        if lesions and plan.images:
            shown.append(self._lesion_gallery(candidate, images, lesions, target))
        return row, shown

    def _contrasts(self, candidate: Candidate, source: Target) -> tuple[str, ...]:
        """Return the contrast of each slice's MRI: its own, its partner's, or one drawn.

        Made MRI are compared with real ones, so they have the contrasts of these, as often; real
        ones whose contrast is not clear are not counted. A scan has one contrast.
        """
        if candidate.tell_contrast is None:
            return ()
        name = f"{candidate.name} {candidate.version}"
        if name not in self.told:
            self.told[name] = self._told(candidate)
        told, ct = self.told[name], self.plan.data.ct
        if source == "mri" or self.plan.data.paired:
            return told
        clear = [each for each in told if each] or [""]
        cases = list(dict.fromkeys(ct.cases))
        draws = np.random.default_rng(self.plan.seed).integers(len(clear), size=len(cases))
        drawn = {case: clear[place] for case, place in zip(cases, draws, strict=True)}
        return tuple(drawn[case] for case in ct.cases)

    def _told(self, candidate: Candidate) -> tuple[str, ...]:
        """Have a candidate tell the contrast of each real MRI, from all slices of its scan."""
        assert candidate.tell_contrast is not None
        images, heads = self.plan.data.mri, self.heads["mri"]
        cases, told = np.array(images.cases), {}
        for case in dict.fromkeys(images.cases):
            of_case = np.flatnonzero(cases == case)
            slices = to_network(images.slices[of_case])
            told[case] = candidate.tell_contrast(slices, torch.from_numpy(heads[of_case]))
        return tuple(told[case] for case in images.cases)

    def _paired(self, translated: Translated, target: Target) -> list[PairedErrors]:
        if not self.plan.data.paired:
            return []
        truth = self.plan.data.test(target)
        return errors_of_slices(translated.slices, truth.slices, self.heads[target], truth.scale)

    def _lesions(self, candidate: Candidate, images: SliceSet, target: Target) -> LesionTest | None:
        plan = self.plan
        if not plan.lesions:
            return None
        step = f"{candidate.name}: lesions in {images.modality.upper()}"
        return lesion_test(
            candidate,
            images,
            self.heads[images.modality],
            target=target,
            slices=plan.lesions,
            seed=plan.seed,
            done=self._counting(step, min(plan.lesions, len(images))),
        )

    def _lesion_gallery(
        self, candidate: Candidate, images: SliceSet, test: LesionTest, target: Target
    ) -> Gallery:
        return lesion_gallery(
            candidate,
            images,
            self.heads[images.modality],
            test,
            target=target,
            count=self.plan.images,
            seed=self.plan.seed,
        )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - start

    def _counting(self, step: str, total: int) -> Callable[[int], None]:
        seen = 0

        def done(count: int) -> None:
            nonlocal seen
            seen += count
            self.plan.progress(step, seen, total)

        return done


def _cases(
    images: SliceSet, translated: Translated, paired: Sequence[PairedErrors]
) -> tuple[CaseResult, ...]:
    errors: Sequence[PairedErrors | None] = paired or [None] * len(images)
    return tuple(
        CaseResult(name, case, float(cycle_error), error)
        for name, case, cycle_error, error in zip(
            images.names, images.cases, translated.cycle_errors, errors, strict=True
        )
    )
