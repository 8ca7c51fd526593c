"""Convert scans from file to file: one with `convert`, any number with `convert_many`.

The model is loaded once, and only if there is something to convert: until then neither torch nor
MONAI is imported, so that a refusal is immediate. A scan that fails does not stop the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from medtranslate.conversion.batch import Batch, PathLike, outcome, with_modality
from medtranslate.conversion.interface import Conversion, ConversionOptions, Trace, is_page
from medtranslate.conversion.plan import Plan, PlannedScan, check_options
from medtranslate.device import limited_threads
from medtranslate.errors import (
    AmbiguousInput,
    DeviceUnusable,
    InvalidOption,
    ModelUnusable,
    common_exit_code,
)
from medtranslate.files import remove_leftovers
from medtranslate.imaging import dicom
from medtranslate.modality import TARGETS

if TYPE_CHECKING:
    from medtranslate.bundle import Bundle
    from medtranslate.conversion.scan import Converted
    from medtranslate.imaging.dicom import FolderReader
    from medtranslate.quality.cycle import WorstSlice
    from medtranslate.quality.expected_error import ErrorPredictors
    from medtranslate.report.preview import Panel
    from medtranslate.report.viewer import ScanView
    from medtranslate.translation import Translator

_ON_A_SHEET = _ON_A_PAGE = 24


class Observer:
    """Receive progress and notes while scans are converted; a subclass overrides what it needs.

    Examples
    --------
    >>> class Printer(Observer):
    ...     def note(self, message: str) -> None:
    ...         print("note:", message)
    >>> Printer().note("2 files are skipped")
    note: 2 files are skipped
    """

    def progress(self, name: str, done: int, total: int) -> None:
        """Take progress on the scan, or the folder of 2D images, called `name`.

        `total` is 0 until it is known.
        """

    def note(self, message: str) -> None:
        """Take a note that concerns a whole input: what was skipped in a folder."""

    def failure(self, message: str) -> None:
        """Take what is wrong with a scan of a cohort, in one line (`medtranslate.cohort`)."""


def convert(
    path: PathLike | Batch,
    *,
    to: str = "",
    options: ConversionOptions | None = None,
    translator: Translator | None = None,
    observer: Observer | None = None,
    **fields: Any,
) -> Conversion:
    """Convert one scan from file to file, with all checks of ``medtranslate convert``.

    Parameters
    ----------
    path : path or Batch
        A file, a folder with one DICOM series, a zip of one scan, or a batch of one scan.
    to : str
        ``"mri"`` or ``"ct"``.
    options : ConversionOptions, optional
        All options in one object; `to` and `fields` replace its fields.
    translator : Translator, optional
        A loaded model to use instead of loading the one that the options name.
    observer : Observer, optional
        Receives progress and notes.
    **fields
        Fields of `ConversionOptions`, such as ``output="mri.nii.gz"`` or ``map=True``.

    Returns
    -------
    Conversion
        What was written and what the checks found.

    Raises
    ------
    InvalidOption
        Options contradict each other.
    AmbiguousInput
        The input holds several scans; `convert_many` converts them all.
    MedTranslateError
        The scan cannot be converted; nothing is written then but the reports asked for.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate import convert, write
    >>> from medtranslate.phantom import Phantom
    >>> folder = tempfile.TemporaryDirectory()
    >>> phantom = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    >>> scan = write(phantom, f"{folder.name}/head-ct.nii.gz")
    >>> done = convert(scan, to="mri", force=True, cycle=False)
    >>> done.output.name, done.source["modality"], done.synthesis["modality"]
    ('head-ct_mri.nii.gz', 'CT', 'MR')
    """
    merged = _merged(options, to, fields)
    if merged.part:
        raise InvalidOption("part is for convert_many: one scan has no parts")
    run = Conversions(path if isinstance(path, Batch) else [path], merged, translator, observer)
    found = len(run.batch.jobs)
    if found > 1:
        remedy = "convert_many converts them all"
        raise AmbiguousInput(f"holds {found} scans", path=run.batch.given[0], remedy=remedy)
    done = list(run)
    for one in done:
        if one.error:
            raise one.error
    return done[0]


def convert_many(
    paths: PathLike | Iterable[PathLike] | Batch,
    *,
    to: str = "",
    options: ConversionOptions | None = None,
    translator: Translator | None = None,
    observer: Observer | None = None,
    **fields: Any,
) -> Conversions:
    """Convert any number of scans, and yield each when it is done.

    Parameters
    ----------
    paths : path, iterable of paths, or Batch
        Files, folders and zips, all scans of which are converted; or what `Batch.find` found.
    to, options, translator, observer, **fields
        As `convert`.

    Returns
    -------
    Conversions
        An iterator of `Conversion`. A scan that cannot be converted is yielded with its `error`
        and does not end the stream. Reports are written at the end of the stream.

    Raises
    ------
    InvalidOption
        Options contradict each other, or ``output`` names one file for several scans.
    OutputExists, OutputFailed
        A report cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate import convert_many, write
    >>> from medtranslate.phantom import Phantom
    >>> folder = tempfile.TemporaryDirectory()
    >>> phantom = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    >>> scan = write(phantom, f"{folder.name}/head-ct.nii.gz")
    >>> for done in convert_many([scan, "gone.nii"], to="mri", force=True, cycle=False):
    ...     print(done.path.name, done.exit_code)
    gone.nii 3
    head-ct.nii.gz 0
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return Conversions(several, _merged(options, to, fields), translator, observer)


