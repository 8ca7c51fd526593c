"""What the domain check says of a scan, and how a refusal is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medtranslate.errors import OutOfDomain

Verdict = Literal["passed", "warned", "refused"]


@dataclass(frozen=True)
class Judgement:
    """Whether a scan is what the model was trained to translate.

    Parameters
    ----------
    verdict : {"passed", "warned", "refused"}
    score : float
        How odd the scan is: of the genuine scans of the training side, one in ``10 ** score``
        looks as odd. Not below 0.
    limits : (warn, refuse)
        Scores from which a scan is warned of, and from which it is refused.
    reasons : tuple of str
        What is odd about it, in plain words, the oddest first; empty where it passed.
    slices : tuple of (float or None), or None
        Score of each network slice; None for a slice that was not looked at. None for the whole
        where there was nothing to look at.
    """

    verdict: Verdict
    score: float
    limits: tuple[float, float]
    reasons: tuple[str, ...] = ()
    slices: tuple[float | None, ...] | None = None

    def as_builtins(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        warn, refuse = self.limits
        return {
            "verdict": self.verdict,
            "score": round(self.score, 3),
            "limits": {"warn": warn, "refuse": refuse},
            "reasons": list(self.reasons),
            "slices": self.slices
            and [None if each is None else round(each, 3) for each in self.slices],
        }


def refusal(judgement: Judgement, source: Mapping[str, Any]) -> OutOfDomain:
    """Make the error that says why a scan is refused.

    Parameters
    ----------
    judgement : Judgement
    source : mapping
        The scan's source record; its first file is named.
    """
    files = source.get("files") or [None]
    path = None if files[0] is None else Path(files[0])
    modality = source.get("modality") or "scan"
    fault = f"is no head {modality} that this model can translate: {'; '.join(judgement.reasons)}"
    return OutOfDomain(fault, path=path, remedy="--force translates it all the same")
