r"""Does the cycle error find faults? Faults of known place in real results, and where the map is.

A scan is translated; its result is then altered at one known place, by size and kind:

- erased: a place with structure is replaced by the mean of its surroundings;
- invented: a soft-edged blob is added, a quarter of the brain's range brighter or darker;
- moved: a place with structure is copied elsewhere, and erased where it was.

The map of the cycle error is then made from the altered result, and stated:

- share: of the fault's voxels, how many lie in the worst 10 % of the map (of the head's voxels in
  the whole scan); chance gives 0.10, and 'before' is the same place in the unaltered result;
- found: faults of which at least half lies there;
- slice: faults whose slice is among the worst 10 % of the scan's slices (2D images have none), and
  the same without the fault; by peak, as the report ranks slices, and by mean.

Give scans (files or series folders), folders of 2D images, or both::

    python benchmarks/planted_errors.py DATA/nifti/mr-brain-t2w.nii.gz DATA/dicom/ct-head-tilted
    python benchmarks/planted_errors.py DATA/trainA DATA/trainB --include DATA/val-A.txt \
        --include DATA/val-B.txt --images 20 --modalities CT MR
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate import Translator, read
from medtranslate.errors import MedTranslateError
from medtranslate.evaluation.lesions.planting import depth, weights
from medtranslate.evaluation.protocol import PROTOCOLS, Protocol
from medtranslate.evaluation.scans import scans_of
from medtranslate.imaging.scans import find_scans
from medtranslate.modality import Target
from medtranslate.quality import CycleError, SliceError, cycle_error

KINDS = ("erased", "invented", "moved")
DIAMETERS = (8.0, 15.0, 25.0)  # mm
WORST = 0.10
FROM_SKIN = 12.0  # mm
STRENGTH = 0.25  # of the range of the result's brain
PIXEL = 0.9  # mm of a network pixel

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


def main() -> None:
    """Plant, measure, and print one table."""
    options = argparse.ArgumentParser()
    options.add_argument("scans", nargs="+", type=Path)
    options.add_argument("--modalities", nargs="*", default=[], help="CT or MR, one a scan")
    options.add_argument("--bundle", type=Path, help="instead of the shipped one")
    options.add_argument("--include", type=Path, action="append", default=[])
    options.add_argument("--images", type=int, default=20, help="of each folder of 2D images")
    options.add_argument("--repeats", type=int, default=4, help="of each kind and size, a volume")
    options.add_argument("--seed", type=int, default=2020)
    chosen = options.parse_args()
    translator = Translator.load(chosen.bundle)
    print(f"{translator.bundle.name} {translator.bundle.version}, seed {chosen.seed}")
    print_header()
    modalities = [*chosen.modalities, *[""] * len(chosen.scans)]
    for path, modality in zip(chosen.scans, modalities, strict=False):
        rng = np.random.default_rng(chosen.seed)
        found: list[Outcome] = []
        are_2d = path.is_dir() and find_scans(path).kind == "image"
        for image in images(path, modality, chosen.include, chosen.images, rng):
            found.extend(outcomes(translator, image, 1 if are_2d else chosen.repeats, rng))
        print_rows(path.name, found)


@dataclass(frozen=True)
class Grid:
    """How a scan's axial slices lie in its array.

    Attributes
    ----------
    axis : int
        Along which the slices lie.
    spacing : float
        mm of a pixel in the slice; the mean of both axes.
    """

    axis: int
    spacing: float

    def plane(self, voxels: MetaTensor, index: int) -> Plane:
        """Return a copy of one slice of (1, X, Y, Z)."""
        return voxels.as_tensor()[0].select(self.axis, index).float().numpy().copy()


@dataclass(frozen=True)
class Fault:
    """An altered slice."""

    index: int
    plane: Plane
    where: Mask


@dataclass(frozen=True)
class Outcome:
    """What is found of one fault with and without it; of a 2D image's slices, None."""

    kind: str
    diameter: float
    share: float
    before: float
    by_peak: bool | None
    by_peak_before: bool | None
    by_mean: bool | None
    by_mean_before: bool | None


