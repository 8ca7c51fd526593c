"""Sample grids, and validation: held-out slices through the averaged generators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from medtranslate.device import autocast
from medtranslate.files import whole_file
from medtranslate.networks import contrasts_of
from medtranslate.training.objective import translated
from medtranslate.training.prepared import PreparedSet, from_gray
from medtranslate.training.randomness import generator

ROWS = 4


@dataclass(frozen=True)
class SampleGrid:
    """A fixed choice of slices, drawn by seed.

    Parameters
    ----------
    ct, mri : uint8 tensor (n, 256, 256)
    precision : {"float32", "bf16"}
    contrasts : int
        Contrast codes of the run: the rows' synthetic MRI have one after the other. An MRI is
        reconstructed by the unconditional path.
    window_share : float
        Of what the generator of CT makes (`Settings.window_share`).
    """

    ct: torch.Tensor
    mri: torch.Tensor
    precision: str = "float32"
    contrasts: int = 0
    window_share: float = 1.0

    @classmethod
    def choose(
        cls,
        ct: PreparedSet,
        mri: PreparedSet,
        seed: int,
        precision: str,
        contrasts: int = 0,
        window_share: float = 1.0,
    ) -> SampleGrid:
        """Draw a few slices of each set."""
        chosen = []
        for prepared in (ct, mri):
            draws = generator(seed, f"grid of {prepared.modality}")
            places = torch.randperm(len(prepared), generator=draws)[:ROWS]
            chosen.append(prepared.slices[places])
        return cls(chosen[0], chosen[1], precision, contrasts, window_share)

    @torch.inference_mode()
    def grid(self, generators: nn.ModuleDict, device: torch.device) -> np.ndarray:
        """Return uint8 (H, W): a row has CT, MRI from it, CT again; MRI, CT from it, MRI again."""
        code = None
        if self.contrasts:
            code = torch.arange(len(self.ct), device=device) % self.contrasts + 1
        left = self._cycle(self.ct, generators, "mri", device, code)
        right = self._cycle(self.mri, generators, "ct", device)
        columns = [np.concatenate(list(images)) for images in (*left, *right)]
        fewest = min(map(len, columns))
        return np.concatenate([column[:fewest] for column in columns], axis=1)

    def save(self, path: Path, generators: nn.ModuleDict, device: torch.device) -> np.ndarray:
        """Write the grid as a PNG and return it."""
        grid = self.grid(generators, device)
        with whole_file(path, overwrite=True) as temporary:
            Image.fromarray(grid).save(temporary)
        return grid

    def _cycle(
        self,
        gray: torch.Tensor,
        generators: nn.ModuleDict,
        made: str,
        device: torch.device,
        code: torch.Tensor | None = None,
    ) -> list[np.ndarray]:
        image, head = from_gray(gray.to(device))
        shares = {"mri": 1.0, "ct": self.window_share}
        back = "ct" if made == "mri" else "mri"
        with autocast(self.precision, device):
            there = translated(generators[made], image, code, head, shares[made])
            again = translated(generators[back], there, None, head, shares[back])
        return [shown(each) for each in (image, there, again)]


def shown(image: torch.Tensor) -> np.ndarray:
    """Return (B, 1, H, W) in [-1, 1] as gray 0 to 255, uint8 (B, H, W)."""
    gray = ((image[:, 0].float() + 1) * 127.5).round().clamp(0, 255)
    return gray.to(torch.uint8).cpu().numpy()


Score = Callable[[np.ndarray, np.ndarray], float]
"""Takes judged and real slices, each uint8 (N, 256, 256); lower is better (KID)."""

_BATCH = 8


@dataclass(frozen=True)
class Validation:
    """How good both directions are on slices that are not trained on.

    Parameters
    ----------
    ct, mri : PreparedSet
        Held out of training.
    score : callable
        See `Score`.
    precision : {"float32", "bf16"}
    window_share : float
        Of what the generator of CT makes (`Settings.window_share`).
    """

    ct: PreparedSet
    mri: PreparedSet
    score: Score
    precision: str = "float32"
    window_share: float = 1.0

    def measure(self, generators: nn.ModuleDict, device: torch.device) -> dict[str, float]:
        """Return the scores by the modality made, and their mean under ``"mean"``."""
        scores = {}
        # MRI are made in the contrasts that the real ones have, in turn.
        known = self.mri.codes
        codes = None if known is None else known[torch.arange(len(self.ct)) % len(known)]
        told = known if contrasts_of(generators["ct"]) else None
        for made, source, real, asked in (
            ("mri", self.ct, self.mri, codes),
            ("ct", self.mri, self.ct, told),
        ):
            share = self.window_share if made == "ct" else 1.0
            judged = self._translated(generators[made], source, device, asked, share)
            scores[made] = self.score(judged, shown(from_gray(real.slices)[0]))
        return {**scores, "mean": (scores["mri"] + scores["ct"]) / 2}

    @torch.inference_mode()
    def _translated(
        self,
        generator: nn.Module,
        source: PreparedSet,
        device: torch.device,
        codes: torch.Tensor | None,
        share: float,
    ) -> np.ndarray:
        made = []
        for start in range(0, len(source), _BATCH):
            image, head = from_gray(source.slices[start : start + _BATCH].to(device))
            code = None if codes is None else codes[start : start + _BATCH].to(device)
            with autocast(self.precision, device):
                made.append(shown(translated(generator, image, code, head, share)))
        return np.concatenate(made)
