"""The options of a conversion: everything that changes a result, in one frozen object."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medtranslate.device import Precision, check_device_name
from medtranslate.errors import InvalidOption
from medtranslate.files import FORMATS
from medtranslate.modality import Modality, check_contrast


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
        Contrast of the MRI to make, such as ``"flair"``, where the model has several; by default
        the model's first.
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
    force : bool
        Believe `modality` over a header, and convert what the domain check refuses.
    preview : bool
        Write an image of source and result side by side.
    cycle : bool
        Translate the result back and measure the cycle error.
    variation : bool
        Translate the scan mirrored and shifted too, and measure how far the results differ.
    map : bool
        Write the cycle error and the variation as images beside the result.
    reports : sequence of (str or path)
        Reports to write: a page if the name ends in ``.html``, else JSON. One name alone is
        accepted too.
    anonymous : bool
        Name no file, folder or series in reports, so that they can leave the hospital.
    bundle : str or path
        Folder of the model; ``""`` for the shipped one.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : str
        ``"auto"``, ``"float32"`` or ``"bf16"``.
    batch_size : int or None
        Slices per pass through the network; by default 4 on a CPU and 32 on a GPU.

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
    bundle: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    contrast: str = ""

    def __post_init__(self) -> None:
        reports = [self.reports] if isinstance(self.reports, str | Path) else self.reports
        modality = Modality.parse(self.modality).value if self.modality else ""
        self._set(
            to=Modality.parse(self.to, "to").target,
            output=_path(self.output),
            modality=modality,
            format=self.format.lower(),
            series=str(self.series),
            template=_path(self.template),
            reports=tuple(_path(one) for one in reports),
            bundle=_path(self.bundle),
            device=check_device_name(self.device),
            precision=Precision.parse(self.precision).value,
            contrast=self.contrast.lower(),
        )
        if self.contrast:
            check_contrast(self.contrast, self.to)
        if self.format not in ("", *FORMATS):
            raise InvalidOption(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.output == "-":
            raise InvalidOption("-o - is not supported: results are files or folders")
        if self.batch_size is not None and self.batch_size < 1:
            raise InvalidOption(f"a batch of {self.batch_size} slices is not possible")

    def __repr__(self) -> str:
        """Show the options that are not at their default."""
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name, field in self.__dataclass_fields__.items()
            if name == "to" or getattr(self, name) != field.default
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

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def is_page(report: str) -> bool:
    """Tell whether the name of a report asks for an HTML page instead of JSON."""
    return report.lower().endswith((".html", ".htm"))


def _path(value: str | os.PathLike[str] | None) -> str:
    return os.fspath(value) if value else ""
