"""The real pictures of an evaluation, and what is wrong with them before any hour is spent."""

from __future__ import annotations

from dataclasses import dataclass

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.frames import FEW, FrameSet
from medtranslate.evaluation.paired import check_pairs
from medtranslate.evaluation.protocol import Modality
from medtranslate.evaluation.results import SetRecord


@dataclass(frozen=True)
class RealData:
    """The real pictures of an evaluation.

    Attributes
    ----------
    ct, mri : FrameSet
        The test sets.
    ct_reference, mri_reference : FrameSet or None
        Other real pictures, such as the training sets, for floors of the same size.
    paired : bool
        Frames of the same place in both test sets show the same slice of the same head.

    Raises
    ------
    EvaluationFailed
        Both modalities hold the same pictures, a reference is its own test set, a pair has no
        partner, or its pictures differ in size.
    """

    ct: FrameSet
    mri: FrameSet
    ct_reference: FrameSet | None = None
    mri_reference: FrameSet | None = None
    paired: bool = False

    def __post_init__(self) -> None:
        if self.ct.digest == self.mri.digest:
            raise EvaluationFailed(
                "the CT and the MRI set hold the same pictures", path=self.mri.folder or None
            )
        for test, reference in ((self.ct, self.ct_reference), (self.mri, self.mri_reference)):
            if reference is not None and reference.digest == test.digest:
                raise EvaluationFailed(
                    f"the {test.modality.upper()} reference is the test set itself, "
                    "so its floor would be 0",
                    path=reference.folder or None,
                )
        if self.paired:
            check_pairs(self.ct, self.mri)

    def test(self, modality: Modality) -> FrameSet:
        """Return the test set of a modality."""
        return self.ct if modality == "ct" else self.mri

    def reference(self, modality: Modality) -> FrameSet | None:
        """Return the other real pictures of a modality."""
        return self.ct_reference if modality == "ct" else self.mri_reference

    def records(self) -> tuple[SetRecord, ...]:
        """Return what went in, by content."""
        sets = [
            ("test", self.ct),
            ("test", self.mri),
            ("reference", self.ct_reference),
            ("reference", self.mri_reference),
        ]
        return tuple(
            SetRecord(role, each.modality, each.folder, len(each), each.digest, each.left_out)
            for role, each in sets
            if each is not None
        )

    def warnings(self) -> tuple[str, ...]:
        """Return what a reader of the figures must know about the sets."""
        few = [
            f"{len(each)} {each.modality.upper()} pictures: under {FEW} FID means little by "
            "itself; read KID, and FID only beside a floor of the same size"
            for each in (self.ct, self.mri)
            if len(each) < FEW
        ]
        left_out = [
            f"{len(each.left_out)} {each.modality.upper()} scan(s) of {each.folder} are left out, "
            f"because the model's recipe refuses them; the first: {each.left_out[0]}"
            for each in (self.ct, self.mri, self.ct_reference, self.mri_reference)
            if each is not None and each.left_out
        ]
        return (*few, *left_out)
