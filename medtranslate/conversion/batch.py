"""All inputs of one call: the model loads once, and one failure does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

from medtranslate.conversion.checks import Loaded
from medtranslate.conversion.console import Screen
from medtranslate.conversion.endings import UsageError, exit_code
from medtranslate.conversion.inputs import Input, find
from medtranslate.conversion.options import Request
from medtranslate.conversion.outputs import Job, Plan, check_options, place
from medtranslate.conversion.scan import Converted, convert_scan
from medtranslate.conversion.targets import (
    check_apart,
    check_collisions,
    check_free,
    check_sheet,
)
from medtranslate.conversion.timings import Trace
from medtranslate.errors import DeviceUnusable, ModelUnusable, WrongModality
from medtranslate.imaging.folder_modality import vote
from medtranslate.modality import TARGETS, Modality
from medtranslate.report.preview import Panel, save_preview
from medtranslate.translation import Translator

_ON_A_SHEET = _ON_A_PAGE = 24


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
    trace : Trace
        What was learnt of it on the way.
    """

    given: Path
    job: Job | None = None
    converted: Converted | None = None
    error: Exception | None = None
    trace: Trace = field(default_factory=Trace)

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
    loaded: Loaded | None = None
    loading_seconds: float = 0.0

    def run(self, given: Sequence[Path]) -> list[Outcome]:
        """Convert all inputs; failures are told and kept, not raised.

        Raises
        ------
        typer.BadParameter
            The command line contradicts itself.
        OutputExists
            A report has the name of a result.
        """
        check_options(self.request)
        self.plans = self._plans(given)
        check_apart(self.request.report_files, self.plans)
        ready = self._ready(self.plans)
        begun = [
            (plan, jobs) for plan in self.plans if (jobs := [j for j in plan.jobs if j in ready])
        ]
        if begun and self._load(begun):
            for plan, jobs in begun:
                self._convert(plan, jobs)
        return self.outcomes

    def _load(self, begun: Sequence[tuple[Plan, Sequence[Job]]]) -> bool:
        """Load the model, and say whether it can be used; if not, that is how each scan ends."""
        start = time.perf_counter()
        try:
            self.loaded = self._usable()
        except (ModelUnusable, DeviceUnusable) as error:
            self.screen.error(error)
            self.outcomes += [
                Outcome(plan.source.given, job, error=error) for plan, jobs in begun for job in jobs
            ]
        self.loading_seconds = time.perf_counter() - start
        return self.loaded is not None

    def _usable(self) -> Loaded:
        loaded = Loaded.of(self.load())
        bundle = loaded.translator.bundle
        bundle.generator(self.request.to)
        one_way = len(bundle.generators) < len(TARGETS)
        if one_way and self.request.map and self.request.cycle:
            fault = "leads one way, so there is no round trip to map"
            raise ModelUnusable(fault, path=bundle.folder, remedy="leave out --map")
        return loaded

    def _plans(self, given: Sequence[Path]) -> list[Plan]:
        sources: list[Input] = []
        given = _once(given)
        for path in given:
            with self._kept(path):
                sources.append(find(path, self.request.series))
        plans = []
        for source in sources:
            for note in source.notes:
                self.screen.note(f"{source.given}: {note}")
            with self._kept(source.given):
                plans.append(place(source, self.request, alone=len(given) == 1))
        return plans

    def _ready(self, plans: Sequence[Plan]) -> set[Job]:
        """Give the jobs whose results can be written; tell the others."""
        clashes = check_collisions(plans)
        sources = {job.item.path.resolve() for plan in plans for job in plan.jobs}
        ready = set()
        for plan in plans:
            with self._kept(plan.source.given):
                check_sheet(plan, overwrite=self.request.overwrite)
                for job in plan.jobs:
                    with self._kept(plan.source.given, job):
                        if job in clashes:
                            raise clashes[job]
                        check_free(job, overwrite=self.request.overwrite, sources=sources)
                        ready.add(job)
        return ready

    def _convert(self, plan: Plan, jobs: Sequence[Job]) -> None:
        voted: tuple[str, str] | None = ("", "")
        if plan.source.together and not self.request.modality:
            voted = None
            with self._kept(plan.source.given):
                voted = self._vote(plan.source.given, jobs)
        if voted is None:
            return
        start, together = time.perf_counter(), plan.source.together
        before = len(self.outcomes)
        bar = self.screen.bar(plan.source.given.name, len(jobs)) if together else None
        for number, job in enumerate(jobs, 1):
            self._convert_one(plan, job, voted)
            if bar:
                bar(number, len(jobs))
        if together:
            self._show_folder(plan, self.outcomes[before:], time.perf_counter() - start)

    def _vote(self, folder: Path, jobs: Sequence[Job]) -> tuple[str, str]:
        voted = vote(folder, [job.item.path for job in jobs])
        if voted[0] == Modality.parse(self.request.to):
            fault = f"is {voted[0]} already ({voted[1]})"
            remedy = f"if they are not, say so with --from {Modality(voted[0]).other.target}"
            raise WrongModality(fault, path=folder, remedy=remedy)
        return voted

    def _convert_one(self, plan: Plan, job: Job, voted: tuple[str, str]) -> None:
        assert self.loaded is not None
        trace, together = Trace(), plan.source.together
        bar = (lambda done, of: None) if together else self.screen.bar(job.item.path.name)
        try:
            with self._kept(plan.source.given, job, trace):
                converted = convert_scan(job, self.loaded, self.request, trace, bar, voted)
                outcome = Outcome(plan.source.given, job, converted, trace=trace)
                self.outcomes.append(outcome)
                self._keep_the_worst()
                if not together or self.screen.verbose:
                    for note in converted.notes:
                        self.screen.note(f"{job.item.path}: {note}")
                if not together:
                    self.screen.result(summary(outcome))
        finally:
            bar(1, 1)

    def _keep_the_worst(self) -> None:
        """Keep a page one that can be looked at: pictures of those scans that lost most."""
        shown = [o for o in self.outcomes if o.converted and o.converted.looks]
        if len(shown) <= _ON_A_PAGE:
            return
        least = min(shown, key=lambda one: one.trace.found["cycle_error"]["share_of_range"])
        assert least.converted is not None
        plain = replace(least, converted=replace(least.converted, looks=()))
        self.outcomes[self.outcomes.index(least)] = plain

    def _show_folder(self, plan: Plan, done: Sequence[Outcome], seconds: float) -> None:
        converted = [one for one in done if one.converted]
        made = [one.converted for one in converted if one.converted]
        if not made:
            return
        source, synthesis = made[0].source, made[0].synthesis
        self.screen.result(
            f"{plan.source.given} -> {plan.home}: {len(made)} of {len(plan.jobs)} pictures, "
            f"{source['modality']} ({source['modality_basis']}) to synthetic "
            f"{synthesis['modality']}, {told_trip(converted)}{seconds:.1f} s"
        )
        warned = sum(one.trace.found["domain"]["verdict"] == "warned" for one in converted)
        if warned and not self.screen.verbose:
            self.screen.note(
                f"{plan.source.given}: the domain check warns of {warned} of {len(made)} pictures; "
                "--verbose and the report say which"
            )
        if plan.sheet is None:
            return
        with self._kept(plan.source.given):
            save_preview(
                _spread([panel for one in made for panel in one.panels]),
                plan.sheet,
                str(synthesis["label"]),
                overwrite=self.request.overwrite,
            )

    @contextmanager
    def _kept(
        self, given: Path, job: Job | None = None, trace: Trace | None = None
    ) -> Iterator[None]:
        """Tell and keep what goes wrong in the block, so that the rest goes on."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            self.outcomes.append(Outcome(given, job, error=error, trace=trace or Trace()))
            self.screen.error(error)


def summary(outcome: Outcome) -> str:
    """Say in one line what was converted into what, and what the round trip lost."""
    assert outcome.job is not None and outcome.converted is not None
    source, made = outcome.converted.source, outcome.converted.synthesis["modality"]
    shape = "x".join(map(str, source["shape"]))
    seconds = sum(outcome.trace.seconds.values())
    return (
        f"{outcome.job.item.path} -> {outcome.job.output}: {source['modality']} "
        f"({source['modality_basis']}) to synthetic {made}, {shape}, {told_trip([outcome])}"
        f"{seconds:.1f} s"
    )


def told_trip(outcomes: Sequence[Outcome]) -> str:
    """Say what the round trip lost, on average over conversions; nothing if none was made."""
    found = [o.trace.found["cycle_error"] for o in outcomes if "cycle_error" in o.trace.found]
    if not found:
        return ""
    error, share = (mean(one[key] for one in found) for key in ("error", "share_of_range"))
    shown = f"{error:.1f}" if error >= 1 else f"{error:.2g}"
    return f"round trip {shown} {found[0]['units']} ({share:.1%} of the range), "


def _once(given: Sequence[Path]) -> list[Path]:
    """Leave out what was given before, under whatever name."""
    first: dict[Path, Path] = {}
    for path in given:
        first.setdefault(path.resolve(), path)
    return list(first.values())


def _spread(panels: Sequence[Panel]) -> list[Panel]:
    """Choose panels evenly, so that a sheet stays one that can be looked at."""
    step = max(1, -(-len(panels) // _ON_A_SHEET))
    return list(panels[::step])
