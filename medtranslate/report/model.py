"""The report as a pydantic model, from which its JSON Schema is generated.

Fields may be added; `SCHEMA` changes where one is renamed, removed or changes its meaning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1
"""Version of the report's schema."""

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
AffineRow = Annotated[list[float], Field(min_length=4, max_length=4)]


class _Part(BaseModel):
    """A part of the report; unknown fields are allowed, so that readers accept later reports."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)


class Empty(BaseModel):
    """Nothing: what this would describe was not reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Software(_Part):
    """Versions of Python and the libraries, by name."""

    __pydantic_extra__: dict[str, str]

    python: str
    """Version of Python."""


class DeviceRecord(_Part):
    """Where the model ran."""

    processor: str
    """Torch's name of the device, such as ``cpu`` or ``cuda:0``."""
    name: str
    """What the machine calls it."""
    engine: str = "torch"
    """What computed the network: ``torch`` or ``openvino``."""
    precision: str
    """Type of the network's numbers, such as ``float32``."""
    batch_size: Count
    """Slices translated at once."""
    threads: Count
    """Threads of torch on the CPU."""


class ModelRecord(_Part):
    """Which model translated."""

    name: str
    """Name of the bundle."""
    version: str
    """Version of the bundle."""
    folder: str
    """Where the bundle lies."""
    weights_sha256: dict[Literal["mri", "ct"], Sha256]
    """SHA-256 of each generator's weights, by target."""
    contrasts: list[str] = []
    """MR contrasts that can be asked for; empty where there is no choice."""


class CallSeconds(_Part):
    """Durations of a call, in seconds."""

    load: float
    """Loading the model."""
    total: float
    """All of the call."""


class FileRecord(_Part):
    """A file and its content's hash."""

    path: str
    """Path of the file."""
    sha256: Sha256
    """SHA-256 of its content."""


class InputRecord(_Part):
    """The input of a conversion."""

    given: str
    """The input as the caller gave it."""
    path: str
    """The file or folder that was read."""
    files: list[FileRecord]
    """Every file of the scan."""


class WrittenRecord(_Part):
    """What was written."""

    path: str
    """File or folder."""
    files: list[FileRecord]
    """The file, or every file directly in the folder."""


class ReportedSource(_Part):
    """The scan as it was read."""

    format: str
    """File format, such as ``nifti`` or ``dicom``."""
    kind: Literal["volume", "image"]
    """``image`` is a 2D image without spacing and units."""
    modality: Literal["CT", "MR", ""]
    """Empty where it could not be determined, so that the conversion failed."""
    modality_basis: str
    """How the modality is known."""
    contrast: str = ""
    """Of an MR, as header or file name state it, such as ``flair``; empty where neither does."""
    contrast_basis: str = ""
    """What states it."""
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)]
    """Voxels along X, Y and Z."""
    affine: Annotated[list[AffineRow], Field(min_length=4, max_length=4)]
    """Voxel indices to RAS mm."""
    dtype: str
    """Type of the stored values, before scaling."""
    even: bool
    """False where slices are not evenly spaced."""
    spacing_mm: list[float] | None = None
    """Voxel size along X, Y and Z in mm; absent for 2D images."""
    orientation: str | None = None
    """Directions of X, Y and Z, such as ``LPS``; absent for 2D images."""


class SynthesisRecord(_Part):
    """What the result is."""

    modality: Literal["CT", "MR"]
    """What the values mean."""
    model: str
    """Name of the bundle."""
    version: str
    """Version of the bundle."""
    weights_sha256: Sha256
    """SHA-256 of the generator's weights."""
    label: str
    """The label that the result carries: synthetic, by which model, not for diagnosis."""
    contrast: str = ""
    """Contrast of a synthetic MRI, such as ``flair``; empty where the model has no choice."""
    source_contrast: str = ""
    """Contrast of the MRI that a CT was made of; empty where it is not known."""
    dtype: str
    """Type of the values written."""
    background: float
    """Value outside the head: HU for CT, arbitrary units for MR, gray levels for 2D images."""
    window: list[float]
    """Window in HU that a CT volume was trained in, and is shown in; empty otherwise."""
    range: list[float] = []
    """Lowest and highest HU of a CT volume; empty otherwise. Wider than the window where the
    model was taught bone, fat and air by label maps."""
    grain: float = 0.0
    """Standard deviation in HU of the noise that was added to a CT."""


class RecipeRecord(_Part):
    """A preprocessing recipe."""

    name: str
    """Modality and kind, such as ``CT-volume``."""
    sha256: Sha256
    """SHA-256 of the content, as JSON with sorted keys."""
    content: dict[str, Any]
    """The recipe's steps with their parameters."""


class RecipesRecord(_Part):
    """The recipes of both sides."""

    source: RecipeRecord
    """The recipe that prepared the scan."""
    target: RecipeRecord
    """The recipe that restored the result."""


class DomainLimits(_Part):
    """Anomaly scores at which the verdict changes."""

    warn: float
    """A scan is warned of from this score."""
    refuse: float
    """A scan is refused from this score."""


class DomainRecord(_Part):
    """The result of the domain check."""

    verdict: Literal["passed", "warned", "refused"]
    """Whether the model can translate the scan."""
    forced: bool
    """The scan was translated although it is refused."""
    score: NonNegative
    """Anomaly score: one in 10^score genuine scans of the training data has as high a score."""
    limits: DomainLimits
    """Scores at which the verdict changes."""
    reasons: list[str]
    """What is anomalous; empty where the scan passed."""
    slices: list[float | None] | None
    """Score of each slice, inferior to superior; null for a slice that was not checked."""


class NotChecked(_Part):
    """The domain check was not made."""

    verdict: Literal["not checked"]
    """Always ``not checked``."""
    reasons: list[str]
    """Why not."""


