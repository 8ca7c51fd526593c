"""Where the head is in a frame: the part that cycle errors and paired errors are measured in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtranslate.evaluation.frames import Frames
from medtranslate.evaluation.protocol import Modality
from medtranslate.transforms.head import FixedThreshold, OtsuThreshold, heads

Threshold = FixedThreshold | OtsuThreshold

# As in the recipes for pictures.
THRESHOLDS: dict[Modality, Threshold] = {"ct": FixedThreshold(0.08), "mri": OtsuThreshold(0.45)}


def head_masks(frames: Frames, modality: Modality) -> NDArray[np.bool_]:
    """Return the heads in frames (N, 256, 256), as bool of the same shape.

    A frame in which no head is found counts as head from edge to edge, so that it still has errors.
    """
    threshold = THRESHOLDS[modality]
    found = [_head(frame.astype(np.float32) / 255, threshold) for frame in frames]
    return np.stack(found)


def _head(frame: NDArray[np.float32], threshold: Threshold) -> NDArray[np.bool_]:
    mask = heads((frame > threshold.level(frame))[None])[0]
    return mask if mask.any() else np.ones_like(mask)
