"""One figure for a training run to choose its weights by."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from medtranslate.device import choose_device
from medtranslate.evaluation.distances import kid
from medtranslate.evaluation.features import FeatureExtractor
from medtranslate.evaluation.frames import Frames
from medtranslate.evaluation.inception import Weights, default_cache, find_weights


@dataclass(frozen=True)
class KidScore:
    """Scores translations by KID against real pictures; the network is loaded on first use.

    Parameters
    ----------
    weights : Weights
        Of the Inception network.
    device : str
        Where to run it; "auto" for the best there is.
    seed : int
        Of KID's subsets.
    cache : path
        Folder for the features of real pictures.
    """

    weights: Weights
    device: str = "auto"
    seed: int = 0
    cache: Path = field(default_factory=default_cache)

    @classmethod
    def find(cls, weights: str | Path | None = None, *, device: str = "auto") -> KidScore:
        """Find the Inception weights now: hours later is too late to learn that there are none.

        Raises
        ------
        EvaluationFailed
            As `find_weights`.
        """
        return cls(find_weights(Path(weights) if weights else None), device)

    def __call__(self, judged: Frames, real: Frames) -> float:
        """Return the KID of frames, uint8 (N, 256, 256), against real ones."""
        features = self._extractor.features(judged)
        return kid(features, self._extractor.kept_features(real), seed=self.seed)[0]

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.weights, str(choose_device(self.device)), self.cache)
