"""The checks of one scan: domain, coverage, cycle error and variation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from monai.data import MetaTensor

from medtranslate.conversion.options import ConversionOptions
from medtranslate.device import Progress
from medtranslate.domain_check import Judgment
from medtranslate.modality import Modality
from medtranslate.quality.coverage import Coverage, measure_coverage
from medtranslate.quality.cycle import CycleError, WorstSlice, cycle_error, worst_slices
from medtranslate.quality.variation import Variation, variation
from medtranslate.report.record import recipe_record
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator

NO_CALIBRATION = "the model carries no calibration for it"


@dataclass
class Trace:
    """Record what is learned of a scan on its way, also where the conversion fails.

    Parameters
    ----------
    seconds : dict of str to float
        By stage.
    found : dict of str to builtins
        What the checks found, for the report: ``"recipes"``, ``"domain"``, ``"unseen"``,
        ``"cycle_error"``, ``"variation"``; checks that were not reached are absent.
    source : mapping
        ``meta["source"]`` of the scan; empty until it is read.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Checks:
    """Check one prepared scan before and after it is translated.

    Parameters
    ----------
    translator : Translator
        The model.
    image : MetaTensor (1, X, Y, Z)
        The scan.
    prepared : Prepared
        The scan as the network sees it.
    options : ConversionOptions
    trace : Trace
        Takes what is found.
    """

    translator: Translator
    image: MetaTensor
    prepared: Prepared
    options: ConversionOptions
    trace: Trace

    @property
    def source(self) -> Mapping[str, Any]:
        """The scan's source record."""
        source: Mapping[str, Any] = self.image.meta["source"]
        return source

    @property
    def measures_cycle(self) -> bool:
        """Whether the cycle error is asked for and the model has the reverse generator."""
        back = Modality(self.source["modality"]).target
        return self.options.cycle and back in self.translator.bundle.generators

    def before(self) -> tuple[Coverage, list[str]]:
        """Judge the scan before it is translated.

        Returns
        -------
        (Coverage, list of str)
            What is outside the model's view, and notes for the user, a sentence each.

        Raises
        ------
        OutOfDomain
            The domain check refuses the scan, and `force` is not set.
        """
        bundle, source = self.translator.bundle, self.source
        recipe = bundle.recipe(source["modality"], source["kind"])
        target = bundle.recipe(Modality.parse(self.options.to), source["kind"])
        self.trace.found["recipes"] = {
            "source": recipe_record(recipe),
            "target": recipe_record(target),
        }
        judgment, notes = self._judged()
        unseen = measure_coverage(self.prepared, self.image, recipe, _unlike(judgment))
        self.trace.found["unseen"] = unseen.as_builtins()
        if self.options.cycle and not self.measures_cycle:
            notes.append("no cycle error is measured: the model has no generator back")
        if unseen.outside_field:
            notes.append(
                f"{unseen.outside_field} voxels that are not air lie outside the model's field of "
                "view and are background in the result"
            )
        return unseen, notes

    def kept(self) -> Checks:
        """Return the same with a copy of the slices, which the translation would replace."""
        prepared = replace(self.prepared, slices=self.prepared.slices.clone())
        return replace(self, prepared=prepared)

    def measure_cycle(
        self, result: MetaTensor, unseen: Coverage, progress: Progress
    ) -> tuple[CycleError, list[WorstSlice]]:
        """Measure the cycle error, and cut out the worst slices where a page shows them."""
        translator = self.translator
        found = cycle_error(translator, self.image, result, self.prepared, progress=progress)
        self.trace.found["cycle_error"] = found.as_builtins()
        if not self.options.wants_page:
            return found, []
        odd = {*(unseen.below_skull_base or ()), *unseen.unlike}
        worst = worst_slices(translator, self.image, result, found, self.prepared, exclude=odd)
        return found, worst

    def measure_variation(self, result: MetaTensor, progress: Progress) -> Variation:
        """Measure the variation."""
        translator = self.translator
        found = variation(translator, self.image, result, self.prepared, progress=progress)
        self.trace.found["variation"] = found.as_builtins()
        return found

    def _judged(self) -> tuple[Judgment | None, list[str]]:
        judgment = self.translator.judge(self.prepared, self.source)
        if judgment is None:
            self.trace.found["domain"] = {"verdict": "not checked", "reasons": [NO_CALIBRATION]}
            return None, []
        forced = judgment.verdict == "refused" and self.options.force
        self.trace.found["domain"] = {**judgment.as_builtins(), "forced": forced}
        if judgment.verdict == "passed":
            return judgment, []
        if not forced:
            judgment.raise_if_refused(self.source)
        reasons = "; ".join(judgment.reasons)
        if forced:
            return judgment, [f"the domain check refuses it ({reasons}): translated by --force"]
        return judgment, [f"the domain check warns: {reasons}"]


def _unlike(judgment: Judgment | None) -> list[int]:
    """Return the network slices whose anomaly score alone would refuse a scan."""
    if judgment is None or judgment.slices is None or len(judgment.slices) == 1:
        return []
    refuse = judgment.limits[1]
    return [
        number
        for number, score in enumerate(judgment.slices)
        if score is not None and score >= refuse
    ]
