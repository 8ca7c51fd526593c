"""The translation as MONAI transforms: the other modality as augmentation (the paper's use)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform, Transform

from medtranslate.translation.translator import Translator


class TranslateModality(Transform):
    """Translate an image; for any MONAI ``Compose``.

    Parameters
    ----------
    to : str
        ``"mri"`` or ``"ct"``.
    translator : Translator, optional
        The model; without one, the shipped model is loaded at the first call.
    modality : str
        ``"CT"`` or ``"MR"`` settles what the images are.
    check : bool
        Run the domain check.
    force : bool
        Translate what the domain check refuses.
    contrast : str
        Of the MRI, made or given, such as ``"flair"``; by default the translator's.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> ct = Phantom(shape=(64, 64, 2), spacing=(3.0, 3.0, 20.0)).volume()
    >>> mri = TranslateModality("mri")(ct)
    >>> mri.meta["synthesis"]["modality"], mri.meta["quality"]["domain"]["verdict"]
    ('MR', 'passed')
    """

    def __init__(
        self,
        to: str,
        translator: Translator | None = None,
        modality: str = "",
        check: bool = True,
        force: bool = False,
        contrast: str = "",
    ) -> None:
        self.to, self.modality, self.contrast = to, modality, contrast
        self.check, self.force = check, force
        self._translator = translator

    @property
    def translator(self) -> Translator:
        """The model, loaded when first asked for, so that workers build their own."""
        if self._translator is None:
            self._translator = Translator.load()
        return self._translator

    def __call__(self, img: MetaTensor) -> MetaTensor:
        """Return the translated image, of the same shape and affine, on the same device.

        Parameters
        ----------
        img : MetaTensor (1, X, Y, Z)
            In physical units, affine in RAS mm.

        Raises
        ------
        WrongModality, OutOfDomain, Unsupported
            As `Translator.translate`.
        """
        translated = self.translator.translate(
            img,
            to=self.to,
            modality=self.modality,
            check=self.check,
            force=self.force,
            contrast=self.contrast,
        )
        moved: MetaTensor = translated.to(img.device)  # type: ignore[assignment]
        return moved


class TranslateModalityd(MapTransform):
    """Translate images of a dictionary; for any MONAI ``Compose``.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to translate: MetaTensors (1, X, Y, Z) in physical units, affine in RAS mm.
    to, translator, modality, check, force, contrast
        As `TranslateModality`.
    allow_missing_keys : bool
        Skip entries that are missing.

    Examples
    --------
    >>> TranslateModalityd(keys="image", to="mri").keys
    ('image',)
    """

    def __init__(
        self,
        keys: KeysCollection,
        to: str,
        translator: Translator | None = None,
        modality: str = "",
        allow_missing_keys: bool = False,
        check: bool = True,
        force: bool = False,
        contrast: str = "",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = TranslateModality(to, translator, modality, check, force, contrast)

    @property
    def translator(self) -> Translator:
        """The model, loaded when first asked for."""
        return self.transform.translator

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with translated images; same shape and affine.

        Raises
        ------
        WrongModality, OutOfDomain, Unsupported
            As `Translator.translate`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out


class RandTranslateModalityd(RandomizableTransform, TranslateModalityd):
    """Translate with a probability: all keys of a call, or none.

    Parameters
    ----------
    keys, to, translator, modality, allow_missing_keys, check, force, contrast
        As `TranslateModalityd`.
    prob : float
        In [0, 1].

    Examples
    --------
    >>> RandTranslateModalityd(keys="image", to="mri", prob=0.3).prob
    0.3
    """

    def __init__(
        self,
        keys: KeysCollection,
        to: str,
        prob: float = 0.5,
        translator: Translator | None = None,
        modality: str = "",
        allow_missing_keys: bool = False,
        check: bool = True,
        force: bool = False,
        contrast: str = "",
    ) -> None:
        TranslateModalityd.__init__(
            self, keys, to, translator, modality, allow_missing_keys, check, force, contrast
        )
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary, with or without its images translated."""
        self.randomize(None)
        return TranslateModalityd.__call__(self, data) if self._do_transform else dict(data)
