"""Pairs of CT and MR out of label maps: the renderer, a MONAI transform, pairs to look at."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from PIL import Image

from medtranslate.files import whole_folder
from medtranslate.label_synthesis.anatomy import AnatomySettings, cut_off, vary
from medtranslate.label_synthesis.cut import BRAIN, CutSettings, LabelMap, cut, mid_layer
from medtranslate.label_synthesis.draw import Draw, distance, solid
from medtranslate.label_synthesis.lesions import LesionSettings, put_lesions
from medtranslate.label_synthesis.maps import LabelMaps, Progress
from medtranslate.label_synthesis.render import (
    CTSettings,
    MRSettings,
    draw_contrasts,
    render_ct,
    render_mr,
    render_typical_ct,
)
from medtranslate.label_synthesis.tissues import TissueTable
from medtranslate.text import escaped

_INTRACRANIAL: tuple[str, ...] = (
    *BRAIN,
    "ventricle",
    "csf",
    "choroid_plexus",
    "edema",
    "acute_infarct",
    "tumor",
)
_INTRACRANIAL += ("enhancing_tumor", "cyst", "necrosis", "fresh_blood", "older_blood", "plaque")
_MARGIN = 2  # pixels of air that count as head, as a threshold leaves them
_TRIES = 5
_SEEDS = 2**31 - 1


@dataclass(frozen=True)
class PairSettings:
    """Everything that is drawn for a pair.

    Parameters
    ----------
    cut : CutSettings
        How the slice lies in the head.
    anatomy : AnatomySettings
        What is changed in the head.
    lesions : LesionSettings
        What is put into it.
    ct : CTSettings
    mr : MRSettings
    stripped : float
        Share of slices that show the brain alone.
    least_head : float
        Share of the field that must be head; else another slice is cut.

    Examples
    --------
    >>> from medtranslate.label_synthesis import PLAIN_CT
    >>> settings = PairSettings(cut=CutSettings(size=64), ct=PLAIN_CT, stripped=0.0)
    >>> settings.cut.size, settings.ct.blur
    (64, (0.0, 0.0))
    """

    cut: CutSettings = field(default_factory=CutSettings)
    anatomy: AnatomySettings = field(default_factory=AnatomySettings)
    lesions: LesionSettings = field(default_factory=LesionSettings)
    ct: CTSettings = field(default_factory=CTSettings)
    mr: MRSettings = field(default_factory=MRSettings)
    stripped: float = 0.05
    least_head: float = 0.04


@dataclass(frozen=True, eq=False)
class RenderedPairs:
    """A batch of pairs; all images lie on one grid.

    Parameters
    ----------
    ct : float32 tensor (N, 1, H, W)
        In HU; -1000 outside the head.
    typical_ct : float32 tensor (N, 1, H, W)
        The same with every tissue in the middle of its range and no grain. No MR tells by how much
        this head's tissues differ from that, so it is what a network can be taught to make of one.
    mr : float32 tensor (N, 1, H, W)
        Gray, 0 to 1; 0 outside the head.
    head : bool tensor (N, 1, H, W)
        Where the head is, solid.
    classes : uint8 tensor (N, 1, H, W)
        Tissues in the middle of the slice: places in the `TissueTable`.
    contrasts : tuple of str
        Of each MR.
    lesions : tuple of tuple of str
        Names of the lesions in each slice.
    sources : tuple of str
        The label map of each slice.

    Examples
    --------
    >>> white = TissueTable.read().index("white_matter")
    >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
    >>> head = LabelMap(cube, spacing=(3.0, 3.0, 3.0), brain=(-60.0, 60.0), name="cube")
    >>> small = PairSettings(cut=CutSettings(size=64))
    >>> pairs = PairRenderer([head], settings=small).render(2, seed=0)
    >>> ct, mr = pairs.network_slices()
    >>> ct.shape, bool((ct[~pairs.head] == -1).all())
    (torch.Size([2, 1, 64, 64]), True)
    """

    ct: torch.Tensor
    typical_ct: torch.Tensor
    mr: torch.Tensor
    head: torch.Tensor
    classes: torch.Tensor
    contrasts: tuple[str, ...]
    lesions: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ct)

    def __repr__(self) -> str:
        size = "x".join(str(side) for side in self.ct.shape[2:])
        return f"RenderedPairs({len(self)} of {size}, {', '.join(self.contrasts)})"

    def network_slices(
        self, level: float = 40.0, width: float = 120.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return CT and MR in [-1, 1], as networks take them: -1 outside the head.

        Parameters
        ----------
        level, width : float
            Of the CT's window, in HU.
        """
        low = level - width / 2
        ct = ((self.ct - low) / (width / 2) - 1).clamp(-1, 1)
        outside = ~self.head
        return ct.masked_fill(outside, -1.0), (2 * self.mr - 1).masked_fill(outside, -1.0)


