"""CT and MR: the two modalities, and everything that follows from which one a value is."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from medtranslate.errors import InvalidOption

Target = Literal["ct", "mri"]
"""A modality as ``--to`` and a bundle's generators name it."""


class Modality(StrEnum):
    """A modality, by its DICOM code.

    Members equal their codes, so ``image.meta["source"]["modality"] == Modality.CT`` holds although
    metadata are kept in builtins; write ``modality.value`` into metadata and files.

    Examples
    --------
    >>> Modality.parse("mri")
    <Modality.MR: 'MR'>
    >>> Modality.CT.other.target
    'mri'
    >>> Modality.MR.direction
    'ct_to_mri'
    """

    CT = "CT"
    MR = "MR"

    @classmethod
    def parse(cls, text: str, name: str = "modality") -> Modality:
        """Return the modality that a user names: CT, MR or MRI, in any case.

        Parameters
        ----------
        text : str
            What the user wrote.
        name : str
            What the value is called, for the message.

        Raises
        ------
        InvalidOption
            It names neither; this is a `ValueError` too.

        Examples
        --------
        >>> Modality.parse("Ct") is Modality.CT
        True
        """
        code = text.upper() if isinstance(text, str) else ""
        if code not in _CODES:
            raise InvalidOption(f"{name} must be one of ct, mri (or CT, MR), got {text!r}")
        return _CODES[code]

    @property
    def other(self) -> Modality:
        """The other modality: what this one is translated to, and what it is made from."""
        return Modality.MR if self is Modality.CT else Modality.CT

    @property
    def target(self) -> Target:
        """The name as a target, as ``--to`` and a bundle's generators have it: ct or mri."""
        return "ct" if self is Modality.CT else "mri"

    @property
    def direction(self) -> str:
        """The translation that makes this modality, in names of files and keys."""
        return f"{self.other.target}_to_{self.target}"

    @property
    def unit(self) -> str:
        """The unit of synthetic values: HU for CT, arbitrary units for MR."""
        return "HU" if self is Modality.CT else "arbitrary units"


_CODES = {"CT": Modality.CT, "MR": Modality.MR, "MRI": Modality.MR}

CONTRASTS = ("t1", "t1c", "t2", "flair", "pd")
"""MR contrasts by their names in options, bundles and reports; t1c is T1 with contrast agent."""

TARGETS = (Modality.MR.target, Modality.CT.target)
"""Every target, in the order in which bundles list their generators."""


HIGHEST_GRAIN = 100.0
"""HU; no head CT is as noisy."""


def check_grain(deviation: float) -> None:
    """Refuse a standard deviation of noise, in HU, that no CT has.

    Raises
    ------
    InvalidOption
    """
    if not 0 <= deviation <= HIGHEST_GRAIN:
        raise InvalidOption(f"grain must be 0 to {HIGHEST_GRAIN:g} HU, got {deviation:g}")


def check_contrast(contrast: str) -> None:
    """Refuse a contrast that is none.

    Raises
    ------
    InvalidOption
    """
    if contrast not in CONTRASTS:
        raise InvalidOption(f"contrast must be one of {', '.join(CONTRASTS)}, got {contrast!r}")
