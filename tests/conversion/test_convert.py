"""convert and convert_many: the library does what the command does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scan_fixtures import write_head

from medtranslate import ConversionOptions, convert, convert_many, find_scans, read
from medtranslate.cli.app import app
from medtranslate.cli.endings import run
from medtranslate.conversion import Observer
from medtranslate.errors import (
    AmbiguousInput,
    InputMissing,
    InvalidOption,
    OutputExists,
    SomeFailed,
    WrongModality,
)
from medtranslate.imaging import dicom
from medtranslate.imaging.dicom.read import grouping
from medtranslate.imaging.dicom.read.headers import Header
from medtranslate.transforms import Recipe
from medtranslate.translation import Translator

VARYING = {"created", "seconds", "peak_memory_bytes"}


def comparable(report: Any, folder: Path) -> Any:
    """Leave out of a report what differs from call to call, and the folder's name."""
    if isinstance(report, dict):
        items = report.items()
        return {key: comparable(one, folder) for key, one in items if key not in VARYING}
    if isinstance(report, list):
        return [comparable(one, folder) for one in report]
    return report.replace(str(folder), "") if isinstance(report, str) else report


def test_python_and_the_command_line_give_the_same_voxels_and_report(
    tiny, ct, mr, tmp_path, tiny_bundle
) -> None:
    for name in ("python", "command"):
        (tmp_path / name).mkdir()
    python, command = tmp_path / "python", tmp_path / "command"
    inputs = [ct, mr, tmp_path / "gone.nii"]

    done = list(
        convert_many(
            inputs, **tiny, output=f"{python}/", map=True, variation=True, reports=python / "r.json"
        )
    )
    arguments = ["convert", *map(str, inputs), "--to", "mri", "--bundle", str(tiny_bundle)]
    asked = ["--map", "--variation", "--report", f"{command}/r.json", "-o", f"{command}/"]
    code = run(app, [*arguments, *asked, "--device", "cpu", "--quiet"])

    reports = [json.loads((folder / "r.json").read_text()) for folder in (python, command)]
    assert comparable(reports[0], python) == comparable(reports[1], command)
    assert [type(one.error) for one in done] == [InputMissing, type(None), WrongModality]
    assert code == reports[0]["exit_code"] == SomeFailed.exit_code
    names = {path.name for path in python.iterdir()}
    assert names == {path.name for path in command.iterdir()}
    assert {"scan_mri.nii.gz", "scan_mri_error.nii.gz", "scan_mri_variation.nii.gz"} < names
    for name in (one for one in names if one.endswith(".nii.gz")):
        ours, theirs = (nib.load(folder / name) for folder in (python, command))
        assert np.array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        assert np.array_equal(ours.affine, theirs.affine)


def test_a_conversion_says_what_was_written_and_found(tiny, ct, tmp_path) -> None:
    done = convert(ct, **tiny, map=True)

    assert (done.given, done.path, done.output) == (ct, ct, tmp_path / "scan_mri.nii.gz")
    assert done.preview == tmp_path / "scan_mri_preview.png" and done.preview.is_file()
    assert done.error_map == tmp_path / "scan_mri_error.nii.gz" and done.variation_map is None
    assert done.source["modality"] == "CT" and "header" not in done.source
    assert done.synthesis["label"].startswith("SYNTHETIC MR from CT")
    assert done.checks["cycle_error"]["error"] > 0 and "variation" not in done.checks
    assert done.error is None and done.exit_code == 0
    assert repr(done) == f"<Conversion {ct} -> {tmp_path / 'scan_mri.nii.gz'}>"


