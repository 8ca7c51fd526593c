"""The domain check: is this scan what the model was trained to translate?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medtranslate.assurance.domain.judgement import Judgement
from medtranslate.bundle import Bundle
from medtranslate.recipes import Prepared


@dataclass(frozen=True)
class DomainCheck:
    """A calibrated check, one part a modality."""

    def judge(self, prepared: Prepared, source: Mapping[str, Any]) -> Judgement:
        """Judge a scan by its prepared slices.

        Parameters
        ----------
        prepared : Prepared
            By the recipe of the modality that the scan is said to be.
        source : mapping
            Its source record; ``modality`` (``"CT"`` or ``"MR"``) is read.
        """
        raise NotImplementedError


def load_domain(bundle: Bundle) -> DomainCheck | None:
    """Load a bundle's check; None where it carries none."""
    return None
