"""inspect: what it tells about what lies there."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np


def test_one_volume_is_told_with_its_values(command, ct) -> None:
    done = command("inspect", ct, "--json")

    (scan,) = json.loads(done.out)["scans"]
    assert done.code == 0
    assert (scan["format"], scan["modality"], scan["shape"]) == ("nifti", "CT", [48, 52, 5])
    assert scan["modality_basis"].startswith("guess: ")
    assert np.allclose(scan["spacing"], (4.5, 4.25, 26.0))
    assert scan["orientation"] == "LPS" and scan["dtype"] == "int16"
    assert -1024 <= scan["low"] <= -1000 and 880 < scan["high"] < 930
    assert scan["error"] == "" and scan["faults"] == []


def test_the_table_names_what_the_json_names(command, ct) -> None:
    said = command("inspect", ct).out

    for told in ("nifti volume", "CT (guess", "48 x 52 x 5", "4.5 x 4.25 x 26 mm", "LPS", "int16"):
        assert told in said


def test_the_contrast_that_a_name_states_is_told_of_an_mr(command, ct, mr, tmp_path) -> None:
    named = tmp_path / "sub-01_FLAIR.nii.gz"
    shutil.copy(mr, named)
    said = command("inspect", named)
    assert "flair (FLAIR in the file name)" in said.out
    (scan,) = json.loads(command("inspect", named, "--json").out)["scans"]
    assert (scan["contrast"], scan["contrast_basis"]) == ("flair", "FLAIR in the file name")
    shutil.copy(ct, tmp_path / "ct_T1w.nii.gz")
    assert "t1 (" not in command("inspect", tmp_path / "ct_T1w.nii.gz").out


def test_a_table_of_scans_has_the_contrast_that_each_states(command, ct, mr, tmp_path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    shutil.copy(ct, both / "head.nii.gz")
    shutil.copy(mr, both / "sub-01_FLAIR.nii.gz")

    header, *rows = command("inspect", both).out.splitlines()

    assert header.split()[3:5] == ["modality", "contrast"]
    assert [row.split()[1:4] for row in rows] == [["nifti", "48", "x"], ["nifti", "flair", "48"]]


def test_series_have_the_numbers_that_convert_takes(command, two_series) -> None:
    scans = json.loads(command("inspect", two_series, "--json").out)["scans"]

    assert [(one["number"], one["modality"]) for one in scans] == [(1, "CT"), (2, "MR")]
    assert "made CT" in command("inspect", two_series).out


def test_a_fault_is_told(command, uneven_series) -> None:
    (scan,) = json.loads(command("inspect", uneven_series, "--json").out)["scans"]

    assert any("not even" in fault for fault in scan["faults"])
    assert "not even" in command("inspect", uneven_series).out


def test_a_folder_of_2d_images_is_one_modality(command, images, monkeypatch) -> None:
    from medtranslate.imaging import scans

    monkeypatch.setattr(scans, "_look", lambda path: "CT")

    told = json.loads(command("inspect", images, "--json").out)

    assert told["modality"] == "CT"
    assert [one["shape"] for one in told["scans"]] == [[96, 96, 1], [96, 96, 1], [80, 80, 1]]
    assert "all: CT (guess: of 3 images 3 look like CT" in command("inspect", images).out


def test_what_cannot_be_read_is_told_and_coded(command, tmp_path) -> None:
    (tmp_path / "empty.nii").touch()

    done = command("inspect", tmp_path / "empty.nii", "--json")

    assert done.code == 4 and "empty.nii" in done.err
    assert "empty" in json.loads(done.out)["scans"][0]["error"]


def test_a_missing_file_is_coded(command, tmp_path) -> None:
    done = command("inspect", tmp_path / "gone.nii")

    assert done.code == 3 and done.err.count("\n") == 1 and done.out == ""


def test_one_good_scan_among_damaged_files_is_shown_and_is_no_failure(command, ct) -> None:
    (ct.parent / "bad.nii.gz").write_bytes(b"x" * 99)

    done = command("inspect", ct.parent)

    assert done.code == 0 and done.err == ""
    assert ct.name in done.out and "bad.nii.gz" in done.out and "not a NIfTI file" in done.out


def test_a_header_writes_nothing_on_the_terminal(command, ct) -> None:
    image = nib.load(ct)
    image.header["descrip"] = b"head\x1b[2J\x1b]0;owned\x07"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), ct)

    done = command("inspect", ct)

    assert "\x1b" not in done.out + done.err and "\x07" not in done.out + done.err
    assert r"head\x1b[2J\x1b]0;owned\x07" in done.out
