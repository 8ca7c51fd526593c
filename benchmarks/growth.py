"""How time and memory of a conversion grow with slices, pixels and scans.

Each case is one call of ``medtranslate convert``, checks included, in a process of its own that has
torch, MONAI and medtranslate loaded; seconds of processor and wall, and peak resident memory above
what the process held before. Inputs are synthetic. The network is tiny (`Compact`, 16 channels, one
block), so that what is measured is everything but the network; ``--network shipped`` takes the
shipped model.

The exponent of an axis is the slope of a line through log(cost - c) against log(n - m), by least
squares, where c is the cost of the axis's smallest case, of size m: the fixed cost. 1 is linear.
Where a case costs hardly more than the smallest one, it is left out; where fewer than two are left,
no exponent is printed.

Run it on an otherwise idle machine (half an hour)::

    python benchmarks/growth.py --threads 1
    python benchmarks/growth.py --axis "DICOM, slices" --most 100
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from conversion import CONVERT, Cost, cost, machine, make_bundle, make_scan
from dicom_reading import write_series
from PIL import Image

from medtranslate import Bundle
from medtranslate.phantom import Phantom

HARDLY = 0.1
"""A case counts if it costs this share more than the smallest one."""


@dataclass(frozen=True)
class Axis:
    """What grows.

    Parameters
    ----------
    sizes : sequence of int
        Cases, as the command line names them; the first is the smallest, for the fixed cost.
    make : function
        Writes the input of a case of a size into a folder, and returns the arguments for it.
    amount : function
        What a size amounts to in what the cost should be linear in.
    """

    sizes: Sequence[int]
    make: Callable[[Path, int], list[Path | str]]
    amount: Callable[[int], int] = int


def nifti(folder: Path, shape: tuple[int, int, int]) -> list[Path | str]:
    """Write one NIfTI volume, to become another."""
    return [make_scan(folder, shape), "-o", folder / "result.nii.gz"]


def dicom(folder: Path, count: int, side: int = 512) -> list[Path | str]:
    """Write a series, to become another."""
    return [write_series(folder / "in", count, "native", side), "-o", folder / "out"]


def images(folder: Path, count: int) -> list[Path | str]:
    """Write a folder of 2D images, to become another."""
    head = Phantom((256, 256, 1), (0.9, 0.9, 5.0)).image_2d().as_tensor()[0, ..., 0].numpy().T
    (folder / "in").mkdir()
    for number in range(count):
        Image.fromarray(np.roll(head, number % 7, 0).astype(np.uint8)).save(
            folder / "in" / f"ct{number:04}.png"
        )
    return [folder / "in", "--from", "ct", "-o", folder / "out"]


def scans(folder: Path, count: int) -> list[Path | str]:
    """Write some small NIfTI volumes, for one call."""
    first = make_scan(folder, (128, 128, 8), "scan0000.nii.gz")
    for number in range(1, count):
        shutil.copy(first, folder / f"scan{number:04}.nii.gz")
    (folder / "out").mkdir()
    return [*sorted(folder.glob("*.nii.gz")), "-o", f"{folder}/out/"]


def series(folder: Path, count: int) -> list[Path | str]:
    """Write some small DICOM series into one folder, all to be converted."""
    (folder / "in").mkdir()
    for number in range(count):
        write_series(folder / "in" / f"{number:04}", 8, "native", 128)
    return [folder / "in", "--series", "all", "-o", f"{folder}/out/"]


AXES = {
    "NIfTI, slices of 512x512": Axis((1, 10, 100, 1000), lambda f, n: nifti(f, (512, 512, n))),
    "DICOM, slices of 512x512": Axis((1, 10, 100, 1000), dicom),
    "NIfTI, side of 32 slices": Axis(
        (128, 256, 512, 1024), lambda f, n: nifti(f, (n, n, 32)), lambda n: n * n
    ),
    "DICOM, side of 32 slices": Axis(
        (128, 256, 512, 1024), lambda f, n: dicom(f, 32, n), lambda n: n * n
    ),
    "2D images of a folder": Axis((1, 10, 100, 1000), images),
    "scans in a call, 128x128x8": Axis((1, 8, 64), scans),
    "series of a folder, 128x128x8": Axis((1, 8, 64), series),
}


def main() -> None:
    """Print one table an axis."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--axis", action="append", default=[], help="beginning of a name")
    options.add_argument("--most", type=int, default=1024, help="leave larger sizes out")
    options.add_argument("--repeats", type=int, default=1, help="the least of each figure counts")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--network", default="tiny", choices=["tiny", "shipped"])
    options.add_argument("--no-cycle", action="store_true", help="without the cycle error")
    chosen = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    always = ["--to", "mri", "--force", "--quiet", "--device", "cpu", "--precision", "float32"]
    always += ["--no-cycle"] if chosen.no_cycle else []
    print(f"{machine()}, torch {torch.__version__}, {chosen.threads} threads, {chosen.network}")
    with tempfile.TemporaryDirectory() as name:
        shipped = chosen.network == "shipped"
        folder = Path(name)
        bundle = (
            Bundle.load().folder if shipped else make_bundle(folder, "Compact", width=16, blocks=1)
        )
        for title, axis in AXES.items():
            if chosen.axis and not title.startswith(tuple(chosen.axis)):
                continue
            sizes = [size for size in axis.sizes if size <= max(chosen.most, axis.sizes[1])]
            costs = list(
                measured(axis, sizes, [*always, "--bundle", bundle], folder, chosen.repeats)
            )
            report(title, axis, sizes, costs)


def measured(
    axis: Axis, sizes: Sequence[int], always: Sequence[str | Path], folder: Path, repeats: int
) -> Iterator[Cost]:
    """Yield the cost of each size: the least of each figure."""
    for size in sizes:
        runs = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(dir=folder) as inside:
                runs.append(cost(CONVERT, *axis.make(Path(inside), size), *always))
        yield Cost(*(min(getattr(run, name) for run in runs) for name in Cost.__annotations__))


def report(title: str, axis: Axis, sizes: Sequence[int], costs: Sequence[Cost]) -> None:
    """Print what each size costs, and the exponents."""
    print(f"{title}\n| {'size':>8} | processor, s | wall, s | peak, MB |")
    for size, one in zip(sizes, costs, strict=True):
        print(f"| {size:8} | {one.processor:12.2f} | {one.wall:7.2f} | {one.peak:8.0f} |")
    amounts = [axis.amount(size) for size in sizes]
    found = {
        name: exponent(amounts, [getattr(one, name) for one in costs])
        for name in ("processor", "wall", "peak")
    }
    shown = [f"{name} {'-' if one is None else f'{one:.2f}'}" for name, one in found.items()]
    print(f"exponents: {', '.join(shown)}\n", flush=True)


def exponent(amounts: Sequence[int], costs: Sequence[float]) -> float | None:
    """Fit the exponent of growth past the first case; None where nothing grows."""
    counting = [
        (np.log(amount - amounts[0]), np.log(one - costs[0]))
        for amount, one in zip(amounts[1:], costs[1:], strict=True)
        if one > (1 + HARDLY) * costs[0]
    ]
    if len(counting) < 2:
        return None
    x, y = zip(*counting, strict=True)
    return float(np.polyfit(x, y, 1)[0])


if __name__ == "__main__":
    main()
