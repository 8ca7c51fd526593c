"""Class maps to images: CT in HU, and MR of a contrast that is asked for or drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from medtranslate.label_synthesis.draw import Draw, per_slice
from medtranslate.label_synthesis.tissues import RANDOM, Tissue, TissueTable

_VESSELS = ("vein", "artery")
_DARK = 0.1  # signal below which a tissue hardly varies: bone, air
FLUIDS = ("ventricle", "csf", "cyst", "necrosis")
"""Tissues that are fluid: dark in CT, bright in a T2."""

_ALONE = ("air", "enclosed_air", "metal")  # the same in every contrast, also a drawn one


@dataclass(frozen=True)
class CTSettings:
    """How a CT is rendered; each a range to draw from.

    Parameters
    ----------
    blur : (low, high)
        Standard deviation of the point spread, in pixels.
    grain : (low, high)
        Standard deviation of the noise in soft tissue, in HU. None by default: what a network is
        taught to give should not hold what cannot be known.

    Examples
    --------
    >>> classes = torch.full((1, 1, 8, 8), TissueTable.read().index("white_matter")).byte()
    >>> draw = Draw(0, 1, 8, torch.device("cpu"))
    >>> ct = render_ct(classes, TissueTable.read(), draw, CTSettings(blur=(0.0, 0.0)))
    >>> bool(((ct >= 32) & (ct <= 40)).all())
    True
    """

    blur: tuple[float, float] = (0.45, 0.85)
    grain: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class MRSettings:
    """How an MR is rendered; ranges to draw from, shares of slices from 0 to 1.

    Parameters
    ----------
    weights : tuple of (str, float)
        How often each contrast is drawn; ``"random"`` draws the tissues' signals themselves.
    jitter : float
        Standard deviation of each tissue's signal from slice to slice.
    difference_factor : (low, high)
        Factor for the signals that the table gives beside another tissue's: how far cortex differs
        from white matter, and a lesion from what is around it.
    fat_suppressed : float
        Share of slices without the signal of fat, in a T1C, T2, FLAIR or random one; a third of it
        in others.
    texture : (low, high)
        Standard deviation of uneven tissue, as a share of the signal.
    coarse : float
        Share of slices acquired with fewer lines of k-space (60 to 100 %), with their ringing.
    ghosted : float
        Share of slices with a ghost, as motion gives.
    blur : (low, high)
        Standard deviation of the point spread, in pixels.
    bias : (low, high)
        Standard deviation of the logarithm of the coil's shading.
    noise : (low, high)
        Standard deviation of the Rician noise, in parts of the brightest tissue.
    gamma : (low, high)
        Exponent of the gray levels.
    white : (low, high)
        Gray of the brightest tissue.
    white_quantile : (low, high)
        The quantile of the head that becomes `white`; (1, 1) with gamma 1 and white 1 leaves
        signals as they are, divided by the largest.

    Examples
    --------
    >>> draw = Draw(0, 3, 8, torch.device("cpu"))
    >>> draw_contrasts(draw, MRSettings(weights=(("FLAIR", 1.0),)))
    ('FLAIR', 'FLAIR', 'FLAIR')
    """

    weights: tuple[tuple[str, float], ...] = (
        ("T1", 0.18), ("T1C", 0.15), ("T2", 0.34), ("FLAIR", 0.18), ("PD", 0.05), (RANDOM, 0.10),
    )  # fmt: skip
    jitter: float = 0.05
    difference_factor: tuple[float, float] = (0.3, 1.4)
    fat_suppressed: float = 0.35
    texture: tuple[float, float] = (0.0, 0.05)
    coarse: float = 0.3
    ghosted: float = 0.08
    blur: tuple[float, float] = (0.3, 1.1)
    bias: tuple[float, float] = (0.0, 0.3)
    noise: tuple[float, float] = (0.0, 0.045)
    gamma: tuple[float, float] = (0.75, 1.35)
    white: tuple[float, float] = (0.65, 1.0)
    white_quantile: tuple[float, float] = (0.96, 0.999)


PLAIN_CT = CTSettings(blur=(0.0, 0.0))
"""Tissues' HU as drawn, sharp."""

PLAIN_MR = MRSettings(
    jitter=0.0, difference_factor=(1.0, 1.0), fat_suppressed=0.0, texture=(0.0, 0.0), coarse=0.0,
    ghosted=0.0, blur=(0.0, 0.0), bias=(0.0, 0.0), noise=(0.0, 0.0), gamma=(1.0, 1.0),
    white=(1.0, 1.0), white_quantile=(1.0, 1.0),
)  # fmt: skip
"""Tissues' signals as the table has them, divided by the brightest of the slice."""


