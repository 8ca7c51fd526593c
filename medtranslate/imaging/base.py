"""What all our MONAI readers and writers share.

A reader's refusal survives ``LoadImage``; a writer's output is whole or absent.

``LoadImage`` swallows what a reader raises in `read` and tries the next reader, so a series that
we refuse would come back from ITK as an even volume with wrong spacing. Ours therefore return the
refusal from `read` and raise it from `get_data`, where nothing catches it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader, ImageWriter, MetaTensor
from monai.utils import ensure_tuple

from medtranslate.errors import Unsupported
from medtranslate.files import check_present, whole_file
from medtranslate.imaging.source import Scan, check_modality, check_source

Paths = Sequence[str | PathLike[str]] | str | PathLike[str]


@dataclass(frozen=True)
class Refusal:
    """What went wrong in `read`, kept for `get_data`."""

    error: Exception


class RefusingReader(ImageReader):
    """A MONAI reader of one scan: subclasses say how to `load` it and what its files are called.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"`` where the caller knows it, which settles it; ``""`` to find out.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, modality: str = "") -> None:
        super().__init__()
        self.modality = check_modality(modality)

    def verify_suffix(self, filename: Paths) -> bool:
        """Say whether every name ends like a file of this format."""
        return all(str(name).lower().endswith(self.suffixes) for name in ensure_tuple(filename))

    def read(self, data: Paths, **kwargs: Any) -> Scan | Refusal:
        """Read one scan; never raises (see the module's docstring).

        Parameters
        ----------
        data : path or sequence of paths
            What makes up one scan.
        **kwargs
            Passed to `load`.
        """
        try:
            paths = tuple(Path(name) for name in ensure_tuple(data))
            for path in paths:
                check_present(path)
            return settled(self.load(paths, **kwargs), self.modality)
        except Exception as error:
            return Refusal(error)

    def get_data(self, img: Scan | Refusal) -> tuple[np.ndarray, dict[str, Any]]:
        """Give float32 voxels of shape (X, Y, Z) and their metadata, or raise the refusal."""
        if isinstance(img, Refusal):
            raise img.error
        return img.voxels, img.meta()

    @abstractmethod
    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the scan that lies in `paths`, or raise a `MedTranslateError`."""


def settled(scan: Scan, modality: str) -> Scan:
    """Give the scan with the modality that the caller gave, if any; a contradiction is a fault."""
    if not modality:
        return scan
    found, basis = scan.source["modality"], scan.source["modality_basis"]
    faults = scan.source["faults"]
    if found not in ("", modality) and basis.startswith("DICOM"):
        faults = [*faults, f"{basis} says {found}, but {modality} was given and is believed."]
    source = {**scan.source, "modality": modality, "modality_basis": "given", "faults": faults}
    return Scan(scan.voxels, source)


class ScanWriter(ImageWriter):
    """A MONAI writer of one scan into one file: subclasses say how to `encode` it.

    Type and grid of what is written are fixed by ``meta["source"]`` and ``meta["synthesis"]``;
    ``output_dtype`` and the resampling options that ``SaveImage`` always passes are not used.

    Parameters
    ----------
    output_dtype : dtype, optional
        Accepted for ``SaveImage``.
    scale : int, optional
        Must be None: values are physical and are not rescaled.
    """

    def __init__(self, output_dtype: Any = None, scale: int | None = None) -> None:
        super().__init__()
        if scale is not None:
            raise Unsupported("values are physical: they are not rescaled when written")
        self.meta: dict[str, Any] = {}

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take voxels of shape (1, X, Y, Z), or (X, Y, Z) where `channel_dim` is None."""
        data = torch.as_tensor(data_array)
        if isinstance(data, MetaTensor):
            data = data.as_tensor()
        self.data_obj = data[None] if channel_dim is None else data.movedim(channel_dim, 0)

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, **options: Any) -> None:
        """Take the metadata, with ``"source"``, that belong to the voxels."""
        self.meta = dict(meta_dict or {})

    def write(self, filename: str | PathLike[str], verbose: bool = True, **kwargs: Any) -> None:
        """Write what was set, replacing an existing file as MONAI's writers do."""
        super().write(filename, verbose=verbose)
        self.save(MetaTensor(self.data_obj, meta=self.meta), Path(filename), overwrite=True)

    def save(self, image: MetaTensor, path: Path, *, overwrite: bool = False) -> None:
        """Write an image of shape (1, X, Y, Z) whole or not at all.

        Raises
        ------
        Unsupported
            The image no longer agrees with its source, or this format cannot say what it holds.
        OutputExists, OutputFailed
            See `whole_file`.
        """
        source = check_source(image, path)
        with whole_file(path, overwrite=overwrite) as temporary:
            self.encode(image, source, temporary, path)

    def encode(
        self, image: MetaTensor, source: dict[str, Any], temporary: Path, path: Path
    ) -> None:
        """Write the image to `temporary`; `path` is the name to use in messages."""
        raise NotImplementedError


def check_even(source: dict[str, Any], path: Path) -> None:
    """Refuse slices that are not evenly spaced, for formats that place them by an affine alone.

    Raises
    ------
    Unsupported
        ``source["even"]`` is false.
    """
    if not source["even"]:
        raise Unsupported(
            "the slices are not evenly spaced, which this format cannot say",
            path=path,
            remedy="write DICOM, or make an even grid first",
        )
