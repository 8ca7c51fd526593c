"""The head mask: the part of a slice that the model may speak about.

Everything outside is background on both sides of a translation: head rests, cushions, tubes, text
at the rim and noise in the air are not anatomy, and a generator asked to translate them invents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray

from medtranslate.transforms.base import (
    HEAD,
    TISSUE,
    ImageTransform,
    KeyedTransform,
    as_image,
    like,
    pack_mask,
    unpack_mask,
)

Mask = NDArray[np.bool_]

_MARGIN = 8  # pixels of the halved slice added on each side, so that closing may cross the border
_BLACK, _WHITE = 0.08, 0.92  # shares of full white: no page is as dark; a negative's background
_ONE_GRAY = 0.025  # of full white: the noise of JPEG on a page
_LEAST_FRAMED = 0.25  # of an image: what a frame leaves
_RINGING = 0.1  # of full white: the noise of JPEG beside a sharp edge, where a frame is thin
_SPECK = 2  # pixels: specks of such noise round a frame are thinner than twice as many
_MOST_OF_BORDER, _RECTANGLE, _FRAMES = 0.6, 0.98, 3  # a page's share of its border; frames at most
_BOX = 0.92  # an ellipse fills 0.79 of its box; a printed frame, once filled, all of it


@dataclass(frozen=True)
class FixedThreshold:
    """Tissue is what lies above a fixed value: CT, whose values have a meaning.

    Parameters
    ----------
    value : float
        In the image's units: HU for a volume (-300 lies between air and fat), share of full white
        for a 2D image.
    """

    value: float

    def level(self, values: NDArray[np.floating]) -> float:
        """Return the threshold for these values: always the same."""
        return self.value


@dataclass(frozen=True)
class OtsuThreshold:
    """Tissue is what lies above a share of Otsu's threshold: MR, whose values mean nothing alone.

    Parameters
    ----------
    share : float
        Of Otsu's threshold (IEEE Trans. SMC 9, 1979), which itself lies between dark and bright
        tissue; the air of a magnitude image lies well below half of it.
    """

    share: float

    def level(self, values: NDArray[np.floating]) -> float:
        """Return the threshold for these values, in their unit."""
        lowest = float(values.min())
        # Of 128 bins, one bright vessel would leave but the first to everything else.
        usual = np.minimum(values, np.percentile(values, 99.9))
        if lowest == float(usual.max()):
            return lowest
        otsu = sitk.OtsuThresholdImageFilter()
        otsu.Execute(sitk.GetImageFromArray(np.ascontiguousarray(usual).reshape(-1, 1)))
        return lowest + self.share * (float(otsu.GetThreshold()) - lowest)


class FindTissue(ImageTransform):
    """Measure above which level a voxel is tissue, and where the head's center is.

    Voxels stay as they are, but a bright page around the head of a 2D image becomes black, and a
    frame printed round such a page. ``meta["tissue"]`` says ``"level"``, in the image's units, and
    ``"center"``, in voxels; it is what `AxialSlices` centers on and what `HeadMask` starts from.

    Parameters
    ----------
    above : float, optional
        Tissue is what lies above this value: CT, whose values have a meaning (-300 HU lies between
        air and fat).
    otsu : float, optional
        Tissue is what lies above this share of Otsu's threshold: MR, whose values mean nothing
        alone. Exactly one of the two is given.
    of_white : bool
        The values are gray levels of a 2D image: `above` is a share of full white.

    Examples
    --------
    >>> image = MetaTensor(torch.full((1, 8, 8, 3), 40.0))
    >>> FindTissue(above=-300.0)(image).meta["tissue"]
    {'level': -300.0, 'center': [3.5, 3.5, 1.0]}
    """

    def __init__(
        self, above: float | None = None, otsu: float | None = None, of_white: bool = False
    ) -> None:
        if (above is None) == (otsu is None):
            raise ValueError("either above or otsu says what is tissue")
        self.threshold = FixedThreshold(above) if above is not None else OtsuThreshold(otsu or 0.0)
        self.of_white = of_white

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return the image (1, X, Y, Z) with what was measured in ``meta["tissue"]``."""
        image = as_image(image)
        volume = image.as_tensor()[0].detach().to("cpu", torch.float32)
        voxels, white = image.as_tensor(), full_white(image)
        if self.of_white and bool((paper := page(volume.numpy() / white)).any()):
            volume = volume.masked_fill(torch.from_numpy(paper), 0.0)
            voxels = volume[None].to(voxels)
        level = self.level(volume, white)
        out = like(voxels, image)
        out.meta[TISSUE] = {"level": float(level), "center": _center(volume, level)}
        return self.note(out, image)

    def level(self, volume: torch.Tensor, white: float = 255.0) -> float:
        """Return the level of tissue in a volume (X, Y, Z), in its units."""
        if self.of_white:
            return self.threshold.level(volume.numpy() / white) * white
        return self.threshold.level(volume[tuple(_coarse(n) for n in volume.shape)].numpy())


