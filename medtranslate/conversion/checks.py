"""The checks of one scan: is it one to translate, what could not be seen, what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from monai.data import MetaTensor

from medtranslate.conversion.options import Request
from medtranslate.conversion.timings import Trace
from medtranslate.device import Progress
from medtranslate.domain_check import DomainCheck, Judgement, load_domain, refusal
from medtranslate.modality import Modality
from medtranslate.quality.coverage import Unseen, find_unseen
from medtranslate.quality.cycle import CycleError, cycle_error
from medtranslate.quality.variation import Variation, variation
from medtranslate.quality.worst_slices import Look, worst_looks
from medtranslate.report.record import recipe_record
from medtranslate.transforms import Prepared
from medtranslate.translation import Translator

NO_CALIBRATION = "the model carries no calibration for it"


@dataclass(frozen=True)
class Loaded:
    """A model and what checks its scans.

    Parameters
    ----------
    translator : Translator
    domain : DomainCheck or None
        None where the model carries no calibration.
    """

    translator: Translator
    domain: DomainCheck | None

    @classmethod
    def of(cls, translator: Translator) -> Loaded:
        """Load the check that a model carries."""
        return cls(translator, load_domain(translator.bundle))


@dataclass(frozen=True)
class Checks:
    """One scan, prepared, with its own slices, which translating takes the place of.

    Parameters
    ----------
    loaded : Loaded
        The model.
    image : MetaTensor (1, X, Y, Z)
        The scan.
    prepared : Prepared
        As the network is to see it.
    request : Request
        What was asked for.
    trace : Trace
        Is told what was found.
    """

    loaded: Loaded
    image: MetaTensor
    prepared: Prepared
    request: Request
    trace: Trace

    @property
    def source(self) -> Mapping[str, Any]:
        """The scan's source record."""
        source: Mapping[str, Any] = self.image.meta["source"]
        return source

    @property
    def goes_back(self) -> bool:
        """Whether the round trip is asked for and the model has a way back."""
        back = Modality(self.source["modality"]).target
        return self.request.cycle and back in self.loaded.translator.bundle.generators

    def before(self) -> tuple[Unseen, list[str]]:
        """Judge the scan before it is translated.

        Returns
        -------
        (Unseen, list of str)
            What could not be seen, and what a user should be told, a sentence each.

        Raises
        ------
        OutOfDomain
            The domain check refuses the scan, and nobody forces it.
        """
        bundle, source = self.loaded.translator.bundle, self.source
        recipe = bundle.recipe(source["modality"], source["kind"])
        target = bundle.recipe(Modality.parse(self.request.to), source["kind"])
        self.trace.found["recipes"] = {
            "source": recipe_record(recipe),
            "target": recipe_record(target),
        }
        judgement, notes = self._judged()
        unseen = find_unseen(self.prepared, self.image, recipe, _unlike(judgement))
        self.trace.found["unseen"] = unseen.as_builtins()
        if self.request.cycle and not self.goes_back:
            notes.append("no round trip is made: the model leads one way")
        if unseen.outside_field:
            notes.append(
                f"{unseen.outside_field} voxels that are not air lie outside the model's field of "
                "view and are background in the result"
            )
        return unseen, notes

    def kept(self) -> Checks:
        """Give the same with a copy of the slices, to be looked at after the translation."""
        prepared = replace(self.prepared, slices=self.prepared.slices.clone())
        return replace(self, prepared=prepared)

    def round_trip(
        self, result: MetaTensor, unseen: Unseen, progress: Progress
    ) -> tuple[CycleError, list[Look]]:
        """Measure the cycle error; with pictures of the worst slices, where a page wants them."""
        translator = self.loaded.translator
        found = cycle_error(translator, self.image, result, self.prepared, progress=progress)
        self.trace.found["cycle_error"] = found.as_builtins()
        if not self.request.wants_page:
            return found, []
        odd = {*(unseen.below_skull_base or ()), *unseen.unlike}
        looks = worst_looks(translator, self.image, result, found, self.prepared, passed_over=odd)
        return found, looks

    def second_opinion(self, result: MetaTensor, progress: Progress) -> Variation:
        """Measure the variation."""
        translator = self.loaded.translator
        found = variation(translator, self.image, result, self.prepared, progress=progress)
        self.trace.found["variation"] = found.as_builtins()
        return found

    def _judged(self) -> tuple[Judgement | None, list[str]]:
        if self.loaded.domain is None:
            self.trace.found["domain"] = {"verdict": "not checked", "reasons": [NO_CALIBRATION]}
            return None, []
        judgement = self.loaded.domain.judge(self.prepared, self.source)
        forced = judgement.verdict == "refused" and self.request.force
        self.trace.found["domain"] = {**judgement.as_builtins(), "forced": forced}
        if judgement.verdict == "passed":
            return judgement, []
        if judgement.verdict == "refused" and not forced:
            raise refusal(judgement, self.source)
        reasons = "; ".join(judgement.reasons)
        if forced:
            return judgement, [f"the domain check refuses it ({reasons}): translated by --force"]
        return judgement, [f"the domain check warns: {reasons}"]


def _unlike(judgement: Judgement | None) -> list[int]:
    """Give the network slices that are as odd as a scan that would be refused."""
    if judgement is None or judgement.slices is None or len(judgement.slices) == 1:
        return []
    refuse = judgement.limits[1]
    return [
        number
        for number, score in enumerate(judgement.slices)
        if score is not None and score >= refuse
    ]
