"""A recipe: how one kind of input is prepared for the network, and how it is given back.

The file is a MONAI config whose sections are ``Compose`` transforms; a `Recipe` is a typed view of
them, and runs those same objects. `medtranslate.transforms.load` reads the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Transform
from monai.utils import TraceKeys

from medtranslate.errors import Unsupported
from medtranslate.transforms.base import KeyedTransform, as_image, head_of
from medtranslate.transforms.geometry import AxialSlices, ImageFrame
from medtranslate.transforms.head import FindTissue, HeadMask
from medtranslate.transforms.intensity import Scale
from medtranslate.transforms.placement import Layout, Placement
from medtranslate.transforms.units import Limits, ToUnits

IMAGE = "image"
"""Key of the image in recipes."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the network sees it, and what its inverse needs.

    Parameters
    ----------
    slices : float32 tensor (N, 1, size, size)
        In [-1, 1]; axial, inferior to superior; rows anterior to posterior, columns right to left;
        -1 outside the head.
    head : bool tensor (N, size, size)
        Where the head is.
    limits : Limits
        The values that became -1 and 1.
    placement : Placement
        How the image lies on the network's grid.

    Examples
    --------
    >>> from medtranslate.files import shipped
    >>> from medtranslate.phantom import Phantom
    >>> from medtranslate.transforms import load_recipe
    >>> recipe = load_recipe(shipped("transforms/ct-volume.yaml"))
    >>> prepared = recipe.prepare(Phantom((64, 64, 2), (3.0, 3.0, 5.0)).volume())
    >>> prepared.slices.shape, prepared.limits
    (torch.Size([2, 1, 256, 256]), Limits(low=-20.0, high=100.0))
    """

    slices: torch.Tensor
    head: torch.Tensor
    limits: Limits
    placement: Placement

    def __repr__(self) -> str:
        return f"Prepared({len(self.slices)} slices, {self.limits}, {self.placement})"

    @property
    def holds(self) -> torch.Tensor:
        """Which slices show some head: bool (N,)."""
        return self.head.flatten(1).any(1)

    @property
    def areas(self) -> torch.Tensor:
        """How many pixels of head each slice shows: int64 (N,)."""
        # By numpy: torch makes an int64 of each pixel to count it, eight times the mask.
        return torch.from_numpy(np.count_nonzero(self.head.numpy(), axis=(1, 2)).astype(np.int64))

    @classmethod
    def of(cls, image: MetaTensor) -> Prepared:
        """Read what a recipe's ``preprocessing`` made (1, rows, columns, slices), and its trace.

        Voxels are shared with the image.
        """
        slices = image.as_tensor()[0].permute(2, 0, 1)
        mask = head_of(image)
        if mask is None:
            head = torch.ones(slices.shape, dtype=torch.bool)
        else:
            head = mask.permute(2, 0, 1).contiguous()
        return cls(
            slices[:, None].contiguous(),
            head,
            Limits(*_traced(image, "limits")),
            Layout.from_builtins(_traced(image, "layout")).placement(),
        )


@dataclass(frozen=True, eq=False)
class Recipe:
    """How one kind of input is prepared: a typed view of the transforms in its file.

    Two recipes are equal if their files say the same.

    Parameters
    ----------
    modality : str
        ``"CT"`` or ``"MR"``.
    kind : str
        ``"volume"`` or ``"image"``.
    geometry : Compose
        From the scan's grid to the network's; what a conversion undoes of its source.
    intensity : MapTransform
        From units to [-1, 1].
    units : ToUnitsd
        From [-1, 1] to units; what a conversion applies of its target, under the key ``"pred"``.
    content : mapping
        The file, as builtins.

    Examples
    --------
    >>> from medtranslate.files import shipped
    >>> from medtranslate.transforms import load_recipe
    >>> recipe = load_recipe(shipped("transforms/ct-volume.yaml"))
    >>> recipe.modality, recipe.kind
    ('CT', 'volume')
    """

    modality: str
    kind: str
    geometry: Compose
    intensity: MapTransform
    units: KeyedTransform
    content: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.content == other.content

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [*self.content["geometry"]["transforms"], self.content["intensity"]]
        return f"Recipe({self.modality} {self.kind}: {', '.join(map(_shown, parts))})"

    @property
    def preprocessing(self) -> Compose:
        """Geometry and intensity, as one MONAI ``Compose`` over ``{"image": MetaTensor}``."""
        return Compose([self.geometry, self.intensity])

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The array transforms of `preprocessing`, in order."""
        flat = self.preprocessing.flatten().transforms
        return tuple(each.transform if isinstance(each, KeyedTransform) else each for each in flat)

    @property
    def grid(self) -> AxialSlices | ImageFrame:
        """The transform that lays the network's grid."""
        return next(each for each in self.transforms if isinstance(each, AxialSlices | ImageFrame))

    @property
    def scale(self) -> Scale:
        """The transform that scales to [-1, 1]."""
        return next(each for each in self.transforms if isinstance(each, Scale))

    @property
    def tissue(self) -> FindTissue | None:
        """The transform that measures what tissue is; None where the whole frame is the head."""
        if not any(isinstance(each, HeadMask) for each in self.transforms):
            return None
        return next(each for each in self.transforms if isinstance(each, FindTissue))

    @property
    def written(self) -> Limits:
        """What -1 and 1 are written as."""
        return self._to_units.limits

    @property
    def shown(self) -> Limits:
        """What is -1 and 1 of a result `in_window`: `written` where the recipe has no window."""
        return self._to_units.shown

    @property
    def share(self) -> float:
        """Share of [-1, 1] that `shown` takes; 1 where the recipe has no window."""
        return self._to_units.share

    def in_window(self, slices: torch.Tensor) -> torch.Tensor:
        """Return slices that a generator gave as `ToUnits.in_window` does."""
        return self._to_units.in_window(slices)

    @property
    def background(self) -> float:
        """What is written outside the head."""
        return self._to_units.background

    def record(self) -> dict[str, Any]:
        """Return the recipe's name, its content, and the hash of the content, as reports have it.

        Examples
        --------
        >>> from medtranslate.files import shipped
        >>> from medtranslate.transforms import load_recipe
        >>> load_recipe(shipped("transforms/mr-image.yaml")).record()["name"]
        'MR-image'
        """
        content = dict(self.content)
        text = json.dumps(content, sort_keys=True)
        return {
            "name": f"{self.modality}-{self.kind}",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "content": content,
        }

    @property
    def _to_units(self) -> ToUnits:
        assert isinstance(self.units.transform, ToUnits)
        return self.units.transform

    def prepare(self, image: MetaTensor) -> Prepared:
        """Take an image to the network's slices.

        Parameters
        ----------
        image : MetaTensor (1, X, Y, Z)
            In physical units, affine in RAS mm (``docs/architecture.md``). Not changed.

        Raises
        ------
        Unsupported
            If the geometry cannot be cut into axial slices.
        """
        # The trace starts here: what was done to the image before is not the recipe's to undo.
        bare = as_image(image.detach())
        bare.applied_operations = []
        data: Any = {IMAGE: bare}
        # One by one: Compose would wrap a refusal in an error of its own.
        for transform in self.preprocessing.flatten().transforms:
            data = transform(data)
        prepared = Prepared.of(data[IMAGE])
        if prepared.placement.shape != tuple(image.shape[1:]):
            raise Unsupported("the recipe changes the scan's grid before slices are laid on it")
        return prepared

    def restore(
        self, slices: torch.Tensor, prepared: Prepared, dtype: torch.dtype = torch.float32
    ) -> MetaTensor:
        """Take slices back: to the geometry of what was prepared, in the units of this recipe.

        The same voxels as ``Invertd`` by the geometry of the source and then `units`, in the
        memory of one volume.

        Parameters
        ----------
        slices : float tensor (N, 1, size, size)
            In [-1, 1], as the generator gave them.
        prepared : Prepared
            What the source's recipe gave for the source; a conversion restores it with the
            target's recipe.
        dtype : torch.dtype
            Of the result; an integer type must hold the range of `units` and its background.

        Returns
        -------
        MetaTensor (1, X, Y, Z)
            Whole numbers within `units` in the head, its background elsewhere. The affine
            is the caller's to copy from the source.
        """
        placement, units = prepared.placement, self._to_units
        if slices.shape != prepared.slices.shape:
            raise ValueError(f"{tuple(slices.shape)} slices for {tuple(prepared.slices.shape)}")

        def written(plane: torch.Tensor, chunk: slice) -> torch.Tensor:
            return units.written(plane, placement.inside(prepared.head[chunk]))

        out = placement.empty(dtype)
        placement.from_network(slices[:, 0], out, written)
        return MetaTensor(out[None])


