"""Inception features of slices; those of real sets are kept on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save

from medtranslate.device import choose_device
from medtranslate.errors import OutputFailed
from medtranslate.evaluation.distances import kid
from medtranslate.evaluation.inception import FEATURES, Weights, find_weights
from medtranslate.evaluation.slices import GrayArray, content_digest
from medtranslate.files import cache_folder, whole_file

BATCH = 32


@dataclass(frozen=True)
class FeatureExtractor:
    """Turns slices into the 2048 features, once for each distinct set of real slices.

    Parameters
    ----------
    weights : Weights
        Checked Inception weights.
    device : str
        Where to run; features differ between devices by rounding only.
    cache : path, optional
        Folder for the features of real sets; `cache_folder` where left out.
    """

    weights: Weights
    device: str = "cpu"
    cache: Path = field(default_factory=cache_folder)
    _network: torch.nn.Module = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        network = self.weights.extractor().to(self.device)
        # More than twice as fast on CPUs, and the same to seven digits.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        object.__setattr__(self, "_network", network)

    def features(
        self, slices: GrayArray, *, done: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """Return the features of gray slices, three equal channels each.

        Parameters
        ----------
        slices : uint8 array (N, H, W) or (N, 3, H, W)
        done : callable, optional
            Called after each batch with the number of slices done.

        Returns
        -------
        float32 tensor (N, 2048), on the CPU
        """
        found = []
        with torch.inference_mode():
            for start in range(0, len(slices), BATCH):
                batch = torch.from_numpy(np.array(slices[start : start + BATCH]))
                if batch.dim() == 3:
                    batch = batch.unsqueeze(1).expand(-1, 3, -1, -1)
                found.append(self._network(batch.to(self.device))[0].float().cpu())
                if done is not None:
                    done(len(batch))
        return torch.cat(found) if found else torch.zeros(0, FEATURES)

    def kept_features(
        self, slices: GrayArray, *, done: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """Return the features of slices, from the cache where these very slices were seen before.

        The key is what the slices and the network's weights hold, so nothing can go stale. A cache
        that cannot be written costs time and no figure, so it is no error.
        """
        kept = self.cache / "features" / f"{self._key(slices)}.safetensors"
        if kept.is_file():
            try:
                features = load_file(kept)["features"]
            except Exception:  # a damaged file is as good as none: it is made again
                features = torch.zeros(0, FEATURES)
            if features.shape == (len(slices), FEATURES):
                if done is not None:
                    done(len(slices))
                return features
        features = self.features(slices, done=done)
        _keep(features, kept)
        return features

    def _key(self, slices: GrayArray) -> str:
        return f"{content_digest(slices)[:32]}-{self.weights.digest[:16]}"


def _keep(features: torch.Tensor, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, overwrite=True) as partial:
            partial.write_bytes(save({"features": features.contiguous()}))
    except (OSError, OutputFailed) as error:
        warnings.warn(f"features are not kept for the next evaluation: {error}", stacklevel=2)


@dataclass(frozen=True)
class KidScore:
    """Scores translations by KID against real images; the network is loaded on first use.

    Parameters
    ----------
    weights : Weights
        Of the Inception network.
    device : str
        Where to run it; "auto" for the best there is.
    seed : int
        Of KID's subsets.
    cache : path
        Folder for the features of real images.
    """

    weights: Weights
    device: str = "auto"
    seed: int = 0
    cache: Path = field(default_factory=cache_folder)

    @classmethod
    def find(cls, weights: str | Path | None = None, *, device: str = "auto") -> KidScore:
        """Find the Inception weights now: hours later is too late to learn that there are none.

        Raises
        ------
        EvaluationFailed
            As `find_weights`.
        """
        return cls(find_weights(Path(weights) if weights else None), device)

    def __call__(self, judged: GrayArray, real: GrayArray) -> float:
        """Return the KID of slices, uint8 (N, 256, 256), against real ones."""
        features = self._extractor.features(judged)
        return kid(features, self._extractor.kept_features(real), seed=self.seed)[0]

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.weights, str(choose_device(self.device)), self.cache)
