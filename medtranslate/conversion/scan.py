"""One scan from file to file: read, check, translate, check, write, preview.

`Checks` are the checks of one scan: domain, coverage, expected error, cycle error and variation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.data import MetaTensor

from medtranslate.conversion.inputs import Item
from medtranslate.conversion.interface import UNKNOWN, ConversionOptions, ModalityBasis, Trace
from medtranslate.conversion.plan import FOLDERS, PlannedScan
from medtranslate.device import Progress
from medtranslate.domain_check import Judgment
from medtranslate.errors import Unsupported, WrongModality
from medtranslate.files import create_folder
from medtranslate.imaging import dicom, read, write
from medtranslate.imaging.base import Refusal
from medtranslate.imaging.image2d import write_stack
from medtranslate.imaging.source import SourceRecord
from medtranslate.modality import Modality
from medtranslate.quality.coverage import Coverage, mark_unseen, measure_coverage
from medtranslate.quality.cycle import CycleError, WorstSlice, cycle_error, worst_slices
from medtranslate.quality.error_map import ErrorMap, rounded, write_map
from medtranslate.quality.expected_error import ErrorPredictors, ExpectedError, expected_error
from medtranslate.quality.variation import Variation, variation
from medtranslate.report.preview import Panel, panels, save_preview
from medtranslate.transforms import AddCTGrain, Prepared
from medtranslate.translation import Translator

if TYPE_CHECKING:
    from medtranslate.report.viewer import ScanView


@dataclass(frozen=True, eq=False)
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
    worst : tuple of WorstSlice
        The slices of largest cycle error, where a page shows them.
    view : ScanView, str or None
        What the viewer of a page shows; why it cannot; None where none is asked for.
    """

    source: Mapping[str, Any]
    synthesis: Mapping[str, Any]
    notes: tuple[str, ...]
    panels: tuple[Panel, ...]
    worst: tuple[WorstSlice, ...]
    view: ScanView | str | None = None


def convert_scan(
    job: PlannedScan,
    translator: Translator,
    options: ConversionOptions,
    trace: Trace,
    progress: Progress = lambda done, total: None,
    folder_modality: ModalityBasis = UNKNOWN,
    reader: dicom.FolderReader | None = None,
    predictors: ErrorPredictors | None = None,
) -> Converted:
    """Convert one scan; the result is complete or absent.

    Parameters
    ----------
    job : PlannedScan
        Where the scan is and where the result goes.
    translator : Translator
        The model.
    options : ConversionOptions
    trace : Trace
        Takes the seconds by stage and what the checks find.
    progress : function
        Called with the slices done and the slices in all, over all passes through the network.
    folder_modality : (modality, basis)
        The modality that the folder of a 2D image was found to have.
    reader : FolderReader, optional
        Reads the series of a folder, where several are converted one after another.
    predictors : ErrorPredictors, optional
        The model's networks that predict errors, where it carries any.

    Raises
    ------
    MedTranslateError
        The message names the file and the fault.
    """
    to = options.to
    with trace.stage("read"):
        image = _read(job, options, folder_modality, reader)
    trace.source = source = image.meta["source"]
    with trace.stage("prepare"):
        _, prepared = translator.prepare(image, source, to)
        translator = translator.for_scan(prepared, source)
    with trace.stage("check"):
        checks = Checks(translator, image, prepared, options, trace, predictors)
        unseen, notes = checks.before()
    passes = _Passes(progress, 1 + checks.measures_cycle + options.variation)
    if checks.predicts_error or checks.measures_cycle or options.variation:
        checks = checks.kept()
    with trace.stage("translate"):
        result = translator.translate_prepared(
            image, source, prepared, to=to, as_written=True, progress=passes.next()
        )
        del prepared  # its slices are the result's now, which has its own voxels
    cycle: CycleError | None = None
    worst: list[WorstSlice] = []
    if checks.measures_cycle:
        with trace.stage("cycle"):
            with_map = job.error_map is not None or options.wants_viewer
            cycle, worst = checks.measure_cycle(result, unseen, passes.next(), with_map=with_map)
        if not with_map:
            cycle = None
    with trace.stage("write"), folder_created(job.home and job.output.parent):
        # The checks see what the network made.
        written = AddCTGrain(options.grain)(result) if options.grain else result
        _write(written, job, options)
        if cycle and source["kind"] == "volume":
            mark_unseen(cycle, checks.prepared, unseen)
        if cycle and job.error_map:
            _write_map(cycle, job.error_map, job, options, result)
    if not options.wants_viewer:
        cycle = None  # one map at a time
    expected: ExpectedError | None = None
    if checks.predicts_error:
        with trace.stage("expected_error"):
            with_map = job.expected_error_map is not None or options.wants_viewer
            expected = checks.predict_error(result, with_map=with_map)
        with trace.stage("write"):
            if source["kind"] == "volume" and with_map:
                mark_unseen(expected, checks.prepared, unseen)
            if job.expected_error_map:
                _write_map(expected, job.expected_error_map, job, options, result)
    view = _view(image, written, [one for one in (expected, cycle) if one], options, trace)
    cycle = expected = None
    if options.variation:
        with trace.stage("variation"):
            with_map = job.variation_map is not None
            variation = checks.measure_variation(result, passes.next(), with_map=with_map)
        with trace.stage("write"):
            if source["kind"] == "volume" and job.variation_map:
                mark_unseen(variation, checks.prepared, unseen)
            if job.variation_map:
                _write_map(variation, job.variation_map, job, options, result)
    if job.figures:
        with trace.stage("write"):
            _write_figures(job, job.figures, result, options, trace)
    shown = _preview(image, written, job, options, trace)
    notes = [*result.meta["source"]["faults"], *notes]
    if options.grain:
        notes.append(f"noise of {options.grain:g} HU was added to the CT")
    if job.format == "dicom":
        notes += _repaired(result, options)
    notes += [f"{one.name} beside it is of an earlier result" for one in job.outdated]
    return Converted(
        written.meta["source"], written.meta["synthesis"], tuple(notes), shown, tuple(worst), view
    )