def _merged(
    options: ConversionOptions | None, to: str, fields: Mapping[str, Any]
) -> ConversionOptions:
    chosen = {**fields, "to": to} if to else dict(fields)
    if options is not None:
        return replace(options, **chosen)
    if not to:
        raise InvalidOption("to is missing: 'mri' or 'ct'")
    return ConversionOptions(**chosen)


class Conversions(Iterator[Conversion]):
    """The conversions of one call, made one by one as they are asked for.

    Parameters
    ----------
    paths : iterable of paths, or Batch
        Files, folders and zips, or what was found in them.
    options : ConversionOptions
    translator : Translator, optional
        A loaded model.
    observer : Observer, optional
        Receives progress and notes.

    Attributes
    ----------
    batch : Batch
        For each input with scans, what will be written where.

    Examples
    --------
    >>> conversions = Conversions(["no-such-scan.nii"], ConversionOptions(to="mri"))
    >>> [type(one.error).__name__ for one in conversions], conversions.exit_code
    (['InputMissing'], 3)
    """

    def __init__(
        self,
        paths: Iterable[PathLike] | Batch,
        options: ConversionOptions,
        translator: Translator | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.options, self._given_translator = options, translator
        self._observer = observer or Observer()
        self._start, self._loading = time.perf_counter(), 0.0
        self._translator: Translator | None = None
        self._predictors: ErrorPredictors | None = None
        self._done: list[Conversion] = []
        self._worst: dict[int, tuple[WorstSlice, ...]] = {}
        self._views: dict[int, ScanView | str] = {}
        self._report: dict[str, Any] | None = None
        self._model: Bundle | str | None = options.bundle or None
        check_options(options)
        if options.contrast:
            from medtranslate.bundle import Bundle

            self._model = translator.bundle if translator else Bundle.load(self._model)
            self._model.contrast_code(options.contrast)
        if isinstance(paths, Batch):
            self.batch = paths
        else:
            self.batch = Batch.find(paths, options, self._observer.note)
        self._stream = self._converted()

    def __next__(self) -> Conversion:
        return next(self._stream)

    def __repr__(self) -> str:
        return f"<Conversions: {len(self._done)} done, {len(self.batch.jobs)} scans found>"

    @property
    def exit_code(self) -> int:
        """Exit code of what was converted so far: 0, the code all failures share, or 20."""
        return common_exit_code(one.exit_code for one in self._done)

    @property
    def report(self) -> dict[str, Any]:
        """Report of what was converted so far, in builtins (`medtranslate.report`)."""
        if self._report is not None:
            return self._report
        from medtranslate.report.record import anonymous, report

        options = {**asdict(self.options), "inputs": [str(path) for path in self.batch.given]}
        with limited_threads(self.options.threads):  # the report says how many they were
            content = report(
                [one.as_builtins() for one in self._done],
                options,
                self._translator,
                exit_code=self.exit_code,
                seconds={"load": self._loading, "total": time.perf_counter() - self._start},
            )
        return anonymous(content) if self.options.anonymous else content

    def _converted(self) -> Iterator[Conversion]:
        for one in self.batch.refused:
            yield self._recorded(one)
        ready: list[tuple[Plan, list[PlannedScan]]] = []
        for plan, jobs, settled in self.batch.checked(self.options):
            for one in settled:
                yield self._recorded(one)
            if jobs:
                ready.append((plan, jobs))
        if ready:
            with limited_threads(self.options.threads):
                yield from self._of_plans(ready)
        self._write_reports()

    def _of_plans(self, ready: Sequence[tuple[Plan, list[PlannedScan]]]) -> Iterator[Conversion]:
        self._clear(job for _, jobs in ready for job in jobs)
        error = self._load()
        for plan, jobs in ready:
            if error is None:
                yield from self._of_plan(plan, jobs)
            else:
                for job in jobs:
                    yield self._recorded(outcome(plan, job, error))

    def _clear(self, jobs: Iterable[PlannedScan]) -> None:
        """Remove what killed processes left where results and reports are to go."""
        targets = [path for job in jobs for path in job.targets]
        for folder in {path.absolute().parent for path in (*targets, *self.options.report_files)}:
            remove_leftovers(folder)

    def _load(self) -> Exception | None:
        """Load the model; return why it cannot be used, which is how each scan ends."""
        start, options = time.perf_counter(), self.options
        try:
            from medtranslate.quality.expected_error import load_error_predictors
            from medtranslate.translation import Translator

            translator = self._given_translator or Translator.load(
                self._model,
                device=options.device,
                precision=options.precision,
                batch_size=options.batch_size,
                contrast=options.contrast,
                engine=options.engine,
            )
            self._predictors = load_error_predictors(translator.bundle)
            self._translator = _usable(translator, options).for_contrast(options.contrast)
        except (ModelUnusable, DeviceUnusable) as error:
            return error
        finally:
            self._loading = time.perf_counter() - start
        return None

    def _of_plan(self, plan: Plan, jobs: Sequence[PlannedScan]) -> Iterator[Conversion]:
        together, name = plan.source.together, plan.source.given.name
        try:
            plan = with_modality(plan, self.options)
        except Exception as error:
            yield self._recorded(outcome(plan, None, error))
            return
        panels: list[Panel] = []
        label = ""
        step = max(1, -(-len(jobs) // _ON_A_SHEET))  # so that a contact sheet stays readable
        several = sum(bool(job.item.series) for job in jobs) > 1
        reader = dicom.FolderReader() if several else None
        for number, job in enumerate(jobs, 1):
            done, converted = self._of_job(plan, job, reader)
            if together:
                self._observer.progress(name, number, len(jobs))
                if converted is not None:
                    panels += converted.panels if (number - 1) % step == 0 else ()
                    label = str(converted.synthesis["label"])
            yield self._recorded(done, converted)
        if plan.sheet is not None and panels:
            from medtranslate.report.preview import save_preview

            try:
                save_preview(panels, plan.sheet, label, overwrite=self.options.overwrite)
            except Exception as error:
                yield self._recorded(outcome(plan, None, error))

    def _of_job(
        self, plan: Plan, job: PlannedScan, reader: FolderReader | None
    ) -> tuple[Conversion, Converted | None]:
        assert self._translator is not None
        trace, name, together = Trace(), job.item.path.name, plan.source.together

        def progress(done: int, total: int) -> None:
            if not together:
                self._observer.progress(name, done, total)

        from medtranslate.conversion.scan import convert_scan

        progress(0, 0)
        try:
            converted = convert_scan(
                job,
                self._translator,
                self.options,
                trace,
                progress,
                plan.modality,
                reader,
                self._predictors,
            )
        except Exception as error:
            return outcome(plan, job, error, trace), None
        done = replace(
            outcome(plan, job, None, trace),
            output=job.output,
            preview=job.preview,
            error_map=job.error_map if "cycle_error" in trace.found else None,
            variation_map=job.variation_map,
            expected_error_map=(
                job.expected_error_map if "expected_error" in trace.found else None
            ),
            figures=job.figures,
            synthesis=converted.synthesis,
            notes=converted.notes,
        )
        return done, converted

    def _recorded(self, done: Conversion, converted: Converted | None = None) -> Conversion:
        """Keep what the exit code and the report need."""
        if converted and converted.worst:
            self._worst[len(self._done)] = converted.worst
        if converted and converted.view:
            self._views[len(self._done)] = self._affordable(converted.view)
        self._done.append(done)
        if len(self._worst) > _ON_A_PAGE:  # a page shows those scans that lost most
            shares = {
                number: self._done[number].checks["cycle_error"]["share_of_range"]
                for number in self._worst
            }
            del self._worst[min(shares, key=lambda number: shares[number])]
        return done

    def _affordable(self, view: ScanView | str) -> ScanView | str:
        """Return a view, or why the page has none of it, so that a page stays one that opens."""
        from medtranslate.report.viewer import MOST_BYTES

        sizes = (0 if isinstance(one, str) else one.size for one in [*self._views.values(), view])
        if isinstance(view, str) or sum(sizes) <= MOST_BYTES:
            return view
        return "No viewer: the page would be too large. `medtranslate view RESULT` opens one."

    def _write_reports(self) -> None:
        if not self.options.reports:
            return
        from medtranslate.report.record import write_report

        self._report = self.report
        for path in self.options.report_files:
            if is_page(path.name):
                from medtranslate.report.page import write_page

                worst = [self._worst.get(number, ()) for number in range(len(self._done))]
                write_page(
                    self._report,
                    worst,
                    path,
                    views=self._views,
                    overwrite=self.options.overwrite,
                )
            else:
                write_report(self._report, path, overwrite=self.options.overwrite)


def _usable(translator: Translator, options: ConversionOptions) -> Translator:
    """Refuse a model that cannot do what is asked for."""
    bundle = translator.bundle
    bundle.generator(options.to)
    if not options.map or bundle.expected_error is not None:
        return translator
    if not (options.cycle or options.variation):
        raise InvalidOption(
            "--map draws the cycle error, which --no-cycle leaves out, and the expected error, "
            f"which {bundle.name} does not predict"
        )
    if options.cycle and len(bundle.generators) < len(TARGETS):
        fault = "has no generator back, so there is no cycle error to map"
        raise ModelUnusable(fault, path=bundle.folder, remedy="leave out --map")
    return translator
