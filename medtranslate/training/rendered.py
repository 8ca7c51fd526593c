"""Pairs rendered from label maps while a run trains: no pair is ever seen twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from medtranslate.errors import TrainingFailed
from medtranslate.label_synthesis import LabelMaps, MRSettings, PairRenderer, PairSettings
from medtranslate.label_synthesis.lesions import TISSUES as LESION_TISSUES
from medtranslate.label_synthesis.pairs import RenderedPairs
from medtranslate.label_synthesis.render import FLUIDS
from medtranslate.label_synthesis.tissues import RANDOM
from medtranslate.training.contrasts import contrast_codes
from medtranslate.training.pairs import Pairs
from medtranslate.training.prepared import PreparedSet, ScanRecord, to_gray
from medtranslate.training.randomness import generator
from medtranslate.training.settings import Settings
from medtranslate.transforms import CompressHU
from medtranslate.transforms.grain import ct_grain

_SEEDS = 2**31 - 1
_SHOWN = 4
_GRAIN = "grain 2"  # a resumed run has the grain that it began with
_SOFT = 200.0  # HU, both ways: where grain is added


@dataclass(frozen=True, eq=False)
class RenderedSource:
    """A `PairSource` that renders label maps, a block of pairs at a time.

    Pair n belongs to block n // size, and a block is a function of the seed and its number: a
    resumed run has the same pairs, on the same kind of device.

    Parameters
    ----------
    maps : LabelMaps
    settings : Settings
        `seed`, `rendered_*`, `fluid_weight`, `lesion_weight` and `ct_range`.
    device : torch.device
        Where pairs are rendered and given.

    Raises
    ------
    TrainingFailed
        `rendered_contrasts` names a contrast that the table does not have.
    """

    maps: LabelMaps
    settings: Settings
    device: torch.device
    _renderer: PairRenderer = field(init=False, repr=False)
    _block: dict[int, Pairs] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        chosen = PairSettings(mr=mr_settings(self.settings, self.maps.table.contrasts))
        renderer = PairRenderer(self.maps.maps, self.maps.table, chosen, self.device)
        object.__setattr__(self, "_renderer", renderer)

    def pairs(self, first: int, count: int) -> Pairs:
        """Return pairs number `first` and so on, on the device."""
        size, parts = self.settings.rendered_block_size, []
        while count > 0:
            block, start = divmod(first, size)
            taken = min(count, size - start)
            parts.append(_each(lambda t, a=start, b=taken: t[a : a + b], self._of(block)))
            first, count = first + taken, count - taken
        return parts[0] if len(parts) == 1 else _each(lambda *t: torch.cat(t), *parts)

    def digest(self) -> str:
        """Identify the sequence, for one seed."""
        return hashlib.sha256(
            f"{self.maps.digest()} {self._renderer.settings} {_GRAIN}".encode()
        ).hexdigest()

    def _of(self, block: int) -> Pairs:
        if block not in self._block:
            self._block.clear()
            self._block[block] = self._render(block)
        return self._block[block]

    def _render(self, block: int) -> Pairs:
        seed = int(torch.randint(_SEEDS, (), generator=self._draws("render", block)))
        made = self._renderer.render(self.settings.rendered_block_size, seed)
        ct, mri = replace(made, ct=made.typical_ct).network_slices()
        noisy = replace(made, ct=self._with_grain(made.ct, block)).network_slices()[0]
        fluid = self.maps.table.is_any(made.classes, *FLUIDS)
        lesion = self.maps.table.is_any(made.classes, *LESION_TISSUES)
        weight = torch.where(fluid, self.settings.fluid_weight, 1.0)
        weight = torch.where(lesion, weight.clamp(min=self.settings.lesion_weight), weight)
        code = self._codes(made)
        follows = torch.tensor([name != RANDOM for name in made.contrasts], device=self.device)
        if self.settings.contrasts:
            follows = code > 0
        whole = None
        if self.settings.ct_range == "full":
            whole = CompressHU().to_unit(made.typical_ct).masked_fill(~made.head, -1.0)
        return Pairs(ct, mri, made.head, code, noisy, weight, follows, whole)

    def _codes(self, made: RenderedPairs) -> torch.Tensor:
        codes = contrast_codes(self.settings.contrasts)
        known = [codes.get(name.lower(), 0) for name in made.contrasts]
        return torch.tensor(known, device=self.device)

    def _with_grain(self, hu: torch.Tensor, block: int) -> torch.Tensor:
        """Add noise to soft tissue (N, 1, H, W), of another strength in each slice."""
        share = torch.rand(len(hu), 1, 1, 1, generator=self._draws("strength of grain", block))
        draws = self._draws("grain", block, self.device)
        noise = ct_grain(hu, draws)
        grain = self.settings.rendered_ct_grain * share.to(self.device) * noise
        return torch.where(hu.abs() < _SOFT, hu + grain, hu)

    def _draws(
        self, purpose: str, block: int, device: str | torch.device = "cpu"
    ) -> torch.Generator:
        return generator(self.settings.seed, purpose, block, device=device)


def mr_settings(settings: Settings, contrasts: tuple[str, ...]) -> MRSettings:
    """Return how MR is rendered: each of the table's contrasts as often as the settings say.

    Raises
    ------
    TrainingFailed
        They name a contrast that the table does not have, or none at all.
    """
    wanted = settings.rendered_contrasts
    if not wanted:
        return MRSettings()
    known = {name.lower(): name for name in (*contrasts, RANDOM)}
    unknown = sorted(set(wanted) - set(known))
    if unknown or not sum(wanted.values()):
        fault = f"no contrast {unknown[0]!r}" if unknown else "all weights are 0"
        raise TrainingFailed(f"rendered_contrasts: {fault}", remedy=", ".join(known))
    return MRSettings(weights=tuple((known[name], share) for name, share in wanted.items()))


def shown_slices(
    source: RenderedSource, recipes: tuple[dict[str, str], dict[str, str]]
) -> tuple[PreparedSet, PreparedSet]:
    """Render a few pairs as the slices that a run without scans shows in its sample grids.

    Parameters
    ----------
    source : RenderedSource
    recipes : (dict, dict)
        Of CT and of MR, which the run's bundle gets.

    Returns
    -------
    (PreparedSet, PreparedSet)
        CT and MR.
    """
    pairs = source.pairs(0, _SHOWN)
    records = tuple(
        ScanRecord(f"rendered/{number}", source.digest(), 1, 0) for number in range(_SHOWN)
    )
    scans = torch.arange(_SHOWN, dtype=torch.int32)
    ct, mri = (
        PreparedSet(modality, to_gray(image, pairs.head[:, 0]).cpu(), scans, records, (), texts)
        for modality, image, texts in zip(("CT", "MR"), (pairs.ct, pairs.mri), recipes, strict=True)
    )
    return ct, mri


def _each(change: Callable[..., torch.Tensor], *pairs: Pairs) -> Pairs:
    """Apply a function to every tensor of pairs."""
    changed: dict[str, Any] = {}
    for one in fields(Pairs):
        tensors = [getattr(each, one.name) for each in pairs]
        changed[one.name] = None if tensors[0] is None else change(*tensors)
    return Pairs(**changed)
