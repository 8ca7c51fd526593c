"""Gantry tilt, undone slice by slice and put back."""

from __future__ import annotations

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor

from medtranslate.imaging.dicom.read.regrid import shift_slices, tilt_shifts, untilt
from medtranslate.imaging.source import SourceRecord
from medtranslate.transforms.base import ImageTransform, KeyedTransform, as_image, like


class Untilt(ImageTransform):
    """Undo the shear of a tilted gantry: each slice of a DICOM series is shifted in its own plane.

    No slice is mixed with another; between pixels the shift interpolates linearly, and the field of
    view grows so that nothing is cut off. MONAI's ``Spacing`` would drop the shear and mix slices.

    Examples
    --------
    >>> import copy
    >>> from pydicom import examples
    >>> from medtranslate.imaging import as_image
    >>> series = [copy.deepcopy(examples.ct) for _ in range(3)]
    >>> for number, one in enumerate(series):
    ...     one.SOPInstanceUID, one.InstanceNumber = f"1.2.{number}", number
    ...     one.ImagePositionPatient = [0.0, 2.0 * number, 5.0 * number]
    >>> tilted = as_image(series)
    >>> untilt = Untilt()
    >>> upright = untilt(tilted)
    >>> upright.shape, untilt.inverse(upright).shape == tilted.shape
    (torch.Size([1, 128, 135, 3]), True)
    """

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return an upright image.

        Parameters
        ----------
        image : MetaTensor (1, X, Y, Z)
            Float32, from a DICOM series (`medtranslate.imaging.ScanReader`).

        Returns
        -------
        MetaTensor (1, X', Y', Z)
            Its slice axis is the normal of the slices; ``meta["source"]`` says so.

        Raises
        ------
        Unsupported
            The image is no DICOM series, or no longer agrees with it, or is upright already.
        """
        image = as_image(image)
        shifts, _ = tilt_shifts(image)
        upright = untilt(image)
        out = like(upright.as_tensor(), image)
        out.affine = upright.affine
        out.meta["source"] = upright.meta["source"]
        return self.note(
            out,
            image,
            shifts=shifts.tolist(),
            shape=list(image.shape[1:3]),
            affine=np.asarray(image.affine).tolist(),
            source=image.meta["source"],
        )

    def inverse(self, image: torch.Tensor) -> MetaTensor:
        """Return an image (1, X, Y, Z) tilted as it was, on the grid and affine that it came from.

        Values were interpolated twice, linearly and in plane.
        """
        image = as_image(image)
        kept = self.noted(image)
        voxels = shift_slices(image, -np.asarray(kept["shifts"]), kept["shape"])
        out = like(torch.from_numpy(voxels)[None], image)
        out.affine = torch.tensor(kept["affine"], dtype=torch.float64)
        out.meta["source"] = SourceRecord(kept["source"])
        return out


class Untiltd(KeyedTransform):
    """Dictionary form of `Untilt`.

    Examples
    --------
    >>> import copy
    >>> from pydicom import examples
    >>> from medtranslate.imaging import as_image
    >>> series = [copy.deepcopy(examples.ct) for _ in range(3)]
    >>> for number, one in enumerate(series):
    ...     one.SOPInstanceUID, one.InstanceNumber = f"1.2.{number}", number
    ...     one.ImagePositionPatient = [0.0, 2.0 * number, 5.0 * number]
    >>> tilted = as_image(series)
    >>> upright = Untiltd("ct")({"ct": tilted})["ct"]
    >>> upright.meta["source"]["header"]["tilt"] < 0.1 < tilted.meta["source"]["header"]["tilt"]
    True
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, Untilt(), allow_missing_keys)
