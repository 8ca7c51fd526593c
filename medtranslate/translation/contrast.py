"""The contrast of an MRI, told from its prepared slices by a small network that a bundle may carry.

A generator of CT that takes contrast codes needs the contrast of the MRI that it is given. Header
or name may state it (`imaging.contrast`); else what is not clear stays unknown: code 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from medtranslate.bundle import Bundle
from medtranslate.bundle.load import read_part
from medtranslate.bundle.save import part_bytes
from medtranslate.modality import CONTRASTS

SURE = 0.8
"""Probability from which a contrast counts as told."""

MAX_SLICES = 24
"""Slices of a scan that are looked at, evenly spread."""

LEAST_HEAD = 0.06
"""Share of a slice that a head covers, from which it shows enough of the brain."""

_FOLD = 4  # network pixels a side in one of the classifier's
_LOW, _HIGH = 0.02, 0.98  # brightness percentiles of the head that are 0 and 1
_FEW = 7  # one pixel in so many gives the percentiles
_WIDTHS, _STRIDES = (16, 32, 48, 64), (1, 2, 2, 2)
_ALIKE = {"t1": "t1c", "t1c": "t1"}  # one to whoever knows no vessel from another
_FORMAT = 1


@dataclass(frozen=True)
class ToldContrast:
    """What contrast an MRI seems to have.

    Parameters
    ----------
    contrast : str
        The likeliest, such as ``"flair"``.
    probability : float
        Of it, or of T1 with and without contrast agent together.

    Examples
    --------
    >>> ToldContrast("t2", 0.95).clear, ToldContrast("t2", 0.55).clear
    ('t2', '')
    """

    contrast: str
    probability: float

    @property
    def clear(self) -> str:
        """The contrast, where it is clear enough to go by; else ``""``."""
        return self.contrast if self.probability >= SURE else ""


class ContrastClassifier(nn.Module):
    """Tell the contrast of MR slices.

    Parameters
    ----------
    contrasts : sequence of str
        What it tells apart.

    Examples
    --------
    >>> slices, head = torch.zeros(2, 1, 256, 256), torch.ones(2, 256, 256).bool()
    >>> ContrastClassifier(["t1", "t2"])(contrast_features(slices, head)).shape
    torch.Size([2, 2])
    """

    def __init__(self, contrasts: Sequence[str] = CONTRASTS) -> None:
        super().__init__()
        self.contrasts = tuple(contrasts)
        layers: list[nn.Module] = []
        before = 2
        for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
            convolution = nn.Conv2d(before, width, 3, stride, 1)
            layers += [convolution, nn.GroupNorm(4, width), nn.ReLU()]
            before = width
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * before, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, len(contrasts))
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (N, 2, S, S) to logits (N, contrasts)."""
        encoded = self.encoder(features)
        logits: torch.Tensor = self.head(
            torch.cat([encoded.mean((2, 3)), encoded.amax((2, 3))], dim=1)
        )
        return logits

    @torch.inference_mode()
    def tell(self, slices: torch.Tensor, head: torch.Tensor) -> ToldContrast | None:
        """Tell the one contrast of an MRI; None where no slice shows enough of a head.

        Slices that do, `MAX_SLICES` at most, vote by their log-probabilities: one that is sure
        outvotes several that are not.

        Parameters
        ----------
        slices : float tensor (N, 1, H, W)
            In [-1, 1].
        head : bool tensor (N, H, W)
        """
        area = torch.count_nonzero(head, dim=(1, 2)) / head[0].numel()
        shown = torch.nonzero(area >= LEAST_HEAD)[:, 0]
        if not len(shown):
            return None
        places = torch.linspace(0, len(shown) - 1, min(MAX_SLICES, len(shown)))
        chosen = shown[places.round().long()]
        features = contrast_features(slices[chosen], head[chosen])
        return self._told(self(features).log_softmax(1).mean(0))

    @torch.inference_mode()
    def tell_each(self, slices: torch.Tensor, head: torch.Tensor) -> list[ToldContrast]:
        """Tell the contrast of each slice alone: of (N, 1, H, W) in [-1, 1] and heads (N, H, W)."""
        return [self._told(odds) for odds in self(contrast_features(slices, head))]

    def _told(self, odds: torch.Tensor) -> ToldContrast:
        chances = dict(zip(self.contrasts, odds.softmax(0).tolist(), strict=True))
        best = max(chances, key=lambda name: chances[name])
        return ToldContrast(best, chances[best] + chances.get(_ALIKE.get(best, ""), 0.0))

    def to_bytes(self) -> bytes:
        """Serialize as a safetensors file, weights in 16 bit."""
        weights = {name: each.half() for name, each in self.state_dict().items()}
        return part_bytes({"format": _FORMAT, "contrasts": self.contrasts}, weights)


def contrast_features(slices: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Return what the classifier sees of prepared slices.

    Parameters
    ----------
    slices : float tensor (N, 1, H, W)
        In [-1, 1]; 4 divides H and W.
    head : bool tensor (N, H, W)

    Returns
    -------
    float32 tensor (N, 2, H / 4, W / 4)
        Brightness between two percentiles of the head, 0 outside; head fraction.
    """
    cover = head.float()
    bright = (slices[:, 0].float() + 1) / 2
    stretched = [_stretched(one[inside], one) for one, inside in zip(bright, head, strict=True)]
    return F.avg_pool2d(torch.stack([torch.stack(stretched) * cover, cover], dim=1), _FOLD)


def _stretched(inside: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    few = inside[::_FEW]
    if not len(few):
        return bright
    low, high = torch.quantile(few, torch.tensor([_LOW, _HIGH])).tolist()
    stretched: torch.Tensor = (bright - low) / max(high - low, 0.02)
    return stretched.clamp(0, 1.2)


def load_contrast_classifier(bundle: Bundle) -> ContrastClassifier | None:
    """Load a bundle's classifier of MR contrasts; None where it carries none.

    Raises
    ------
    ModelUnusable
        If the file is damaged or of another format.

    Examples
    --------
    >>> load_contrast_classifier(Bundle.load()).contrasts
    ('t1', 't1c', 't2', 'flair', 'pd')
    """
    if bundle.contrast_classifier is None:
        return None
    remedy = "use a newer medtranslate"
    return read_part(
        bundle.contrast_classifier, "a contrast classifier", [_FORMAT], _built, remedy=remedy
    )


def _built(about: dict[str, Any], weights: dict[str, torch.Tensor]) -> ContrastClassifier:
    if not set(about["contrasts"]) <= set(CONTRASTS):
        raise ValueError("a contrast that is none")
    classifier = ContrastClassifier(about["contrasts"])
    classifier.load_state_dict(weights)  # to float32
    return classifier.eval().requires_grad_(False)