def test_grain_lies_on_the_ct_that_is_written_and_not_where_checks_look(tiny, mr, tmp_path) -> None:
    asked = {**tiny, "to": "ct"}
    plain = convert(mr, **asked, output=tmp_path / "plain.nii.gz")
    grainy = convert(mr, **asked, output=tmp_path / "grainy.nii.gz", grain=4.0)

    assert (plain.synthesis["grain"], grainy.synthesis["grain"]) == (0.0, 4.0)
    assert grainy.checks["cycle_error"] == plain.checks["cycle_error"]
    assert "noise of 4 HU was added to the CT" in grainy.notes
    before, after = (read(one.output).as_tensor().float() for one in (plain, grainy))
    noise = after - before
    between = (before > -10) & (before < 90)  # of the window, to which this model is clipped
    assert float(noise[between].std()) == pytest.approx(4, rel=0.25)
    assert not noise[before == -1000].any()
    assert after.min() == -1000 and after.max() <= 100


def test_a_scan_that_cannot_be_converted_is_raised_with_its_report(tiny, mr, tmp_path) -> None:
    with pytest.raises(WrongModality, match="is MR already"):
        convert(mr, **tiny, reports=tmp_path / "r.json")

    (one,) = json.loads((tmp_path / "r.json").read_text())["conversions"]
    assert one["error"]["exit_code"] == WrongModality.exit_code


def test_each_header_of_a_folder_is_read_once_to_convert_all_its_series(
    tiny, ct_voxels, tmp_path, monkeypatch
) -> None:
    folder = tmp_path / "study"
    for number in (1, 2, 3):
        write_head(folder / str(number), "CT", ct_voxels, number=number)
    conversions = convert_many(
        folder, **tiny, series="all", output=tmp_path / "out", cycle=False, preview=False
    )
    reads: list[Path] = []
    read_header = grouping.read_header

    def watched(path: Path) -> Header:
        reads.append(path)
        return read_header(path)

    monkeypatch.setattr(grouping, "read_header", watched)

    done = list(conversions)

    assert [one.error for one in done] == [None] * 3
    assert sorted(reads) == sorted(file for file in folder.rglob("*") if file.is_file())
    assert len({tuple(one.source["files"]) for one in done}) == 3


def test_a_series_that_changes_while_another_is_converted_is_read_anew(ct_voxels, tmp_path) -> None:
    folder = tmp_path / "study"
    for number in (1, 2):
        write_head(folder / str(number), "CT", ct_voxels, number=number)
    first, second = (one.series for one in find_scans(folder).scans)
    reader = dicom.FolderReader()
    before = reader.read(folder, series=first)
    sorted((folder / "2").iterdir())[0].unlink()

    after = reader.read(folder, series=second)

    assert after.voxels.shape[2] == before.voxels.shape[2] - 1


def test_a_result_is_held_in_the_type_that_is_written(tiny, ct, tmp_path, monkeypatch) -> None:
    held = []
    restore = Recipe.restore

    def watched(self, slices, prepared, dtype):
        held.append(dtype)
        return restore(self, slices, prepared, dtype)

    monkeypatch.setattr(Recipe, "restore", watched)

    done = convert(ct, **tiny, output=tmp_path / "mri.nii")

    assert held == [torch.int16] and nib.load(done.output).get_data_dtype() == np.int16


def test_several_scans_are_for_convert_many(tiny, images, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Translator, "load", lambda *a, **k: pytest.fail("the model was loaded"))
        with pytest.raises(AmbiguousInput, match=r"holds 3 scans \(convert_many"):
            convert(images, **tiny, modality="ct")

    done = list(convert_many(images, **tiny, modality="ct"))
    assert [one.of for one in done] == [3, 3, 3]
    assert {one.folder for one in done} == {tmp_path / "slices_mri"}
    assert len(list((tmp_path / "slices_mri").iterdir())) == 3


def test_results_come_one_by_one_and_a_failure_ends_nothing(tiny, save, ct_voxels, mr) -> None:
    first, second = save(ct_voxels, "a.nii.gz"), save(ct_voxels, "b.nii.gz")
    conversions = convert_many([first, mr, second], **tiny, cycle=False)

    done = next(conversions)
    assert done.output is not None and done.output.is_file()
    assert not second.with_name("b_mri.nii.gz").exists()
    assert isinstance(next(conversions).error, WrongModality)
    assert next(conversions).path == second
    with pytest.raises(StopIteration):
        next(conversions)
    assert conversions.exit_code == WrongModality.exit_code
    assert [one["status"] for one in conversions.report["conversions"]] == [
        *("converted", "failed", "converted"),
    ]


