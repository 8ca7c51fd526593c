"""The domain check, on real heads and on everything that is none: refused, warned, passed.

On folders of 2D images of real heads, on whole real scans, and on made ones::

    python benchmarks/domain_check.py --ct testA --mri testB --mri-list clean-testB.txt \
        --not-mri-list not-mr.txt --volumes scan.nii.gz series/

The real images are judged as they are and mirrored left to right, and corrupted in every way that
must be caught; of the corrupted ones, ``--sample`` 2D images a kind. Lists name files by folder and
name, as ``testB/mri7.jpg``. At the end, the cost of the check beside a conversion of the same scan.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel.orientations as orientations
import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from scans_without_a_head import WITHOUT_A_HEAD, image, image_2d, volume

from medtranslate import Translator, read
from medtranslate.bundle import Bundle
from medtranslate.domain_check import DomainCheck, Judgment, load_domain
from medtranslate.errors import MedTranslateError
from medtranslate.modality import Modality
from medtranslate.phantom import Phantom

Change = Callable[[np.ndarray], np.ndarray]


@dataclass
class Row:
    """A line of the table."""

    group: str
    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, judgment: Judgment) -> None:
        """Count a judgment."""
        self.counts[judgment.verdict] += 1
        self.reasons.update(judgment.reasons[:1])

    def text(self) -> str:
        """Give it in Markdown."""
        n = self.counts.total()
        shares = " | ".join(
            f"{self.counts[verdict]} ({self.counts[verdict] / max(n, 1):.1%})"
            for verdict in ("refused", "warned", "passed")
        )
        reason = self.reasons.most_common(1)[0][0] if self.reasons else ""
        return f"| {self.group} | {self.kind} | {n} | {shares} | {reason} |"


@dataclass(frozen=True)
class Judge:
    """A bundle's check."""

    bundle: Bundle
    check: DomainCheck

    def __call__(self, scan: MetaTensor, modality: str) -> Judgment:
        """Judge a scan as of a modality."""
        source = {**scan.meta["source"], "modality": modality}
        prepared = self.bundle.recipe(modality, source["kind"]).prepare(scan)
        return self.check.judge(prepared, source)


