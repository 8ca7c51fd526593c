"""What a conversion is asked for, and what it gives: `ConversionOptions` and `Conversion`.

A `Trace` is kept on the way, for what a scan that fails gives.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtranslate.device import Engine, Precision
from medtranslate.errors import InvalidOption, exit_code
from medtranslate.files import FORMATS
from medtranslate.modality import Modality, check_contrast, check_grain

ModalityBasis = tuple[str, str]
"""A modality and its basis, as in ``meta["source"]``; empty strings where it is not known."""

UNKNOWN: ModalityBasis = ("", "")


@dataclass(frozen=True)
class ConversionOptions:
    """Say what to convert scans to, where results go and what is checked and written.

    Every field is an option of ``medtranslate convert``, with the same default. Names of
    modalities and precisions are accepted in any case and spelling (``"MRI"``, ``"mr"``,
    ``"bf16"``) and kept in one.

    Parameters
    ----------
    to : str
        ``"mri"`` or ``"ct"``: the modality to make.
    contrast : str
        Contrast of the MRI, made or given, such as ``"flair"``, where the model has several. By
        default the model's first is made, and that of an MRI given is told from its voxels.
    grain : float
        Standard deviation in HU of noise to add to a CT (`transforms.AddCTGrain`), which has none
        by itself; checks look at it without.
    output : str or path
        A file, whose suffix is the format, or a folder of results (a trailing slash means a
        folder); ``""`` writes beside the source.
    modality : str
        ``"CT"`` or ``"MR"`` to state what the source is, or ``""`` to take it from the header, or
        to guess it.
    format : str
        One of `FORMATS`, or ``""`` for the format of the source.
    series : str
        DICOM series to convert: its number (from 1, as `medtranslate.inspect` lists them), its
        SeriesInstanceUID, or ``"all"``.
    template : str or path
        Folder of a DICOM series on the same grid, whose headers a DICOM result takes.
    untilt, regrid : bool
        Undo a gantry tilt; resample unevenly spaced slices to even steps.
    uid_seed : str
        Text that the new DICOM UIDs are derived from; ``""`` for random UIDs.
    keep_private : bool
        Copy private DICOM attributes, which may identify the patient.
    overwrite : bool
        Replace existing results. A source is never replaced.
    skip_existing : bool
        Leave out scans whose result exists.
    part : str
        ``"i/n"`` to convert part `i` (from 1) of `n` equal parts of all scans, ``""`` for all. The
        parts depend on the paths of the scans alone, not on their order; they share no scan.
    force : bool
        Believe `modality` over a header, and convert what the domain check refuses.
    preview : bool
        Write an image of source and result side by side.
    cycle : bool
        Translate the result back and measure the cycle error.
    variation : bool
        Translate the scan mirrored and shifted too, and measure how far the results differ.
    map : bool
        Write the expected error, the cycle error and the variation as images beside the result.
    reports : sequence of (str or path)
        Reports to write: a page if the name ends in ``.html``, else JSON. One name alone is
        accepted too.
    anonymous : bool
        Name no file, folder or series in reports, so that they can leave the hospital. Pages have
        no viewer then: the voxels of a head show a face.
    viewer : bool
        Put an interactive viewer, with the volumes, into pages.
    bundle : str or path
        Folder of the model; ``""`` for the shipped one.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : str
        ``"auto"``, ``"float32"`` or ``"bf16"``.
    engine : str
        ``"torch"``, or ``"openvino"``, which compiles the networks for the CPU.
    batch_size : int or None
        Slices per pass through the network; by default 4 on a CPU and 32 on a GPU.
    threads : int or None
        CPU threads that torch and ITK compute in; by default their own choice, a thread a core.

    Raises
    ------
    InvalidOption
        A value is none of those that an option takes.

    Examples
    --------
    >>> ConversionOptions(to="MR", modality="ct", precision="BF16")
    ConversionOptions(to='mri', modality='CT', precision='bf16')
    """

    to: str
    output: str = ""
    modality: str = ""
    format: str = ""
    series: str = ""
    template: str = ""
    untilt: bool = False
    regrid: bool = False
    uid_seed: str = ""
    keep_private: bool = False
    overwrite: bool = False
    force: bool = False
    preview: bool = True
    cycle: bool = True
    variation: bool = False
    map: bool = False
    reports: Sequence[str] = ()
    anonymous: bool = False
    viewer: bool = True
    bundle: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    contrast: str = ""
    skip_existing: bool = False
    part: str = ""
    threads: int | None = None
    engine: str = "torch"
    grain: float = 0.0

    def __post_init__(self) -> None:
        reports = [self.reports] if isinstance(self.reports, str | Path) else self.reports
        modality = Modality.parse(self.modality).value if self.modality else ""
        engine = Engine.parse(self.engine)
        self._set(
            to=Modality.parse(self.to, "to").target,
            output=_path(self.output),
            modality=modality,
            format=self.format.lower(),
            series=str(self.series),
            template=_path(self.template),
            reports=tuple(_path(one) for one in reports),
            bundle=_path(self.bundle),
            device=engine.device(self.device),
            precision=Precision.parse(self.precision).value,
            engine=engine.value,
            contrast=self.contrast.lower(),
            part=_part(self.part),
        )
        if self.contrast:
            check_contrast(self.contrast)
        if self.format not in ("", *FORMATS):
            raise InvalidOption(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        check_grain(self.grain)
        if self.grain and self.to == Modality.MR.target:
            raise InvalidOption("grain is for a CT, but to is mri")
        if self.output == "-":
            raise InvalidOption("-o - is not supported: results are files or folders")
        if self.batch_size is not None and self.batch_size < 1:
            raise InvalidOption(f"a batch of {self.batch_size} slices is not possible")
        if self.threads is not None and self.threads < 1:
            raise InvalidOption(f"{self.threads} threads are not possible")

    def __repr__(self) -> str:
        """Show the options that are not at their default."""
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name, each in self.__dataclass_fields__.items()
            if name == "to" or getattr(self, name) != each.default
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def report_files(self) -> tuple[Path, ...]:
        """Reports to write, as paths."""
        return tuple(Path(one) for one in self.reports)

    @property
    def wants_page(self) -> bool:
        """Whether one of the reports is an HTML page."""
        return any(is_page(one) for one in self.reports)

    @property
    def wants_viewer(self) -> bool:
        """Whether a page is to show volumes."""
        return self.wants_page and self.viewer and not self.anonymous

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Conversion:
    """The outcome of one scan, or of one input that could not be searched for scans.

    Parameters
    ----------
    given : Path
        The input, as given.
    path : Path
        The file or folder read; `given` where no scan was found.
    output, preview, error_map, variation_map, expected_error_map, figures : Path or None
        Files or folders written.
    source : mapping
        ``meta["source"]`` of the scan without its header; empty where it was not read.
    synthesis : mapping
        ``meta["synthesis"]`` of the result: the model and what the values mean; empty where the
        scan was not converted.
    checks : mapping
        What the checks found, as the report has it: ``"domain"``, ``"unseen"``,
        ``"expected_error"``, ``"cycle_error"``, ``"variation"`` and ``"recipes"``; checks that were
        not made are absent.
    notes : tuple of str
        What was noticed, a sentence each.
    seconds : mapping of str to float
        Time by stage.
    error : Exception or None
        Why the scan was not converted.
    folder : Path or None
        For a 2D image of a folder, the folder of results.
    of : int
        Number of scans of the same input.
    skipped : bool
        Whether the scan was left out because its result, `output`, exists.

    Examples
    --------
    >>> from medtranslate import convert
    >>> convert("head-ct.nii.gz", to="mri").output.name  # doctest: +SKIP
    'head-ct_mri.nii.gz'
    """

    given: Path
    path: Path
    output: Path | None = None
    preview: Path | None = None
    error_map: Path | None = None
    variation_map: Path | None = None
    expected_error_map: Path | None = None
    figures: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    synthesis: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None
    folder: Path | None = None
    of: int = 1
    skipped: bool = False

    @property
    def exit_code(self) -> int:
        """Exit code of this conversion alone; 0 where it succeeded."""
        return exit_code(self.error) if self.error else 0

    def __repr__(self) -> str:
        done = "skipped, exists:" if self.skipped else "->"
        outcome = f"failed: {self.error}" if self.error else f"{done} {self.output}"
        return f"<Conversion {self.path} {outcome}>"

    def as_builtins(self) -> dict[str, Any]:
        """Return the conversion as one of the report's ``"conversions"``."""
        from medtranslate.report.record import conversion

        written = {
            "output": self.output,
            "preview": self.preview,
            "error_map": self.error_map,
            "variation_map": self.variation_map,
            "expected_error_map": self.expected_error_map,
            "figures": self.figures,
        }
        return conversion(
            self.given,
            read=self.path,
            written=written,
            source=self.source,
            synthesis=self.synthesis,
            found=self.checks,
            notes=self.notes,
            seconds=self.seconds,
            error=self.error,
            skipped=self.skipped,
        )


@dataclass
class Trace:
    """Record what is learned of a scan on its way, also where the conversion fails.

    Parameters
    ----------
    seconds : dict of str to float
        By stage.
    found : dict of str to builtins
        What the checks found, for the report: ``"recipes"``, ``"domain"``, ``"unseen"``,
        ``"expected_error"``, ``"cycle_error"``, ``"variation"``; checks that were not reached are
        absent.
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


def is_page(report: str) -> bool:
    """Tell whether the name of a report asks for an HTML page instead of JSON."""
    return report.lower().endswith((".html", ".htm"))


def _path(value: str | os.PathLike[str] | None) -> str:
    return os.fspath(value) if value else ""


def _part(text: str) -> str:
    """Return a part in the form ``"2/10"``."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    if not text:
        return ""
    if not found:
        raise InvalidOption(f"part must be i/n, such as 1/4, got {text!r}")
    number, count = map(int, found.groups())
    if not 1 <= number <= count:
        raise InvalidOption(f"there is no part {number} of {count}: parts are 1 to {count}")
    return f"{number}/{count}"
