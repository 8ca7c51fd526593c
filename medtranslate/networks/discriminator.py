"""The 70x70 PatchGAN: MONAI's ``PatchDiscriminator`` with the CycleGAN paper's settings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets import PatchDiscriminator
from torch import nn

from medtranslate.networks.architectures import ByCode


class PatchGAN(nn.Module):
    """Score how real each 70x70 patch is (Zhu et al. 2017, section 7.2: C64-C128-C256-C512).

    MONAI's network with instance normalization instead of its batch default, so that real and
    fake images can share one call, and without the list of features that it returns.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    width : int
        Channels of the first layer (64 in the paper).
    layers : int
        Strided layers (3 in the paper).
    contrasts : int
        Contrast codes beside 0. The score of a patch then has a term for its contrast: the product
        of its last features with a vector for the code (Miyato and Koyama 2018, "cGANs with
        projection discriminator"), which starts at zero and stays there for code 0.

    Examples
    --------
    >>> PatchGAN(width=8)(torch.zeros(2, 1, 256, 256)).shape
    torch.Size([2, 1, 30, 30])
    """

    def __init__(
        self, in_channels: int = 1, width: int = 64, layers: int = 3, contrasts: int = 0
    ) -> None:
        super().__init__()
        self.patches = PatchDiscriminator(
            spatial_dims=2, in_channels=in_channels, channels=width, num_layers_d=layers,
            norm="INSTANCE",
        )  # fmt: skip
        self.contrast = ByCode(contrasts, width << layers) if contrasts else None

    @staticmethod
    def least_side(layers: int = 3) -> int:
        """Return the fewest pixels a side from which there is a score."""
        return 3 * (1 << layers)

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(N, in, H, W)`` to unbounded scores ``(N, 1, H / 8 - 2, W / 8 - 2)``.

        `code` (N,), int64, says of which contrast each image is.
        """
        maps = self.patches(image)  # a list of unknown length to TorchScript: no unpacking
        features, scores = maps[-2], maps[-1]
        if self.contrast is not None and code is not None:
            fitting = (features * self.contrast(code)[:, :, None, None]).sum(1, keepdim=True)
            scores = scores + F.avg_pool2d(fitting, 2, 1)  # the last convolution loses a row
        scored: torch.Tensor = scores.float()
        return scored
