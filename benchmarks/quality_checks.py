"""The cost of the quality checks, against the conversion alone in the same run.

On a made 512x512x160 int16 head CT in a ``.nii.gz`` (`conversion.make_scan`):

- bare: read, prepare, translate, restore, write; nothing else;
- domain check, unseen, cycle error, variation: each alone, on what the bare conversion has at hand;
- memory: the most that a conversion holds with and without the cycle error and its map, each in a
  process of its own, beside the size of one float32 volume; by force, as the made scan is no head.

The model is the shipped one, or a network of drawn weights; the domain check is the shipped one's.
Times are the median of interleaved repeats. Run it on an otherwise idle machine::

    python benchmarks/quality_checks.py
    python benchmarks/quality_checks.py --network ResNet9 --repeats 1 --slices 40
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from conversion import CONVERT, SHAPE, cost, machine, make_bundle, make_scan
from monai.data import MetaTensor

from medtranslate import Bundle, Translator, read, write
from medtranslate.domain_check import DomainCheck, load_domain
from medtranslate.quality import cycle_error, variation
from medtranslate.quality.coverage import measure_coverage
from medtranslate.translation.translator import source_of


def main() -> None:
    """Print two tables."""
    options = argparse.ArgumentParser()
    networks = ["shipped", "Compact", "ResNet9", "UNet256"]
    options.add_argument("--network", default="shipped", choices=networks)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument(
        "--slices", type=int, default=SHAPE[2], help="of the volume, evenly chosen"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = chosen.network != "shipped"
        bundle = make_bundle(folder, chosen.network) if drawn else Bundle.load().folder
        scan = make_scan(folder)
        if chosen.slices < SHAPE[2]:
            scan = thinned(scan, chosen.slices)
        print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
        print(f"{chosen.network}, {SHAPE[0]}x{SHAPE[1]}x{chosen.slices}, {chosen.repeats} repeats")
        report_times(bundle, scan, chosen.repeats)
        report_memory(bundle, scan)


def thinned(scan: Path, count: int) -> Path:
    """Keep so many slices of a scan."""
    import nibabel as nib

    image = nib.load(scan)
    step = image.shape[2] // count
    path = scan.with_name("thinned.nii.gz")
    nib.save(image.slicer[:, :, : step * count : step], path)
    return path


def report_times(bundle: Path, scan: Path, repeats: int) -> None:
    """Print seconds, and each as a multiple of the bare conversion."""
    translator, domain = Translator.load(bundle), shipped_domain()
    rounds = [one_round(translator, domain, scan) for _ in range(repeats)]
    seconds = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    for name, median in seconds.items():
        share = median / seconds["bare conversion"]
        print(f"{name:24} {median:7.2f} s {share:6.3f} x the bare conversion")


def one_round(translator: Translator, domain: DomainCheck | None, scan: Path) -> dict[str, float]:
    """Take the time of each check once."""
    taken: dict[str, float] = {}
    with clock(taken, "bare conversion"):
        result = convert(translator, scan)
    image = read(scan, modality="CT")
    source = source_of(image)
    _, prepared = translator.prepare(image, source, "mri")
    if domain:
        with clock(taken, "domain check"):
            domain.judge(prepared, source)
    with clock(taken, "unseen"):
        measure_coverage(prepared, image, translator.bundle.recipe("CT", "volume"))
    with clock(taken, "cycle error"):
        cycle_error(translator, image, result, prepared)
    with clock(taken, "variation"):
        variation(translator, image, result, prepared)
    return taken


@contextmanager
def clock(taken: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds that the block takes."""
    start = time.perf_counter()
    yield
    taken[name] = time.perf_counter() - start


def convert(translator: Translator, scan: Path) -> MetaTensor:
    """Convert from file to file, without any check."""
    result = translator.translate(read(scan, modality="CT"), to="mri", check=False)
    write(result, scan.with_name("out.nii.gz"), overwrite=True)
    return result


def shipped_domain() -> DomainCheck | None:
    """Load the shipped model's check, which costs the same with any network."""
    return load_domain(Bundle.load())


def report_memory(bundle: Path, scan: Path) -> None:
    """Print the peak of the command line with and without a cycle error and its map."""
    peaks = {
        "bare": peak(bundle, scan, "--no-cycle"),
        "with the cycle error": peak(bundle, scan),
        "with its map": peak(bundle, scan, "--map"),
        "with variation and maps": peak(bundle, scan, "--variation", "--map"),
    }
    volume = read(scan, modality="CT").numel() * 4 / 1e6
    print(f"one float32 volume: {volume:.0f} MB")
    for name, value in peaks.items():
        above = (value - peaks["bare"]) / volume
        print(f"{name:24} {value:7.0f} MB, {above:5.2f} volumes above bare")


def peak(bundle: Path, scan: Path, *options: str) -> float:
    """Peak resident MB of one call of ``convert`` above an interpreter's with the imports."""
    always = ["--to", "mri", "--from", "ct", "--no-preview", "--overwrite", "--force"]
    return cost(CONVERT, scan, "--bundle", bundle, *always, *options).peak


if __name__ == "__main__":
    main()
