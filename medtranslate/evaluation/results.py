"""What an evaluation finds, as plain frozen records that turn into JSON as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medtranslate.evaluation.distances import Distances
from medtranslate.evaluation.frames import Frames
from medtranslate.evaluation.lesions.results import LesionTest
from medtranslate.evaluation.paired import Interval, PairedErrors, PairedSummary
from medtranslate.evaluation.protocol import Modality

# FID of the paper, Kaggle test set, 200 epochs on an RTX 4090, by the number of parameters of its
# generators in millions and the direction's target.
PAPER_FID: Mapping[tuple[float, Modality], float] = {
    (11.4, "mri"): 58.32,
    (11.4, "ct"): 71.41,
    (54.4, "mri"): 95.19,
    (54.4, "ct"): 90.47,
}


def paper_fid(parameters: int, target: Modality) -> float | None:
    """Return the paper's FID for a generator of this size; None where the paper has none."""
    return PAPER_FID.get((round(parameters / 1e6, 1), target))


@dataclass(frozen=True)
class Baselines:
    """Distances that make one direction readable; they belong to the data, not to a model.

    Attributes
    ----------
    floor : Distances or None
        Real pictures against other real pictures; None where there were too few.
    floor_kind : str
        "reference": other real pictures against the test set; "halves": one half of the test set
        against the other; "" where there is no floor.
    ceiling : Distances
        Source pictures without any translation against the real target pictures.
    """

    floor: Distances | None
    floor_kind: str
    ceiling: Distances


@dataclass(frozen=True)
class CaseResult:
    """One frame: its cycle error in grey levels, and its paired errors where there is a truth."""

    name: str
    case: str
    cycle_error: float
    paired: PairedErrors | None


@dataclass(frozen=True)
class DirectionResult:
    """One model in one direction: a row of the table.

    Attributes
    ----------
    model, version, weights_sha256 : str
    source, target : {"ct", "mri"}
    distances : Distances
        All translated pictures against all real ones.
    at_floor_size : Distances or None
        The same with as many pictures as the floor was made from.
    cycle_error : Interval
        Grey levels of 255 inside the head, mean over cases.
    parameters, gflop : int, float or None
        None for a translation that is no network.
    seconds_per_slice : float
        Of translation alone, on the machine of `Evaluation.machine`.
    paper_fid : float or None
    paired : PairedSummary or None
    lesions : LesionTest or None
    cases : tuple of CaseResult
    """

    model: str
    version: str
    weights_sha256: str
    source: Modality
    target: Modality
    distances: Distances
    at_floor_size: Distances | None
    cycle_error: Interval
    parameters: int | None
    gflop: float | None
    seconds_per_slice: float
    paper_fid: float | None
    paired: PairedSummary | None
    lesions: LesionTest | None
    cases: tuple[CaseResult, ...]


@dataclass(frozen=True)
class SetRecord:
    """A set of pictures that went into an evaluation; the digest is over its frames.

    `left_out` names those of its folder that could not be used, with the reason.
    """

    role: str
    modality: Modality
    folder: str
    pictures: int
    sha256: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Frames of one direction to look at: rows of source, translation and cycled source.

    Attributes
    ----------
    model, source, target : str
    choice : str
        How the rows were chosen: "random (seed 2020)", "best", "median" or "worst cycle error",
        "lesions, random (seed 2020)".
    columns : tuple of str
        What the pictures of a row are.
    names : tuple of str
        One a row.
    captions : tuple of str
    rows : uint8 array (R, C, 256, 256)
    """

    model: str
    source: Modality
    target: Modality
    choice: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    captions: tuple[str, ...]
    rows: Frames


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes
    ----------
    protocol : mapping
        Name, description, sizing, and the lists of files that were included ("": no list).
    seed : int
        Of every random choice: subsets, halves, resamples, pictures shown.
    extractor : mapping
        Name, weights' digest and origin.
    sets : tuple of SetRecord
    baselines : mapping of target modality to Baselines
    directions : tuple of DirectionResult
    warnings : tuple of str
    machine : mapping
        Device, threads and versions.
    seconds : mapping of str to float
        Where the time went.
    galleries : tuple of Gallery
        For the page; not part of the JSON.
    """

    protocol: Mapping[str, str]
    seed: int
    extractor: Mapping[str, str]
    sets: tuple[SetRecord, ...]
    baselines: Mapping[Modality, Baselines]
    directions: tuple[DirectionResult, ...]
    warnings: tuple[str, ...]
    machine: Mapping[str, str]
    seconds: Mapping[str, float]
    galleries: tuple[Gallery, ...]
