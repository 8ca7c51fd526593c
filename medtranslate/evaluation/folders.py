"""An evaluation from folders and bundles: what the command line and a bundle's YAML both call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.candidate import Candidate
from medtranslate.evaluation.evaluator import Evaluator, Progress, TestData, silent
from medtranslate.evaluation.features import FeatureExtractor
from medtranslate.evaluation.frames import FrameSet, check_modality, read_frames
from medtranslate.evaluation.inception import default_cache, find_weights
from medtranslate.evaluation.protocol import PROTOCOLS, Modality
from medtranslate.evaluation.results import Evaluation


@dataclass(frozen=True)
class FolderEvaluation:
    """Bundles, evaluated on folders of pictures.

    Parameters
    ----------
    bundles : tuple of str or path
        Names or folders of MONAI bundles; one table for all.
    ct, mri : path
        Folders of 8-bit test pictures.
    ct_reference, mri_reference : path, optional
        Folders of other real pictures, such as the training sets, for floors of the same size.
    paired : bool
        Pictures of the same name show the same slice of the same head.
    protocol : {"published", "clean"}
    inception_weights : path, optional
        A file of Inception weights; found by itself where left out (`find_weights`).
    device : str
        Such as "cpu" or "cuda:0"; empty for the best there is.
    seed : int
        Of every random choice.
    cache : path, optional
        Folder for the features of real pictures and converted weights; `default_cache` where left
        out.
    trust_modality : bool
        Take the folders' modalities as given, without looking at the pictures.
    """

    bundles: tuple[str | Path, ...]
    ct: Path
    mri: Path
    ct_reference: Path | None = None
    mri_reference: Path | None = None
    paired: bool = False
    protocol: str = "published"
    inception_weights: Path | None = None
    device: str = ""
    seed: int = 2020
    cache: Path | None = None
    trust_modality: bool = False

    def evaluator(self, progress: Progress = silent) -> Evaluator:
        """Read the pictures, load the models and find the Inception weights.

        Raises
        ------
        EvaluationFailed, InputMissing, Unreadable, Unsupported, WrongModality
            The pictures, as `read_frames`, `check_modality` and `TestData` say.
        EvaluationFailed
            The protocol has another name, or no Inception weights can be had.
        ModelUnusable, DeviceUnusable
            A bundle cannot be loaded.
        """
        if self.protocol not in PROTOCOLS:
            raise EvaluationFailed(
                f"no protocol '{self.protocol}'", remedy=f"one of {', '.join(PROTOCOLS)}"
            )
        data = TestData(
            ct=self._read(self.ct, "ct"),
            mri=self._read(self.mri, "mri"),
            ct_reference=self._read(self.ct_reference, "ct") if self.ct_reference else None,
            mri_reference=self._read(self.mri_reference, "mri") if self.mri_reference else None,
            paired=self.paired,
        )
        candidates = [self._load(bundle) for bundle in self.bundles]
        cache = self.cache or default_cache()
        extractor = FeatureExtractor(
            find_weights(self.inception_weights, cache=cache), self._extractor_device(), cache
        )
        return Evaluator(
            candidates,
            data,
            extractor,
            protocol=PROTOCOLS[self.protocol],
            seed=self.seed,
            progress=progress,
        )

    def run(self, progress: Progress = silent) -> Evaluation:
        """Evaluate, and return everything found."""
        return self.evaluator(progress).run()

    def _read(self, folder: Path, modality: Modality) -> FrameSet:
        names = PROTOCOLS[self.protocol].names(folder, modality)
        pictures = read_frames(folder, modality, names)
        if not self.trust_modality:
            check_modality(pictures)
        return pictures

    def _load(self, bundle: str | Path) -> Candidate:
        from medtranslate.translation import Translator

        chosen = {"device": self.device} if self.device else {}
        return Candidate.of(Translator.load(bundle, **chosen))

    def _extractor_device(self) -> str:
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")
