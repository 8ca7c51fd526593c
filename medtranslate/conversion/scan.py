"""One scan from file to file: read, check, translate, check, write, show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from medtranslate.conversion.checks import Checks, Loaded
from medtranslate.conversion.options import Request
from medtranslate.conversion.outputs import Job
from medtranslate.conversion.reading import read_scan
from medtranslate.conversion.timings import Trace
from medtranslate.conversion.writing import folder_made, mended, write_result
from medtranslate.device import Progress
from medtranslate.quality.coverage import Unseen, marked
from medtranslate.quality.cycle import CycleError
from medtranslate.quality.error_map import Measure
from medtranslate.quality.maps import write_map
from medtranslate.quality.worst_slices import Look
from medtranslate.report.preview import Panel, panels, save_preview


@dataclass(frozen=True)
class Converted:
    """What is known of a scan that was converted.

    Parameters
    ----------
    source, synthesis : mapping
        ``meta["source"]`` and ``meta["synthesis"]`` of the result.
    notes : tuple of str
        What was noticed, a sentence each.
    panels : tuple of Panel
        Source beside result.
    looks : tuple of Look
        The slices that lost most on the round trip, where a page shows them.
    """

    source: Mapping[str, Any]
    synthesis: Mapping[str, Any]
    notes: tuple[str, ...]
    panels: tuple[Panel, ...]
    looks: tuple[Look, ...]


def convert_scan(
    job: Job,
    loaded: Loaded,
    request: Request,
    trace: Trace,
    progress: Progress,
    voted: tuple[str, str] = ("", ""),
) -> Converted:
    """Convert one scan; the result is whole or absent.

    Parameters
    ----------
    job : Job
        Where from and where to.
    loaded : Loaded
        The model.
    request : Request
        What was asked for.
    trace : Trace
        Takes the time and what is found.
    progress : function
        Called with the slices done and the slices in all, over all passes through the network.
    voted : (modality, basis)
        What the folder of a picture was found to show.

    Raises
    ------
    MedTranslateError
        The file and the fault are in the message.
    """
    translator, to = loaded.translator, request.to
    with trace.stage("read"):
        image = read_scan(job, request, voted)
    trace.source = source = image.meta["source"]
    with trace.stage("prepare"):
        _, prepared = translator.prepare(image, source, to)
    with trace.stage("check"):
        checks = Checks(loaded, image, prepared, request, trace)
        unseen, notes = checks.before()
    goes_back = checks.goes_back
    passes = _Passes(progress, 1 + goes_back + request.variation)
    if goes_back or request.variation:
        checks = checks.kept()
    with trace.stage("translate"):
        result = translator.translate_prepared(
            image, source, prepared, to=to, progress=passes.next()
        )
        del prepared  # its slices are the result's now, which has its own voxels
    cycle: CycleError | None = None
    looks: list[Look] = []
    if goes_back:
        with trace.stage("round trip"):
            cycle, looks = checks.round_trip(result, unseen, passes.next())
        if job.error_map is None:
            cycle = None  # its figures are kept; its map would only take room
    with trace.stage("write"), folder_made(job.home and job.output.parent):
        write_result(result, job, request)
        if cycle and job.error_map:
            _write_map(cycle, job.error_map, checks, unseen, result)
            cycle = None  # one map at a time
    if request.variation:
        with trace.stage("variation"):
            other = checks.second_opinion(result, passes.next())
        with trace.stage("write"):
            if job.variation_map:
                _write_map(other, job.variation_map, checks, unseen, result)
    shown = _preview(image, result, job, request, trace)
    notes = [*result.meta["source"]["faults"], *notes]
    if job.format == "dicom":
        notes += mended(result, request)
    notes += [f"{one.name} beside it is of an earlier result" for one in job.outdated]
    return Converted(
        result.meta["source"], result.meta["synthesis"], tuple(notes), shown, tuple(looks)
    )


class _Passes:
    """One bar over several passes through the network."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._count, self._begun = progress, count, 0

    def next(self) -> Progress:
        """Give the progress of the next pass."""
        before = self._begun
        self._begun += 1
        return lambda done, of: self._progress(before * of + done, self._count * of)


def _write_map(
    measure: Measure, path: Path, checks: Checks, unseen: Unseen, result: MetaTensor
) -> None:
    if checks.source["kind"] == "volume":
        marked(measure, checks.prepared, unseen)
    with folder_made(path.parent):
        synthesis = result.meta["synthesis"]
        write_map(measure, synthesis, path, overwrite=checks.request.overwrite)


def _preview(
    image: MetaTensor, result: MetaTensor, job: Job, request: Request, trace: Trace
) -> tuple[Panel, ...]:
    if not request.preview:
        return ()
    with trace.stage("preview"):
        shown = panels(image, result)
        if job.preview is not None:
            label = str(result.meta["synthesis"]["label"])
            save_preview(shown, job.preview, label, overwrite=request.overwrite)
    return shown
