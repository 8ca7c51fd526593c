"""What a bundle's YAML files need beside MONAI's own parts.

A scan goes ``LoadImaged -> recipe -> ContrastInferer -> Invertd -> units -> SaveImaged``. Here are
the checks around them, the inferer, the label of a synthetic image, and the scans at a path.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import MapTransform

from medtranslate.errors import OutOfDomain, Unreadable, Unsupported
from medtranslate.files import check_present
from medtranslate.imaging import write
from medtranslate.imaging.base import ScanWriter
from medtranslate.imaging.scans import find_scans
from medtranslate.imaging.source import SourceRecord, first_file
from medtranslate.modality import Modality
from medtranslate.transforms import Prepared, Recipe
from medtranslate.transforms.base import head_of
from medtranslate.translation.translator import Translator, source_of


class Recipes(NamedTuple):
    """The two recipes of a conversion.

    Parameters
    ----------
    source : Recipe
        Prepares the scan; its geometry is undone.
    target : Recipe
        Its units are applied.
    """

    source: Recipe
    target: Recipe


def recipes(translator: Translator, to: str, kind: str = "") -> Recipes:
    """Return the recipes of a direction.

    Parameters
    ----------
    translator : Translator
        The model, with its recipes.
    to : str
        ``"mri"`` or ``"ct"``.
    kind : str
        ``"volume"`` or ``"image"``; ``""`` for volumes, or 2D images where the model takes only
        these.

    Raises
    ------
    ModelUnusable
        The model has no such recipe.
    """
    target, bundle = Modality.parse(to, "to"), translator.bundle
    if not kind:
        kind = "volume" if f"{target.other}-volume" in bundle.recipes else "image"
    return Recipes(bundle.recipe(target.other, kind), bundle.recipe(target, kind))


class CheckScand(MapTransform):
    """Refuse scans that cannot be translated, before anything is done to them.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to check: MetaTensors (1, X, Y, Z) in physical units, as `LoadImaged` gave them.
    translator : Translator
        The model.
    to : str
        ``"mri"`` or ``"ct"``.
    modality : str
        ``"CT"`` or ``"MR"`` settles what the scans are; ``""`` where they say so themselves.
    allow_missing_keys : bool
        Pass over entries that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        translator: Translator,
        to: str,
        modality: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.translator, self.to, self.modality = translator, to, modality

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary; ``meta["source"]`` says what the scans are.

        Raises
        ------
        WrongModality, Unsupported, ModelUnusable
            As `Translator.translate`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            scan = out[key]
            if scan.ndim != 4 or len(scan) != 1:
                raise Unsupported(f"shape {list(scan.shape)} is no single scan (1, X, Y, Z)")
            source = source_of(scan, self.modality)
            self.translator.check(scan, source, self.to)
            out[key] = MetaTensor(scan.as_tensor()).copy_meta_from(scan)
            out[key].meta["source"] = SourceRecord.of(source)
        return out


class CheckHeadd(MapTransform):
    """Refuse prepared scans that show no head."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary.

        Raises
        ------
        OutOfDomain
            ``meta["head"]`` is empty.
        """
        for key in self.key_iterator(dict(data)):
            head = head_of(data[key])
            if head is not None and not head.any():
                path = first_file(data[key].meta["source"])
                raise OutOfDomain("there is no head in it", path=path)
        return dict(data)


