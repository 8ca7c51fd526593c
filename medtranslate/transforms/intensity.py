"""Intensity: from physical units to [-1, 1] for the network, and back.

Each scaling measures its limits once an image, notes them, and inverts by them; MONAI's scaling
transforms have no inverse and keep no record of the limits that they used. Before the scaling of
MR, `N4BiasCorrection` evens out the coil's bias field.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.transforms.base import (
    ImageTransform,
    KeyedTransform,
    as_image,
    head_of,
    like,
)
from medtranslate.transforms.head import full_white, without_rim
from medtranslate.transforms.placement import Affine
from medtranslate.transforms.units import Limits


class Scale(ImageTransform):
    """What the scalings share: the head becomes [-1, 1], the rest -1."""

    @abstractmethod
    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return the limits of one image.

        Parameters
        ----------
        values : float array
            The image's values inside the head, 1-D, in its units.
        white : float
            Full white, where it is a 2D image.
        """

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Scale slices (1, rows, columns, slices) to [-1, 1]; -1 outside ``meta["head"]``."""
        image = as_image(image)
        slices = image.as_tensor()[0].permute(2, 0, 1)
        mask = head_of(image)
        head = None if mask is None else mask.permute(2, 0, 1).to(slices.device)
        limits = self.measure(_inside(slices, head), full_white(image))
        scaled = limits.to_unit(slices)
        if head is not None:
            scaled[~head] = -1
        out = like(scaled.permute(1, 2, 0)[None], image)
        return self.note(out, image, limits=[limits.low, limits.high])

    def inverse(self, image: torch.Tensor) -> MetaTensor:
        """Return values in [-1, 1] in the units that they were scaled from."""
        image = as_image(image)
        limits = Limits(*self.noted(image)["limits"])
        return like(limits.from_unit(image.as_tensor()), image)


class ScaleWindow(Scale):
    """Scale CT by a window in HU, which mean the same in every scan.

    Parameters
    ----------
    level, width : float
        Center and width in HU (DICOM PS3.3 C.11.2.1.2): 40 and 120 are the brain window.

    Examples
    --------
    >>> slices = MetaTensor(torch.tensor([-1000.0, -20, 40, 100]).reshape(1, 2, 2, 1))
    >>> ScaleWindow(40, 120)(slices).flatten().tolist()
    [-1.0, -1.0, 0.0, 1.0]
    """

    def __init__(self, level: float, width: float) -> None:
        if width <= 0:
            raise ValueError(f"a window {width} wide shows nothing")
        self.level, self.width = level, width

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return the window's ends, whatever the values."""
        return Limits(self.level - self.width / 2, self.level + self.width / 2)


class ScaleWindowd(KeyedTransform):
    """Dictionary form of `ScaleWindow`.

    Examples
    --------
    >>> slices = MetaTensor(torch.tensor([-1000.0, -20, 40, 100]).reshape(1, 2, 2, 1))
    >>> ScaleWindowd("image", 40, 120)({"image": slices})["image"].flatten().tolist()
    [-1.0, -1.0, 0.0, 1.0]
    """

    def __init__(
        self, keys: KeysCollection, level: float, width: float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, ScaleWindow(level, width), allow_missing_keys)


class ScaleHeadPercentiles(Scale):
    """Scale MR by percentiles over the head: scanner units mean nothing alone.

    One scale for the whole volume; the head's outermost pixels, which are part air, do not count.

    Parameters
    ----------
    lower, upper : float
        Percentiles in [0, 100] that become -1 and 1.

    Examples
    --------
    >>> slices = MetaTensor(torch.arange(101.0).reshape(1, 101, 1, 1))
    >>> scaled = ScaleHeadPercentiles(5, 95)(slices)
    >>> scaled[0, [5, 50, 95]].flatten().tolist()
    [-1.0, 0.0, 1.0]
    """

    def __init__(self, lower: float, upper: float) -> None:
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"percentiles {lower} and {upper} are not in order")
        self.lower, self.upper = lower, upper

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return the percentiles of the values inside the head; widened where they coincide."""
        low, high = (float(v) for v in np.percentile(values, [self.lower, self.upper]))
        return Limits(low, high if high > low else low + 1.0)


class ScaleHeadPercentilesd(KeyedTransform):
    """Dictionary form of `ScaleHeadPercentiles`.

    Examples
    --------
    >>> slices = MetaTensor(torch.arange(101.0).reshape(1, 101, 1, 1))
    >>> scaled = ScaleHeadPercentilesd("image", 5, 95)({"image": slices})["image"]
    >>> scaled[0, [5, 50, 95]].flatten().tolist()
    [-1.0, 0.0, 1.0]
    """

    def __init__(
        self, keys: KeysCollection, lower: float, upper: float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, ScaleHeadPercentiles(lower, upper), allow_missing_keys)


class ScaleGray(Scale):
    """Scale a 2D image's gray levels, taken as already windowed, from black to full white.

    Examples
    --------
    >>> ScaleGray()(MetaTensor(torch.tensor([0.0, 255.0]).reshape(1, 2, 1, 1))).flatten().tolist()
    [-1.0, 1.0]
    """

    def measure(self, values: NDArray[np.floating], white: float) -> Limits:
        """Return black and full white of the image's own depth (255 or 65535)."""
        return Limits(0.0, white)


class ScaleGrayd(KeyedTransform):
    """Dictionary form of `ScaleGray`.

    Examples
    --------
    >>> gray = MetaTensor(torch.tensor([0.0, 255.0]).reshape(1, 2, 1, 1))
    >>> ScaleGrayd("image")({"image": gray})["image"].flatten().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, ScaleGray(), allow_missing_keys)


def _inside(slices: torch.Tensor, head: torch.Tensor | None) -> NDArray[np.floating]:
    values = slices.numpy(force=True)
    if head is None:
        return values.ravel()
    # By numpy: torch lists the three indices of each voxel first, in six times the memory.
    inside = values[without_rim(head).numpy(force=True)]
    return inside if len(inside) else values.ravel()


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


class N4BiasCorrectiond(KeyedTransform):
    """Dictionary form of `N4BiasCorrection`.

    Examples
    --------
    >>> flat = {"image": MetaTensor(torch.full((1, 16, 16, 4), 300.0))}
    >>> even = N4BiasCorrectiond("image", iterations=[5])(flat)["image"]
    >>> bool(((even - 300).abs() < 1).all())
    True
    """

    def __init__(
        self,
        keys: KeysCollection,
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 30),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, N4BiasCorrection(shrink, iterations), allow_missing_keys)