@dataclass(frozen=True, eq=False)
class PairRenderer:
    """Renders pairs out of label maps, a batch at a time, on a device.

    Parameters
    ----------
    maps : sequence of LabelMap
        One of them is drawn for each slice.
    table : TissueTable
    settings : PairSettings
    device : torch.device
        Where the maps are put and everything is computed.

    Examples
    --------
    >>> white = TissueTable.read().index("white_matter")
    >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
    >>> head = LabelMap(cube, spacing=(3.0, 3.0, 3.0), brain=(-60.0, 60.0), name="cube")
    >>> renderer = PairRenderer([head], settings=PairSettings(cut=CutSettings(size=64)))
    >>> renderer.render(3, seed=0, contrasts="T2")
    RenderedPairs(3 of 64x64, T2, T2, T2)
    """

    maps: Sequence[LabelMap]
    table: TissueTable = field(default_factory=TissueTable.read)
    settings: PairSettings = field(default_factory=PairSettings)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if not self.maps:
            raise ValueError("no label maps to render")
        object.__setattr__(self, "maps", tuple(each.to(self.device) for each in self.maps))

    def __repr__(self) -> str:
        return f"PairRenderer({len(self.maps)} label maps, {self.device})"

    def render(
        self, count: int, seed: int, contrasts: str | Sequence[str] | None = None
    ) -> RenderedPairs:
        """Render pairs.

        Parameters
        ----------
        count : int
            How many.
        seed : int
            The same seed gives the same pairs on the same kind of device.
        contrasts : str or sequence of str, optional
            One for all slices, or one for each; drawn by default.

        Raises
        ------
        ValueError
            A contrast is not in the table, or there are not as many as slices.
        """
        settings, table = self.settings, self.table
        draw = Draw(seed, count, settings.cut.size, self.device)
        classes, sources = self._cut(draw, seed)
        classes = vary(classes, table, draw, settings.anatomy)
        classes, lesions = put_lesions(classes, table, draw, settings.lesions)
        classes = cut_off(classes, draw, settings.anatomy)
        names = _contrasts(contrasts, draw, settings.mr)
        head = _head(classes)
        ct = render_ct(classes, table, draw, settings.ct)
        typical = render_typical_ct(classes, table, settings.ct)
        mr = render_mr(classes, head, table, draw, settings.mr, names)
        head = self._shown(classes, head, draw)
        ct, typical = (hu.masked_fill(~head, -1000.0) for hu in (ct, typical))
        mr = mr.masked_fill(~head, 0.0)
        middle = mid_layer(classes)[:, None]
        return RenderedPairs(ct, typical, mr, head, middle, names, lesions, sources)

    def _cut(self, draw: Draw, seed: int) -> tuple[torch.Tensor, tuple[str, ...]]:
        """Cut slices; those with too little head again, elsewhere."""
        settings = self.settings.cut
        maps = self._drawn_maps(draw)
        classes = cut(maps, draw, settings)
        for attempt in range(1, _TRIES):
            small = (mid_layer(classes) > 0).float().mean((1, 2)) < self.settings.least_head
            if not small.any():
                break
            again = Draw((seed + attempt * 7919) % _SEEDS, draw.count, draw.size, self.device)
            others = self._drawn_maps(again)
            redone = cut(others, again, settings)
            classes = torch.where(small[:, None, None, None], redone, classes)
            pairs = zip(small.tolist(), others, maps, strict=True)
            maps = [other if redo else one for redo, other, one in pairs]
        return classes, tuple(one.name for one in maps)

    def _drawn_maps(self, draw: Draw) -> list[LabelMap]:
        return [self.maps[place] for place in draw.integers([1.0] * len(self.maps)).tolist()]

    def _shown(self, classes: torch.Tensor, head: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return the head, in some slices the brain and what lies in it alone."""
        chosen = draw.chance(self.settings.stripped)
        if not chosen.any():
            return head
        brain = solid(distance(self.table.is_any(classes, *_INTRACRANIAL).any(1), 1) <= 1)[:, None]
        enough = brain.float().mean((1, 2, 3)) > self.settings.least_head / 2
        return torch.where((chosen & enough)[:, None, None, None], brain & head, head)


def _contrasts(
    wanted: str | Sequence[str] | None, draw: Draw, settings: MRSettings
) -> tuple[str, ...]:
    drawn = draw_contrasts(draw, settings)
    if wanted is None:
        return drawn
    names = (wanted,) * draw.count if isinstance(wanted, str) else tuple(wanted)
    if len(names) != draw.count:
        raise ValueError(f"{len(names)} contrasts for {draw.count} slices")
    return names


def _head(classes: torch.Tensor) -> torch.Tensor:
    """Return where the head is, with what it encloses and a margin: bool (N, 1, H, W)."""
    tissue = (classes > 0).any(1)
    return solid(distance(tissue, _MARGIN) <= _MARGIN)[:, None]


class RandRenderPair(RandomizableTransform):
    """Render one pair out of a label map: an array transform.

    Parameters
    ----------
    settings : PairSettings, optional
    table : TissueTable, optional
    contrast : str, optional
        Of the MR; drawn by default.
    device : str
        Where to render.

    Examples
    --------
    >>> white = TissueTable.read().index("white_matter")
    >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
    >>> head = LabelMap(cube, spacing=(3.0, 3.0, 3.0), brain=(-60.0, 60.0), name="cube")
    >>> transform = RandRenderPair(PairSettings(cut=CutSettings(size=64)), contrast="T2")
    >>> pair = transform.set_random_state(seed=0)(head)
    >>> pair.ct.shape, pair.contrasts
    (torch.Size([1, 1, 64, 64]), ('T2',))
    """

    def __init__(
        self,
        settings: PairSettings | None = None,
        table: TissueTable | None = None,
        contrast: str | None = None,
        device: str = "cpu",
    ) -> None:
        RandomizableTransform.__init__(self, prob=1.0)
        self.settings, self.table = settings or PairSettings(), table or TissueTable.read()
        self.contrast, self.device = contrast, torch.device(device)
        self.seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw the pair's seed."""
        super().randomize(None)
        self.seed = int(self.R.randint(_SEEDS))

    def __call__(self, label: MetaTensor | LabelMap, randomize: bool = True) -> RenderedPairs:
        """Render a pair.

        Parameters
        ----------
        label : MetaTensor (1, X, Y, Z) or LabelMap
            Whole head, affine in RAS mm. Taking a `MetaTensor` to a `LabelMap` costs more than the
            pair itself; keep the `LabelMap` (`CacheDataset` does) where it is used again.
        randomize : bool
            Draw anew.

        Returns
        -------
        RenderedPairs
            Of one pair.
        """
        if randomize:
            self.randomize()
        one = label if isinstance(label, LabelMap) else LabelMap.of(label, self.table)
        renderer = PairRenderer([one], self.table, self.settings, self.device)
        return renderer.render(1, self.seed, self.contrast)


class RandRenderPaird(RandomizableTransform, MapTransform):
    """Render one pair out of a label map: a dictionary transform.

    Parameters
    ----------
    keys : str
        The label map: MetaTensor (1, X, Y, Z) or `LabelMap`. It is kept.
    ct_key, mr_key, head_key : str
        Where the slices (1, H, W) are put: CT in HU, MR in gray 0 to 1, the head as bool.
    settings, table, contrast, device
        As `RandRenderPair`.
    allow_missing_keys : bool

    Examples
    --------
    >>> white = TissueTable.read().index("white_matter")
    >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
    >>> head = LabelMap(cube, spacing=(3.0, 3.0, 3.0), brain=(-60.0, 60.0), name="cube")
    >>> small = PairSettings(cut=CutSettings(size=64))
    >>> transform = RandRenderPaird(settings=small).set_random_state(seed=0)
    >>> data = transform({"label": head})
    >>> data["ct"].shape, data["mr"].shape, data["head"].dtype
    (torch.Size([1, 64, 64]), torch.Size([1, 64, 64]), torch.bool)
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        ct_key: str = "ct",
        mr_key: str = "mr",
        head_key: str = "head",
        settings: PairSettings | None = None,
        table: TissueTable | None = None,
        contrast: str | None = None,
        device: str = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        if len(self.keys) != 1:
            raise ValueError("a pair is rendered from one label map: give one key")
        self.ct_key, self.mr_key, self.head_key = ct_key, mr_key, head_key
        self.renderer = RandRenderPair(settings, table, contrast, device)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandRenderPaird:
        """Set the random state of the transform and of what it renders with."""
        super().set_random_state(seed, state)
        self.renderer.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with a pair added."""
        out = dict(data)
        for key in self.key_iterator(out):
            pair = self.renderer(out[key])
            out[self.ct_key], out[self.mr_key] = pair.ct[0], pair.mr[0]
            out[self.head_key] = pair.head[0]
        return out


def render_pairs(
    labels: Path,
    output: Path,
    count: int = 24,
    seed: int = 0,
    *,
    contrast: str | None = None,
    settings: PairSettings | None = None,
    table: TissueTable | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress = lambda done, of: None,
) -> Path:
    """Render pairs into a folder, to look at.

    Parameters
    ----------
    labels : path
        A label map, a folder of them, or a file that `LabelMaps.save` wrote.
    output : path
        Folder to write: ``CT/`` and ``MR/`` with 8-bit PNG of the same names (the CT in the brain
        window, as training takes it), and ``pairs.csv`` that says what each is.
    count : int
        How many pairs.
    seed : int
    contrast : str, optional
        Of all MR; drawn by default.
    settings, table : optional
    device : str
    overwrite : bool
        Replace an existing folder.
    progress : function
        Called with the pairs done and the pairs in all.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    InputMissing, Unreadable, Unsupported
        As `LabelMaps.read`.
    OutputExists, OutputFailed
        As `medtranslate.files.whole_folder`.

    Examples
    --------
    >>> import tempfile
    >>> white = TissueTable.read().index("white_matter")
    >>> cube = torch.full((48, 48, 48), white, dtype=torch.uint8)
    >>> head = LabelMap(cube, spacing=(3.0, 3.0, 3.0), brain=(-60.0, 60.0), name="cube")
    >>> small = PairSettings(cut=CutSettings(size=64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     maps, output = Path(folder, "heads.npz"), Path(folder, "pairs")
    ...     LabelMaps((head,)).save(maps)
    ...     _ = render_pairs(maps, output, count=1, settings=small)
    ...     sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    ['CT/00000.png', 'MR/00000.png', 'pairs.csv']
    """
    table = table or TissueTable.read()
    with whole_folder(output, overwrite=overwrite) as folder:
        maps = LabelMaps.read(labels, table).maps
        chosen = settings or PairSettings()
        renderer = PairRenderer(maps, table, chosen, torch.device(device))
        for name in ("CT", "MR"):
            (folder / name).mkdir()
        with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as opened:
            rows = csv.writer(opened)
            rows.writerow(["image", "contrast", "lesions", "label map", "seed"])
            for index in range(count):
                pair = renderer.render(1, seed + index, contrast)
                name = f"{index:05d}.png"
                _write(pair, folder, name)
                known = [pair.contrasts[0], " ".join(pair.lesions[0])]
                known.append(escaped(Path(pair.sources[0]).name))
                rows.writerow([name, *known, seed + index])
                progress(index + 1, count)
    return output


def _write(pair: RenderedPairs, folder: Path, name: str) -> None:
    for modality, image in zip(("CT", "MR"), pair.network_slices(), strict=True):
        gray = ((image[0, 0].cpu() + 1) * 127.5).round().to(torch.uint8)
        Image.fromarray(gray.numpy()).save(folder / modality / name)
