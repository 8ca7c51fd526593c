"""Every random choice is a function of the seed and the step, so a resumed run makes the same ones.

No generator's state is ever carried over or saved: each step draws from fresh ones.
"""

from __future__ import annotations

import hashlib

import torch


def generator(
    seed: int, purpose: str, *place: int, device: str | torch.device = "cpu"
) -> torch.Generator:
    """Return a generator for one purpose at one place.

    Parameters
    ----------
    seed : int
        Of the run.
    purpose : str
        Keeps the draws for different things independent.
    *place : int
        Step, process, or whatever else the draws are repeated over.
    device : device
        Where to draw.
    """
    text = "/".join([str(seed), purpose, *map(str, place)])
    start = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(start)
