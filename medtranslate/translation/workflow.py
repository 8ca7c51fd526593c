"""The translation in MONAI's parts, as a bundle's YAML files put them together.

A scan goes ``LoadImaged -> PrepareSlicesd -> SlicewiseInferer -> RestoreScand -> SaveImaged``: the
same calls as `Translator.translate`, cut where MONAI's workflows, Label and Deploy want to cut.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep

from medtranslate.device import Device
from medtranslate.errors import Unreadable, Unsupported
from medtranslate.files import check_present
from medtranslate.imaging import survey, write
from medtranslate.imaging.base import ScanWriter
from medtranslate.transforms import Prepared
from medtranslate.translation.source import source_of
from medtranslate.translation.translator import Translator

_LABEL = "SYNTHETIC"


@dataclass(frozen=True)
class Held:
    """What `RestoreScand` needs of the scan that `PrepareSlicesd` prepared.

    It travels among the image's ``applied_operations``, which batches leave as they are.

    Parameters
    ----------
    scan : MetaTensor (1, X, Y, Z)
        As it was loaded.
    source : mapping
        Its source record.
    prepared : Prepared
        All its slices.
    """

    scan: MetaTensor
    source: Mapping[str, Any]
    prepared: Prepared

    def __deepcopy__(self, memo: dict[int, Any]) -> Held:
        """Stay one object: MONAI copies metadata at every operation, and nothing here changes."""
        return self


class PrepareSlicesd(MapTransform):
    """Take scans to the network's slices, by the recipe of their modality and kind.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to prepare: MetaTensors (1, X, Y, Z) in physical units, affine in RAS mm. They
        become (1, 256, 256, M), float32 in [-1, 1]: the M slices that show a head, as the recipes'
        `Prepared` describes them.
    translator : Translator
        The model, with its recipes.
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
        """Return the dictionary with prepared scans.

        Raises
        ------
        WrongModality, OutOfDomain, Unsupported, ModelUnusable
            As `Translator.translate`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            scan = out[key]
            if scan.ndim != 4 or len(scan) != 1:
                raise Unsupported(f"shape {list(scan.shape)} is no single scan (1, X, Y, Z)")
            source = source_of(scan, self.modality)
            _, prepared = self.translator.prepare(scan, source, self.to)
            held = Held(scan, source, prepared)
            image = MetaTensor(prepared.slices[prepared.holds].permute(1, 2, 3, 0).contiguous())
            image.meta["filename_or_obj"] = scan.meta.get("filename_or_obj", "")
            image.push_applied_operation({"class": type(self).__name__, "extra_info": held})
            out[key] = image
        return out


class SlicewiseInferer(Inferer):
    """Send the slices of a volume through a 2D network, so many at once, in the network's numbers.

    MONAI's `SliceInferer` sends other batches than a conversion does, and a float sum depends on
    the batch; this one gives the same voxels.

    Parameters
    ----------
    batch_size : int, optional
        Slices at once; by default 4 on a CPU and 32 on a GPU.
    """

    def __init__(self, batch_size: int | None = None) -> None:
        self.batch_size = batch_size

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Map (B, 1, H, W, M) in [-1, 1] to the same shape, float32, on the same device."""
        frames = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        volumes = len(frames)
        frames = frames.movedim(-1, 1).flatten(0, 1).contiguous()
        assert isinstance(network, torch.nn.Module)
        weight = next(network.parameters(), frames)
        picked = Device.pick(str(weight.device), batch=self.batch_size)
        made = Device(picked.processor, weight.dtype, picked.batch).run(network, frames)
        return made.unflatten(0, (volumes, -1)).movedim(1, -1).to(inputs.device)


class RestoreScand(MapTransform):
    """Take translated slices back to their scan: its geometry, the units of the target.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to restore: (1, 256, 256, M) as the inferer gave them. They become what
        `Translator.translate` gives.
    orig_keys : str or sequence of str
        The prepared entries that they were made from.
    translator : Translator
        The model, with its recipes.
    to : str
        ``"mri"`` or ``"ct"``.
    allow_missing_keys : bool
        Pass over entries that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        orig_keys: KeysCollection,
        translator: Translator,
        to: str,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orig_keys = ensure_tuple_rep(orig_keys, len(self.keys))
        self.translator, self.to = translator, to

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with translated scans."""
        out = dict(data)
        for key, orig in self.key_iterator(out, self.orig_keys):
            held = _held(out[orig])
            made = out[key].as_tensor() if isinstance(out[key], MetaTensor) else out[key]
            slices = self.translator.laid_out(made.detach().permute(3, 0, 1, 2), held.prepared)
            out[key] = self.translator.finish(
                slices, held.prepared, held.scan, held.source, to=self.to
            )
        return out


class ResultWriter(ScanWriter):
    """MONAI writer of results; the file's suffix says the format, as in `medtranslate.write`."""

    def save(self, image: MetaTensor, path: Path, *, overwrite: bool = False) -> None:
        """Write an image whole or not at all."""
        write(image, path, overwrite=overwrite)


class Scans(Sequence[dict[str, str]]):
    """The scans at a path, for a MONAI dataset; looked for when first asked for.

    Items are ``{"image": path, "kind": "volume" or "picture"}``, in the folder's order. Pictures
    beside volumes are passed over, and so are results of earlier translations. A path that is not
    there counts as empty, so that a workflow can be built before there is data; `check` refuses it.

    Parameters
    ----------
    path : path
        A file, a DICOM series' folder, a zip, or a folder of volumes or of pictures.
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
    def suffix(self) -> str:
        """How results are called: ``.png`` for pictures, else ``.nii.gz``."""
        pictures = bool(self._found) and self._found[0]["kind"] == "picture"
        return ".png" if pictures else ".nii.gz"

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
        found = survey(self.path)
        for one in found:
            if one.error:
                raise Unreadable(one.error, path=one.path, remedy="take it out of the folder")
        dicom = [one for one in found if one.format == "dicom"]
        volumes = [one for one in found if one.kind == "volume" and one.format != "dicom"]
        if found and (not self.path.is_dir() or (dicom and not volumes)):
            return [{"image": str(self.path), "kind": found[0].kind}]
        kind = "volume" if volumes else "picture"
        files = dict.fromkeys(
            one.path.split("!/")[0]
            for one in volumes or found
            if one.kind == kind and not one.description.startswith(_LABEL)
        )
        return [{"image": file, "kind": kind} for file in files]


def _held(image: Any) -> Held:
    for operation in reversed(image.applied_operations):
        if isinstance(operation, Mapping) and isinstance(operation.get("extra_info"), Held):
            return operation["extra_info"]
    raise ValueError("this image was not prepared by PrepareSlicesd")
