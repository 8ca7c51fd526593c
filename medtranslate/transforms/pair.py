"""Prepare a CT and an MRI of one head on one grid."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from medtranslate.errors import Unsupported
from medtranslate.transforms.recipe import Prepared, Recipe


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
