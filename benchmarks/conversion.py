"""A complete conversion against the bare network, OpenVINO and MONAI's SliceInferer, in one run.

What is measured, on a synthetic 512x512x160 int16 head CT in a ``.nii.gz``, for each engine:

- network: the settled network alone, on the volume's 160 network slices, at the same precision and
  batch; the floor of every conversion that asks the network for every slice;
- conversion: read, prepare, translate, restore, write, from file to file;
- with checks: the same by ``convert``, with domain check, cycle error and preview;
- inferer: MONAI's ``SliceInferer`` around torch's network on the same slices, by batch size;
- error: the engine's image and bfloat16's against torch's float32, in gray levels of 255;
- first: what the first slice of an engine takes beside a later one: tracing and compiling;
- memory: peak resident memory of a conversion above an interpreter with torch and MONAI loaded.

Runs alternate; times are the least and the median of the repeats. Run it on an idle machine::

    python benchmarks/conversion.py            # Compact, drawn weights
    python benchmarks/conversion.py --network ResNet9 --repeats 1 --batches 4
    python benchmarks/conversion.py --network shipped --batches

Where other programs share the cores, ``--clock processor`` measures the processor time of all
threads, and one thread on one core says the most (``taskset -c 0 ... --threads 1``).
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.inferers import SliceInferer

from medtranslate import ConversionOptions, Translator, read, write
from medtranslate import convert as convert_with_checks
from medtranslate import networks as zoo
from medtranslate.bundle import Networks, save_bundle
from medtranslate.files import shipped
from medtranslate.translation.translator import source_of

SHAPE = (512, 512, 160)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
INSTALLED = ["torch", *(["openvino"] if importlib.util.find_spec("openvino") else [])]


def main() -> None:
    """Print one table."""
    options = argparse.ArgumentParser()
    options.add_argument(
        "--network", default="Compact", choices=["Compact", "ResNet9", "UNet256", "shipped"]
    )
    options.add_argument("--engines", nargs="+", default=INSTALLED, choices=INSTALLED)
    options.add_argument("--precision", default="auto", help="of every engine")
    options.add_argument("--slices", type=int, default=SHAPE[2])
    options.add_argument("--clock", default="wall", choices=list(CLOCKS))
    options.add_argument("--checks", action="store_true", help="also conversions with checks")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--batches", type=int, nargs="*", default=[1, 4, 8], help="SliceInferer's")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder), chosen.network)
        shape = (*SHAPE[:2], chosen.slices)
        scan = make_scan(Path(folder), shape)
        print(f"{machine()}, torch {torch.__version__}, {chosen.threads} threads")
        print(f"{chosen.network}, {'x'.join(map(str, shape))} int16, {chosen.repeats} repeats")
        report_times(bundle, scan, chosen)
        for engine in chosen.engines:
            report_memory(bundle, scan, engine)


def make_bundle(folder: Path, name: str, **arguments: int) -> Path:
    """The shipped bundle, or one of drawn weights: time does not depend on what they are."""
    if name == "shipped":
        return shipped("bundles/brain_ct_mri")
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


def report_times(bundle: Path, scan: Path, chosen: argparse.Namespace) -> None:
    """Print times and ratios, each against torch's bare network of the same run."""
    translators = {
        engine: Translator.load(bundle, engine=engine, device="cpu", precision=chosen.precision)
        for engine in chosen.engines
    }
    first = next(iter(translators.values()))
    image = read(scan, modality="CT")
    _, prepared = first.prepare(image, source_of(image), "mri")
    slices = prepared.slices[prepared.holds]
    runs: dict[str, Callable[[], object]] = {}
    for engine, each in translators.items():
        report_first(engine, each, slices[:1], CLOCKS[chosen.clock])
        runs[f"{engine}: network"] = partial(each.translate_slices, slices, to="mri")
        runs[f"{engine}: conversion"] = partial(convert, each, scan)
        if chosen.checks:
            each.translate_slices(slices[:1], to="ct")  # compiled, if it is to be
            runs[f"{engine}: with checks"] = partial(convert_checked, each, scan)
    for batch in chosen.batches:
        runs[f"SliceInferer, batch {batch}"] = inferer(first, slices, batch)
    taken = interleaved(runs, chosen.repeats, CLOCKS[chosen.clock])
    least, median = (
        {name: f(each) for name, each in taken.items()} for f in (min, statistics.median)
    )
    floor = next(iter(runs))
    print(f"{len(slices)} slices with a head, {first.device}, batch {first.device.batch}")
    print(f"{'':24} least, ms a slice   median   least / {floor}")
    for name in runs:
        low, middle = (1e3 * each[name] / len(slices) for each in (least, median))
        print(f"{name:24} {low:18.1f} {middle:8.1f} {least[name] / least[floor]:8.2f}")
    few = slices[:: max(1, len(slices) // 8)]
    exact = Translator.load(bundle, device="cpu", precision="float32")
    expected = exact.translate_slices(few, to="mri")
    for engine, each in translators.items():
        error = 127.5 * (each.translate_slices(few, to="mri") - expected).abs()
        print(f"{engine} in {each.device.precision}, from torch in float32: "
              f"{error.mean():.4f} gray levels on average, {error.max():.3f} at most")  # fmt: skip


def report_first(
    engine: str, translator: Translator, one: torch.Tensor, clock: Callable[[], float]
) -> None:
    """Print what the first slice takes beyond a later one: what an engine does before it starts."""
    times = []
    for _ in range(3):
        start = clock()
        translator.translate_slices(one, to="mri")
        times.append(clock() - start)
    print(f"{engine}: {times[0] - min(times[1:]):.2f} s before the first slice of a network")


def convert_checked(translator: Translator, scan: Path) -> None:
    """Convert from file to file with the checks that are on by default."""
    options = ConversionOptions(
        to="mri", modality="CT", output=scan.with_name("checked.nii.gz"), force=True, overwrite=True
    )
    convert_with_checks(scan, options=options, translator=translator)


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


def interleaved(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each run, taken in turn so that drift is shared."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            taken[name].append(clock() - start)
    return taken


def report_memory(bundle: Path, scan: Path, engine: str) -> None:
    """Print the peak of a conversion in a process of its own above an idle interpreter's."""
    taken = cost(
        "from medtranslate import Translator, write\nfrom pathlib import Path\n"
        "bundle, scan = map(Path, sys.argv[1:3])\n"
        "translator = Translator.load(bundle, device='cpu', engine=sys.argv[3])\n"
        "result = translator.translate(scan, to='mri', check=False)\n"
        "write(result, scan.parent / 'peak.nii.gz', overwrite=True)",
        bundle,
        scan,
        engine,
    )
    print(f"{engine}: peak memory {taken.idle:.0f} MB idle, {taken.peak:.0f} MB above it")


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