def images(
    path: Path, modality: str, include: Sequence[Path], count: int, rng: np.random.Generator
) -> Iterator[MetaTensor]:
    """Read a scan, or so many 2D images of a folder."""
    if find_scans(path).kind != "image" or path.is_file():
        yield read(path, modality=modality)
        return
    name: Target = "ct" if modality == "CT" else "mri"
    known = PROTOCOLS["published"]
    protocol = Protocol(known.name, known.description, include=tuple(include))
    scans = scans_of(path, name, protocol.test_names(path, name))
    left = count
    for number in rng.permutation(len(scans)):
        if left == 0:
            return
        try:
            image = read(scans[number].path, modality=modality)
        except MedTranslateError:  # colored marks, as convert refuses them
            continue
        left -= 1
        yield image


def outcomes(
    translator: Translator, image: MetaTensor, repeats: int, rng: np.random.Generator
) -> Iterator[Outcome]:
    """Translate a scan, and measure each kind and size of fault in its result."""
    to = "mri" if image.meta["source"]["modality"] == "CT" else "ct"
    try:
        result = translator.translate(image, to=to, check=False)
    except MedTranslateError:  # no head in a 2D image
        return
    before = cycle_error(translator, image, result)
    grid = Grid(before.axis, millimeters(translator, image, before.axis))
    for kind in KINDS:
        for diameter in DIAMETERS:
            for _ in range(repeats):
                fault = planted(kind, diameter, result, before, grid, rng)
                if fault is None:
                    continue
                altered = result.clone()
                altered[0].select(grid.axis, fault.index).copy_(torch.from_numpy(fault.plane))
                after = cycle_error(translator, image, altered)
                yield outcome(kind, diameter, fault, before, after, grid)


def millimeters(translator: Translator, image: MetaTensor, axis: int) -> float:
    """Return the size of a pixel; of a 2D image by the scale that its recipe gives it."""
    source = image.meta["source"]
    if source["kind"] == "image":
        grid = translator.bundle.recipe(source["modality"], "image").grid
        return PIXEL * grid.size * grid.fill / max(image.shape)
    sizes = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
    return float(np.delete(sizes, axis).mean())


def planted(
    kind: str,
    diameter: float,
    result: MetaTensor,
    before: CycleError,
    grid: Grid,
    rng: np.random.Generator,
) -> Fault | None:
    """Alter a slice drawn at random; None where none has room for it."""
    pixels = diameter / grid.spacing
    for number in rng.permutation(len(before.slices)):
        index = before.slices[number].index
        plane = grid.plane(result, index)
        head = filled(grid.plane(before.map, index) > 0)
        room = depth(head) >= FROM_SKIN / grid.spacing + pixels / 2
        if room.sum() >= 200:
            made = alter(kind, plane, head, room, pixels, rng)
            if made is not None:
                return Fault(index, *made)
    return None


def alter(
    kind: str, plane: Plane, head: Mask, room: Mask, pixels: float, rng: np.random.Generator
) -> tuple[Plane, Mask] | None:
    """Return the slice with a fault in it, in whole numbers, and where the fault is."""
    low, high = np.percentile(plane[head], [1, 99])
    if kind == "invented":
        shape = at(weights("blob", pixels, rng), rng.choice(np.argwhere(room)), plane.shape)
        sign = rng.choice([-1, 1])
        changed = (plane + sign * STRENGTH * (high - low) * shape).clip(low, high)
        return np.where(shape > 0, changed, plane).round(), shape >= 0.5
    structure = local_deviation(plane, pixels)
    structured = room & (structure >= np.quantile(structure[room], 0.75))
    center = rng.choice(np.argwhere(structured))
    disc = weights("disc", pixels, rng)
    here = at(disc, center, plane.shape)
    around = (depth(here >= 0.5) > -6) & (here < 0.5) & head
    changed = plane * (1 - here) + float(plane[around].mean()) * here
    where = here >= 0.5
    if kind == "moved":
        rows, columns = np.indices(plane.shape)
        distance = np.hypot(rows - center[0], columns - center[1])
        goals = np.argwhere(room & (distance > 1.5 * pixels) & (distance < 3 * pixels))
        if not len(goals):
            return None
        goal = rng.choice(goals)
        there = at(disc, goal, plane.shape)
        shifted = np.roll(plane, tuple(goal - center), axis=(0, 1))
        changed = changed * (1 - there) + shifted * there
        where = where | (there >= 0.5)
    return changed.round(), where