def _shown(part: Mapping[str, Any]) -> str:
    """Show a transform of a file as a call, without its keys."""
    left_out = ("_target_", "keys", "transforms")
    arguments = ", ".join(f"{key}={value}" for key, value in part.items() if key not in left_out)
    return f"{str(part['_target_']).rpartition('.')[2]}({arguments})"


def _traced(image: MetaTensor, name: str) -> Any:
    """Return what a transform noted under a name, the latest first."""
    for operation in reversed(image.applied_operations):
        kept = operation.get(TraceKeys.EXTRA_INFO, {})
        if name in kept:
            return kept[name]
    raise ValueError(f"no transform of this image noted its {name}")


def prepare_pair(
    ct: MetaTensor, mri: MetaTensor, ct_recipe: Recipe, mri_recipe: Recipe
) -> tuple[Prepared, torch.Tensor]:
    """Return the prepared CT, and the MRI's slices at the same place in the same head.

    Parameters
    ----------
    ct, mri : MetaTensor (1, X, Y, Z)
        Registered, and resampled onto one grid.
    ct_recipe, mri_recipe : Recipe
        The CT's geometry and head hold for both; each has its own intensity scale.

    Returns
    -------
    Prepared
        Of the CT.
    float32 tensor (N, 1, size, size)
        The MRI in [-1, 1]; -1 outside the CT's head.

    Raises
    ------
    Unsupported
        The images do not lie on one grid.
    """
    if ct.shape != mri.shape or not torch.allclose(ct.affine, mri.affine, atol=1e-3):
        first, second = ("x".join(map(str, each.shape[1:])) for each in (ct, mri))
        raise Unsupported(
            f"has mixed sizes or places: CT {first}, MRI {second}",
            remedy="pairs must lie on one grid: register and resample one onto the other",
        )
    prepared = ct_recipe.prepare(ct)
    slices = prepared.placement.to_network(mri.as_tensor()[0], mri_recipe.grid.clipped)
    slices = mri_recipe.scale.measure(slices[prepared.head].numpy(), 255.0).to_unit(slices)
    slices[~prepared.head] = -1
    return prepared, slices[:, None]
