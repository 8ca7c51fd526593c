"""Folders of images as 8-bit network slices, and slices as the networks see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image

from medtranslate.errors import (
    EvaluationFailed,
    InputMissing,
    WrongModality,
)
from medtranslate.imaging.image2d import SUFFIXES, read_gray
from medtranslate.imaging.scans import FolderScans, find_scans
from medtranslate.modality import Target
from medtranslate.transforms import AddCTGrain
from medtranslate.transforms.head import FixedThreshold, OtsuThreshold, heads


@dataclass(frozen=True)
class ValueRange:
    """What gray 0 and 255 of an image mean, such as ``ValueRange("HU", -20, 100)``."""

    unit: str
    low: float
    high: float

    @property
    def range(self) -> float:
        """Distance between the lowest and the highest value, the L of PSNR and SSIM."""
        return self.high - self.low

    def of_gray(self, gray: torch.Tensor) -> torch.Tensor:
        """Return gray 0 to 255 in this unit."""
        return self.low + gray * (self.range / 255)


GRAY = ValueRange("gray", 0.0, 255.0)


SIDE = 256
FEWEST = 2
FEW = 500
FULL_WHITE = 0.05

GrayArray = NDArray[np.uint8]


@dataclass(frozen=True)
class SliceSet:
    """The slices of one modality.

    Attributes
    ----------
    modality : {"ct", "mri"}
    names : tuple of str
        One a slice: file names, in sorted order.
    slices : uint8 array (N, 256, 256)
        Rows from anterior to posterior, columns from the patient's right to left; gray 0 to 255.
    sizes : tuple of (rows, columns)
        Of the images that the slices were made from; empty for slices made in memory.
    folder : str
        Where they came from; empty for slices made in memory.
    cases : tuple of str
        The scan that each slice belongs to; the slice's own name for images. Intervals are over
        cases: slices of one head are no independent witnesses.
    scale : ValueRange
        What gray 0 to 255 means.
    heads : bool array (N, 256, 256), optional
        Where the slices show anything: what a model says elsewhere is dropped, as `convert` does.
        None for whole images.
    left_out : tuple of str
        Scans of the folder that no model could be asked about, each with the reason.
    digest : str
        SHA-256 of what the slices hold.

    Raises
    ------
    EvaluationFailed
        Fewer than two slices, another shape or type, or names that do not fit.
    """

    modality: Target
    names: tuple[str, ...]
    slices: GrayArray
    sizes: tuple[tuple[int, int], ...] = ()
    folder: str = ""
    cases: tuple[str, ...] = ()
    scale: ValueRange = GRAY
    heads: NDArray[np.bool_] | None = None
    left_out: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.slices.dtype != np.uint8 or self.slices.shape[1:] != (SIDE, SIDE):
            raise EvaluationFailed(
                f"{self.modality} slices must be uint8 (N, {SIDE}, {SIDE}), "
                f"not {self.slices.dtype} {self.slices.shape}"
            )
        if len(self.names) != len(self.slices):
            raise EvaluationFailed(f"{len(self.slices)} slices with {len(self.names)} names")
        if self.heads is not None and self.heads.shape != self.slices.shape:
            raise EvaluationFailed(f"slices {self.slices.shape} with heads {self.heads.shape}")
        if len(self.slices) < FEWEST:
            raise EvaluationFailed(
                f"{len(self.slices)} {self.modality} image(s): "
                f"a distance between sets needs {FEWEST} at the very least",
                path=self.folder or None,
            )
        object.__setattr__(self, "cases", self.cases or self.names)
        object.__setattr__(self, "digest", content_digest(self.slices))

    def __len__(self) -> int:
        return len(self.slices)


def content_digest(slices: GrayArray) -> str:
    """Return the SHA-256 of the slices' shape and gray levels, in order."""
    digest = hashlib.sha256(str(slices.shape).encode())
    digest.update(np.ascontiguousarray(slices).tobytes())
    return digest.hexdigest()


def read_slices(folder: Path, modality: Target, names: Sequence[str] | None = None) -> SliceSet:
    """Read a folder of images, or the named ones of it, as slices.

    Raises
    ------
    InputMissing
        The folder or a named image is not there.
    EvaluationFailed
        Fewer than two images.
    Unreadable, Unsupported
        An image is damaged, or is not 8-bit.
    """
    if not folder.is_dir():
        raise InputMissing("no such folder of images", path=folder)
    left_out: tuple[str, ...] = ()
    if names is None:
        found = find_scans(folder)
        names = _images(folder, found)
        left_out = tuple(f"{scan.name}: is labeled as synthetic" for scan in found.synthetic)
    names = sorted(names)
    if not names:
        raise EvaluationFailed("holds no 2D images (PNG, JPEG or TIFF)", path=folder)
    images = [read_image(folder / name) for name in names]
    return SliceSet(
        modality,
        tuple(names),
        np.stack([fit_to_grid(image) for image in images]),
        sizes=tuple((image.height, image.width) for image in images),
        folder=str(folder),
        left_out=left_out,
    )


