"""Where a slice lost most: its worst patch, deep in the head.

A fault the size of a lesion is a hundredth of a slice, and the slice's mean, which skull and skin
rule, hardly answers to it. Its worst patch does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

PATCH = 9
"""Side of a patch in network pixels, 8 mm of a volume: of 5, 9, 13 and 17 the one that finds most
planted faults in validation pictures (``benchmarks/README.md``)."""

RIM = 10
"""How far a patch's middle lies from the head's outline at least, in network pixels: 9 mm are skin
and skull, which no round trip brings back."""

_PLAIN = 1 - 1e-6  # a window's end after resampling, whose weights add up to 1 but for rounding


def peaks(lost: torch.Tensor, source: torch.Tensor, head: torch.Tensor) -> list[float | None]:
    """Find what each slice lost in its worst patch.

    What was lost is averaged with its sign over a patch: noise, and edges that came back a little
    softer, cancel out there; a structure that is missing, added or moved does not. The median of
    a slice's patches is taken off, because a slice that came back a little brighter or darker as
    a whole has lost no structure.

    Parameters
    ----------
    lost : float tensor (n, 1, size, size)
        Differences, in any units.
    source : float tensor (n, 1, size, size)
        The scan, in [-1, 1]. A patch with a pixel that is plain black or white to the network
        (bone, air) is passed over: what was there the network could not tell.
    head : bool tensor (n, size, size)
        Where the head is.

    Returns
    -------
    list of (float or None)
        Furthest that a patch's mean lies from the median of the slice's patches, one a slice; not
        below 0; None where no patch has room.
    """
    deep = _all_round(head[:, None], 2 * RIM + 1)
    shown = _all_round(source.abs() < _PLAIN, PATCH)
    means = _sums(lost, PATCH).div_(PATCH**2)
    return [
        float((each[room] - each[room].median()).abs().max()) if room.any() else None
        for each, room in zip(means, deep & shown, strict=True)
    ]


def _all_round(where: torch.Tensor, side: int) -> torch.Tensor:
    """Tell of each pixel (n, 1, H, W) whether a square round it lies there whole."""
    return _sums(where.float(), side) > side**2 - 0.5


def _sums(values: torch.Tensor, side: int) -> torch.Tensor:
    """Add up a square round each pixel (n, 1, H, W); nothing lies beyond the frame.

    Running sums cost the same for any square; pooling takes several times as long.
    """
    reach = side // 2
    for axis, border in ((2, (0, 0, reach + 1, reach)), (3, (reach + 1, reach, 0, 0))):
        length = values.shape[axis]
        running = F.pad(values, border).cumsum(axis)
        values = running.narrow(axis, side, length) - running.narrow(axis, 0, length)
    return values
