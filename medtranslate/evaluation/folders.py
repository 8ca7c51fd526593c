"""An evaluation from folders and bundles: what the command line and a bundle's YAML both call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from medtranslate.device import choose_device
from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.evaluated_model import Candidate
from medtranslate.evaluation.evaluator import Evaluator, Progress, silent
from medtranslate.evaluation.features import FeatureExtractor
from medtranslate.evaluation.inception import find_weights
from medtranslate.evaluation.protocol import MODALITIES, PROTOCOLS
from medtranslate.evaluation.results import Evaluation, RealData
from medtranslate.evaluation.scans import Sizing, kind_of, sizing_of
from medtranslate.evaluation.slices import SliceSet, check_modality
from medtranslate.files import cache_folder
from medtranslate.modality import Target, check_grain
from medtranslate.translation import Translator


@dataclass(frozen=True)
class FolderEvaluation:
    """Bundles, evaluated on folders of images.

    Parameters
    ----------
    bundles : sequence of str or path
        Folders of MONAI bundles; one table for all.
    ct, mri : path
        Folders of test images, or of volumes.
    ct_reference, mri_reference : path, optional
        Folders of other real images, such as the training sets, for floors of the same size.
    paired : bool
        Images of the same name show the same slice of the same head.
    protocol : {"published", "clean"}
    include : sequence of path
        Lists of the files to take from the test folders; all that the protocol takes where empty.
    lesions : int
        Slices that each kind of lesion is put into, a direction; 0 leaves the lesion test out.
    contrast : str
        Of all MRI, such as ``"t1"``, for models with a choice. By default each MRI is given as what
        the model's classifier tells, and those that are made have the contrasts of the real ones.
        A model without a choice is refused then.
    grain : float
        Standard deviation in HU of noise to add to synthetic CT before FID and KID are measured, as
        ``convert --grain`` does; all else is measured without.
    inception_weights : path, optional
        A file of Inception weights; found by itself where left out (`find_weights`).
    device : str
        Such as "cpu" or "cuda:0"; "auto" for the best there is.
    seed : int
        Of every random choice.
    cache : path, optional
        Folder for the features of real images and converted weights; `cache_folder` where left
        out.
    trust_modality : bool
        Take the folders' modalities and units as given, without looking at the images.
    """

    bundles: Sequence[str | Path]
    ct: str | Path
    mri: str | Path
    ct_reference: str | Path | None = None
    mri_reference: str | Path | None = None
    paired: bool = False
    protocol: str = "published"
    include: Sequence[str | Path] = ()
    lesions: int = 0
    contrast: str = ""
    grain: float = 0.0
    inception_weights: str | Path | None = None
    device: str = "auto"
    seed: int = 2020
    cache: str | Path | None = None
    trust_modality: bool = False

    def evaluator(self, progress: Progress = silent) -> Evaluator:
        """Read the images, load the models and find the Inception weights.

        Raises
        ------
        EvaluationFailed, InputMissing, Unreadable, Unsupported, WrongModality
            The images, as `read_slices`, `check_modality` and `RealData` say.
        EvaluationFailed
            The protocol has another name, or no Inception weights can be had.
        ModelUnusable, DeviceUnusable
            A bundle cannot be loaded.
        InvalidOption
            A model does not make an MRI of this contrast, or no CT has such grain.
        """
        check_grain(self.grain)
        if self.protocol not in PROTOCOLS:
            raise EvaluationFailed(
                f"no protocol '{self.protocol}'", remedy=f"one of {', '.join(PROTOCOLS)}"
            )
        translators = [
            Translator.load(bundle, device=self.device, contrast=self.contrast)
            for bundle in self.bundles
        ]
        sizing = sizing_of(
            replace(PROTOCOLS[self.protocol], include=tuple(Path(each) for each in self.include)),
            [translator.bundle for translator in translators],
            kind=self._kind(),
            trusted=self.trust_modality,
        )
        data = self._data(sizing)
        cache = Path(self.cache) if self.cache else cache_folder()
        given = Path(self.inception_weights) if self.inception_weights else None
        weights = find_weights(given, cache=cache)
        return Evaluator(
            _candidates(translators),
            data,
            FeatureExtractor(weights, str(choose_device(self.device)), cache),
            protocol=sizing.named(),
            seed=self.seed,
            lesions=self.lesions,
            grain=self.grain,
            progress=progress,
        )

    def run(self, progress: Progress = silent) -> Evaluation:
        """Evaluate, and return everything found."""
        start = perf_counter()
        evaluator = self.evaluator(progress)
        before = {"reading and loading": perf_counter() - start}
        found = evaluator.run()
        return replace(found, seconds={**before, **found.seconds})

    def _kind(self) -> str:
        """Return what the folders hold, without looking at voxels."""
        protocol = PROTOCOLS[self.protocol]
        protocol = replace(protocol, include=tuple(Path(each) for each in self.include))
        folders: dict[Path, Sequence[str] | None] = {}
        for modality in MODALITIES:
            folder = Path(self.ct if modality == "ct" else self.mri)
            folders[folder] = protocol.test_names(folder, modality)
            reference = self.ct_reference if modality == "ct" else self.mri_reference
            if reference is not None:
                folders[Path(reference)] = protocol.names(Path(reference), modality)
        return kind_of(folders)

    def _data(self, sizing: Sizing) -> RealData:
        protocol, ct_folder, mri_folder = sizing.named(), Path(self.ct), Path(self.mri)
        names = protocol.test_names(ct_folder, "ct"), protocol.test_names(mri_folder, "mri")
        if self.paired:
            ct, mri = sizing.read_pairs(ct_folder, mri_folder, *names)
        else:
            ct = sizing.read(ct_folder, "ct", names[0])
            mri = sizing.read(mri_folder, "mri", names[1])
        references = {
            f"{modality}_reference": self._reference(sizing, modality) for modality in MODALITIES
        }
        data = RealData(ct, mri, **references, paired=self.paired)
        if not self.trust_modality:
            for images in (ct, mri, *references.values()):
                if images is not None:
                    check_modality(images)
        return data

    def _reference(self, sizing: Sizing, modality: Target) -> SliceSet | None:
        given = self.ct_reference if modality == "ct" else self.mri_reference
        if given is None:
            return None
        folder = Path(given)
        return sizing.read(folder, modality, sizing.named().names(folder, modality))


def _candidates(translators: Sequence[Translator]) -> list[Candidate]:
    """Return the models, with their folders' names where their own do not tell them apart."""
    candidates = [Candidate.of(translator) for translator in translators]
    if len({(each.name, each.version) for each in candidates}) == len(candidates):
        return candidates
    return [
        replace(candidate, name=f"{candidate.name} ({translator.bundle.folder.name})")
        for candidate, translator in zip(candidates, translators, strict=True)
    ]
