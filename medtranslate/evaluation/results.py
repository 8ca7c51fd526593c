"""The real slices of an evaluation and what is found with them, as records that turn into JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.distances import Distances
from medtranslate.evaluation.lesions.results import LesionTest
from medtranslate.evaluation.paired import Interval, PairedErrors, PairedSummary, check_pairs
from medtranslate.evaluation.slices import FEW, GrayArray, SliceSet
from medtranslate.modality import Target

# FID of the paper, Kaggle test set, 200 epochs on an RTX 4090, by the number of parameters of its
# generators in millions and the direction's target.
PAPER_FID: Mapping[tuple[float, Target], float] = {
    (11.4, "mri"): 58.32,
    (11.4, "ct"): 71.41,
    (54.4, "mri"): 95.19,
    (54.4, "ct"): 90.47,
}


def paper_fid(parameters: int, target: Target) -> float | None:
    """Return the paper's FID for a generator of this size; None where the paper has none."""
    return PAPER_FID.get((round(parameters / 1e6, 1), target))


@dataclass(frozen=True)
class Baselines:
    """Distances that make one direction readable; they belong to the data, not to a model.

    Attributes
    ----------
    floor : Distances or None
        Real images against other real images; None where there were too few.
    floor_kind : str
        "reference": other real images against the test set; "halves": one half of the test set
        against the other; "" where there is no floor.
    ceiling : Distances
        Source images without any translation against the real target images.
    """

    floor: Distances | None
    floor_kind: str
    ceiling: Distances


@dataclass(frozen=True)
class CaseResult:
    """One slice: its cycle error in gray levels, and its paired errors where there is a truth."""

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
        All translated images against all real ones.
    at_floor_size : Distances or None
        The same with as many images as the floor was made from.
    cycle_error : Interval
        Gray levels of 255 inside the head, mean over cases.
    parameters, gflop : int, float or None
        None for a translation that is no network.
    seconds_per_slice : float
        Of translation alone, on the machine of `Evaluation.machine`.
    paper_fid : float or None
    paired : PairedSummary or None
    lesions : LesionTest or None
    cases : tuple of CaseResult
    mr_contrasts : mapping of str to int
        How many slices of MRI, made or given, were taken to be of which contrast, "" where that was
        left open. Empty for a model without a choice, or without what tells contrasts.
    grain : float
        Standard deviation in HU of noise that was added to the synthetic CT for the distances.
    """

    model: str
    version: str
    weights_sha256: str
    source: Target
    target: Target
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
    mr_contrasts: Mapping[str, int]
    grain: float


@dataclass(frozen=True)
class SetRecord:
    """A set of images that went into an evaluation; the digest is over its slices.

    `left_out` names those of its folder that could not be used, with the reason.
    """

    role: str
    modality: Target
    folder: str
    images: int
    sha256: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Slices of one direction to look at: rows of source, translation and cycled source.

    Attributes
    ----------
    model, source, target : str
    choice : str
        How the rows were chosen: "random (seed 2020)", "best", "median" or "worst cycle error",
        "lesions, random (seed 2020)".
    columns : tuple of str
        What the images of a row are.
    names : tuple of str
        One a row.
    captions : tuple of str
    rows : uint8 array (R, C, 256, 256)
    """

    model: str
    source: Target
    target: Target
    choice: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    captions: tuple[str, ...]
    rows: GrayArray


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes
    ----------
    protocol : mapping
        Name, description, sizing, and the lists of files that were included ("": no list).
    seed : int
        Of every random choice: subsets, halves, resamples, images shown.
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
    baselines: Mapping[Target, Baselines]
    directions: tuple[DirectionResult, ...]
    warnings: tuple[str, ...]
    machine: Mapping[str, str]
    seconds: Mapping[str, float]
    galleries: tuple[Gallery, ...]


@dataclass(frozen=True)
class RealData:
    """The real images of an evaluation.

    Attributes
    ----------
    ct, mri : SliceSet
        The test sets.
    ct_reference, mri_reference : SliceSet or None
        Other real images, such as the training sets, for floors of the same size.
    paired : bool
        Slices of the same place in both test sets show the same slice of the same head.

    Raises
    ------
    EvaluationFailed
        Both modalities hold the same images, a reference is its own test set, a pair has no
        partner, or its images differ in size.
    """

    ct: SliceSet
    mri: SliceSet
    ct_reference: SliceSet | None = None
    mri_reference: SliceSet | None = None
    paired: bool = False

    def __post_init__(self) -> None:
        if self.ct.digest == self.mri.digest:
            raise EvaluationFailed(
                "the CT and the MRI set hold the same images", path=self.mri.folder or None
            )
        for test, reference in ((self.ct, self.ct_reference), (self.mri, self.mri_reference)):
            if reference is not None and reference.digest == test.digest:
                raise EvaluationFailed(
                    f"the {test.modality.upper()} reference is the test set itself, "
                    "so its floor would be 0",
                    path=reference.folder or None,
                )
        if self.paired:
            check_pairs(self.ct, self.mri)

    def test(self, modality: Target) -> SliceSet:
        """Return the test set of a modality."""
        return self.ct if modality == "ct" else self.mri

    def reference(self, modality: Target) -> SliceSet | None:
        """Return the other real images of a modality."""
        return self.ct_reference if modality == "ct" else self.mri_reference

    def records(self) -> tuple[SetRecord, ...]:
        """Return what went in, by content."""
        sets = [
            ("test", self.ct),
            ("test", self.mri),
            ("reference", self.ct_reference),
            ("reference", self.mri_reference),
        ]
        return tuple(
            SetRecord(role, each.modality, each.folder, len(each), each.digest, each.left_out)
            for role, each in sets
            if each is not None
        )

    def warnings(self) -> tuple[str, ...]:
        """Return what a reader of the figures must know about the sets."""
        few = [
            f"{len(each)} {each.modality.upper()} images: under {FEW} FID means little by "
            "itself; read KID, and FID only beside a floor of the same size"
            for each in (self.ct, self.mri)
            if len(each) < FEW
        ]
        left_out = [
            f"{len(each.left_out)} {each.modality.upper()} scan(s) of {each.folder} are left out; "
            f"the first: {each.left_out[0]}"
            for each in (self.ct, self.mri, self.ct_reference, self.mri_reference)
            if each is not None and each.left_out
        ]
        return (*few, *left_out)


PACKAGES = ("medtranslate", "torch", "monai", "torch-fidelity", "numpy", "Pillow")


def machine(device: str) -> dict[str, str]:
    """Return the device, the threads and the versions that figures and timings depend on."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor()
    return {
        "device": device,
        "processor": name or platform.machine(),
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
