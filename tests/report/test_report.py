"""The report is JSON, hashes what it names, and says what it does not know."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from medtranslate.errors import OutputExists, Unreadable
from medtranslate.imaging.source import make_source
from medtranslate.report.model import ConversionReport
from medtranslate.report.record import (
    anonymous,
    conversion,
    hashes,
    orientation,
    report,
    write_report,
)
from medtranslate.text import as_json


def described(folder: Path, error: Exception | None = None) -> dict[str, object]:
    (folder / "in.nii").write_bytes(b"in")
    (folder / "out.nii").write_bytes(b"out")
    source = make_source(
        format="nifti",
        kind="volume",
        files=[folder / "in.nii"],
        modality="CT",
        shape=(4, 5, 6),
        affine=np.diag([-1.0, -2.0, 3.0, 1.0]),
        dtype="int16",
        faults=["A fault."],
    )
    return conversion(
        folder / "in.nii",
        read=folder / "in.nii",
        written={} if error else {"output": folder / "out.nii"},
        source={} if error else source,
        synthesis={},
        found={"unseen": {"outside_field_voxels": 3}},
        notes=["A fault."],
        seconds={"read": 0.12345},
        error=error,
    )


def test_a_conversion_names_files_geometry_and_warnings(tmp_path) -> None:
    told = described(tmp_path)

    assert told["status"] == "converted" and told["error"] is None
    assert told["input"]["files"][0]["sha256"] == sha256(b"in").hexdigest()
    assert told["output"]["files"][0]["sha256"] == sha256(b"out").hexdigest()
    assert told["source"]["spacing_mm"] == [1.0, 2.0, 3.0]
    assert told["source"]["orientation"] == "LPS"
    assert told["warnings"] == ["A fault."] and told["seconds"] == {"read": 0.123}


def test_a_failure_has_its_kind_and_code(tmp_path) -> None:
    told = described(tmp_path, Unreadable("is damaged", path="x.nii"))

    assert told["status"] == "failed" and told["output"] is None
    assert told["error"] == {
        "kind": "Unreadable",
        "exit_code": 4,
        "message": "x.nii: is damaged",
    }
    bug = described(tmp_path, ZeroDivisionError("oh"))
    assert bug["error"]["exit_code"] == 1


def test_a_report_without_a_model_is_json(tmp_path) -> None:
    content = report([], {"to": "mri"}, None, exit_code=3, seconds={"load": 0.0, "total": 1.0})

    write_report(content, tmp_path / "r.json")

    again = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert again == json.loads(as_json(content))
    assert again["schema"] == 1 and again["model"] == {} and again["device"] == {}
    assert set(again["software"]) >= {"python", "torch", "monai"}
    with pytest.raises(OutputExists):
        write_report(content, tmp_path / "r.json")


def test_a_folder_is_hashed_by_its_files(tmp_path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)

    assert hashes([tmp_path]) == [
        {"path": str(tmp_path / name), "sha256": sha256(name.encode()).hexdigest()}
        for name in ("a", "b")
    ]


def test_orientation_is_where_the_axes_run() -> None:
    assert orientation(np.eye(4)) == "RAS"
    assert orientation(np.diag([-1.0, -1.0, 1.0, 1.0])) == "LPS"


def test_an_anonymous_report_names_no_file_folder_series_or_hash(tmp_path: Path) -> None:
    patient = tmp_path / "Smith^John"
    patient.mkdir()
    failure = Unreadable("series 'Smith head' is damaged", path=patient / "in.nii")
    told = {"unseen": None, "warnings": [f"{patient / 'in.nii'}: turned", "in.nii: upright"]}
    told["warnings"] += ["out_error.nii beside it is of an earlier result"]
    scans = [described(patient) | told, described(patient, failure) | {"unseen": None}]
    options = {"to": "mri", "output": str(patient), "inputs": [str(patient / "in.nii")]}
    seconds = {"load": 0.0, "total": 1.0}
    content = report(scans, options, None, exit_code=4, seconds=seconds)

    made = anonymous(content)

    text = json.dumps(made)
    assert "Smith" not in text and "in.nii" not in text and "out" not in text.replace("output", "")
    assert sha256(b"in").hexdigest() not in text and sha256(b"out").hexdigest() not in text
    assert made["options"] == {"to": "mri"}
    assert made["conversions"][0]["warnings"] == [
        "scan 1: turned",
        "scan 1: upright",
        "scan 1 beside it is of an earlier result",
    ]
    assert made["conversions"][1]["input"]["path"] == "scan 2"
    assert made["conversions"][1]["error"] == {
        "kind": "Unreadable",
        "exit_code": 4,
        "message": "The input exists but is damaged, truncated, empty or of no known format.",
    }
    ConversionReport.model_validate(made)
