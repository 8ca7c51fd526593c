"""Lesions with a truth: how many of those rendered into held-out heads a translation shows.

Slices are rendered as CT and as MR (`medtranslate.label_synthesis`), each with one lesion of one
kind; blood, edema, tumor and so on have their gray in both at once. A lesion's contrast is the mean
of its main tissue less that of the brain 3 to 9 pixels around it. Counted are lesions of at least
8 mm (diameter of a disc of the same area) whose true contrast is at least 4 HU, or in MR 10 gray
levels of 255: what a translation could show. Of those:

- shown: at least half of the true contrast, with its sign;
- sign: any contrast of the right sign;
- contrast kept: slope of the result's contrast over the truth's.

::

    python benchmarks/rendered_lesions.py LABELS --to ct
    python benchmarks/rendered_lesions.py LABELS --to mri --bundle RUN/bundle

LABELS is a folder of label maps, or the file that ``medtranslate data labels`` makes of one; the
last two heads, by name, are rendered, which the shipped model was not taught.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from registered_pairs import with_weights

from medtranslate import Translator
from medtranslate.label_synthesis import LabelMaps, PairRenderer, PairSettings
from medtranslate.label_synthesis.anatomy import AnatomySettings
from medtranslate.label_synthesis.cut import BRAIN
from medtranslate.label_synthesis.lesions import KINDS, TISSUES, LesionSettings
from medtranslate.label_synthesis.pairs import RenderedPairs
from medtranslate.transforms.grain import ct_grain

CONTRASTS = ("T1", "T2", "FLAIR")
OF_BRAIN = tuple(kind for kind in KINDS if any(layer.tissue in TISSUES for layer in kind.layers))
SMALLEST = 8.0  # mm
PIXEL = 0.9  # mm
NEAR, FAR = 3, 9  # pixels from a lesion, between which lies what it is compared with
FEWEST = 50  # pixels of brain there
HALF = {"ct": 60.0, "mri": 127.5}  # HU of the brain window, gray levels: 1 of [-1, 1]
LEAST = {"ct": 4.0, "mri": 10.0}  # of the true contrast: HU, gray levels
GRAIN = 4.0  # HU, on the CT that is translated


@dataclass(frozen=True)
class Lesion:
    """One lesion: its contrast in the truth and in the result, in HU or gray levels."""

    kind: str
    contrast: str
    truth: float
    result: float

    @property
    def shown(self) -> bool:
        """Whether the result has half of the contrast, with its sign."""
        return self.result * self.truth >= self.truth**2 / 2

    @property
    def sign(self) -> bool:
        """Whether the result's contrast has the sign of the truth's."""
        return self.result * self.truth > 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--to", choices=("ct", "mri"), required=True)
    parser.add_argument("--bundle", type=Path, help="instead of the shipped one")
    parser.add_argument("--weights", type=Path, help="instead of the generator's in the bundle")
    parser.add_argument("--count", type=int, default=16, help="slices of a kind and contrast")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    maps = LabelMaps.read(given.labels)
    held_out = sorted(maps.maps, key=lambda each: each.name)[-2:]
    translator = Translator.load(given.bundle)
    if given.weights:
        translator = with_weights(translator, given.to, given.weights)
    found: list[Lesion] = []
    for place, kind in enumerate(OF_BRAIN):
        lesions = LesionSettings(share=1.0, most=1, kinds=(kind,))
        settings = PairSettings(
            lesions=lesions, anatomy=AnatomySettings(calcified_plexus=0.0), stripped=0.0
        )
        renderer = PairRenderer(held_out, maps.table, settings)
        for contrast in CONTRASTS:
            made = renderer.render(given.count, given.seed + 100 * place, contrast)
            chosen = translator.for_contrast(contrast.lower())
            brain = maps.table.is_any(made.classes, *BRAIN)
            main_tissue = maps.table.index(kind.layers[-1].tissue)
            found += [
                Lesion(kind.name, contrast, *each)
                for each in measured(chosen, made, main_tissue, brain, given.to)
            ]
    print(f"{translator.bundle.name} {translator.bundle.version}, {len(found)} lesions\n")
    print_table(found)


def measured(
    translator: Translator, made: RenderedPairs, main_tissue: int, brain: torch.Tensor, to: str
) -> Iterator[tuple[float, float]]:
    """Translate slices; yield the contrast of each lesion in the truth and in the result."""
    draws = torch.Generator().manual_seed(0)
    noise = GRAIN * ct_grain(made.typical_ct, draws)
    source_ct, mri = replace(made, ct=made.typical_ct + noise).network_slices()
    truth_ct, _ = replace(made, ct=made.typical_ct).network_slices()
    source, truth = (mri, truth_ct) if to == "ct" else (source_ct, mri)
    result = translator.translate_slices(source, to=to, in_window=True).float()
    for lesion, healthy, wanted, got in zip(
        made.classes == main_tissue, brain, truth, result, strict=True
    ):
        around = healthy & grown(lesion, FAR) & ~grown(lesion, NEAR)
        diameter = 2 * PIXEL * (float(lesion.sum()) / torch.pi) ** 0.5
        if diameter < SMALLEST or around.sum() < FEWEST:
            continue
        true, shown = (
            float(each[lesion].mean() - each[around].mean()) * HALF[to] for each in (wanted, got)
        )
        if abs(true) >= LEAST[to]:
            yield true, shown


def grown(mask: torch.Tensor, by: int) -> torch.Tensor:
    """Return a mask (1, H, W) and all that lies near it."""
    return F.max_pool2d(mask.float(), 2 * by + 1, 1, by) > 0


def print_table(found: list[Lesion]) -> None:
    """Print figures by kind and contrast, and of all."""
    print("| lesion | MR | n | shown, % | sign, % | contrast kept |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in (*(kind.name for kind in OF_BRAIN), "all"):
        for contrast in (*CONTRASTS, "all"):
            these = [
                one
                for one in found
                if name in (one.kind, "all") and contrast in (one.contrast, "all")
            ]
            if not these or (contrast == "all" and name != "all"):
                continue
            shown = 100 * sum(one.shown for one in these) / len(these)
            sign = 100 * sum(one.sign for one in these) / len(these)
            kept = sum(one.result * one.truth for one in these) / sum(one.truth**2 for one in these)
            print(f"| {name} | {contrast} | {len(these)} | {shown:.0f} | {sign:.0f} | {kept:.2f} |")


if __name__ == "__main__":
    main()
