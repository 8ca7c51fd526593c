"""How near results come to the truth: registered CT and MR images of the same heads.

A folder holds ``CT/`` and ``MR/`` with 2D images of the same names on one grid, the CT in the brain
window (gray 0 is -20 HU, 255 is 100 HU). Every image goes through the whole conversion, as
``medtranslate convert`` takes it; figures are in gray levels of 255, means over the images.

- head: the head in the true CT; brain: what its closed skull encloses, 3 mm from bone;
- fluid: inside the brain 10 gray levels (5 HU) or more below the brain's median in the true CT, and
  tissue what lies within 6 of it; a slice counts with 80 pixels of fluid. The MR of a head (what
  stands before the last three digits of a name) are taken for fluid-bright (T2) where fluid is
  brighter than tissue in most of their slices, else for fluid-dark (T1, FLAIR): in a single slice
  near the vertex, a few pixels of misalignment would decide. The MR's own gray says how well the
  pair itself tells fluid from tissue (grain, misalignment);
- fluid darker: slices whose fluid lies below tissue by at least half of what it does in the truth;
- false white: pixels of the brain at 200 or more (74 HU) where 5x5 pixels of the truth are below;
- bone Dice: 230 or more (88 HU) inside the head;
- CT to MR: a model with a choice of contrast is asked for that of the true MR, which its classifier
  tells of all MR of a head together (where that is not clear, T2 or T1 by the brightness of fluid);
  results are arbitrary units, so one curve (a gray level for each gray level, the best
  by absolute error) is fitted to all images of a contrast before the error is taken; beside it the
  same curve fitted to the CT itself, and one constant gray;
- error map: Spearman's rank correlation inside the head of the expected error, the cycle error and
  nearness to the outline with the true error (means of 5x5 pixels), the AUROC of each for the worst
  tenth, and the mean expected error over the true one.

::

    python benchmarks/registered_pairs.py PAIRS --weights ct=mri_to_ct.safetensors --error-map
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from numpy.typing import NDArray
from safetensors.torch import load_file

from medtranslate import Translator, read
from medtranslate.evaluation.lesions.planting import brain, depth
from medtranslate.modality import Modality
from medtranslate.quality.expected_error import expected_error, rank
from medtranslate.transforms.head import heads
from medtranslate.translation.translator import generator_of

Gray = NDArray[np.float32]
Mask = NDArray[np.bool_]

HEAD = 0.08 * 255  # as the recipe for 2D CT images
FLUID, TISSUE, FEWEST = 10, 6, 80
WHITE, BONE = 200, 230
NEIGHBORHOOD = 5  # pixels


@dataclass(frozen=True, eq=False)
class Case:
    """One registered pair: images, gray levels 0 to 255 (H, W), and where head and brain are.

    ``bright`` says whether fluid is brighter than tissue in most slices of this MR, ``told`` its
    contrast as a classifier tells it, ``""`` where that is not clear.
    """

    name: str
    images: Mapping[Modality, MetaTensor]
    ct: Gray
    mr: Gray
    head: Mask
    brain: Mask
    bright: bool = False
    told: str = ""

    @property
    def patient(self) -> str:
        """What stands before the last three digits of the name."""
        return self.name[:-3]

    @property
    def fluid(self) -> Mask:
        """Fluid inside the brain, by the true CT."""
        return self.brain & (self.ct <= self._level - FLUID)

    @property
    def tissue(self) -> Mask:
        """Brain tissue, by the true CT."""
        return self.brain & (np.abs(self.ct - self._level) <= TISSUE)

    @property
    def contrast(self) -> str:
        """``"fluid bright"`` or ``"fluid dark"`` by the MR, ``""`` with too little fluid."""
        if not self.has_fluid:
            return ""
        return "fluid bright" if self.bright else "fluid dark"

    @property
    def has_fluid(self) -> bool:
        """Whether there is enough of fluid and tissue to compare."""
        return min(int(self.fluid.sum()), int(self.tissue.sum())) >= FEWEST

    @property
    def _level(self) -> float:
        return float(np.median(self.ct[self.brain])) if self.brain.any() else 0.0


def main() -> None:
    """Measure a model on a folder of pairs and print its rows."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("pairs", type=Path, help="folder with CT/ and MR/")
    options.add_argument("--bundle", type=Path, help="instead of the shipped one")
    options.add_argument("--weights", action="append", default=[], metavar="ct|mri=FILE")
    options.add_argument("--to", choices=("ct", "mri", "both"), default="both")
    options.add_argument("--error-map", action="store_true", help="rank errors by the error maps")
    options.add_argument("--no-cycle", action="store_true", help="leave the cycle error out of it")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    translator = Translator.load(chosen.bundle)
    for each in chosen.weights:
        to, _, file = each.partition("=")
        translator = with_weights(translator, to, Path(file))
    cases = with_contrasts(translator, read_pairs(chosen.pairs))
    found: dict[str, float] = {
        "pairs": len(cases),
        "with brain": sum(bool(c.brain.any()) for c in cases),
    }
    for to in ("ct", "mri") if chosen.to == "both" else (chosen.to,):
        source = Modality.parse(to).other
        results = [
            translated(translator, case.images[source], to, asked(translator, case, to))
            for case in cases
        ]
        made = [_gray(result) for result in results]
        found |= ct_figures(cases, made) if to == "ct" else mr_figures(cases, made)
        if chosen.error_map:
            maps = {"nearness to the outline": [-depth(case.head) for case in cases]}
            if translator.bundle.expected_error is not None:
                maps["expected error"] = [
                    expected(translator, case.images[source], result)
                    for case, result in zip(cases, results, strict=True)
                ]
            if not chosen.no_cycle:
                maps["cycle error"] = cycle_errors(translator, cases, results, source)
            found |= map_figures(cases, made, maps, to)
    print(f"{translator.bundle.name} {translator.bundle.version} {' '.join(chosen.weights)}\n")
    print("| what | figure |\n| --- | --- |")
    for name, value in found.items():
        print(f"| {name} | {value:.4g} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def with_weights(translator: Translator, to: str, file: Path) -> Translator:
    """Return the translator with other weights for one direction."""
    network = translator.bundle.generator(to).network
    network.load_state_dict({name: w.float() for name, w in load_file(file).items()})
    coded = generator_of(translator.bundle, to, translator.contrast)
    settled = translator.device.settle(coded)
    return replace(translator, networks={**translator.networks, to: settled})


def read_pairs(folder: Path) -> list[Case]:
    """Read the pairs of a folder."""
    names = sorted(path.name for path in (folder / "CT").iterdir())
    cases = [_read_pair(folder, name) for name in names]
    below: dict[str, list[float]] = {}
    for each in cases:
        if each.has_fluid:
            below.setdefault(each.patient, []).append(_below(each.mr, each))
    bright = {patient: float(np.median(found)) < 0 for patient, found in below.items()}
    return [replace(each, bright=bright.get(each.patient, False)) for each in cases]


def _read_pair(folder: Path, name: str) -> Case:
    images = {each: read(folder / each / name, modality=each) for each in Modality}
    ct, mr = (_gray(image) for image in images.values())
    head = heads((ct > HEAD)[None])[0]
    return Case(
        Path(name).stem, images, ct, mr, head, brain(ct.round().astype(np.uint8), head, "ct")
    )


def with_contrasts(translator: Translator, cases: Sequence[Case]) -> list[Case]:
    """Have the model's classifier tell the contrast of each head's MR, from all of its images."""
    if translator.contrast_classifier is None:
        return list(cases)
    recipe = translator.bundle.recipe(Modality.MR, "image")
    told = {}
    for patient in {each.patient for each in cases}:
        prepared = [recipe.prepare(c.images[Modality.MR]) for c in cases if c.patient == patient]
        slices, head = (
            torch.cat([getattr(each, name) for each in prepared]) for name in ("slices", "head")
        )
        found = translator.contrast_classifier.tell(slices, head)
        told[patient] = found.clear if found else ""
        print(f"head {patient}: {found}")
    return [replace(each, told=told[each.patient]) for each in cases]


def asked(translator: Translator, case: Case, to: str) -> str:
    """Return the contrast to ask for: that of the true MR, where the model has a choice."""
    if to == "ct" or not translator.bundle.contrasts:
        return ""
    by_fluid = {"fluid bright": "t2", "fluid dark": "t1"}.get(case.contrast, "")
    return case.told if case.told in translator.bundle.contrasts else by_fluid


def translated(
    translator: Translator, image: MetaTensor, to: str, contrast: str = ""
) -> MetaTensor:
    """Translate an image through the whole conversion."""
    modality = Modality.parse(to).other
    return translator.translate(image, to=to, modality=modality, check=False, contrast=contrast)


def _gray(image: MetaTensor) -> Gray:
    """Return a 2D image as rows and columns."""
    return np.ascontiguousarray(image.as_tensor()[0, :, :, 0].T.numpy(), dtype=np.float32)


def ct_figures(cases: Sequence[Case], made: Sequence[Gray]) -> dict[str, float]:
    """Compare CT made of MR with the true CT."""
    pairs = list(zip(cases, made, strict=True))
    inside = [(case, ct) for case, ct in pairs if case.brain.any()]
    figures = {
        "MR to CT: MAE in the head": _mean(np.abs(ct - c.ct)[c.head].mean() for c, ct in pairs),
        "MR to CT: MAE in the brain": _mean(np.abs(ct - c.ct)[c.brain].mean() for c, ct in inside),
        "the same of one constant gray": _mean(
            np.abs(np.median(c.ct[c.brain]) - c.ct)[c.brain].mean() for c, _ in inside
        ),
        "bone Dice": _mean(_dice(ct >= BONE, c.ct >= BONE, c.head) for c, ct in pairs),
        "false white in the brain, %": 100 * _mean(_false_white(c, ct) for c, ct in inside),
        "brain median - truth": _mean(np.median((ct - c.ct)[c.brain]) for c, ct in inside),
    }
    for contrast, sign in (("fluid dark", -1), ("fluid bright", 1)):
        those = [(case, ct) for case, ct in inside if case.contrast == contrast]
        if not those:
            continue
        wanted = np.array([_below(case.ct, case) for case, _ in those])
        got = np.array([_below(ct, case) for case, ct in those])
        figures |= {
            f"{contrast} in MR: slices": len(those),
            f"{contrast} in MR: fluid darker by half of the truth, %": 100
            * float((got >= wanted / 2).mean()),
            f"{contrast} in MR: fluid below tissue": float(got.mean()),
            f"{contrast} in MR: the same in the truth": float(wanted.mean()),
            f"{contrast} in MR: AUC of fluid against tissue": _mean(
                _auc(-ct[case.fluid], -ct[case.tissue]) for case, ct in those
            ),
            f"{contrast} in MR: the same of the MR's own gray": _mean(
                _auc(sign * case.mr[case.fluid], sign * case.mr[case.tissue]) for case, _ in those
            ),
        }
    return figures


def mr_figures(cases: Sequence[Case], made: Sequence[Gray]) -> dict[str, float]:
    """Compare MR made of CT with the true MR, after one curve for each contrast."""
    figures = {}
    for contrast in ("fluid dark", "fluid bright"):
        those = [(case, mr) for case, mr in zip(cases, made, strict=True)]
        those = [(case, mr) for case, mr in those if case.contrast == contrast]
        if not those:
            continue
        truth = [case.mr[case.head] for case, _ in those]
        for name, values in (
            ("the model", [mr[case.head] for case, mr in those]),
            ("the CT's gray", [case.ct[case.head] for case, _ in those]),
            ("a constant", [np.zeros(case.head.sum()) for case, _ in those]),
        ):
            figures[f"CT to MR, {contrast}: MAE, curve of {name}"] = _curve_error(values, truth)
    return figures


def map_figures(
    cases: Sequence[Case], made: Sequence[Gray], maps: Mapping[str, Sequence[Gray]], to: str
) -> dict[str, float]:
    """Rank pixels by each map against the true error."""
    true = [
        _smooth(np.abs(result - (case.ct if to == "ct" else case.mr)))[case.head]
        for case, result in zip(cases, made, strict=True)
    ]
    figures = {}
    for name, values in maps.items():
        inside = [one[case.head] for case, one in zip(cases, values, strict=True)]
        found = [rank(one, error) for one, error in zip(inside, true, strict=True)]
        figures[f"error map to {to}, {name}: Spearman"] = _mean(one.spearman for one in found)
        figures[f"error map to {to}, {name}: AUROC"] = _mean(one.auroc for one in found)
        if name == "expected error":
            ratios = (one.mean() / error.mean() for one, error in zip(inside, true, strict=True))
            figures[f"error map to {to}, {name}: mean over the true one"] = _mean(ratios)
    return figures


def expected(translator: Translator, image: MetaTensor, result: MetaTensor) -> Gray:
    """Return the expected error of a result."""
    return _smooth(_gray(expected_error(translator, image, result).map))


def cycle_errors(
    translator: Translator,
    cases: Sequence[Case],
    results: Sequence[MetaTensor],
    source: Modality,
) -> list[Gray]:
    """Translate results back and compare the reconstructions with the scans."""
    back = source.target
    found = []
    for case, result in zip(cases, results, strict=True):
        cycled = translated(translator, result, back, asked(translator, case, back))
        found.append(_smooth(np.abs(_gray(cycled) - _gray(case.images[source]))))
    return found


def _curve_error(values: Sequence[NDArray], truth: Sequence[NDArray]) -> float:
    """Return the mean over images of the error after the best curve of 64 gray levels."""
    bins = [np.clip(each / 4, 0, 63).astype(int) for each in values]
    flat, wanted = np.concatenate(bins), np.concatenate(truth)
    curve = np.array([np.median(wanted[flat == k]) if (flat == k).any() else 0 for k in range(64)])
    return _mean(np.abs(curve[b] - t).mean() for b, t in zip(bins, truth, strict=True))


def _below(gray: Gray, case: Case) -> float:
    """Return how far fluid lies below tissue."""
    return float(np.median(gray[case.tissue]) - np.median(gray[case.fluid]))


def _false_white(case: Case, ct: Gray) -> float:
    nearby = F.max_pool2d(torch.from_numpy(case.ct)[None], NEIGHBORHOOD, 1, NEIGHBORHOOD // 2)[0]
    return float(((ct >= WHITE) & (nearby.numpy() < WHITE))[case.brain].mean())


def _dice(first: Mask, second: Mask, head: Mask) -> float:
    both = (first & head).sum() + (second & head).sum()
    return float(2 * (first & second & head).sum() / max(both, 1))


def _auc(higher: NDArray, lower: NDArray) -> float:
    ranks = _ranks(np.concatenate([higher, lower]))[: len(higher)]
    return float((ranks.mean() - (len(higher) - 1) / 2) / len(lower))


def _ranks(values: NDArray) -> NDArray[np.float64]:
    """Return ranks from 0, the mean rank where values are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def _smooth(gray: Gray) -> Gray:
    pooled = F.avg_pool2d(torch.from_numpy(gray)[None], NEIGHBORHOOD, 1, NEIGHBORHOOD // 2)
    return pooled[0].numpy()


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
