"""A whole conversion against the bare network and against MONAI's SliceInferer, in one run.

What is measured, on a made 512x512x160 int16 head CT in a ``.nii.gz``:

- bare: the settled network alone, on the volume's 160 network slices, at the same precision and
  batch; the floor of every conversion that asks the network for every slice;
- whole: read, prepare, translate, restore, write, from file to file;
- inferer: MONAI's ``SliceInferer`` around the same network on the same slices, by batch size;
- error: bfloat16 against float32, in gray levels of 255;
- memory: peak resident memory of a conversion above an interpreter with torch and MONAI loaded.

Times are the median of interleaved repeats. Run it on an otherwise idle machine::

    python benchmarks/conversion.py            # Compact, drawn weights
    python benchmarks/conversion.py --network ResNet9 --repeats 1 --batches 4
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.inferers import SliceInferer

from medtranslate import Translator, read, write
from medtranslate import networks as zoo
from medtranslate.bundle import Networks, save_bundle
from medtranslate.files import shipped
from medtranslate.translation.translator import source_of

SHAPE = (512, 512, 160)


def main() -> None:
    """Print one table."""
    options = argparse.ArgumentParser()
    options.add_argument("--network", default="Compact", choices=["Compact", "ResNet9", "UNet256"])
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--batches", type=int, nargs="*", default=[1, 4, 8], help="SliceInferer's")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        bundle, scan = make_bundle(Path(folder), chosen.network), make_scan(Path(folder))
        print(f"{machine()}, torch {torch.__version__}, {chosen.threads} threads")
        print(f"{chosen.network}, {'x'.join(map(str, SHAPE))} int16, {chosen.repeats} repeats")
        report_times(bundle, scan, chosen.repeats, chosen.batches)
        report_memory(bundle, scan)


def make_bundle(folder: Path, name: str, **arguments: int) -> Path:
    """A bundle of drawn weights: time does not depend on what they are."""
    torch.manual_seed(0)
    kind = getattr(zoo, name)
    drawn = {to: zoo.draw_weights(kind(**arguments)) for to in ("mri", "ct")}
    specs = {to: {"_target_": f"medtranslate.networks.{name}", **arguments} for to in drawn}
    recipes = sorted(shipped("transforms").glob("*.yaml"))
    return save_bundle(
        folder / "bundle", Networks(specs, drawn), recipes, name="benchmark", version="0"
    )


def make_scan(folder: Path, shape: tuple[int, int, int] = SHAPE, name: str = "scan.nii.gz") -> Path:
    """An ellipsoid of brain in a skull with noise, in HU; every slice holds some head."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1.2, 1.2, shape[0]), np.linspace(-1.2, 1.2, shape[1]))
    volume = np.full(shape, -1000, np.int16, order="F")
    middle = shape[2] / 2
    for z in range(shape[2]):
        size = np.sqrt(1 - ((z - middle) / (1.125 * middle)) ** 2)
        radius = np.hypot(x / 0.85, y) / size
        plane = np.select([radius < 0.86, radius < 0.93, radius < 1], [35, 900, 20], -1000)
        volume[..., z] = plane.T + rng.normal(0, 6, shape[:2])
    path = folder / name
    affine = np.diag([-230.4 / shape[0], -230.4 / shape[1], 1.0, 1.0])
    nib.save(nib.Nifti1Image(volume, affine), path)
    return path