def test_nothing_is_begun_where_the_result_is_in_the_way(tiny, ct, tmp_path, monkeypatch) -> None:
    (tmp_path / "scan_mri.nii.gz").write_bytes(b"precious")
    monkeypatch.setattr(Translator, "load", lambda *a, **k: pytest.fail("the model was loaded"))

    with pytest.raises(OutputExists, match="exists already"):
        convert(ct, **tiny)


def test_a_loaded_model_serves_several_calls(tiny, ct, mr, tiny_bundle, monkeypatch) -> None:
    translator = Translator.load(tiny_bundle, device="cpu")
    monkeypatch.setattr(Translator, "load", lambda *a, **k: pytest.fail("loaded again"))

    convert(ct, to="mri", translator=translator, cycle=False)
    convert(mr, to="ct", translator=translator, cycle=False)


def test_an_observer_sees_progress_and_notes(tiny, save, ct_voxels, tmp_path) -> None:
    class Recorder(Observer):
        def __init__(self) -> None:
            self.steps: list[tuple[str, int, int]] = []
            self.notes: list[str] = []

        def progress(self, name: str, done: int, total: int) -> None:
            self.steps.append((name, done, total))

        def note(self, message: str) -> None:
            self.notes.append(message)

    save(ct_voxels, "in/a.nii.gz")
    list(convert_many(tmp_path / "in", **tiny))
    recorder = Recorder()
    list(convert_many(tmp_path / "in", **tiny, overwrite=True, observer=recorder))

    assert recorder.steps[0] == ("a.nii.gz", 0, 0)
    assert recorder.steps[-1][1] == recorder.steps[-1][2] > 0
    assert recorder.notes == [
        f"{tmp_path / 'in'}: 1 file labeled as synthetic is skipped",
        f"{tmp_path / 'in'}: 1 2D image beside the volumes is skipped",
    ]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"to": "pet"}, "to must be one of"),
        ({}, "to is missing"),
        ({"to": "mri", "skip_existing": True, "overwrite": True}, "contradicts --overwrite"),
        ({"to": "mri", "output": "-"}, "not supported"),
        ({"to": "mri", "batch_size": 0}, "batch of 0"),
        ({"to": "ct", "grain": -1.0}, "0 to 100 HU, got -1"),
        ({"to": "ct", "grain": float("nan")}, "0 to 100 HU, got nan"),
        ({"to": "mri", "grain": 4.0}, "grain is for a CT"),
    ],
)
def test_options_that_cannot_be_are_refused(fields, fault, ct) -> None:
    with pytest.raises(InvalidOption, match=fault) as caught:
        convert_many(ct, **fields)

    assert caught.value.exit_code == 2


def test_options_are_kept_in_one_spelling_and_replaced_field_by_field(tiny, ct) -> None:
    options = ConversionOptions(to="MR", modality="ct", precision="BF16", reports=Path("r.html"))

    assert (options.to, options.modality, options.reports) == ("mri", "CT", ("r.html",))
    assert options.wants_page and options == ConversionOptions(
        to="mri", modality="CT", precision="bf16", reports=["r.html"]
    )
    done = convert(ct, options=ConversionOptions(**tiny), cycle=False, preview=False)
    assert done.preview is None and done.seconds.keys() == {
        *("read", "prepare", "check", "translate", "write"),
    }


@pytest.mark.parametrize("name", ["1.2.826.0.1", "2024.11"])
def test_a_folder_may_be_called_like_a_uid(tiny, ct, ct_series, tmp_path, name) -> None:
    done = convert(ct, **tiny, output=tmp_path / "new" / name, cycle=False)
    assert done.output == tmp_path / "new" / name / "scan_mri.nii.gz"

    series = convert(ct_series, **tiny, output=tmp_path / "other" / name, cycle=False)
    assert series.output == tmp_path / "other" / name
    assert len(list(series.output.iterdir())) == 5
