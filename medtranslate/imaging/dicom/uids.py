"""New UIDs for derived objects: random, or a hash that gives a pipeline the same ones again."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UidMaker:
    """Makes UIDs under 2.25, PS3.5 B.2.

    Parameters
    ----------
    seed : str
        ``""``: new UIDs each time. Else a UID is a hash of the seed and of everything that the
        pixels depend on, and of the pixels themselves, so that different pixels never share one.
    basis : str
        What all UIDs of a series depend on beside the seed, from `basis_of`.
    """

    seed: str
    basis: str

    def make(self, purpose: str, *parts: str) -> str:
        """Give one UID.

        Parameters
        ----------
        purpose : str
            ``"series"``, ``"instance"`` or ``"frame of reference"``.
        *parts : str
            What tells it apart from others of its purpose.
        """
        if not self.seed:
            return f"2.25.{uuid.uuid4().int}"
        told = json.dumps([self.seed, self.basis, purpose, *parts]).encode()
        digest = hashlib.sha256(told).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def basis_of(synthesis: Mapping[str, Any], software: str) -> str:
    """Give what all UIDs of a derived series depend on: target, model, weights, options, software.

    Parameters
    ----------
    synthesis : mapping
        ``meta["synthesis"]``.
    software : str
        Name and version of this program.
    """
    keys = ("modality", "model", "version", "weights_sha256", "window", "options")
    told = {key: synthesis.get(key) for key in keys}
    return json.dumps([software, told], sort_keys=True, default=str)
