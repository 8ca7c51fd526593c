"""One record a file: all that is ever asked of a header, read once.

After this nothing of pydicom's data sets is kept, so a series of a thousand slices costs a few
megabytes.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported
from medtranslate.imaging.dicom.carry import Kept, kept
from medtranslate.imaging.dicom.encoding import check_whole
from medtranslate.imaging.dicom.enhanced import frames
from medtranslate.imaging.dicom.files import Parsed, parse
from medtranslate.imaging.dicom.slices import MULTI_FRAME, SINGLE_FRAME, Slice, single_frame
from medtranslate.imaging.dicom.values import first, shown, text

UID_CHARACTERS = re.compile(r"[0-9.]{1,64}")
"""What a UID is made of, PS3.5 9.1; the finer rules are broken too often to refuse by."""


@dataclass(frozen=True)
class Header:
    """What one file says.

    Parameters
    ----------
    path : path
        The file.
    sop_class, instance, study, series, frame_of_reference, patient : str
        UIDs, and PatientID.
    modality, description, image_type : str
        As stored; `image_type` with backslashes.
    synthetic : bool
        SyntheticData is YES.
    note : str
        What was unusual about the file.
    kept : dict
        The series-wide attributes that the derived series copies (see `carry`).
    slices : tuple of Slice
        Empty where `error` says why.
    error : MedTranslateError or None
        Why it cannot be a slice of a volume, though it is an image of its series.
    """

    path: Path
    sop_class: str
    instance: str
    study: str
    series: str
    frame_of_reference: str
    patient: str
    modality: str
    description: str
    image_type: str
    synthetic: bool
    note: str
    kept: Kept
    slices: tuple[Slice, ...] = ()
    error: MedTranslateError | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is a CT or MR image object, whole or not."""
        return self.sop_class in SINGLE_FRAME or self.sop_class in MULTI_FRAME


def read_header(path: Path) -> Header:
    """Read the header of one file.

    Raises
    ------
    InputMissing, Unreadable, UntrustedInput
        The file as a whole cannot be used; what is wrong with a slice of a readable series is
        kept in `Header.error` instead.
    """
    parsed = parse(path)
    dataset = parsed.dataset
    sop_class = first(dataset, "SOPClassUID")
    if not sop_class:
        raise Unreadable("is damaged: it has no SOPClassUID", path=path)
    slices: tuple[Slice, ...] = ()
    error: MedTranslateError | None = None
    image = sop_class in SINGLE_FRAME or sop_class in MULTI_FRAME
    if image:
        check_whole(parsed)
        try:
            check_identity(parsed, (SINGLE_FRAME | MULTI_FRAME)[sop_class])
            read = frames if sop_class in MULTI_FRAME else single_frame
            slices = tuple(read(parsed))
        except MedTranslateError as refusal:
            error = type(refusal)(refusal.fault, path=path, remedy=refusal.remedy)
    return Header(
        path=path,
        sop_class=sop_class,
        instance=first(dataset, "SOPInstanceUID"),
        study=first(dataset, "StudyInstanceUID"),
        series=shown(first(dataset, "SeriesInstanceUID")),
        frame_of_reference=first(dataset, "FrameOfReferenceUID"),
        patient=text(dataset, "PatientID"),
        modality=shown(first(dataset, "Modality")),
        description=_decoded(dataset, "SeriesDescription"),
        image_type=text(dataset, "ImageType"),
        synthetic=first(dataset, "SyntheticData") == "YES",
        note=parsed.note,
        kept=kept(dataset) if image else {},
        slices=slices,
        error=error,
    )


def _decoded(dataset: Dataset, keyword: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return shown(str(dataset.get(keyword, "") or ""))
        except Exception:
            # A description is only shown, so one in a broken character set is shown as bytes.
            return shown(text(dataset, keyword))


def check_identity(parsed: Parsed, modality: str) -> None:
    """Refuse an image without the UIDs that a derived series must refer to.

    Raises
    ------
    Unreadable
        SOPInstanceUID, StudyInstanceUID or SeriesInstanceUID is missing or no UID.
    Unsupported
        Modality says something else than the SOP class.
    """
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = first(parsed.dataset, keyword)
        if not uid:
            raise Unreadable(f"has no {keyword}")
        if not UID_CHARACTERS.fullmatch(uid):
            raise Unreadable(f"{keyword} is no UID: {shown(uid)!r}")
    said = first(parsed.dataset, "Modality")
    if said != modality:
        raise Unsupported(
            f"Modality is {said or 'missing'}, but its SOP class is that of {modality}"
        )
