"""The translation as MONAI transforms: the other modality as augmentation (the paper's use)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from medtranslate.translation.translator import Translator


class TranslateModalityd(MapTransform):
    """Translate images of a dictionary; for any MONAI ``Compose``.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to translate: MetaTensors (1, X, Y, Z) in physical units, affine in RAS mm.
    to : str
        ``"mri"`` or ``"ct"``.
    translator : Translator, optional
        The model; without one, the shipped model is loaded at the first call.
    modality : str
        ``"CT"`` or ``"MR"`` settles what the images are.
    allow_missing_keys : bool
        Pass over entries that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        to: str,
        translator: Translator | None = None,
        modality: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to, self.modality = to, modality
        self._translator = translator

    @property
    def translator(self) -> Translator:
        """The model, loaded when first asked for, so that workers build their own."""
        if self._translator is None:
            self._translator = Translator.load()
        return self._translator

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with translated images; same shape and affine.

        Raises
        ------
        WrongModality, OutOfDomain, Unsupported
            As `Translator.translate`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            image: MetaTensor = out[key]
            translated = self.translator.translate(image, to=self.to, modality=self.modality)
            out[key] = translated.to(image.device)
        return out


class RandTranslateModalityd(RandomizableTransform, TranslateModalityd):
    """Translate with a probability: all keys of a call, or none.

    Parameters
    ----------
    keys, to, translator, modality, allow_missing_keys
        As `TranslateModalityd`.
    prob : float
        In [0, 1].
    """

    def __init__(
        self,
        keys: KeysCollection,
        to: str,
        prob: float = 0.5,
        translator: Translator | None = None,
        modality: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        TranslateModalityd.__init__(self, keys, to, translator, modality, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary, with or without its images translated."""
        self.randomize(None)
        return TranslateModalityd.__call__(self, data) if self._do_transform else dict(data)
