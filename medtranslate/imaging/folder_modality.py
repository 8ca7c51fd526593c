"""What a folder of pictures shows: one guess for all, which errs less than one for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medtranslate.errors import MedTranslateError, WrongModality
from medtranslate.imaging import read

_SAMPLE = 48
_AGREEMENT = 0.75  # of those that can be told: one of a few may be misjudged, a mixed folder not


def vote(folder: Path, pictures: Sequence[Path]) -> tuple[str, str]:
    """Guess the modality of a folder from an even sample of its pictures.

    Parameters
    ----------
    folder : Path
        Named in the error.
    pictures : sequence of Path
        In order; those that cannot be read have no vote.

    Returns
    -------
    modality, basis : str
        As in ``meta["source"]``.

    Raises
    ------
    WrongModality
        The pictures disagree, or cannot be told.
    """
    step = max(1, len(pictures) // _SAMPLE)
    votes = Counter(filter(None, map(_look, pictures[::step])))
    looked = len(pictures[::step])
    told = votes["CT"] + votes["MR"]
    winner, most = votes.most_common(1)[0] if told else ("", 0)
    counts = f"of {looked} pictures {votes['CT']} look like CT and {votes['MR']} like MR"
    if not told or most < _AGREEMENT * told:
        hint = "say which: --from ct or --from mri"
        raise WrongModality(f"cannot tell CT from MR: {counts}", path=folder, remedy=hint)
    return winner, f"guess: {counts}"


def _look(picture: Path) -> str:
    try:
        return str(read(picture).meta["source"]["modality"])
    except MedTranslateError:
        return ""
