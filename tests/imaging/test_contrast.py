"""The contrast of an MRI as header and file name state it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging.dicom import factory

from medtranslate import read, survey
from medtranslate.imaging.contrast import STATING, of_header, of_name

ORDER = ("ScanningSequence", "EchoTime", "RepetitionTime", "InversionTime")
SPOILED = {"SequenceVariant": "SK\\SP", "FlipAngle": "15"}


@pytest.mark.parametrize(
    ("values", "more", "contrast"),
    [
        (("SE", "12", "550"), {}, "t1"),
        (("SE", "12", "550"), {"ContrastBolusAgent": "GADOVIST"}, "t1c"),
        (("SE", "12", "550"), {"ContrastBolusAgent": "NONE"}, "t1"),
        (("SE", "102", "4000"), {}, "t2"),
        (("SE", "102", "4000"), {"ContrastBolusAgent": "GADOVIST"}, "t2"),
        (("SE", "400", "3200", "0"), {}, "t2"),  # a 3D turbo spin echo
        (("SE", "15", "2500"), {}, "pd"),
        (("SE\\IR", "120", "9000", "2500"), {}, "flair"),
        (("SE\\IR", "9", "2000", "860"), {}, "t1"),
        (("GR\\IR", "2.98", "2300", "900"), {}, "t1"),  # MPRAGE
        (("GR", "4.6", "20"), SPOILED, "t1"),
        # None of them, or not clear
        (("SE\\IR", "30", "4000", "160"), {}, ""),  # fat nulled
        (("SE\\IR", "9", "2000"), {}, ""),
        (("GR", "4.6", "20"), {}, ""),  # balanced
        (("GR", "4.6", "20"), SPOILED | {"AngioFlag": "Y"}, ""),
        (("GR", "20", "620"), SPOILED, ""),  # T2*
        (("EP\\SE", "90", "5000"), {}, ""),  # diffusion
        (("RM", "90", "5000"), {}, ""),
        (("SE", "50", "2500"), {}, ""),
        (("SE", "90", "1200"), {}, ""),
        (("SE", "", "4000"), {}, ""),
        (("SE", "fast", "4000"), {}, ""),
        (("SE", "nan", "4000"), {}, ""),
        ((), {"AcquisitionContrast": "FLUID_ATTENUATED"}, "flair"),
        ((), {"AcquisitionContrast": "T1", "ContrastBolusAgent": "DOTAREM"}, "t1c"),
        ((), {"AcquisitionContrast": "MIXED"}, ""),
    ],
)
def test_acquisition_parameters_give_the_contrast(
    values: tuple[str, ...], more: dict[str, str], contrast: str
) -> None:
    stated, basis = of_header(dict(zip(ORDER, values, strict=False)) | more)
    assert stated == contrast
    assert basis.startswith("DICOM ") if contrast else basis == ""


@given(st.dictionaries(st.sampled_from(STATING), st.text(max_size=12)))
def test_whatever_a_header_says_gives_a_contrast_or_none(said: dict[str, str]) -> None:
    stated, basis = of_header(said)
    assert stated in ("", "t1", "t1c", "t2", "flair", "pd") and bool(stated) == bool(basis)


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("sub-01_T1w.nii.gz", "t1"),
        ("sub-01_ses-2_ce-gadolinium_T1w.nii.gz", "t1c"),
        ("BraTS-0001-t1ce.nii.gz", "t1c"),
        ("sub-01_T2w.nii", "t2"),
        ("ms_patient01_study1_FLAIR.nii.gz", "flair"),
        ("ax T2w FLAIR.mha", "flair"),
        ("sub-01_PDw.nii.gz", "pd"),
        ("head MPRAGE.nrrd", "t1"),
        # The second visit, a map, a mask, two contrasts, a word that begins alike
        ("patient7_T2.nii.gz", ""),
        ("sub-01_T1w_map.nii.gz", ""),
        ("sub-01_FLAIR_mask.nii.gz", ""),
        ("T1w_to_T2w.nii.gz", ""),
        ("sub-01_T2starw.nii.gz", ""),
        ("flairs.nii.gz", ""),
    ],
)
def test_words_of_a_file_name_give_the_contrast(name: str, contrast: str) -> None:
    stated, basis = of_name(Path("T1w") / name)
    assert stated == contrast
    assert basis.endswith(" in the file name") if contrast else basis == ""
    assert name not in basis


def test_a_series_states_what_all_its_slices_state(tmp_path: Path) -> None:
    instances = factory.series("MR", count=4)
    for one in instances:
        one.ScanningSequence, one.RepetitionTime, one.EchoTime = "SE", "4000", "102"
    folder = factory.write(tmp_path / "t2", instances)
    source = read(folder).meta["source"]
    assert source["contrast"] == "t2"
    assert source["contrast_basis"] == "DICOM EchoTime 102, RepetitionTime 4000"
    (finding,) = survey(folder)
    assert (finding.contrast, finding.contrast_basis) == ("t2", source["contrast_basis"])

    instances[1].EchoTime = "15"
    mixed = factory.write(tmp_path / "mixed", instances)
    assert read(mixed).meta["source"]["contrast"] == ""
