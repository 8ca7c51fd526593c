"""N4 bias-field correction of an MR volume, by SimpleITK."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch


@dataclass(frozen=True)
class N4:
    """Even out the slow shading of an MR (Tustison et al., IEEE TMI 29, 2010).

    Parameters
    ----------
    shrink : int
        The field is estimated on a grid this many times coarser in the slice plane; it is smooth,
        so little is lost and much time won.
    iterations : list of int
        Most iterations at each of the field's resolutions.
    """

    shrink: int = 4
    iterations: tuple[int, ...] = (50, 50, 30)

    def correct(self, volume: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
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
        estimator.SetMaximumNumberOfIterations([int(n) for n in self.iterations])
        estimator.Execute(coarse, mask)
        field = sitk.Exp(estimator.GetLogBiasFieldAsImage(image))
        corrected = sitk.Cast(image / sitk.Cast(field, sitk.sitkFloat32), sitk.sitkFloat32)
        return torch.from_numpy(sitk.GetArrayFromImage(corrected).T).reshape(volume.shape)
