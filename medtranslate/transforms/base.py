"""What all transforms here share: images in and out, and notes for the inverse.

A transform leaves its input as it is. What its inverse needs travels among the image's
``applied_operations``, and what later transforms need in its ``meta``: lists, numbers and text
only, so that images collate and MONAI can copy them freely.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, convert_to_tensor
from numpy.typing import NDArray

from medtranslate.imaging.source import pack_bits, unpack_bits

HEAD = "head"
"""Key in ``meta`` of the head mask on the image's own grid (`pack_mask`)."""

TISSUE = "tissue"
"""Key in ``meta`` of what `FindTissue` measured."""


class ImageTransform(InvertibleTransform):
    """A transform of one image that notes what its inverse needs."""

    def note(self, out: MetaTensor, image: MetaTensor, **kept: Any) -> MetaTensor:
        """Push this transform, with what its inverse needs, onto the trace of its output."""
        self.push_transform(out, orig_size=tuple(image.shape[1:]), extra_info=kept)
        return out

    def noted(self, image: MetaTensor) -> dict[str, Any]:
        """Pop what `note` pushed."""
        kept: dict[str, Any] = self.pop_transform(image)[TraceKeys.EXTRA_INFO]
        return kept

    def inverse(self, image: torch.Tensor) -> MetaTensor:
        """Undo nothing: what the transform noted is taken off the trace."""
        out = as_image(image)
        self.noted(out)
        return out


class KeyedTransform(MapTransform, InvertibleTransform):
    """The dictionary form of an `ImageTransform`: applies it to entries.

    Parameters
    ----------
    keys : str or sequence of str
        Entries to transform.
    transform : ImageTransform
        Applied to each.
    allow_missing_keys : bool
        Pass over entries that are not there.
    """

    def __init__(
        self, keys: KeysCollection, transform: ImageTransform, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with transformed entries."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the transform of its entries undone."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform.inverse(out[key])
        return out


def as_image(image: torch.Tensor | NDArray[Any]) -> MetaTensor:
    """Return an image with metadata of its own, which a transform may change; voxels are shared."""
    given = convert_to_tensor(image, track_meta=True)
    if given.ndim != 4 or len(given) != 1:
        raise ValueError(f"shape {list(given.shape)} is no single-channel volume (1, X, Y, Z)")
    return like(given.as_tensor(), given)


def like(voxels: torch.Tensor, image: MetaTensor) -> MetaTensor:
    """Return voxels with a copy of an image's metadata and trace."""
    out: MetaTensor = MetaTensor(voxels).copy_meta_from(image)
    return out


def pack_mask(mask: torch.Tensor) -> str:
    """Return a bool mask (X, Y, Z) as text: a thousandth of its size for a head.

    Examples
    --------
    >>> mask = torch.tensor([[[True, False], [False, False]]])
    >>> bool((unpack_mask(pack_mask(mask), mask.shape) == mask).all())
    True
    """
    # Slices lie whole in memory, the last axis slowest.
    return pack_bits(mask.permute(2, 1, 0).contiguous().numpy())


def unpack_mask(text: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the bool mask of a shape (X, Y, Z) that `pack_mask` wrote."""
    return torch.from_numpy(unpack_bits(text, shape[::-1])).permute(2, 1, 0)


def head_of(image: MetaTensor) -> torch.Tensor | None:
    """Return the head mask (X, Y, Z) that an image carries, if it carries one."""
    text = image.meta.get(HEAD)
    return unpack_mask(text, tuple(image.shape[1:])) if text else None
