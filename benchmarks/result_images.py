"""Draw translated images chosen by seed, never by hand: what a model makes, good and bad alike.

A row a direction, of network slices (256x256), the result alone. 2D images that the model's recipe
refuses are drawn anew.

::

    python benchmarks/result_images.py examples.png --ct DATA/testA --mri DATA/testB \
        --mri-list DATA/clean-testB.txt
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from domain_check import listed
from numpy.typing import NDArray
from PIL import Image

from medtranslate import Translator, read
from medtranslate.errors import MedTranslateError
from medtranslate.modality import Modality
from medtranslate.training.objective import in_head
from medtranslate.training.validation import shown
from medtranslate.translation.translator import source_of

Plane = NDArray[np.uint8]


def main() -> None:
    """Choose, translate and draw."""
    options = argparse.ArgumentParser()
    options.add_argument("output", type=Path, help="the PNG to write")
    options.add_argument("--ct", type=Path, required=True, help="folder of 2D images")
    options.add_argument("--mri", type=Path, required=True, help="folder of 2D images")
    options.add_argument("--ct-list", type=Path)
    options.add_argument("--mri-list", type=Path)
    options.add_argument("--count", type=int, default=6, help="2D images a row")
    options.add_argument("--seed", type=int, default=2026)
    options.add_argument("--bundle", type=Path, help="instead of the shipped one")
    chosen = options.parse_args()
    translator = Translator.load(chosen.bundle)
    rows = []
    for modality, folder, wanted in (
        ("CT", chosen.ct, chosen.ct_list),
        ("MR", chosen.mri, chosen.mri_list),
    ):
        files = listed(folder, wanted)
        order = np.random.default_rng(chosen.seed).permutation(len(files))
        made = translated(translator, (files[i] for i in order), modality)
        names, planes = zip(*islice(made, chosen.count), strict=True)
        print(f"{modality} to {Modality(modality).other.target.upper()}: {', '.join(names)}")
        rows.append(np.hstack(planes))
    Image.fromarray(np.vstack(rows)).save(chosen.output, optimize=True)


def translated(
    translator: Translator, files: Iterator[Path], modality: str
) -> Iterator[tuple[str, Plane]]:
    """Give name and network slice, uint8 (256, 256), of each image that can be translated."""
    to = Modality(modality).other.target
    for path in files:
        try:
            scan = read(path, modality=modality)
            source = source_of(scan)
            _, prepared = translator.prepare(scan, source, to)
        except MedTranslateError:
            continue
        chosen = translator.for_scan(prepared, source)
        made = chosen.translate_slices(prepared.slices, to=to, in_window=True)
        yield path.name, shown(in_head(made, prepared.head[:, None]))[0]


if __name__ == "__main__":
    main()
