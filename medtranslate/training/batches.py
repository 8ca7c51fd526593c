"""Unpaired batches: which CT and which MR slices a step sees, and getting them to the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from medtranslate.errors import TrainingFailed
from medtranslate.training.prepared import PreparedSet
from medtranslate.training.randomness import generator

FEWEST = 2
_SHARE = 0.25  # of the device's free memory that slices may take


@dataclass(frozen=True)
class Order:
    """In which order the slices of one set are seen: reshuffled each time all have been.

    A function of the seed and the place alone, so a run can go on from any step.

    Parameters
    ----------
    count : int
        Slices in the set.
    seed : int
    name : str
        Keeps the two modalities' orders independent, so that pairs are never the same twice.
    """

    count: int
    seed: int
    name: str
    _shuffled: dict[int, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def places(self, start: int, count: int) -> torch.Tensor:
        """Return the slices seen from the place `start` on: int64 (count,)."""
        return torch.stack(
            [self._pass(at // self.count)[at % self.count] for at in range(start, start + count)]
        )

    def _pass(self, number: int) -> torch.Tensor:
        if number not in self._shuffled:
            draws = generator(self.seed, f"order of {self.name}", number)
            self._shuffled.clear()
            self._shuffled[number] = torch.randperm(self.count, generator=draws)
        return self._shuffled[number]


@dataclass
class UnpairedBatches:
    """Endless batches of slices from both sets, on the device, starting at any step.

    Iterating gives ``{"ct": uint8 (B, 256, 256), "mri": uint8 (B, 256, 256)}``, and ``"mri
    contrast"``: int64 (B,) where the MR slices have codes; `len` is the number of steps an epoch.

    Parameters
    ----------
    ct, mri : PreparedSet
    batch_size : int
        Pairs a step and process.
    seed : int
    device : device
        Slices are kept there if they fit into a quarter of its free memory.
    steps_per_epoch : int
        0 means once through the larger set.
    rank, processes : int
        This process sees its share of every step's batch.
    step : int
        Steps taken already.
    """

    ct: PreparedSet
    mri: PreparedSet
    batch_size: int
    seed: int
    device: torch.device
    steps_per_epoch: int = 0
    rank: int = 0
    processes: int = 1
    step: int = 0

    def __post_init__(self) -> None:
        for prepared in (self.ct, self.mri):
            if len(prepared) < FEWEST:
                raise TrainingFailed(
                    f"{len(prepared)} {prepared.modality} slice(s): {FEWEST} are the fewest, "
                    "and hundreds are needed to learn from"
                )
        self._slices = {
            "ct": kept_on(self.ct.slices, self.device),
            "mri": kept_on(self.mri.slices, self.device),
        }
        self._orders = {
            name: Order(len(slices), self.seed, name) for name, slices in self._slices.items()
        }

    def __len__(self) -> int:
        together = self.batch_size * self.processes
        return self.steps_per_epoch or -(-max(len(self.ct), len(self.mri)) // together)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        step = self.step
        while True:
            batch = {name: self._take(name, step) for name in self._slices}
            if self.mri.codes is not None:
                batch["mri contrast"] = self.mri.codes[self._places("mri", step)].to(self.device)
            yield batch
            step += 1

    def _places(self, name: str, step: int) -> torch.Tensor:
        start = (step * self.processes + self.rank) * self.batch_size
        return self._orders[name].places(start, self.batch_size)

    def _take(self, name: str, step: int) -> torch.Tensor:
        slices, places = self._slices[name], self._places(name, step)
        if slices.device == self.device:
            return slices[places.to(self.device, non_blocking=True)]
        return slices[places].pin_memory().to(self.device, non_blocking=True)


def kept_on(slices: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the slices on the device where they fit well, else where they are."""
    if device.type != "cuda":
        return slices.to(device)
    free, _ = torch.cuda.mem_get_info(device)
    return slices.to(device) if slices.numel() <= _SHARE * free else slices
