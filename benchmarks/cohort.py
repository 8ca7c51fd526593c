"""Scans an hour: the cohort command against a shell loop over convert.

python benchmarks/cohort.py --scans 12 --workers 2
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from medtranslate import write
from medtranslate.phantom import Phantom

LOOP = 'for scan in {scans}/*.nii.gz; do "$@" "$scan" || exit 1; done'
PROGRAM = [sys.executable, "-m", "medtranslate"]


def make_scans(folder: Path, count: int, slices: int) -> None:
    """Write synthetic head phantoms, each with noise of its own."""
    head = Phantom((256, 256, slices), (0.9, 0.9, 160 / slices)).volume()
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 3, head.shape)
        scan = head.clone()
        scan.as_tensor().add_(torch.from_numpy(noise.astype(np.float32)))
        write(scan, folder / f"scan{number:03}.nii.gz")


def seconds(command: list[str], folder: Path) -> float:
    """Run a command, and return how long it takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of each way to convert the same scans."""
    options = ["--to", "mri", "--device", arguments.device, "--force", *arguments.option]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scans").mkdir()
        make_scans(folder / "scans", arguments.scans, arguments.slices)
        one = [*PROGRAM, "convert", *options, "-o", "loop/"]
        loop = ["sh", "-c", LOOP.format(scans="scans"), "sh", *one]
        workers = ["--workers", str(arguments.workers)] if arguments.workers else []
        cohort = [*PROGRAM, "cohort", "scans", *options, *workers, "-o", "cohort"]
        found = {"shell loop": seconds(loop, folder), "cohort": seconds(cohort, folder)}
        results = [
            {path.name for path in (folder / out).glob("*_mri.nii.gz")}
            for out in ("loop", "cohort")
        ]
        assert results[0] == results[1] and len(results[0]) == arguments.scans, results
        found["second call"] = seconds(cohort, folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--option", action="append", default=[], help="more options of convert")
    arguments = parser.parse_args()
    found = measured(arguments)
    print(f"{arguments.scans} scans of 256x256x{arguments.slices}")
    for name, took in found.items():
        rate = 3600 * arguments.scans / took
        print(f"{name:12} {took:7.1f} s {rate:8.0f} scans/h {found['shell loop'] / took:6.2f}")


if __name__ == "__main__":
    main()