def images_in(folder: Path) -> list[str]:
    """Return the 2D images of a folder (`find_scans`) as paths in it, damaged ones included."""
    return _images(folder, find_scans(folder))


def _images(folder: Path, found: FolderScans) -> list[str]:
    files = [scan.path for scan in found.scans if scan.kind == "image"]
    damaged = [scan.path for scan in found.unreadable if scan.path.suffix.lower() in SUFFIXES]
    return [path.relative_to(folder).as_posix() for path in (*files, *damaged)]


def check_modality(images: SliceSet) -> None:
    """Refuse a folder whose images look like the other modality.

    In a CT image with a brain window the skull is full white; MR images are hardly ever
    saturated. Over the 744 + 744 test images of the paper's set the median share of full white
    among the tissue is 0.22 for CT and 0.001 for MR, and the medians of small subsets keep apart.

    Raises
    ------
    WrongModality
        The median share lies on the other side of `FULL_WHITE`.
    """
    tissue = (images.slices > 25).sum(axis=(1, 2)).clip(min=1)
    share = float(np.median((images.slices >= 250).sum(axis=(1, 2)) / tissue))
    apparent = "ct" if share > FULL_WHITE else "mri"
    if apparent != images.modality:
        raise WrongModality(
            f"given as {images.modality.upper()}, but the images look like {apparent.upper()}: "
            f"{100 * share:.1f} % of the tissue is full white, as a skull in a brain window is",
            path=images.folder or None,
            remedy="exchange the folders, or --force if they are right",
        )


def read_image(path: Path) -> Image.Image:
    """Read one image as 8-bit gray."""
    if not path.is_file():
        raise InputMissing("no such image", path=path)
    return Image.fromarray(read_gray(path))


def fit_to_grid(image: Image.Image) -> GrayArray:
    """Fit a gray image into the network grid: longer side to 256, centered on black.

    The filter goes with the scale, as in the measured floors: BOX averages where there is much to
    average, LANCZOS keeps detail at moderate reduction, BICUBIC enlarges.
    """
    scale = SIDE / max(image.size)
    if scale != 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), _filter(scale))
    canvas = Image.new("L", (SIDE, SIDE), 0)
    canvas.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(canvas)


def _filter(scale: float) -> Image.Resampling:
    if scale <= 0.5:
        return Image.Resampling.BOX
    return Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC


def to_network(slices: GrayArray) -> torch.Tensor:
    """Return gray 0 to 255, shape (N, 256, 256), as float32 (N, 1, 256, 256) in [-1, 1]."""
    return torch.from_numpy(slices.astype(np.float32) / 127.5 - 1).unsqueeze(1)


def gray_levels(slices: torch.Tensor) -> torch.Tensor:
    """Return (N, 1, 256, 256) in [-1, 1] as float32 (N, 256, 256), gray 0 to 255, not rounded."""
    return ((slices.detach().float().cpu().squeeze(1) + 1) * 127.5).clamp(0, 255)


def with_grain(slices: GrayArray, deviation: float, seed: int) -> GrayArray:
    """Add noise of so many HU to CT slices uint8 (N, 256, 256), as `AddCTGrain` does to images."""
    images = torch.from_numpy(slices).permute(1, 2, 0)[None]
    grainy = AddCTGrain(deviation, seed)(MetaTensor(images, meta={"source": {"kind": "image"}}))
    return grainy.as_tensor()[0].permute(2, 0, 1).contiguous().numpy()


def to_eight_bit(gray: torch.Tensor) -> GrayArray:
    """Return gray levels as 8-bit slices."""
    return gray.round().to(torch.uint8).numpy()


Threshold = FixedThreshold | OtsuThreshold

# As in the recipes for images.
THRESHOLDS: dict[Target, Threshold] = {"ct": FixedThreshold(0.08), "mri": OtsuThreshold(0.45)}


def head_masks(slices: GrayArray, modality: Target) -> NDArray[np.bool_]:
    """Return the heads in slices (N, 256, 256), as bool of the same shape.

    A slice in which no head is found counts as head from edge to edge, so that it still has errors.
    """
    threshold = THRESHOLDS[modality]
    found = [_head(gray.astype(np.float32) / 255, threshold) for gray in slices]
    return np.stack(found)


def _head(gray: NDArray[np.float32], threshold: Threshold) -> NDArray[np.bool_]:
    mask = heads((gray > threshold.level(gray))[None])[0]
    return mask if mask.any() else np.ones_like(mask)