def report_times(bundle: Path, scan: Path, repeats: int, batches: list[int]) -> None:
    """Print seconds and ratios, each against the bare network of the same run."""
    translator = Translator.load(bundle)
    exact = Translator.load(bundle, precision="float32")
    image = read(scan, modality="CT")
    _, prepared = translator.prepare(image, source_of(image), "mri")
    slices = prepared.slices[prepared.head.flatten(1).any(1)]
    runs: dict[str, Callable[[], object]] = {
        "bare network": lambda: translator.device.run(translator.networks["mri"], slices),
        "whole conversion": lambda: convert(translator, scan),
    }
    for batch in batches:
        runs[f"SliceInferer, batch {batch}"] = inferer(translator, slices, batch)
    translator.device.run(translator.networks["mri"], slices[:8])  # to warm up
    seconds = interleaved(runs, repeats)
    floor = seconds["bare network"]
    print(f"{len(slices)} slices with a head, {translator.device}, batch {translator.device.batch}")
    for name, value in seconds.items():
        print(f"{name:24} {value:7.2f} s {value / len(slices) * 1e3:7.1f} ms a slice "
              f"{value / floor:6.2f} x bare")  # fmt: skip
    few = slices[::20]
    fast, full = (each.translate_slices(few, to="mri") for each in (translator, exact))
    error = 127.5 * (fast - full).abs()
    print(
        f"error against float32: {error.mean():.3f} gray levels on average, {error.max():.2f} most"
    )


def convert(translator: Translator, scan: Path) -> None:
    """Convert from file to file."""
    write(
        translator.translate(scan, to="mri", check=False),
        scan.with_name("out.nii.gz"),
        overwrite=True,
    )


def inferer(translator: Translator, slices: torch.Tensor, batch: int) -> Callable[[], object]:
    """MONAI's way: the slices as one volume (1, 1, H, W, N), cut along the last axis."""
    infer = SliceInferer(roi_size=(256, 256), sw_batch_size=batch, spatial_dim=2)
    volume = slices[:, 0].permute(1, 2, 0)[None, None].to(translator.device.dtype)
    network = translator.networks["mri"]

    def run() -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = infer(volume, network)
        return result

    return run


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each run, taken in turn so that drift is shared."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def report_memory(bundle: Path, scan: Path) -> None:
    """Print the peak of a conversion in a process of its own above an idle interpreter's."""
    taken = cost(
        "from medtranslate import Translator, write\nfrom pathlib import Path\n"
        "bundle, scan = map(Path, sys.argv[1:])\n"
        "result = Translator.load(bundle).translate(scan, to='mri', check=False)\n"
        "write(result, scan.parent / 'peak.nii.gz')",
        bundle,
        scan,
    )
    print(f"peak memory: {taken.idle:.0f} MB idle, {taken.peak:.0f} MB above it")


@dataclass(frozen=True)
class Cost:
    """What some work took in a process of its own, after its imports.

    Parameters
    ----------
    wall, processor : float
        Seconds; of the processor with its child processes.
    peak, idle : float
        MB of resident memory: the peak above `idle`, and what the interpreter held before.
    """

    wall: float
    processor: float
    peak: float
    idle: float


_AROUND = """
import sys, os, time, torch, monai, monai.data, monai.transforms
import medtranslate.conversion.scan, medtranslate.conversion.conversions
{before}
def held(): return float(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1e3
idle, before, start = held(), sum(os.times()[:4]), time.perf_counter()
{work}
end = time.perf_counter()
print('COST', end - start, sum(os.times()[:4]) - before, held() - idle, idle)
"""


def cost(work: str, *arguments: str | Path, before: str = "") -> Cost:
    """Run some Python in a process of its own, which has torch, MONAI and medtranslate loaded.

    What `before` does, such as further imports, is not counted.
    Peaks are Linux's VmHWM: ``ru_maxrss`` would carry this process's own peak over into its child.
    """
    command = [sys.executable, "-c", _AROUND.format(work=work, before=before), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    figures = done.stdout.split("COST")[-1].split()
    return Cost(*map(float, figures))


CONVERT = (
    "from medtranslate.cli.app import app\nfrom medtranslate.cli.endings import run\n"
    "assert run(app, ['convert', *sys.argv[1:]]) == 0"
)
"""Work for `cost`: the command ``convert`` with the arguments."""


def machine() -> str:
    """The processor's name."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor()
    return f"{name}, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    main()
