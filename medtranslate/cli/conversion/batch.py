"""All inputs of one call: the model loads once, and one failure does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtranslate.assurance.preview import Panel, save_preview
from medtranslate.bundle.load import TARGETS
from medtranslate.cli.conversion.inputs import Input, find
from medtranslate.cli.conversion.outputs import (
    Job,
    Plan,
    check_collisions,
    check_free,
    check_options,
    check_sheet,
    place,
)
from medtranslate.cli.conversion.request import Request
from medtranslate.cli.conversion.scan import Clock, Converted, convert_scan
from medtranslate.cli.conversion.screen import Screen
from medtranslate.cli.conversion.vote import vote
from medtranslate.cli.endings import UsageError, exit_code
from medtranslate.errors import WrongModality
from medtranslate.translation import Translator

_ON_A_SHEET = 24


@dataclass(frozen=True)
class Outcome:
    """How one scan, or one input that could not even be looked into, ended.

    Parameters
    ----------
    given : Path
        The argument.
    job : Job or None
        The scan, where it was found.
    converted : Converted or None
        What was made.
    error : Exception or None
        Why nothing was made.
    seconds : mapping of str to float
        By stage.
    """

    given: Path
    job: Job | None = None
    converted: Converted | None = None
    error: Exception | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The exit code of this one alone."""
        return exit_code(self.error) if self.error else 0


@dataclass
class Batch:
    """The scans of one call.

    Parameters
    ----------
    request : Request
        What was asked for.
    screen : Screen
        Where it is told.
    load : function
        Gives the model; called once, and only if there is something to convert.
    """

    request: Request
    screen: Screen
    load: Callable[[], Translator]
    plans: list[Plan] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    translator: Translator | None = None
    loading_seconds: float = 0.0

    def run(self, given: Sequence[Path]) -> list[Outcome]:
        """Convert all inputs; failures are told and kept, not raised.

        Raises
        ------
        typer.BadParameter
            The command line contradicts itself.
        ModelUnusable, DeviceUnusable
            There is no model to convert with.
        """
        check_options(self.request)
        self.plans = self._plans(given)
        ready = self._ready(self.plans)
        if ready:
            start = time.perf_counter()
            self.translator = self.load()
            self.translator.bundle.generator(self.request.to)
            self.loading_seconds = time.perf_counter() - start
        for plan in self.plans:
            jobs = [job for job in plan.jobs if job in ready]
            if jobs:
                self._convert(plan, jobs)
        return self.outcomes

    def _plans(self, given: Sequence[Path]) -> list[Plan]:
        sources: list[Input] = []
        for path in given:
            try:
                sources.append(find(path, self.request.series))
            except Exception as error:
                self._fail(Outcome(path, error=error))
        plans = []
        for source in sources:
            for note in source.notes:
                self.screen.note(f"{source.given}: {note}")
            try:
                plans.append(place(source, self.request, alone=len(given) == 1))
            except UsageError:
                raise
            except Exception as error:
                self._fail(Outcome(source.given, error=error))
        return plans

    def _ready(self, plans: Sequence[Plan]) -> set[Job]:
        """Give the jobs whose results can be written; tell the others."""
        clashes = check_collisions(plans)
        sources = [job.item.path for plan in plans for job in plan.jobs]
        ready = set()
        for plan in plans:
            try:
                check_sheet(plan, overwrite=self.request.overwrite)
            except Exception as error:
                self._fail(Outcome(plan.source.given, error=error))
                continue
            for job in plan.jobs:
                try:
                    if job in clashes:
                        raise clashes[job]
                    check_free(job, overwrite=self.request.overwrite, sources=sources)
                    ready.add(job)
                except Exception as error:
                    self._fail(Outcome(plan.source.given, job, error=error))
        return ready

    def _convert(self, plan: Plan, jobs: Sequence[Job]) -> None:
        voted = ("", "")
        if plan.source.together and not self.request.modality:
            try:
                voted = self._vote(plan.source.given, jobs)
            except Exception as error:
                self._fail(Outcome(plan.source.given, error=error))
                return
        start, done = time.perf_counter(), []
        together = plan.source.together
        bar = self.screen.bar(plan.source.given.name, len(jobs)) if together else None
        for number, job in enumerate(jobs, 1):
            done.append(self._convert_one(plan, job, voted))
            if bar:
                bar(number, len(jobs))
        if plan.source.together:
            self._show_folder(plan, done, time.perf_counter() - start)

    def _vote(self, folder: Path, jobs: Sequence[Job]) -> tuple[str, str]:
        voted = vote(folder, [job.item.path for job in jobs])
        if voted[0] == TARGETS[self.request.to]:
            fault = f"is {voted[0]} already ({voted[1]})"
            raise WrongModality(fault, path=folder, remedy="see --from")
        return voted

    def _convert_one(self, plan: Plan, job: Job, voted: tuple[str, str]) -> Outcome:
        assert self.translator is not None
        clock, together = Clock(), plan.source.together
        bar = (lambda done, of: None) if together else self.screen.bar(job.item.path.name)
        try:
            converted = convert_scan(job, self.translator, self.request, clock, bar, voted)
        except Exception as error:
            bar(1, 1)
            return self._fail(Outcome(plan.source.given, job, error=error, seconds=clock.seconds))
        outcome = Outcome(plan.source.given, job, converted, seconds=clock.seconds)
        self.outcomes.append(outcome)
        if not together or self.screen.verbose:
            for fault in converted.source["faults"]:
                self.screen.note(f"{job.item.path}: {fault}")
        if not together:
            self.screen.result(summary(outcome))
        return outcome

    def _show_folder(self, plan: Plan, done: Sequence[Outcome], seconds: float) -> None:
        made = [one.converted for one in done if one.converted]
        if not made:
            return
        source, synthesis = made[0].source, made[0].synthesis
        self.screen.result(
            f"{plan.source.given} -> {plan.home}: {len(made)} of {len(plan.jobs)} pictures, "
            f"{source['modality']} ({source['modality_basis']}) to synthetic "
            f"{synthesis['modality']}, {seconds:.1f} s"
        )
        if plan.sheet is None:
            return
        try:
            save_preview(
                _spread([panel for one in made for panel in one.panels]),
                plan.sheet,
                str(synthesis["label"]),
                overwrite=self.request.overwrite,
            )
        except Exception as error:
            self._fail(Outcome(plan.source.given, error=error))

    def _fail(self, outcome: Outcome) -> Outcome:
        assert outcome.error is not None
        self.outcomes.append(outcome)
        self.screen.error(outcome.error)
        return outcome


def summary(outcome: Outcome) -> str:
    """Say in one line what was converted into what."""
    assert outcome.job is not None and outcome.converted is not None
    source, made = outcome.converted.source, outcome.converted.synthesis["modality"]
    shape = "x".join(map(str, source["shape"]))
    seconds = sum(outcome.seconds.values())
    return (
        f"{outcome.job.item.path} -> {outcome.job.output}: {source['modality']} "
        f"({source['modality_basis']}) to synthetic {made}, {shape}, {seconds:.1f} s"
    )


def _spread(panels: Sequence[Panel]) -> list[Panel]:
    """Choose panels evenly, so that a sheet stays one that can be looked at."""
    step = max(1, -(-len(panels) // _ON_A_SHEET))
    return list(panels[::step])