class UnseenRecord(_Part):
    """Coverage: what the model could not see."""

    outside_field_voxels: Count
    """Voxels, not air, outside the field of view of the network: background in the result."""
    above_window_share: Share
    """Fraction of the head that is plain white to the model."""
    below_window_share: Share
    """Fraction of the head that is plain black to the model."""
    below_skull_base_slices: list[Count] | None
    """Slices below the skull base; null where it is unknown: every MR and every 2D image."""
    unlike_training_slices: list[Count]
    """Slices whose anomaly score alone would refuse a scan."""


class SliceRecord(_Part):
    """A measure in one slice."""

    index: Count
    """Along ``slice_axis``, from 0."""
    error: NonNegative
    """Mean over the head, in ``units``."""
    voxels: Count
    """Voxels of the head that the mean is over."""
    peak: NonNegative | None
    """How much the worst patch of 8 mm, deep in the head, exceeds the median patch of the slice, in
    ``units``; null where no patch fits."""


class MeasureRecord(_Part):
    """The expected error, the cycle error or the variation."""

    error: NonNegative
    """Mean over the head within the field of view, in ``units``."""
    units: Literal["HU", "scanner units", "arbitrary units", "gray levels"]
    """Unit of every figure here."""
    share_of_range: NonNegative
    """``error`` as a fraction of ``range``."""
    range: Annotated[list[float], Field(min_length=2, max_length=2)]
    """Values from black to white in the network's input or output, in ``units``."""
    slice_axis: Literal["X", "Y", "Z"]
    """Axis of the scan along which the slices are numbered."""
    slices: list[SliceRecord]
    """Slices that show some head, inferior to superior."""
    worst_slices: list[Count]
    """Indices of at most ten slices, by peak, the highest first."""


class ErrorRecord(_Part):
    """Why a conversion failed."""

    kind: str
    """Class of the error."""
    exit_code: Annotated[int, Field(ge=1, le=255)]
    """Exit code of the command line for this error."""
    message: str
    """What is wrong, where, and what to do."""


class ScanReport(_Part):
    """The conversion of one scan.

    Examples
    --------
    >>> from pathlib import Path
    >>> from medtranslate.conversion import Conversion
    >>> from medtranslate.errors import InputMissing
    >>> failed = Conversion(Path("a.nii"), Path("a.nii"), error=InputMissing("no such file"))
    >>> ScanReport.model_validate(failed.as_builtins()).error.exit_code
    3
    """

    status: Literal["converted", "failed", "skipped"]
    """Whether there is a result; ``skipped`` where it existed before (``--skip-existing``)."""
    input: InputRecord
    """What was read."""
    output: WrittenRecord | None
    """The result."""
    preview: WrittenRecord | None
    """The preview image."""
    expected_error_map: WrittenRecord | None = None
    """The expected error, voxel by voxel; below 0 where the model could not see."""
    error_map: WrittenRecord | None
    """The cycle error, voxel by voxel; below 0 where the model could not see."""
    variation_map: WrittenRecord | None
    """The variation, voxel by voxel; below 0 where the model could not see."""
    figures: WrittenRecord | None = None
    """The figures of the checks as a DICOM structured report, beside maps of a DICOM result."""
    source: ReportedSource | Empty
    """The scan; empty where the conversion failed before it was read."""
    synthesis: SynthesisRecord | Empty
    """What the result is; empty where the conversion failed."""
    recipes: RecipesRecord | None
    """The recipes of source and target."""
    domain: DomainRecord | NotChecked | None
    """The result of the domain check."""
    unseen: UnseenRecord | None
    """Coverage: what the model could not see."""
    expected_error: MeasureRecord | None = None
    """Result against the truth, as a network expects it; null where the model carries none."""
    cycle_error: MeasureRecord | None
    """Scan against reconstruction; null without the cycle (``--no-cycle``, a one-way model)."""
    variation: MeasureRecord | None
    """Change of the result when the scan is mirrored and shifted; null without ``--variation``."""
    warnings: list[str]
    """Geometry faults and how they were handled, warnings of the checks, repaired DICOM values."""
    seconds: dict[str, float]
    """Duration by stage, in seconds."""
    error: ErrorRecord | None
    """Why the conversion failed."""


class ConversionReport(_Part):
    """Report of medtranslate convert: one call, any number of scans.

    Examples
    --------
    >>> from medtranslate.report import report
    >>> made = report([], {"to": "mri"}, None, exit_code=3, seconds={"load": 0.0, "total": 0.2})
    >>> ConversionReport.model_validate(made).options
    {'to': 'mri'}
    """

    model_config = ConfigDict(
        title="Report of medtranslate convert",
        json_schema_extra={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:medtranslate:report:{SCHEMA}",
        },
    )

    schema_: Annotated[Literal[1], Field(alias="schema")]
    """Version of this schema."""
    created: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """Date and time in UTC (ISO 8601)."""
    options: dict[str, Any]
    """Every option of the call, and its inputs."""
    software: Software
    """Versions by name."""
    device: DeviceRecord | Empty
    """Where the model ran; empty where no model was loaded."""
    model: ModelRecord | Empty
    """Which model translated; empty where none was loaded."""
    seconds: CallSeconds
    """Duration of the call, in seconds."""
    peak_memory_bytes: dict[str, Count]
    """Peak memory of the process in bytes: ``host``, and ``device`` with CUDA."""
    exit_code: Annotated[int, Field(ge=0, le=255)]
    """Exit code of the call."""
    conversions: list[ScanReport]
    """One entry per scan."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of reports.

    Examples
    --------
    >>> schema()["title"]
    'Report of medtranslate convert'
    """
    return ConversionReport.model_json_schema()
