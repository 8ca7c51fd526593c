"""Which files an evaluation takes, and how images become slices: named with every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medtranslate.errors import EvaluationFailed, InputMissing
from medtranslate.imaging.scans import FileList
from medtranslate.modality import Target

MODALITIES: tuple[Target, Target] = ("ct", "mri")

SIZING = (
    "8-bit gray, longer side to 256, centered on black; Pillow BOX at a scale of 0.5 or less, "
    "LANCZOS between 0.5 and 1, BICUBIC above 1"
)


@dataclass(frozen=True)
class Protocol:
    """A named way to choose and size the images of an evaluation.

    Attributes
    ----------
    name : str
        What a figure is quoted with.
    description : str
        What it means, in a sentence.
    mri_list : str
        Pattern for the name of a list beside the MRI folder, one file a line, relative to the
        list's own folder; ``{folder}`` stands for the folder's name. Empty: every image.
    sizing : str
        How an image becomes a slice on the network grid.
    include : tuple of path
        Lists of the files to take from the test folders, lines as for `mri_list`; empty: all that
        the protocol takes.
    """

    name: str
    description: str
    mri_list: str = ""
    sizing: str = SIZING
    include: tuple[Path, ...] = ()

    def names(self, folder: Path, modality: Target) -> list[str] | None:
        """Return the file names that the protocol takes from a folder; None where it takes all.

        Raises
        ------
        InputMissing
            The protocol has a list for this modality, and it is not there.
        EvaluationFailed
            The list names nothing in this folder.
        """
        if modality != "mri" or not self.mri_list:
            return None
        listing = folder.parent / self.mri_list.format(folder=folder.name)
        if not listing.is_file():
            raise InputMissing(
                f"protocol '{self.name}' needs this list of MRI images without near copies",
                path=listing,
                remedy="evaluate with --protocol published, or write the list",
            )
        return _listed([listing], folder)

    def test_names(self, folder: Path, modality: Target) -> list[str] | None:
        """Return the file names of a test folder: what the protocol takes and `include` names.

        Raises
        ------
        InputMissing, EvaluationFailed
            As `names`, and for the lists of `include`.
        """
        taken = self.names(folder, modality)
        if not self.include:
            return taken
        included = _listed(self.include, folder)
        if taken is None:
            return included
        both = sorted(set(taken) & set(included))
        if not both:
            raise EvaluationFailed(
                f"protocol '{self.name}' takes none of the files that the list names",
                path=self.include[0],
            )
        return both


def _listed(lists: Sequence[Path], folder: Path) -> list[str]:
    """Return the names of a folder's files that lists name (`FileList.inside`)."""
    names = FileList.read(lists).inside(folder)
    if not names:
        raise EvaluationFailed(f"names no file of the folder {folder.name}", path=lists[0])
    return list(names)


PUBLISHED = Protocol(
    "published",
    "fitted on all training images, tested on all test images: to compare with the paper",
)
CLEAN = Protocol(
    "clean",
    "MRI restricted to the lists without near copies and without files that are no brain MRI",
    mri_list="clean-{folder}.txt",
)
PROTOCOLS = {protocol.name: protocol for protocol in (PUBLISHED, CLEAN)}
