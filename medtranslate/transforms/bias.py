"""N4 bias-field correction of an MR volume, by SimpleITK."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medtranslate.transforms.placement import Affine
from medtranslate.transforms.traced import ImageTransform, as_image, like


class N4BiasCorrection(ImageTransform):
    """Even out the slow shading of an MR (Tustison et al., IEEE TMI 29, 2010).

    The inverse changes nothing: a translated image has no bias to be given back.

    Parameters
    ----------
    shrink : int
        The field is estimated on a grid this many times coarser in the slice plane; it is smooth,
        so little is lost and much time won.
    iterations : sequence of int
        Most iterations at each of the field's resolutions.

    Examples
    --------
    >>> flat = MetaTensor(torch.full((1, 16, 16, 4), 300.0))
    >>> N4BiasCorrection(iterations=[5])(flat).shape
    torch.Size([1, 16, 16, 4])
    """

    def __init__(self, shrink: int = 4, iterations: Sequence[int] = (50, 50, 30)) -> None:
        self.shrink, self.iterations = shrink, tuple(int(n) for n in iterations)

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return a non-negative MR (1, X, Y, Z), float32, divided by its bias field."""
        image = as_image(image)
        volume = image.as_tensor()[0].detach().to("cpu", torch.float32)
        affine = np.asarray(image.affine, dtype=np.float64)
        return self.note(like(self.correct(volume, affine)[None], image), image)

    def correct(self, volume: torch.Tensor, affine: Affine) -> torch.Tensor:
        """Return a float32 (X, Y, Z) volume divided by its bias field, in the same units.

        Parameters
        ----------
        volume : float32 tensor (X, Y, Z)
            Non-negative MR.
        affine : float array (4, 4)
            Gives the voxels' size in mm.
        """
        # N4 places its field's knots between voxels: a single slice is 2-D to it.
        spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.array(volume.shape) > 1]
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume.numpy().squeeze().T))
        image.SetSpacing([float(mm) for mm in spacing])
        factors = [max(1, min(self.shrink, n // 32)) for n in image.GetSize()]
        coarse = sitk.Shrink(image, factors)
        mask = sitk.OtsuThreshold(coarse, 0, 1, 200)
        estimator = sitk.N4BiasFieldCorrectionImageFilter()
        estimator.SetMaximumNumberOfIterations(list(self.iterations))
        estimator.Execute(coarse, mask)
        field = sitk.Exp(estimator.GetLogBiasFieldAsImage(image))
        corrected = sitk.Cast(image / sitk.Cast(field, sitk.sitkFloat32), sitk.sitkFloat32)
        return torch.from_numpy(sitk.GetArrayFromImage(corrected).T).reshape(volume.shape)
