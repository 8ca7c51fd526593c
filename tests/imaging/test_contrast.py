"""The contrast of an MRI as header and file name state it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imaging.dicom import factory
from PIL import Image

from medtranslate import as_image, inspect, read, survey, write
from medtranslate.imaging.contrast import STATING, of_header, of_name
from medtranslate.phantom import Phantom

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
        (("SE", "120", "9000", "2500?"), {}, ""),  # inverted or not
        (("SE", "69", "4176"), {"DiffusionBValue": "1000"}, ""),
        (("SE", "69", "4176"), {"SequenceName": "DwiSE"}, ""),
        (("SE\\IR", "325", "7500", "3000"), {}, ""),  # white matter nulled too
        (("GR", "4.6", "22"), SPOILED | {"SequenceVariant": "SK\\SP\\MTC"}, ""),
        (("GR\\IR", "2.98", "5000", "700"), {"ImageType": "DERIVED\\PRIMARY\\M\\T1 MAP"}, ""),
        (("SE", "12", "550"), {"ImageType": "DERIVED\\SECONDARY\\SUBTRACTION"}, ""),
        (("SE", "12", "550"), {"ImageType": "ORIGINAL\\PRIMARY\\M\\ND\\NORM"}, "t1"),
        (("SE", "12", "550"), {"ContrastBolusAgent": "No contrast"}, "t1"),
        (("SE", "12", "550"), {"ContrastBolusAgent": "0.1 mmol/kg Gadovist"}, "t1c"),
        ((), {"AcquisitionContrast": "FLUID_ATTENUATED"}, "flair"),
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
        # A T1 FLAIR, a T1 of another file, maps, a dark-fluid T2, an agent perhaps
        ("5_AX_T1_FLAIR.nii.gz", ""),
        ("sub-01_space-T1w_desc-preproc_bold.nii.gz", ""),
        ("sub-01_space-T1w_FLAIR.nii.gz", "flair"),
        ("sub-01_acq-mp2rage_T1map.nii.gz", ""),
        ("sub-01_inv-2_MP2RAGE.nii.gz", ""),
        ("t2w_tirm_dark-fluid.nii.gz", ""),
        ("T1w_gd.nii.gz", ""),
        ("sub-01_ce-none_T1w.nii.gz", ""),
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


@pytest.mark.parametrize(
    ("meaning", "contrast"), [("Gadobutrol", "t1c"), ("", "t1c"), ("None", "t1"), (None, "t1")]
)
def test_a_multi_frame_image_names_its_agent_in_a_sequence(
    tmp_path: Path, meaning: str | None, contrast: str
) -> None:
    image = factory.enhanced("MR")
    image.AcquisitionContrast = "T1"
    agent = pydicom.Dataset()
    if meaning:
        agent.CodeMeaning = meaning
    image.ContrastBolusAgentSequence = [] if meaning is None else [agent]

    source = read(factory.save(image, tmp_path / "enhanced.dcm")).meta["source"]

    assert source["contrast"] == contrast
    assert "Gadobutrol" not in source["contrast_basis"]


def test_what_an_operator_wrote_is_not_repeated() -> None:
    said = dict(zip(ORDER, ("SE", "12", "550"), strict=False))
    said["ContrastBolusAgent"] = "10 ml, Dr Mueller"
    assert of_header(said) == (
        "t1c",
        "DICOM EchoTime 12, RepetitionTime 550, ContrastBolusAgent",
    )


def test_a_damaged_value_states_nothing_and_keeps_its_slice(tmp_path: Path) -> None:
    folder = factory.write(tmp_path / "s", factory.series("MR", count=3))
    for one in sorted(folder.iterdir())[-1:]:
        content = one.read_bytes()
        dataset = pydicom.dcmread(one)
        dataset.AngioFlag = "N"
        dataset.save_as(one)
        content = one.read_bytes()
        assert content.count(b"\x18\x00\x25\x00CS") == 1
        one.write_bytes(content.replace(b"\x18\x00\x25\x00CS", b"\x18\x00\x25\x00ZZ"))
    source = read(folder).meta["source"]
    assert source["shape"][2] == 3 and source["contrast"] == ""


def test_a_stack_of_images_and_an_image_of_nibabel_state_it_too(tmp_path: Path) -> None:
    for name in ("a_T1w.png", "b_T1w.png"):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / name)
    assert read(tmp_path, modality="MR").meta["source"]["contrast"] == "t1"
    (tmp_path / "b_T1w.png").rename(tmp_path / "b_FLAIR.png")
    assert read(tmp_path, modality="MR").meta["source"]["contrast"] == ""

    path = tmp_path / "sub-01_T2w.nii"
    nib.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4)).to_filename(path)
    assert as_image(nib.load(path), modality="MR").meta["source"]["contrast"] == "t2"


def test_a_ct_has_no_contrast(tmp_path: Path) -> None:
    head = Phantom((16, 16, 2), (12.0, 12.0, 60.0)).volume()
    (found,) = inspect(write(head, tmp_path / "ct_T1w.nii.gz")).findings
    assert (found.modality, found.contrast, found.contrast_basis) == ("CT", "", "")