def render_ct(
    classes: torch.Tensor, table: TissueTable, draw: Draw, settings: CTSettings
) -> torch.Tensor:
    """Render class maps as CT.

    Parameters
    ----------
    classes : uint8 tensor (N, sublayers, H, W)
    table : TissueTable
    draw : Draw
    settings : CTSettings

    Returns
    -------
    float32 tensor (N, 1, H, W)
        In HU. Sublayers are averaged, so a slice that is half bone has half its HU.
    """
    hu = _hu(table, lambda tissue: draw.uniform(*tissue.hu))
    hu = _blurred(_seen(classes, hu), draw.uniform(*settings.blur))
    grain = per_slice(draw.uniform(*settings.grain))
    if settings.grain[1] > 0:
        tissue = (hu > -200) & (hu < 200)
        hu = hu + torch.where(tissue, grain * draw.white_noise(), 0.0)
    return hu[:, None]


def render_typical_ct(
    classes: torch.Tensor, table: TissueTable, settings: CTSettings
) -> torch.Tensor:
    """Render class maps as the CT to expect: every tissue in the middle of its range, no grain.

    Parameters
    ----------
    classes : uint8 tensor (N, sublayers, H, W)
    table : TissueTable
    settings : CTSettings
        The middle of `blur` is taken.

    Returns
    -------
    float32 tensor (N, 1, H, W)
        In HU.
    """
    ones = torch.ones(len(classes), device=classes.device)
    hu = _hu(table, lambda tissue: ones * sum(tissue.hu) / 2)
    return _blurred(_seen(classes, hu), ones * sum(settings.blur) / 2)[:, None]


def draw_contrasts(draw: Draw, settings: MRSettings) -> tuple[str, ...]:
    """Draw a contrast for each slice by the settings' weights."""
    names = [name for name, _ in settings.weights]
    places = draw.integers([weight for _, weight in settings.weights])
    return tuple(names[place] for place in places.tolist())


def render_mr(
    classes: torch.Tensor,
    head: torch.Tensor,
    table: TissueTable,
    draw: Draw,
    settings: MRSettings,
    contrasts: Sequence[str],
) -> torch.Tensor:
    """Render class maps as MR.

    Parameters
    ----------
    classes : uint8 tensor (N, sublayers, H, W)
    head : bool tensor (N, 1, H, W)
        Where gray levels are measured.
    table : TissueTable
    draw : Draw
    settings : MRSettings
    contrasts : sequence of str
        One a slice: a contrast of the table, or ``"random"``.

    Returns
    -------
    float32 tensor (N, 1, H, W)
        Gray, 0 to 1.

    Raises
    ------
    ValueError
        There is no such contrast.
    """
    signal = _seen(classes, _signals(table, draw, settings, contrasts))
    uneven = per_slice(draw.uniform(*settings.texture)) * draw.field(9)
    signal = signal * (1 + uneven)
    signal = _coarser(signal, draw, draw.chance(settings.coarse))
    signal = _ghosted(signal, draw, draw.chance(settings.ghosted))
    signal = _blurred(signal, draw.uniform(*settings.blur))
    signal = signal * torch.exp(per_slice(draw.uniform(*settings.bias)) * draw.field(120))
    noise = per_slice(draw.uniform(*settings.noise))
    real, imaginary = noise * draw.white_noise(), noise * draw.white_noise()
    signal = torch.hypot(signal + real, imaginary)
    return _as_gray(signal, head[:, 0], draw, settings)[:, None]


def _hu(table: TissueTable, own: Callable[[Tissue], torch.Tensor]) -> torch.Tensor:
    """Return the HU of each tissue (N, tissues), of its own (N,) or beside another's."""
    values: list[torch.Tensor] = []
    for tissue in table.tissues:
        value = own(tissue)
        values.append(value + values[table.index(tissue.beside)] if tissue.beside else value)
    return torch.stack(values, 1)


