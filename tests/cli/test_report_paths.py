"""A report replaces nothing but a report, and shares its name with no result."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields

import pytest

from medtranslate.conversion import ConversionOptions
from medtranslate.errors import OutputExists, OutputFailed


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no model be loaded."""
    from medtranslate.translation import Translator

    def load(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(Translator, "load", load)


def test_a_scan_is_not_replaced(convert, ct, no_work, listed) -> None:
    before = ct.read_bytes()

    done = convert(ct, "--to", "mri", "--report", ct, "--overwrite")

    assert done.code == OutputExists.exit_code
    assert "scan.nii.gz: is no report" in done.err and done.err.count("\n") == 1
    assert ct.read_bytes() == before and listed() == {"scan.nii.gz"}


def test_a_file_of_a_series_is_not_replaced(convert, ct_series, no_work) -> None:
    file = sorted(ct_series.iterdir())[0]
    before = file.read_bytes()

    done = convert(ct_series, "--to", "mri", "--report", file, "--overwrite")

    assert done.code == OutputExists.exit_code
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["scan_mri.nii.gz", "scan_mri_preview.png", "scan_mri_error.nii.gz"]
)
def test_the_name_of_a_result_is_refused(convert, ct, no_work, listed, name) -> None:
    done = convert(ct, "--to", "mri", "--map", "--overwrite", "--report", ct.parent / name)

    assert done.code == OutputExists.exit_code
    assert f"{name}: is for a result already" in done.err
    assert listed() == {"scan.nii.gz"}


def test_a_place_in_a_folder_that_is_a_result_is_refused(convert, ct_series, no_work) -> None:
    result = ct_series.parent / "made"
    result.mkdir()

    asked = ("-o", result, "--overwrite", "--report", result / "r.json")
    done = convert(ct_series, "--to", "mri", *asked)

    assert done.code == OutputExists.exit_code and "is for a result already" in done.err
    assert not list(result.iterdir())


def test_one_file_is_not_two_reports(convert, ct, no_work, tmp_path) -> None:
    done = convert(ct, "--to", "mri", *["--report", tmp_path / "r.json"] * 2)

    assert done.code == OutputExists.exit_code and "asked for twice" in done.err
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("name", ["r.json", "r.html"])
def test_an_earlier_report_is_replaced(convert, ct, tmp_path, name) -> None:
    asked = (ct, "--to", "mri", "--no-preview", "--overwrite", "--report", tmp_path / name)
    convert(*asked)
    (tmp_path / "scan_mri.nii.gz").unlink()

    assert convert(*asked).code == 0
    assert (tmp_path / name).stat().st_size > 100


def test_a_report_has_every_option(convert, ct, tmp_path) -> None:
    convert(ct, "--to", "mri", "--force", "--report", tmp_path / "r.json")

    options = json.loads((tmp_path / "r.json").read_text())["options"]
    assert set(options) == {"inputs", *(one.name for one in fields(ConversionOptions))}
    assert options["inputs"] == [str(ct)] and options["force"] is True


def test_a_name_in_latin_1_is_converted_and_its_reports_are_utf_8(convert, ct, tmp_path) -> None:
    odd = tmp_path / os.fsdecode(b"M\xfcller.nii.gz")
    ct.rename(odd)
    reports = ("--report", tmp_path / "r.json", "--report", tmp_path / "r.html")

    done = convert(odd, "--to", "mri", "--no-cycle", *reports)

    assert done.code == 0 and r"M\xfcller.nii.gz" in done.out
    (scan,) = json.loads((tmp_path / "r.json").read_bytes().decode("utf-8"))["conversions"]
    assert scan["input"]["path"].endswith(r"M\xfcller.nii.gz")
    assert r"M\xfcller" in (tmp_path / "r.html").read_bytes().decode("utf-8")


def test_a_preview_whose_name_would_be_too_long_is_refused_before_any_work(
    convert, ct, no_work
) -> None:
    long = ct.rename(ct.with_name("a" * 240 + ".nii.gz"))

    done = convert(long, "--to", "mri")

    assert done.code == OutputFailed.exit_code and "its name would be too long" in done.err


def test_what_a_killed_process_left_is_removed_and_never_read(convert, ct_series) -> None:
    left = ct_series / ".medtranslate-abcdefgh.part" / "old"
    shutil.copytree(ct_series, left)
    beside = ct_series.parent / ".medtranslate-12345678.part"
    beside.mkdir()

    done = convert(ct_series, "--to", "mri", "--no-cycle", "--no-preview")

    assert done.code == 0, done.err
    assert not beside.exists()
