"""Proof by tools that others trust: dciodvfy, dcentvfy and dcm2niix."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medtranslate.imaging.dicom import write_series

from .compress import compress
from .factory import enhanced, save, series, translated, write
from .test_dicom_measured import write_measured

UNKNOWN_TO_OLD_BUILDS = (
    "Error - Attribute with an even group number is not a recognized standard attribute"
    " - (0x0008,0x001c)"
)
"""SyntheticData is in the standard since 2023; the one line that is allowed."""


KINDS = ("CTImage", "MRImage", "ParametricMap", "EnhancedSR")


def errors_of(dciodvfy, folder):
    """Give the errors of dciodvfy over a folder, with the file, but for SyntheticData."""
    found = []
    for path in sorted(folder.iterdir()):
        done = subprocess.run([dciodvfy, path], capture_output=True, text=True, timeout=60)
        lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        found += [f"{path.name}: {line}" for line in lines if UNKNOWN_TO_OLD_BUILDS not in line]
        assert any(f"{kind}\n" in done.stderr for kind in KINDS), done.stderr
    return found


def entities(dcentvfy, folder):
    paths = [str(path) for path in sorted(folder.iterdir())]
    done = subprocess.run([dcentvfy, *paths], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def tilted(modality):
    angle = np.radians(18.5)
    return series(modality, orientation=(1.0, 0.0, 0.0, 0.0, np.cos(angle), -np.sin(angle)))


def uneven(modality):
    made = series(modality, count=6)
    return made[:2] + made[3:]


def bare(modality):
    """Give a series without anything that a reader can do without."""
    made = series(modality)
    for one in made:
        for keyword in (
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "ReferringPhysicianName",
            "PositionReferenceIndicator",
            "FrameOfReferenceUID",
            "SliceThickness",
            "Manufacturer",
            "BodyPartExamined",
            "SpecificCharacterSet",
            "SeriesNumber",
        ):
            delattr(one, keyword)
        one.PatientIdentityRemoved = "YES"
    return made


def rich(modality):
    """Give a series with everything optional that is copied."""
    made, code, study = series(modality), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C1", "99TEST", "Head scan"
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = "1.2.3.4"
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID, other.TypeOfPatientID = "P9", "elsewhere", "TEXT"
    for one in made:
        one.ClinicalTrialSponsorName, one.ClinicalTrialProtocolID = "Sponsor", "T1"
        one.ClinicalTrialSubjectID = "S1"
        one.PatientAge, one.PatientSize, one.PatientWeight = "050Y", "1.7", "70"
        one.PregnancyStatus, one.SmokingStatus = 4, "UNKNOWN"
        one.StudyDescription, one.PatientComments = "a study", "none"
        one.ProcedureCodeSequence = Sequence([code])
        one.ReferencedStudySequence = Sequence([study])
        one.OtherPatientIDsSequence = Sequence([other])
        one.DeidentificationMethodCodeSequence = Sequence([code])
        one.PatientIdentityRemoved = "YES"
        one.InstitutionName, one.StationName, one.SoftwareVersions = "A", "B", "C"
        one.LossyImageCompression = "00"
        one.TimezoneOffsetFromUTC = "+0100"
    return made


def corrupted(modality):
    """Give a series whose values break their rules."""
    made = series(modality)
    for one in made:
        broken = Dataset()
        broken.CodeValue = "C1"
        one.ProcedureCodeSequence = Sequence([broken])
        one.StudyDescription = "x" * 90
        one.PatientSex, one.PatientBirthDate = "male", "1970"
        one.StudyTime = "3 o'clock"
        one.SliceThickness = "2.50000000000000000001"
        one.BodyPartExamined, one.AcquisitionTime = "head", "later"
    return made


def oblique(modality):
    """Give direction cosines whose strings are longer than DS allows."""
    made = series(modality)
    row, column = np.array([0.36, 0.48, -0.8]), np.array([-0.8, 0.6, 0.0])
    for index, one in enumerate(made):
        one.ImageOrientationPatient = [f"{v:.18f}" for v in (*row, *column)]
        place = np.array([1.0, 2.0, 3.0]) + 2.5 * index * np.cross(row, column)
        one.ImagePositionPatient = [f"{v:.18f}" for v in place]
    return made


CASES = {
    "even": series,
    "tilted": tilted,
    "uneven": uneven,
    "bare": bare,
    "rich": rich,
    "corrupted": corrupted,
    "oblique": oblique,
}


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("case", CASES)
def test_validators_accept_every_instance(tmp_path, read, tool, modality, case):
    dciodvfy, dcentvfy = tool("dciodvfy"), tool("dcentvfy")
    source = write(tmp_path / "in", CASES[case](modality))
    out = write_series(translated(read(source)), tmp_path / "out")
    assert errors_of(dciodvfy, out) == []
    assert entities(dcentvfy, out) == (0, "")


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("case", CASES)
def test_validators_accept_maps_and_figures(tmp_path, read, tool, modality, case):
    dciodvfy, dcentvfy = tool("dciodvfy"), tool("dcentvfy")
    image = translated(read(write(tmp_path / "in", CASES[case](modality))))
    out = write_series(image, tmp_path / "out")
    beside = tmp_path / "beside"
    beside.mkdir()
    write_measured(image, out, beside)
    assert errors_of(dciodvfy, beside) == []
    for path in out.iterdir():
        path.rename(beside / path.name)
    code, told = entities(dcentvfy, beside)
    # In a report it takes some attributes of the study for attributes of the series.
    lines = [line for line in told.splitlines() if "IE <Study> versus <Series>" not in line]
    assert (code, lines) == (0, [])


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_validators_accept_a_series_from_an_enhanced_image(tmp_path, read, tool, modality):
    dciodvfy = tool("dciodvfy")
    path = save(enhanced(modality), tmp_path / "e.dcm")
    out = write_series(translated(read(path)), tmp_path / "out")
    assert errors_of(dciodvfy, out) == []


@pytest.mark.parametrize("syntax", ["jpeg2000-lossy", "jpeg-ls-near"])
def test_validators_accept_a_lossy_origin(tmp_path, read, tool, syntax):
    dciodvfy = tool("dciodvfy")
    folder = write(tmp_path / "in", series("MR"))
    for path in folder.iterdir():
        compress(path, syntax)
    out = write_series(translated(read(folder)), tmp_path / "out")
    assert errors_of(dciodvfy, out) == []


def test_validators_accept_kept_private_attributes(tmp_path, read, tool):
    def add(one):
        one.private_block(0x0019, "MADE BY TEST", create=True).add_new(0x01, "LO", "told")

    dciodvfy = tool("dciodvfy")
    image = translated(read(write(tmp_path / "in", series(), add)))
    assert errors_of(dciodvfy, write_series(image, tmp_path / "out", keep_private=True)) == []


def nifti_of(dcm2niix, folder, place):
    """Give dcm2niix's image of a series."""
    place.mkdir()
    command = [dcm2niix, "-b", "n", "-z", "n", "-m", "y", "-o", str(place), "-f", "s", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (made,) = place.glob("*.nii")
    return nibabel.load(made)


def same_points(image, nifti):
    """Compare voxel by voxel and center by center; dcm2niix stores rows from the bottom up."""
    ours = np.asarray(image.as_tensor()[0])
    theirs = np.asarray(nifti.dataobj)
    assert theirs.shape == ours.shape
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = ours.shape[1] - 1
    np.testing.assert_array_equal(theirs[:, ::-1], ours)
    np.testing.assert_allclose(nifti.affine @ flip, image.affine.numpy(), atol=1e-4)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_dcm2niix_gives_our_affine_for_source_and_derived(tmp_path, read, tool, modality):
    dcm2niix = tool("dcm2niix")
    made = series(modality, count=8, rows=32, columns=24)
    source = write(tmp_path / "in", made)
    image = read(source)
    derived = write_series(translated(image), tmp_path / "derived")
    of_source = nifti_of(dcm2niix, source, tmp_path / "a")
    of_derived = nifti_of(dcm2niix, derived, tmp_path / "b")
    same_points(image, of_source)
    same_points(read(derived), of_derived)
    np.testing.assert_array_equal(of_source.affine, of_derived.affine)


@pytest.mark.data
@pytest.mark.parametrize("name", ["ct-head-tilted", "mr-brain-t2"])
def test_real_series_is_derived_without_an_error(tmp_path, read, tool, shared_data, name):
    dciodvfy, dcentvfy = tool("dciodvfy"), tool("dcentvfy")
    image = translated(read(Path(shared_data) / "dicom" / name))
    out = write_series(image, tmp_path / "out")
    derived = sorted(out.iterdir())
    assert errors_of(dciodvfy, out) == []
    assert entities(dcentvfy, out) == (0, "")
    for path, source in zip(derived, image.meta["source"]["files"], strict=True):
        one, other = pydicom.dcmread(path), pydicom.dcmread(source)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert getattr(one, keyword) == getattr(other, keyword)
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == other.SOPInstanceUID
    np.testing.assert_array_equal(read(out).numpy(), image.numpy())
