"""Do the slices of a translated volume agree: contrast that turns over, brightness that flickers.

Slices are translated one by one, and nothing asks a slice to look like its neighbor. Measured on
the network's slices, in slices that show enough brain (`medtranslate.evaluation.lesions.planting`):

- kept, turned, unclear: slices whose brain in the result rises with the source's gray, falls with
  it, or neither (Pearson's r over the brain, both smoothed over 5 pixels; from 0.2 it is clear);
- flips: of the pairs of neighbors that are both clear, those that disagree;
- flicker: step of the brain's median between neighbors, over the spread of the volume's brain
  (10th to 90th percentile), mean of all pairs; for the source and for the result.

With ``--contrasts``, of each CT in each contrast that the model makes: slices that the bundle's
contrast classifier tells to be of the contrast asked for, of another one, or of none clearly (from
`medtranslate.translation.contrast.SURE` it is clear), and neighbors that are clearly of two. The
classifier learned from real MRI; T1 with and without contrast agent are one to it.

::

    python benchmarks/slice_consistency.py DATA/nifti/mr-brain-t2w.nii.gz DATA/dicom/ct-head-tilted
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from medtranslate import Translator, read
from medtranslate.evaluation.lesions.planting import brain
from medtranslate.modality import Modality, Target
from medtranslate.training.validation import shown
from medtranslate.translation.contrast import LEAST_HEAD
from medtranslate.translation.translator import source_of

CLEAR = 0.2
SMOOTHED = 5  # pixels

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Slice:
    """One slice's brain: how the result follows the source, and the median gray of both."""

    index: int
    correlation: float
    source: float
    result: float


@dataclass(frozen=True)
class Volume:
    """The slices of a volume that show brain, and the spread of its gray."""

    slices: tuple[Slice, ...]
    source_spread: float
    result_spread: float

    @property
    def pairs(self) -> list[tuple[Slice, Slice]]:
        """Neighbors."""
        return [(a, b) for a, b in pairwise(self.slices) if b.index == a.index + 1]

    def signs(self) -> list[int]:
        """1 where contrast is kept, -1 where it is turned over, 0 where neither is clear."""
        return [_sign(each.correlation) for each in self.slices]

    def flips(self) -> tuple[int, int]:
        """Neighbors that disagree, and neighbors of which both are clear."""
        signs = [(_sign(a.correlation), _sign(b.correlation)) for a, b in self.pairs]
        clear = [(a, b) for a, b in signs if a and b]
        return sum(a != b for a, b in clear), len(clear)

    def flicker(self) -> tuple[float, float]:
        """Mean step between neighbors over the spread: of the source, and of the result."""
        source = np.mean([abs(a.source - b.source) for a, b in self.pairs])
        result = np.mean([abs(a.result - b.result) for a, b in self.pairs])
        return float(source / self.source_spread), float(result / self.result_spread)


def main() -> None:
    """Translate each volume and print a row for it."""
    options = argparse.ArgumentParser()
    options.add_argument("volumes", nargs="+", type=Path)
    options.add_argument("--bundle", type=Path, help="instead of the shipped one")
    options.add_argument("--contrasts", action="store_true", help="of CT, each in turn")
    chosen = options.parse_args()
    translator = Translator.load(chosen.bundle)
    print(f"{translator.bundle.name} {translator.bundle.version}\n")
    print("| volume | slices with brain | kept | turned | unclear | flips | flicker | source's |")
    print("| --- " * 8 + "|")
    for path in chosen.volumes:
        print(row(path.name, measured(translator, path)))
    if chosen.contrasts:
        print("\n| CT | asked for | as asked | another | unclear | neighbors of two contrasts |")
        print("| --- " * 6 + "|")
        for path in chosen.volumes:
            for line in contrasts(translator, path):
                print(line, flush=True)


def contrasts(translator: Translator, path: Path) -> Iterator[str]:
    """Translate a CT to each contrast and yield a row of what the classifier tells of it."""
    image = read(path)
    source = source_of(image)
    classifier = translator.contrast_classifier
    if source["modality"] != "CT" or classifier is None:
        return
    _, prepared = translator.prepare(image, source, "mri")
    enough = prepared.areas >= LEAST_HEAD * prepared.head[0].numel()
    for asked in translator.bundle.contrasts:
        made = translator.for_contrast(asked).translate_slices(prepared.slices, to="mri").float()
        told = classifier.tell_each(made[enough], prepared.head[enough])
        clear = [one.clear.replace("t1c", "t1") for one in told]
        wanted = asked.replace("t1c", "t1")
        counts = (clear.count(wanted), len(clear) - clear.count(wanted) - clear.count(""))
        turned = sum(a != b for a, b in pairwise(clear) if a and b)
        yield (
            f"| {path.name} | {asked} | {counts[0]} of {len(clear)} | {counts[1]} "
            f"| {clear.count('')} | {turned} |"
        )


def measured(translator: Translator, path: Path) -> Volume:
    """Translate a volume and look at its brain, slice by slice."""
    image = read(path)
    source = source_of(image)
    modality = source["modality"]
    target = Modality(modality).other.target
    _, prepared = translator.prepare(image, source, target)
    chosen = translator.for_scan(prepared, source)
    made = chosen.translate_slices(prepared.slices, to=target, in_window=True).float()
    gray = shown(prepared.slices)
    head = prepared.head.numpy()
    name: Target = "ct" if modality == "CT" else "mri"
    masks = [brain(plane, mask, name) for plane, mask in zip(gray, head, strict=True)]
    smooth_source, smooth_made = _smooth(prepared.slices.float()), _smooth(made)
    slices, of_source, of_result = [], [], []
    for index, mask in enumerate(masks):
        if mask.any():
            before, after = smooth_source[index][mask], smooth_made[index][mask]
            of_source.append(before)
            of_result.append(after)
            r = float(np.corrcoef(before, after)[0, 1])
            slices.append(Slice(index, r, float(np.median(before)), float(np.median(after))))
    return Volume(tuple(slices), _spread(of_source), _spread(of_result))


def row(name: str, volume: Volume) -> str:
    """Write a volume as a row of the table."""
    signs = volume.signs()
    turned_over, clear = volume.flips()
    of_source, of_result = volume.flicker()
    counts = " | ".join(str(signs.count(sign)) for sign in (1, -1, 0))
    flips = f"{turned_over} of {clear}"
    return f"| {name} | {len(signs)} | {counts} | {flips} | {of_result:.3f} | {of_source:.3f} |"


def _smooth(slices: torch.Tensor) -> Plane:
    return F.avg_pool2d(slices, SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)[:, 0].numpy()


def _spread(parts: Sequence[Plane]) -> float:
    low, high = np.quantile(np.concatenate(parts), (0.1, 0.9))
    return float(high - low)


def _sign(correlation: float) -> int:
    return int(np.sign(correlation)) if abs(correlation) >= CLEAR else 0


if __name__ == "__main__":
    main()