@contextmanager
def folder_created(folder: Path | None) -> Iterator[None]:
    """Create a folder of results if it is missing; remove it again if the block fails."""
    if folder is None:
        yield
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    create_folder(folder)
    try:
        yield
    except BaseException:
        for one in missing:
            if not any(one.iterdir()):
                one.rmdir()
        raise


class _Passes:
    """Show several passes through the network as one progress."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._count, self._begun = progress, count, 0

    def next(self) -> Progress:
        """Return the progress of the next pass."""
        before = self._begun
        self._begun += 1
        return lambda done, total: self._progress(before * total + done, self._count * total)


def _read(
    job: PlannedScan,
    options: ConversionOptions,
    folder_modality: ModalityBasis,
    reader: dicom.FolderReader | None,
) -> MetaTensor:
    """Read a scan as it will be translated, and refuse now what could not be written."""
    image = _image(job.item, reader)
    source = dict(image.meta["source"])
    _settle_modality(source, job.item.path, options, folder_modality)
    image.meta["source"] = SourceRecord.of(source)
    if options.untilt:
        image = dicom.untilt(image)
    if options.regrid:
        image = dicom.regrid(image)
    if not image.meta["source"]["even"]:
        _check_even(job)
    if job.format == "dicom":
        placed = dicom.adopt_template(image, options.template) if options.template else image
        dicom.check_replaceable(job.output, placed.meta["source"]["files"])
    return image


def _image(item: Item, reader: dicom.FolderReader | None) -> MetaTensor:
    if reader is None or not item.series or not item.path.is_dir():
        return read(item.path, series=item.series)
    scan = reader.read(item.path, series=item.series)
    if isinstance(scan, Refusal):
        raise scan.error
    return scan.image()


def _check_even(job: PlannedScan) -> None:
    fault = "its slices are not evenly spaced, which {} cannot express"
    if job.format != "dicom":
        remedy = "write --format dicom, or an even grid with --regrid"
        raise Unsupported(fault.format(job.format), path=job.item.path, remedy=remedy)


def _settle_modality(
    source: dict[str, Any], path: Path, options: ConversionOptions, folder_modality: ModalityBasis
) -> None:
    """Decide in a source record which modality the scan has: header, user, folder, guess."""
    found, basis = source["modality"], source["modality_basis"]
    stated = bool(found) and not basis.startswith("guess")
    if options.modality:
        if stated and found != options.modality:
            fault = f"{basis} says {found}, --from says {options.modality}"
            if not options.force:
                remedy = "--force believes --from"
                raise WrongModality(fault, path=path, remedy=remedy)
            source["faults"] = [*source["faults"], f"{fault}, which is believed (--force)"]
        source |= {"modality": options.modality, "modality_basis": "given"}
    elif folder_modality[0] and not stated:
        expected, folder_basis = folder_modality
        if found not in ("", expected):
            fault = f"looks like {found} among 2D images that look like {expected} ({basis})"
            raise WrongModality(fault, path=path, remedy="say which: --from ct or --from mri")
        source |= {"modality": expected, "modality_basis": folder_basis}


def _write(result: MetaTensor, job: PlannedScan, options: ConversionOptions) -> None:
    if job.format == "dicom":
        dicom.write_series(
            result,
            job.output,
            overwrite=options.overwrite,
            template=options.template or None,
            uid_seed=options.uid_seed,
            keep_private=options.keep_private,
        )
    elif job.format in FOLDERS:
        write_stack(result, job.output, overwrite=options.overwrite)
    else:
        write(result, job.output, overwrite=options.overwrite)


def _repaired(result: MetaTensor, options: ConversionOptions) -> list[str]:
    """Say what the derived series adds to or repairs in the attributes that it carries over."""
    placed = dicom.adopt_template(result, options.template) if options.template else result
    return [f"In the result: {note}" for note in dicom.repairs(placed)]


def _write_map(
    measure: ErrorMap, path: Path, job: PlannedScan, options: ConversionOptions, result: MetaTensor
) -> None:
    synthesis = result.meta["synthesis"]
    if job.format == "dicom":
        image = rounded(measure)
        image.meta["synthesis"] = synthesis
        dicom.write_parametric_map(
            dicom.adopt_template(image, options.template) if options.template else image,
            path,
            series=job.output,
            quantity=measure.name,
            units=measure.units,
            highest=measure.limits[1] - measure.limits[0],
            uid_seed=options.uid_seed,
            overwrite=options.overwrite,
        )
        return
    with folder_created(path.parent):
        write_map(measure, synthesis, path, overwrite=options.overwrite)


def _write_figures(
    job: PlannedScan, path: Path, result: MetaTensor, options: ConversionOptions, trace: Trace
) -> None:
    found = trace.found
    measures = [found[name] for name in _MEASURES if name in found]
    dicom.write_figures(
        found,
        path,
        series=job.output,
        synthesis=result.meta["synthesis"],
        by_slice=not options.template and all(one["slice_axis"] == "Z" for one in measures),
        uid_seed=options.uid_seed,
        overwrite=options.overwrite,
    )


def _preview(
    image: MetaTensor,
    result: MetaTensor,
    job: PlannedScan,
    options: ConversionOptions,
    trace: Trace,
) -> tuple[Panel, ...]:
    if not options.preview:
        return ()
    with trace.stage("preview"):
        shown = panels(image, result)
        if job.preview is not None:
            label = str(result.meta["synthesis"]["label"])
            save_preview(shown, job.preview, label, overwrite=options.overwrite)
    return shown


def _view(
    image: MetaTensor,
    result: MetaTensor,
    measured: Sequence[ErrorMap],
    options: ConversionOptions,
    trace: Trace,
) -> ScanView | str | None:
    """Prepare what the viewer of a page shows, or say why it cannot."""
    source = result.meta["source"]
    if not options.wants_viewer or source["kind"] == "image":
        return None
    if not source["even"]:
        return "No viewer: the slices are not evenly spaced, so one grid cannot show them."
    from medtranslate.report.viewer import map_of, scan_view  # with matplotlib, as the page itself

    with trace.stage("view"):
        found = [trace.found[one.name.replace(" ", "_")] for one in measured]
        maps = [
            map_of(figures, one.name, rounded(one).as_tensor()[0].numpy())
            for figures, one in zip(found, measured, strict=True)
        ]
        measure = found[0] if found else None
        return scan_view(
            image.as_tensor()[0].cpu().numpy(),
            result.as_tensor()[0].cpu().float().numpy(),
            source["affine"],
            modality=source["modality"],
            maps=maps,
            slices=measure["worst_slices"] if measure else (),
            axis="XYZ".index(measure["slice_axis"]) if measure else 2,
        )


_MEASURES = ("expected_error", "cycle_error", "variation")
NO_CALIBRATION = "the model carries no calibration for it"


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
    predictors : ErrorPredictors, optional
        The model's networks that predict errors, where it carries any.
    """

    translator: Translator
    image: MetaTensor
    prepared: Prepared
    options: ConversionOptions
    trace: Trace
    predictors: ErrorPredictors | None = None

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

    @property
    def predicts_error(self) -> bool:
        """Whether the model carries a network that predicts the error of this direction."""
        return self.predictors is not None and self.options.to in self.predictors.networks

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
            "source": recipe.record(),
            "target": target.record(),
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
        """Return the same with slices that stay when the translation replaces the tensor's."""
        prepared = replace(self.prepared, slices=self.prepared.slices.detach())
        return replace(self, prepared=prepared)

    def measure_cycle(
        self, result: MetaTensor, unseen: Coverage, progress: Progress, *, with_map: bool
    ) -> tuple[CycleError, list[WorstSlice]]:
        """Measure the cycle error, and cut out the worst slices where a page shows them."""
        translator = self.translator
        found = cycle_error(
            translator, self.image, result, self.prepared, with_map=with_map, progress=progress
        )
        self.trace.found["cycle_error"] = found.as_builtins()
        if not self.options.wants_page:
            return found, []
        odd = {*(unseen.below_skull_base or ()), *unseen.unlike}
        worst = worst_slices(translator, self.image, result, found, self.prepared, exclude=odd)
        return found, worst

    def predict_error(self, result: MetaTensor, *, with_map: bool) -> ExpectedError:
        """Predict the expected error."""
        found = expected_error(
            self.translator,
            self.image,
            result,
            self.prepared,
            predictors=self.predictors,
            with_map=with_map,
        )
        self.trace.found["expected_error"] = found.as_builtins()
        return found

    def measure_variation(
        self, result: MetaTensor, progress: Progress, *, with_map: bool
    ) -> Variation:
        """Measure the variation."""
        translator = self.translator
        found = variation(
            translator, self.image, result, self.prepared, with_map=with_map, progress=progress
        )
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