class FindTissued(KeyedTransform):
    """Dictionary form of `FindTissue`.

    Examples
    --------
    >>> found = FindTissued("image", above=-300.0)({"image": MetaTensor(torch.zeros(1, 8, 8, 3))})
    >>> found["image"].meta["tissue"]["level"]
    -300.0
    """

    def __init__(
        self,
        keys: KeysCollection,
        above: float | None = None,
        otsu: float | None = None,
        of_white: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, FindTissue(above, otsu, of_white), allow_missing_keys)


class HeadMask(ImageTransform):
    """Find the head in axial slices: solid, without head rest, tubes and printed frames.

    Voxels stay as they are. ``meta["head"]`` holds the mask, packed as text; scaling leaves
    nothing outside it, and the inverse of the geometry takes it to the scan's own grid.

    Examples
    --------
    >>> slices = MetaTensor(torch.zeros(1, 64, 64, 2))
    >>> slices[0, 16:48, 20:44] = 500.0
    >>> masked = HeadMask()(FindTissue(otsu=0.45)(slices))
    >>> from medtranslate.transforms.base import head_of
    >>> head_of(masked).shape, int(head_of(masked)[32].sum())
    (torch.Size([64, 64, 2]), 48)
    """

    def __call__(self, image: torch.Tensor) -> MetaTensor:
        """Return slices (1, rows, columns, slices) with their head mask in ``meta["head"]``.

        Raises
        ------
        ValueError
            `FindTissue` has not measured what tissue is.
        """
        image = as_image(image)
        tissue: dict[str, Any] | None = image.meta.get(TISSUE)
        if not tissue:
            raise ValueError("what tissue is was not measured: FindTissue comes before HeadMask")
        if "mask" in tissue:
            found = unpack_mask(tissue["mask"], tuple(image.shape[1:]))
        else:
            found = image.as_tensor()[0].detach().cpu() > tissue["level"]
        masks = torch.from_numpy(heads(found.permute(2, 0, 1).contiguous().numpy()))
        out = like(image.as_tensor(), image)
        del out.meta[TISSUE]
        out.meta[HEAD] = pack_mask(masks.permute(1, 2, 0))
        return self.note(out, image)


