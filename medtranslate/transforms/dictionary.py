"""The dictionary form of each transform, for MONAI's ``Compose`` over dictionaries.

Parameters are those of the array form, after ``keys``: the entries to transform.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.config import KeysCollection

from medtranslate.transforms.geometry import AxialSlices, ImageFrame
from medtranslate.transforms.head import FindTissue, HeadMask
from medtranslate.transforms.intensity import (
    CompressHU,
    N4BiasCorrection,
    ScaleGray,
    ScaleHeadPercentiles,
    ScaleWindow,
    ToUnits,
)
from medtranslate.transforms.traced import KeyedTransform
from medtranslate.transforms.untilt import Untilt


class N4BiasCorrectiond(KeyedTransform):
    """Dictionary form of `N4BiasCorrection`."""

    def __init__(
        self,
        keys: KeysCollection,
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 30),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, N4BiasCorrection(shrink, iterations), allow_missing_keys)


class Untiltd(KeyedTransform):
    """Dictionary form of `Untilt`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, Untilt(), allow_missing_keys)


class FindTissued(KeyedTransform):
    """Dictionary form of `FindTissue`."""

    def __init__(
        self,
        keys: KeysCollection,
        above: float | None = None,
        otsu: float | None = None,
        of_white: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, FindTissue(above, otsu, of_white), allow_missing_keys)


class AxialSlicesd(KeyedTransform):
    """Dictionary form of `AxialSlices`.

    Examples
    --------
    >>> import torch
    >>> from monai.data import MetaTensor
    >>> from monai.transforms import Compose, Invertd
    >>> cut = Compose([AxialSlicesd("image", pixel=2.0, size=64)])
    >>> data = cut({"image": MetaTensor(torch.rand(1, 50, 60, 3))})
    >>> data["pred"] = torch.tanh(data["image"])
    >>> Invertd("pred", cut, orig_keys="image")(data)["pred"].shape
    torch.Size([1, 50, 60, 3])
    """

    def __init__(
        self,
        keys: KeysCollection,
        pixel: float = 0.9,
        size: int = 256,
        recut: float = 1.5,
        clip: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, AxialSlices(pixel, size, recut, clip), allow_missing_keys)


class ImageFramed(KeyedTransform):
    """Dictionary form of `ImageFrame`."""

    def __init__(
        self,
        keys: KeysCollection,
        fill: float = 1.0,
        size: int = 256,
        clip: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, ImageFrame(fill, size, clip), allow_missing_keys)


class HeadMaskd(KeyedTransform):
    """Dictionary form of `HeadMask`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, HeadMask(), allow_missing_keys)


class ScaleWindowd(KeyedTransform):
    """Dictionary form of `ScaleWindow`."""

    def __init__(
        self, keys: KeysCollection, level: float, width: float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, ScaleWindow(level, width), allow_missing_keys)


class CompressHUd(KeyedTransform):
    """Dictionary form of `CompressHU`."""

    def __init__(
        self,
        keys: KeysCollection,
        hu: Sequence[float] = (-1024.0, -20.0, 100.0, 2000.0),
        unit: Sequence[float] = (-1.0, -0.75, 0.75, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, CompressHU(hu, unit), allow_missing_keys)


class ScaleHeadPercentilesd(KeyedTransform):
    """Dictionary form of `ScaleHeadPercentiles`."""

    def __init__(
        self, keys: KeysCollection, lower: float, upper: float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, ScaleHeadPercentiles(lower, upper), allow_missing_keys)


class ScaleGrayd(KeyedTransform):
    """Dictionary form of `ScaleGray`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, ScaleGray(), allow_missing_keys)


class ToUnitsd(KeyedTransform):
    """Dictionary form of `ToUnits`."""

    def __init__(
        self,
        keys: KeysCollection,
        low: float,
        high: float,
        background: float,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, ToUnits(low, high, background), allow_missing_keys)