def at(small: Plane, center: NDArray[np.int64], shape: tuple[int, ...]) -> Plane:
    """Return a small image in an empty slice, its middle at a place."""
    reach = len(small) // 2
    field = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach), dtype=np.float32)
    field[center[0] : center[0] + len(small), center[1] : center[1] + len(small)] = small
    return field[reach : reach + shape[0], reach : reach + shape[1]]


def local_deviation(plane: Plane, pixels: float) -> Plane:
    """Return the deviation in a square of so many pixels round each."""
    radius = max(1, round(pixels / 2))
    mean, square = (
        sitk.GetArrayFromImage(sitk.BoxMean(sitk.GetImageFromArray(each), [radius] * 2))
        for each in (plane, plane**2)
    )
    return np.sqrt(np.maximum(square - mean**2, 0))


def filled(mask: Mask) -> Mask:
    """Return a mask without holes."""
    return (
        sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(mask.astype("u1")))) > 0
    )


def outcome(
    kind: str, diameter: float, fault: Fault, before: CycleError, after: CycleError, grid: Grid
) -> Outcome:
    """Say where the maps with and without a fault put its place and its slice."""
    ranks = {
        "by_peak": in_worst(after.worst, fault),
        "by_peak_before": in_worst(before.worst, fault),
        "by_mean": in_worst(by_mean(after), fault),
        "by_mean_before": in_worst(by_mean(before), fault),
    }
    return Outcome(
        kind,
        diameter,
        share=share_in_worst(after, fault, grid),
        before=share_in_worst(before, fault, grid),
        **(ranks if len(after.slices) > 1 else dict.fromkeys(ranks)),
    )


def share_in_worst(measured: CycleError, fault: Fault, grid: Grid) -> float:
    """Return the share of a fault's voxels in the worst 10 % of the map's head."""
    errors = measured.map.as_tensor()[0].numpy()
    level = np.quantile(errors[errors > 0], 1 - WORST)
    return float((grid.plane(measured.map, fault.index)[fault.where] > level).mean())


def by_mean(measured: CycleError) -> list[SliceError]:
    """Return the slices, those with the largest mean first."""
    return sorted(measured.slices, key=lambda one: -one.error)


def in_worst(ranked: Sequence[SliceError], fault: Fault) -> bool:
    """Say whether a fault's slice is among the worst 10 %."""
    return fault.index in {each.index for each in ranked[: max(1, round(WORST * len(ranked)))]}


def print_header() -> None:
    columns = ["scan", "fault", "mm", "n", "share", "before", "found"]
    for rank in ("by peak", "by mean"):
        columns += [f"slice {rank}", "before"]
    print(f"| {' | '.join(columns)} |")
    print(f"|{' --- |' * len(columns)}")


def print_rows(name: str, found: Sequence[Outcome]) -> None:
    by_sort: dict[tuple[str, float], list[Outcome]] = defaultdict(list)
    for each in found:
        by_sort["all", 0].append(each)
        by_sort[each.kind, 0].append(each)
        by_sort[each.kind, each.diameter].append(each)
    for (kind, diameter), those in sorted(by_sort.items()):
        print(
            f"| {name} | {kind} | {f'{diameter:g}' if diameter else 'all'} | {len(those)} "
            f"| {np.mean([x.share for x in those]):.2f} "
            f"| {np.mean([x.before for x in those]):.2f} "
            f"| {percent([x.share >= 0.5 for x in those])} "
            f"| {percent([x.by_peak for x in those])} "
            f"| {percent([x.by_peak_before for x in those])} "
            f"| {percent([x.by_mean for x in those])} "
            f"| {percent([x.by_mean_before for x in those])} |",
            flush=True,
        )


def percent(answers: Sequence[bool | None]) -> str:
    """Return a share of answers in percent; a dash where there are none."""
    known = [each for each in answers if each is not None]
    return f"{100 * np.mean(known):.0f} %" if known else "–"


if __name__ == "__main__":
    main()
