"""Every random choice is a function of the seed and the step, so a resumed run makes the same ones.

No generator's state is ever carried over or saved: each step seeds them again.
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
    return reseed(torch.Generator(device), seed, purpose, *place)


def reseed(draws: torch.Generator, seed: int, purpose: str, *place: int) -> torch.Generator:
    """Bring a generator to where a fresh one for this purpose at this place starts."""
    text = "/".join([str(seed), purpose, *map(str, place)])
    start = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return draws.manual_seed(start)