def _signals(
    table: TissueTable, draw: Draw, settings: MRSettings, contrasts: Sequence[str]
) -> torch.Tensor:
    """Draw the signal of each tissue: (N, tissues)."""
    unknown = sorted(set(contrasts) - {*table.contrasts, RANDOM})
    if unknown:
        names = ", ".join((*table.contrasts, RANDOM))
        raise ValueError(f"no contrast {unknown[0]!r}; there are {names}")
    anything = torch.tensor([name == RANDOM for name in contrasts], device=draw.device)
    column = [0 if name == RANDOM else table.contrasts.index(name) for name in contrasts]
    t2 = torch.tensor([name == "T2" for name in contrasts], device=draw.device)
    drawn: list[torch.Tensor] = []
    for tissue in table.tissues:
        mean = torch.tensor(tissue.mr, device=draw.device)[column]
        step = draw.normal(settings.jitter)
        if tissue.beside:
            strength = draw.uniform(*settings.difference_factor)
            base = drawn[table.index(tissue.beside)]
            value = base + strength * mean + 0.3 * step
            value = torch.where(anything, base + draw.uniform(-0.4, 0.4), value)
        else:
            value = mean + torch.where(mean > _DARK, step, 0.3 * step)
            value = torch.where(anything, draw.uniform(0, 1), value)
        if tissue.name in _ALONE:
            value = mean
        elif tissue.name == "compact_bone":
            value = torch.where(anything, mean, value)
        elif tissue.beside and tissue.name not in FLUIDS:
            # Nothing is as bright in a T2 as fluid, or a network could not tell them apart.
            gap = draw.uniform(0.06, 0.2)
            brightest = drawn[table.index("ventricle")] - gap if _after(table, tissue.name) else 2.0
            value = torch.where(t2, torch.minimum(value, torch.as_tensor(brightest)), value)
        drawn.append(value)
    signals = torch.stack(drawn, 1).clamp(min=0)
    return _without_fat(signals, table, draw, settings, contrasts)


def _after(table: TissueTable, name: str) -> bool:
    return table.index(name) > table.index("ventricle")


def _without_fat(
    signals: torch.Tensor,
    table: TissueTable,
    draw: Draw,
    settings: MRSettings,
    contrasts: Sequence[str],
) -> torch.Tensor:
    rarely = torch.tensor([name in ("T1", "PD") for name in contrasts], device=draw.device)
    luck = draw.uniform(0, 1)
    share = torch.where(rarely, settings.fat_suppressed / 3, settings.fat_suppressed)
    factor = torch.where(luck < share, draw.uniform(0.1, 0.35), torch.ones_like(luck))
    fatty = list(table.indices(("fat", "spongy_bone")))
    signals[:, fatty] = signals[:, fatty] * factor[:, None]
    return signals


def _seen(classes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the mean over the sublayers of each pixel's tissue value: (N, H, W)."""
    flat = classes.flatten(1).long()
    return values.gather(1, flat).view(classes.shape).mean(1)


def _blurred(images: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Blur each image (N, H, W) by its own Gaussian."""
    largest = float(sigmas.max())
    if largest < 0.15:
        return images
    radius = math.ceil(2.5 * largest)
    places = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (places / sigmas[:, None].clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images.dtype)
    stack = F.pad(images[None], (radius, radius, radius, radius), mode="replicate")
    stack = F.conv2d(stack, kernel[:, None, None, :], groups=len(images))
    return F.conv2d(stack, kernel[:, None, :, None], groups=len(images))[0]


def _coarser(images: torch.Tensor, draw: Draw, which: torch.Tensor) -> torch.Tensor:
    """Leave out the outer lines of k-space: a coarser matrix, shown on the same pixels."""
    kept = 0.5 * draw.uniform(0.6, 1.0, 2)
    if not which.any():
        return images
    height, width = images.shape[1:]
    rows = torch.fft.fftfreq(height, device=images.device).abs()[None, :, None]
    columns = torch.fft.rfftfreq(width, device=images.device)[None, None]
    passed = (rows <= per_slice(kept[:, 0])) & (columns <= per_slice(kept[:, 1]))
    acquired = torch.fft.irfft2(torch.fft.rfft2(images) * passed, s=(height, width)).abs()
    return torch.where(per_slice(which), acquired, images)


def _ghosted(images: torch.Tensor, draw: Draw, which: torch.Tensor) -> torch.Tensor:
    """Add a faint copy, shifted along rows or columns."""
    strength = per_slice(draw.uniform(0.02, 0.08) * which)
    shifts = draw.uniform(0.08, 0.35).tolist()
    axes = draw.chance(0.5).tolist()
    if not which.any():
        return images
    moved = [
        image.roll(round(shift * draw.size), int(axis))
        for image, shift, axis in zip(images, shifts, axes, strict=True)
    ]
    return images + strength * torch.stack(moved)


def _as_gray(
    signal: torch.Tensor, head: torch.Tensor, draw: Draw, settings: MRSettings
) -> torch.Tensor:
    quantiles = draw.uniform(*settings.white_quantile).tolist()
    tops = []
    for image, mask, quantile in zip(signal, head, quantiles, strict=True):
        inside = image[mask] if mask.any() else image.flatten()
        place = min(len(inside) - 1, round(quantile * (len(inside) - 1)))
        tops.append(inside.kthvalue(place + 1).values)
    top = per_slice(torch.stack(tops)).clamp(min=1e-3)
    gamma = per_slice(draw.uniform(*settings.gamma))
    white = per_slice(draw.uniform(*settings.white))
    return ((signal / top).clamp(0, 1.15) ** gamma * white).clamp(0, 1)