class HeadMaskd(KeyedTransform):
    """Dictionary form of `HeadMask`.

    Examples
    --------
    >>> from medtranslate.phantom import Phantom
    >>> from monai.transforms import Compose
    >>> from medtranslate.transforms import AxialSlicesd
    >>> from medtranslate.transforms.base import head_of
    >>> steps = Compose([FindTissued("ct", above=-300.0), AxialSlicesd("ct"), HeadMaskd("ct")])
    >>> masked = steps({"ct": Phantom((64, 64, 1), (3.0, 3.0, 5.0)).volume()})["ct"]
    >>> bool(0.2 < head_of(masked).float().mean() < 0.5)
    True
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, HeadMask(), allow_missing_keys)


def full_white(image: MetaTensor) -> float:
    """Return full white of a 2D image, from the stored type: 65535 for 16 bit, else 255."""
    source: Any = image.meta.get("source") or {}
    return 65535.0 if source.get("dtype") == "uint16" else 255.0


def page(gray: NDArray[np.floating]) -> Mask:
    """Find the bright page of 2D images, and frames printed round it.

    A page has one gray and reaches the border; what it surrounds may have that gray too, inside. A
    frame has one gray as well, and leaves a rectangle. Black is no page, and what is white right
    up to the head is a negative, for the domain check to refuse.

    Parameters
    ----------
    gray : float array (X, Y, N)
        Images, 0 black to 1 white.

    Returns
    -------
    bool array (X, Y, N)
        Page and frames; all False where an image has its background black, or no background.
    """
    found = np.zeros(gray.shape, dtype=bool)
    for index in range(gray.shape[2]):
        _paint_page(gray[..., index], found[..., index])
    return found


def _paint_page(gray: NDArray[np.floating], found: Mask) -> None:
    """Mark the page of one image, frame by frame from the border inward."""
    top, left, (bottom, right) = 0, 0, gray.shape
    for _ in range(_FRAMES):
        inner, outer = gray[top:bottom, left:right], found[top:bottom, left:right]
        if min(inner.shape) < 4:
            return
        sheets = [_sheet(inner, noise) for noise in (_ONE_GRAY, _RINGING)]
        share, box = max(map(_framed, sheets), key=itemgetter(0))
        framed = share >= _RECTANGLE
        if framed:
            outer[:] = True
            outer[box] = False
        if framed or np.median(_border(inner)) < _WHITE:
            outer |= sheets[0]
        if not framed:
            return
        rows, columns = box
        top, bottom = top + rows.start, top + rows.stop
        left, right = left + columns.start, left + columns.stop


def _border(gray: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])


def _sheet(gray: NDArray[np.floating], noise: float) -> Mask:
    """Return what has the one gray of the border and is connected to it; nothing if it has none."""
    border = _border(gray)
    shade = float(np.median(border))
    if shade <= _BLACK or np.mean(np.abs(border - shade) <= noise) < _MOST_OF_BORDER:
        return np.zeros(gray.shape, dtype=bool)
    labels = _labels(np.pad(np.abs(gray - shade) <= noise, 1, constant_values=True))
    sheet: Mask = (labels == labels[0, 0])[1:-1, 1:-1]
    return sheet


def _framed(sheet: Mask) -> tuple[float, tuple[slice, slice]]:
    """Return how much of its box fills what a sheet leaves, and the box; 0 where it is no frame."""
    nothing = 0.0, (slice(0), slice(0))
    if not sheet.any():  # most images are black around: nothing more is computed
        return nothing
    inside = _opened(np.pad(~sheet, _SPECK), _SPECK)[_SPECK:-_SPECK, _SPECK:-_SPECK]
    if not inside.any():
        return nothing
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    if inside[box].size < _LEAST_FRAMED * inside.size:  # a label, or a ruler
        return nothing
    return float(inside[box].mean()), box


def without_rim(head: torch.Tensor) -> torch.Tensor:
    """Take the outermost pixels of heads (N, H, W) away, which are part air, part skin."""
    core = torch.empty_like(head)
    for one, inner in zip(head, core, strict=True):  # of a long series, no floats at once
        outside = (~one).float()[None]
        torch.eq(torch.nn.functional.max_pool2d(outside, 3, 1, 1)[0], 0, out=inner)
    return core


def heads(tissue: Mask) -> Mask:
    """Find the head in each slice of thresholded tissue.

    Parameters
    ----------
    tissue : bool array (N, H, W)
        Axial slices with pixels of about 0.9 mm; H and W even.

    Returns
    -------
    bool array (N, H, W)
        The head, solid (air inside it belongs to it), without head rest, tubes and printed frames;
        all False where a slice holds no head.
    """
    found = np.empty_like(tissue)
    for index, each in enumerate(tissue):
        found[index] = _head(each)
    return found


def _head(tissue: Mask) -> Mask:
    rows, columns = tissue.shape
    # At half the size the shapes below cost an eighth; a pixel counts if any of its four does,
    # because skin is one pixel thick.
    halved = tissue.reshape(rows // 2, 2, columns // 2, 2).any(axis=(1, 3))
    if not halved.any():
        return np.zeros_like(tissue)
    solid = _solid(np.pad(halved, _MARGIN))
    core = _parts(_opened(solid, 2))
    if not core:
        return np.zeros_like(tissue)
    whole = np.logical_or.reduce(core)
    whole |= solid & _grown(whole, 3)
    smooth = _opened(_filled(_closed(whole, 5)), 1)
    inside = smooth[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].repeat(2, axis=0).repeat(2, axis=1)
    # Its outermost pixels came with their neighbors; they stay only where there is tissue.
    return _shrunk(inside, 1) | (inside & tissue)


def _solid(tissue: Mask) -> Mask:
    """Fill what tissue encloses; a printed frame encloses all, so it is worn away."""
    solid = np.zeros_like(tissue)
    for part in _parts(_closed(tissue, 1)):
        filled = _filled(part)
        solid |= filled if _share_of_box(filled) < _BOX else _opened(part, 2)
    return solid


def _parts(mask: Mask, most: int = 6, smallest: float = 0.02) -> list[Mask]:
    """Return the largest connected parts, none smaller than a share of the first."""
    labels = _labels(mask)
    sizes = np.bincount(labels.ravel())[1:]
    largest = np.argsort(-sizes, kind="stable")[:most]
    return [labels == i + 1 for i in largest if sizes[i] > smallest * sizes[largest[0]]]


def _labels(mask: Mask) -> NDArray[np.integer]:
    """Number the connected parts from 1; pixels that share a side are connected."""
    components = sitk.ConnectedComponentImageFilter()
    components.SetNumberOfWorkUnits(1)  # on so few pixels each more costs more than it gains
    labels = components.Execute(sitk.GetImageFromArray(mask.view(np.uint8)))
    return sitk.GetArrayFromImage(labels)


def _share_of_box(mask: Mask) -> float:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))


def _center(volume: torch.Tensor, level: float) -> list[float]:
    """Return voxel coordinates of the center of the tissue's box, outliers left out."""
    axes = tuple(_coarse(n) for n in volume.shape)
    tissue = volume[axes] > level
    return [
        axis.start + axis.step * _middle(tissue.sum([a for a in range(3) if a != index]).numpy())
        for index, axis in enumerate(axes)
    ]