def main() -> None:
    """Print one table."""
    options = argparse.ArgumentParser()
    options.add_argument("--bundle", type=Path)
    options.add_argument("--ct", type=Path, help="folder of 2D images of CT heads")
    options.add_argument("--mri", type=Path, help="folder of 2D images of MR heads")
    options.add_argument("--ct-list", type=Path)
    options.add_argument("--mri-list", type=Path)
    options.add_argument("--not-mri-list", type=Path, help="2D images that are no MR of a head")
    options.add_argument("--volumes", type=Path, nargs="*", default=[])
    options.add_argument("--sample", type=int, default=150, help="corrupted 2D images a kind")
    options.add_argument("--made", type=int, default=30, help="made scans a kind")
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    bundle = Bundle.load(chosen.bundle)
    check = load_domain(bundle)
    if check is None:
        raise SystemExit(f"{bundle.folder} carries no domain check")
    judge = Judge(bundle, check)
    print("| scans | kind | n | refused | warned | passed | first reason, most often |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    given = (("CT", chosen.ct, chosen.ct_list), ("MR", chosen.mri, chosen.mri_list))
    for modality, folder, wanted in given:
        if folder is not None:
            show(image_rows(judge, listed(folder, wanted), modality, chosen.sample))
    if chosen.not_mri_list:
        show([strangers(judge, chosen.mri.parent, chosen.not_mri_list)])
    for modality in ("CT", "MR"):
        show(made_rows(judge, modality, chosen.made))
    show(volume_rows(judge, chosen.volumes))
    cost(judge, chosen.repeats)


def show(rows: Iterable[Row]) -> None:
    """Print the rows that hold anything, as they come."""
    for row in rows:
        if row.counts:
            print(row.text(), flush=True)


def listed(folder: Path, wanted: Path | None) -> list[Path]:
    """Give the files of a folder, or those of them that a list names."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if wanted is None:
        return files
    names = set(wanted.read_text(encoding="utf-8").split())
    return [path for path in files if f"{folder.name}/{path.name}" in names]


def image_rows(judge: Judge, files: list[Path], modality: str, sample: int) -> Iterator[Row]:
    """Judge real images, and corrupted ones."""
    group = f"{modality} 2D images"
    for kind, change in (("real", _same), ("mirrored left to right", _mirrored)):
        yield judged(judge, Row(group, kind), read_all(files, modality), change, modality)
    some = files[:: max(1, len(files) // sample)][:sample]
    for kind, change in CORRUPTED.items():
        yield judged(judge, Row(group, kind), read_all(some, modality), change, modality)
    other = Modality(modality).other
    row = Row(group, f"given as {other}")
    yield judged(judge, row, read_all(some, other), _same, other)


def judged(
    judge: Judge, row: Row, scans: Iterable[MetaTensor], change: Change, modality: str
) -> Row:
    """Judge scans after a change."""
    for scan in scans:
        row.add(judge(changed(scan, change), modality))
    return row


def read_all(files: Iterable[Path], modality: str) -> Iterator[MetaTensor]:
    """Read what can be read; what cannot never comes to the check."""
    for path in files:
        try:
            yield read(path, modality=modality)
        except MedTranslateError:
            continue


def strangers(judge: Judge, parent: Path, names: Path) -> Row:
    """Judge 2D images that a list says are no MR."""
    files = [parent / name for name in names.read_text(encoding="utf-8").split()]
    row = Row("MR images", "known to be no brain MR")
    return judged(judge, row, read_all(files, "MR"), _same, "MR")


def made_rows(judge: Judge, modality: str, count: int) -> Iterator[Row]:
    """Judge bodies and objects, as 2D images and as volumes."""
    for kind, make in (("2D images", image_2d), ("volumes", volume)):
        for name, paint in WITHOUT_A_HEAD.items():
            rng = np.random.default_rng(0)
            scans = (make(paint, modality, rng) for _ in range(count))
            yield judged(judge, Row(f"made {modality} {kind}", name), scans, _same, modality)


def volume_rows(judge: Judge, paths: list[Path]) -> Iterator[Row]:
    """Judge whole real scans, and corrupted ones."""
    scans = [read(path) for path in paths]
    kinds = {"real": _same, "mirrored left to right": _mirrored, **CORRUPTED}
    for kind, change in kinds.items():
        row = Row("real volumes", kind)
        for scan in scans:
            row.add(judge(changed(scan, change), scan.meta["source"]["modality"]))
        yield row
    row = Row("real volumes", "given as the other modality")
    for scan in scans:
        row.add(judge(scan, Modality(scan.meta["source"]["modality"]).other))
    yield row


def changed(scan: MetaTensor, change: Change) -> MetaTensor:
    """Change an image as it is looked at: columns to the left, rows to posterior, slices up."""
    source = scan.meta["source"]
    affine = np.asarray(scan.affine, dtype=np.float64)
    to = orientations.axcodes2ornt(("L", "P", "S"))
    turn = orientations.ornt_transform(orientations.io_orientation(affine), to)
    values = scan.as_tensor()[0].numpy()
    upright = change(orientations.apply_orientation(values, turn).copy())
    straight = affine @ orientations.inv_ornt_aff(turn, values.shape)
    return image(upright, straight, source["modality"], source["kind"], source["dtype"])


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _mirrored(values: np.ndarray) -> np.ndarray:
    return values[::-1]


def _upside_down(values: np.ndarray) -> np.ndarray:
    return values[:, ::-1]


def _rotated(degrees: float) -> Change:
    def rotate(values: np.ndarray) -> np.ndarray:
        if degrees % 90 == 0:
            return np.rot90(values, int(degrees // 90))
        low = float(values.min())
        turn = np.deg2rad(degrees)
        theta = torch.tensor([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]])
        stack = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[:, None] - low
        side = max(stack.shape[2:])
        rest = [side - n for n in stack.shape[:1:-1]]
        square = F.pad(stack, [rest[0] // 2, rest[0] - rest[0] // 2,
                               rest[1] // 2, rest[1] - rest[1] // 2])  # fmt: skip
        grid = F.affine_grid(theta.float().expand(len(square), 2, 3), list(square.shape), False)
        return (
            (F.grid_sample(square, grid, align_corners=False)[:, 0] + low)
            .numpy()
            .transpose(1, 2, 0)
        )

    return rotate


def _inverted(values: np.ndarray) -> np.ndarray:
    return values.max() + values.min() - values


def _inverted_inside(values: np.ndarray) -> np.ndarray:
    """Bright and dark exchanged, but for the surroundings."""
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    inside = values > low + 0.06 * (high - low)
    return np.where(inside, low + high - np.minimum(values, high), values)


def _noise(values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(values.min(), values.max(), values.shape)


def _empty(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, values.min())


CORRUPTED: dict[str, Change] = {
    "mirrored top to bottom": _upside_down,
    "rotated by 180 degrees": _rotated(180),
    "rotated by 90 degrees": _rotated(90),
    "rotated by 270 degrees": _rotated(270),
    "rotated by 45 degrees": _rotated(45),
    "inverted": _inverted,
    "inverted, background left black": _inverted_inside,
    "noise": _noise,
    "empty": _empty,
}


def cost(judge: Judge, repeats: int) -> None:
    """Print what the check adds to a conversion, for a 2D image and for a volume."""
    translator = Translator.load(judge.bundle)
    phantom = Phantom()
    for name, scan in (("a 2D image", phantom.image_2d()), ("a volume", phantom.volume())):
        source = scan.meta["source"]
        prepared = judge.bundle.recipe("CT", source["kind"]).prepare(scan)
        whole = seconds(
            lambda scan=scan: translator.translate(scan, to="mri", check=False), repeats
        )
        alone = seconds(lambda p=prepared, s=source: judge.check.judge(p, s), repeats)
        slices = len(prepared.slices)
        print(
            f"{name}, {slices} slices: the check takes {alone * 1e3:.1f} ms, "
            f"{alone / slices * 1e3:.2f} ms a slice; the conversion {whole * 1e3:.0f} ms; "
            f"{alone / whole:.1%}"
        )


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of a run, once warm."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