class TellContrastd(MapTransform):
    """Tell the contrast of prepared MRI, and keep it in ``meta["source"]["told_contrast"]``.

    Parameters
    ----------
    keys : str or sequence of str
        Prepared scans (1, rows, columns, slices), with their ``meta["source"]``.
    translator : Translator
        The model; ``""`` is kept where it tells no contrast, and for CT.
    allow_missing_keys : bool
        Pass over entries that are not there.
    """

    def __init__(
        self, keys: KeysCollection, translator: Translator, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.translator = translator

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = MetaTensor(out[key].as_tensor()).copy_meta_from(out[key])
            source = image.meta["source"]
            chosen = self.translator.for_scan(Prepared.of(image), source)
            image.meta["source"] = SourceRecord.of({**source, "told_contrast": chosen.contrast})
            out[key] = image
        return out


class ContrastInferer(SliceInferer):
    """MONAI's inferer of slices, by the generator for the contrast that `TellContrastd` told.

    Parameters
    ----------
    translator : Translator
        The model.
    to : str
        ``"mri"`` or ``"ct"``.
    **arguments
        Of `monai.inferers.SliceInferer`.
    """

    def __init__(self, translator: Translator, to: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.translator, self.to = translator, to

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Translate one scan (1, 1, rows, columns, slices)."""
        contrast = _contrast(inputs)
        if contrast:
            network = self.translator.for_contrast(contrast).networks[self.to]
        made = super().__call__(inputs, network, *args, **kwargs)
        assert isinstance(made, torch.Tensor)  # as the generators here give
        # As a conversion keeps it, which rounds results of bfloat16: the same voxels come out.
        return made.to(self.translator.device.kept).to(made.dtype)


def _contrast(inputs: torch.Tensor) -> str:
    """Return the contrast of the scan that a batch of one holds."""
    said = inputs.meta.get("source", "") if isinstance(inputs, MetaTensor) else ""
    source = said[0] if isinstance(said, list) else said
    return str(source.get("told_contrast", "")) if isinstance(source, SourceRecord) else ""


class LabelSynthesisd(MapTransform):
    """Say in ``meta["synthesis"]`` that images are synthetic, and by which model.

    Parameters
    ----------
    keys : str or sequence of str
        Translated images, with the ``meta["source"]`` of their scans.
    translator : Translator
        The model.
    to : str
        ``"mri"`` or ``"ct"``.
    allow_missing_keys : bool
        Pass over entries that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        translator: Translator,
        to: str,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.translator, self.to = translator, to

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with labeled images."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = MetaTensor(out[key].as_tensor()).copy_meta_from(out[key])
            source = image.meta["source"]
            target = recipes(self.translator, self.to, source["kind"]).target
            chosen = self.translator.for_contrast(source.get("told_contrast", ""))
            image.meta["synthesis"] = chosen.synthesis(source, self.to, target)
            out[key] = image
        return out


class ResultWriter(ScanWriter):
    """MONAI writer of results; the file's suffix says the format, as in `medtranslate.write`."""

    def save(self, image: MetaTensor, path: Path, *, overwrite: bool = False) -> None:
        """Write an image whole or not at all."""
        write(image, path, overwrite=overwrite)


class Scans(Sequence[dict[str, str]]):
    """The scans at a path, for a MONAI dataset; looked for when first asked for.

    Items are ``{"image": path, "kind": "volume" or "image"}``, in the folder's order. 2D images
    beside volumes are passed over, and so are results of earlier translations. A path that is not
    there counts as empty, so that a workflow can be built before there is data; `check` refuses it.

    Parameters
    ----------
    path : path
        A file, a DICOM series' folder, a zip, or a folder of volumes or of 2D images.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def check(self) -> None:
        """Refuse what cannot be translated before anything is.

        Raises
        ------
        InputMissing, UntrustedInput
            As `medtranslate.imaging.survey`.
        Unreadable
            There is no scan, or one that cannot be read.
        """
        check_present(self.path)
        if not self._found:
            raise Unreadable("holds no scan", path=self.path)

    @property
    def kind(self) -> str:
        """``"volume"`` or ``"image"``; ``""`` where there is no scan."""
        return self._found[0]["kind"] if self._found else ""

    @property
    def suffix(self) -> str:
        """How results are called: ``.png`` for 2D images, else ``.nii.gz``."""
        return ".png" if self.kind == "image" else ".nii.gz"

    @property
    def root(self) -> str:
        """The folder that results are laid out as; ``""`` for a single scan."""
        return str(self.path) if len(self) > 1 else ""

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    @cached_property
    def _found(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        found = find_scans(self.path)
        for scan in found.unreadable:
            raise Unreadable(scan.error, path=scan.path, remedy="take it out of the folder")
        return [
            {"image": image, "kind": kind}
            for image, kind in dict.fromkeys((str(scan.path), scan.kind) for scan in found.scans)
        ]