def _coarse(length: int) -> slice:
    """Sample an axis coarsely: enough for a threshold and for where the head is.

    It starts as far from one end as it stops from the other, give or take a voxel, so that a scan
    and its mirror image are sampled alike.
    """
    step = 4 if length > 64 else 1
    return slice((length - 1) % step // 2, length, step)


def _middle(profile: NDArray[np.int64]) -> float:
    total = np.cumsum(profile)
    if total[-1] == 0:
        return (len(profile) - 1) / 2
    low, high = np.searchsorted(total, [0.02 * total[-1], 0.98 * total[-1]])
    return float(low + high) / 2


# The shapes below are SimpleITK's, pixel for pixel, at a tenth of the time: a conversion may not
# spend on the head what it saves on a small network. All rely on the empty margin.


def _filled(mask: Mask) -> Mask:
    """Fill holes: background that does not reach the corner."""
    outside = _labels(~mask)
    filled: Mask = outside != outside[0, 0]
    return filled


def _opened(mask: Mask, radius: int) -> Mask:
    return _grown(_shrunk(mask, radius), radius)


def _closed(mask: Mask, radius: int) -> Mask:
    return _shrunk(_grown(mask, radius), radius)


def _shrunk(mask: Mask, radius: int) -> Mask:
    return ~_grown(~mask, radius)


def _grown(mask: Mask, radius: int) -> Mask:
    """Grow by a disk, as the union of the rows that it consists of."""
    rows, columns = mask.shape
    padded = np.pad(mask, radius)
    wide = np.zeros((rows + 2 * radius, columns), dtype=bool)
    grown = np.zeros_like(mask)
    for reach in range(radius + 1):
        for start in (radius - reach, radius + reach):
            wide |= padded[:, start : start + columns]
        for shift in range(-radius, radius + 1):
            if math.isqrt(radius * (radius + 1) - shift * shift) == reach:  # (radius + 1/2)^2
                grown |= wide[radius + shift : radius + shift + rows]
    return grown
