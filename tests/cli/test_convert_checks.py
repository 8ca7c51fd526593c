"""convert says how far to trust what it makes: cycle error, domain check, maps, report."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from tiny_bundles import tiny_bundle as save_tiny_bundle
from tiny_bundles import tiny_networks, with_constant_error

from medtranslate import read
from medtranslate.domain_check import Judgment
from medtranslate.errors import (
    DeviceUnusable,
    ModelUnusable,
    OutOfDomain,
    OutputExists,
    Unsupported,
)
from medtranslate.report import schema


def reported(path: Path) -> dict[str, Any]:
    """Read a report, held to the schema."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator(schema()).validate(content)
    return content


class Stub:
    """A domain check that says what a test says."""

    def __init__(self, verdict: str, slices: tuple[float | None, ...] | None = None) -> None:
        reasons = () if verdict == "passed" else ("it stands on its head",)
        self.judgment = Judgment(verdict, 3.0, (1.5, 2.5), reasons, slices)  # type: ignore[arg-type]

    def judge(self, prepared: object, source: object) -> Judgment:
        return self.judgment


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch):
    """Have every scan judged so."""
    from medtranslate.translation import translator

    def set_to(verdict: str, slices: tuple[float | None, ...] | None = None) -> None:
        stub = Stub(verdict, slices)
        monkeypatch.setattr(translator, "load_domain", lambda bundle: stub)

    return set_to


@pytest.fixture
def one_way(command, tmp_path: Path):
    """Run ``convert`` with a model that makes MRI only."""
    folder = save_tiny_bundle(tmp_path / "model" / "one", tiny_networks(("mri",)))
    return lambda *given: command("convert", *given, "--bundle", folder, "--device", "cpu")


def test_the_line_says_what_the_round_trip_lost(convert, ct, tmp_path) -> None:
    done = convert(ct, "--to", "mri", "--report", tmp_path / "r.json")

    (one,) = reported(tmp_path / "r.json")["conversions"]
    found = one["cycle_error"]
    assert f"cycle error {found['error']:.1f} HU ({found['share_of_range']:.1%}" in done.out
    assert found["range"] == [-20, 100] and 0 < found["error"] < 120
    assert [each["index"] for each in found["slices"]] == list(range(5))
    assert found["slice_axis"] == "Z"
    assert one["variation"] is None and one["error_map"] is None


def test_without_a_round_trip_nothing_is_said_of_it(convert, ct, tmp_path, monkeypatch) -> None:
    from medtranslate.translation import Translator

    asked = []
    run = Translator.translate_slices

    def counted(self: object, slices: object, *, to: str, **options: object) -> object:
        asked.append(to)
        return run(self, slices, to=to, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Translator, "translate_slices", counted)

    done = convert(ct, "--to", "mri", "--no-cycle", "--report", tmp_path / "r.json")

    assert done.code == 0 and "cycle error" not in done.out
    assert set(asked) == {"mri"}
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["cycle_error"] is None and one["unseen"]["outside_field_voxels"] == 0


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "out.mha", "out.nrrd"])
def test_a_map_lies_beside_the_result_on_its_grid(convert, ct, tmp_path, name) -> None:
    done = convert(
        ct, "--to", "mri", "-o", tmp_path / name, "--map", "--report", tmp_path / "r.json"
    )

    assert done.code == 0, done.err
    made = read(tmp_path / name.replace("out", "out_error"))
    assert np.allclose(made.affine, nib.load(ct).affine) and made.shape == (1, 48, 52, 5)
    (one,) = reported(tmp_path / "r.json")["conversions"]
    values = made.as_tensor()[0].numpy()
    values = np.where(values < 0, -1 - values, values)
    middle = next(each for each in one["cycle_error"]["slices"] if each["index"] == 2)
    assert values[..., 2].sum() / middle["voxels"] == pytest.approx(middle["error"], rel=0.01)
    assert one["error_map"]["path"].endswith(name.replace("out", "out_error"))
    assert len(one["error_map"]["files"][0]["sha256"]) == 64


def test_bone_is_marked_in_the_map(convert, ct, ct_voxels) -> None:
    assert convert(ct, "--to", "mri", "--map").code == 0

    values = nib.load(ct.parent / "scan_mri_error.nii.gz").get_fdata()
    brain = (ct_voxels > 0) & (ct_voxels < 80)
    assert (values[ct_voxels > 800] < 0).mean() > (values[brain] < 0).mean()
    assert (values < 0).any() and (values[ct_voxels < -500] == 0).mean() > 0.9


def test_a_dicom_result_has_a_parametric_map_and_figures(convert, ct_series, tmp_path) -> None:
    done = convert(ct_series, "--to", "mri", "--map", "--report", tmp_path / "r.json")

    assert done.code == 0, done.err
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["source"]["format"] == "dicom" and len(one["output"]["files"]) == 5
    assert one["error_map"]["path"].endswith("series_mri_error.dcm")
    assert one["figures"]["path"].endswith("series_mri_figures.dcm")
    made = pydicom.dcmread(tmp_path / "series_mri_error.dcm")
    values = np.frombuffer(made.FloatPixelData, "<f4").reshape(5, made.Rows, made.Columns)
    values = np.where(values < 0, -1 - values, values)
    middle = next(each for each in one["cycle_error"]["slices"] if each["index"] == 2)
    assert values[2].sum() / middle["voxels"] == pytest.approx(middle["error"], rel=0.01)
    figures = pydicom.dcmread(tmp_path / "series_mri_figures.dcm")
    assert figures.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert made.StudyInstanceUID == figures.StudyInstanceUID

    again = convert(ct_series, "--to", "mri", "--map")
    assert again.code == OutputExists.exit_code


def test_uneven_slices_have_a_map_with_their_own_positions(
    convert, uneven_series, tmp_path
) -> None:
    refused = convert(uneven_series, "--to", "mri", "--map", "--format", "nii.gz")
    assert refused.code == Unsupported.exit_code

    assert convert(uneven_series, "--to", "mri", "--map").code == 0
    made = pydicom.dcmread(tmp_path / "uneven_mri_error.dcm")
    placed = {
        tuple(one.PlanePositionSequence[0].ImagePositionPatient)
        for one in made.PerFrameFunctionalGroupsSequence
    }
    source = map(pydicom.dcmread, uneven_series.iterdir())
    assert placed == {tuple(one.ImagePositionPatient) for one in source}
    regridded = convert(uneven_series, "--to", "mri", "--map", "--regrid", "--no-preview")
    assert regridded.code == 0
    assert (tmp_path / "uneven_mri_error.nii.gz").is_file()


def test_2d_images_have_maps_in_a_folder_beside(convert, images, tmp_path) -> None:
    done = convert(images, "--to", "mri", "--from", "ct", "--map", "--report", tmp_path / "r.json")

    assert done.code == 0, done.err
    maps = tmp_path / "slices_mri_error"
    assert {path.name for path in maps.iterdir()} == {"a1.png", "a2.png", "a10.png"}
    assert Image.open(maps / "a10.png").size == Image.open(images / "a10.jpg").size
    told = reported(tmp_path / "r.json")["conversions"]
    assert {one["cycle_error"]["units"] for one in told} == {"gray levels"}
    mean = np.mean([one["cycle_error"]["error"] for one in told])
    assert f"cycle error {mean:.1f} gray levels" in done.out

    (maps / "a2.png").unlink()
    Path(tmp_path / "slices_mri" / "a2.png").unlink()
    again = convert(images, "--to", "mri", "--from", "ct", "--map", "--no-preview")
    assert again.code == OutputExists.exit_code and (maps / "a2.png").is_file()


def test_an_existing_map_is_refused_before_any_work(convert, ct, tmp_path, monkeypatch) -> None:
    from medtranslate.translation import Translator

    path = tmp_path / "scan_mri_error.nii.gz"
    path.write_bytes(b"precious")
    with monkeypatch.context() as patched:
        patched.setattr(Translator, "load", lambda *a, **k: pytest.fail("the model was loaded"))
        done = convert(ct, "--to", "mri", "--map")

    assert done.code == OutputExists.exit_code and "scan_mri_error.nii.gz" in done.err
    assert path.read_bytes() == b"precious"
    assert convert(ct, "--to", "mri", "--map", "--overwrite").code == 0
    assert path.read_bytes() != b"precious"


def test_a_map_never_replaces_a_source(convert, ct, save, ct_voxels) -> None:
    other = save(ct_voxels, "scan_mri_error.nii.gz")
    content = other.read_bytes()

    done = convert(ct, other, "--to", "mri", "--map", "--overwrite", "--no-preview")

    assert done.code == OutputExists.exit_code and "is a source itself" in done.err
    assert other.read_bytes() == content


def test_variation_is_a_figure_and_a_map(convert, ct, tmp_path) -> None:
    done = convert(ct, "--to", "mri", "--variation", "--map", "--report", tmp_path / "r.json")

    assert done.code == 0, done.err
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["variation"]["units"] == "arbitrary units" and one["variation"]["error"] > 0
    assert one["variation"]["range"] == [0, 4095]
    assert read(tmp_path / "scan_mri_variation.nii.gz").shape == (1, 48, 52, 5)
    assert (tmp_path / "scan_mri_error.nii.gz").is_file()


def test_what_is_left_of_an_earlier_result_is_told(convert, ct, tmp_path) -> None:
    convert(ct, "--to", "mri", "--map")

    again = convert(
        ct, "--to", "mri", "--overwrite", "--no-preview", "--report", tmp_path / "r.json"
    )

    left = ["scan_mri_preview.png", "scan_mri_error.nii.gz"]
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["warnings"][-2:] == [f"{name} beside it is of an earlier result" for name in left]
    assert all(f"{name} beside it" in again.err for name in left)
    assert "beside it" not in convert(ct, "--to", "mri", "--overwrite", "--map").err


def test_a_map_of_nothing_is_a_wrong_command_line(convert, ct, listed) -> None:
    done = convert(ct, "--to", "mri", "--map", "--no-cycle")

    assert done.code == 2 and "--no-cycle leaves out" in done.err and done.err.count("\n") == 1
    assert listed() == {"scan.nii.gz"}
    assert convert(ct, "--to", "mri", "--map", "--no-cycle", "--variation").code == 0
    assert {"scan_mri_variation.nii.gz"} == {name for name in listed() if "_v" in name}


def test_expected_errors_need_no_round_trip(command, tiny_bundle, ct, ct_series, tmp_path) -> None:
    folder = with_constant_error(tiny_bundle, tmp_path / "model" / "tiny")
    more = ("--to", "mri", "--map", "--no-cycle", "--bundle", folder, "--device", "cpu")

    done = command("convert", ct, *more, "--report", tmp_path / "r.json")

    assert done.code == 0 and "expected error 2" in done.out and "cycle error" not in done.out
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["cycle_error"] is None and one["error_map"] is None
    assert one["expected_error"]["error"] == pytest.approx(0.125 * 4095 / 2, rel=0.05)
    made = read(tmp_path / "scan_mri_expected_error.nii.gz").as_tensor()
    assert one["expected_error_map"]["path"].endswith("scan_mri_expected_error.nii.gz")
    assert made.max() == pytest.approx(0.125 * 4095 / 2, rel=0.05) and made.min() < 0

    assert command("convert", ct_series, *more).code == 0
    mapped = pydicom.dcmread(tmp_path / "series_mri_expected_error.dcm")
    assert mapped.SeriesDescription == "expected error of SYNTHETIC MR, NOT FOR DIAGNOSIS"
    figures = pydicom.dcmread(tmp_path / "series_mri_figures.dcm")
    assert "Expected error" in str(figures) and "Cycle error" not in str(figures)


def test_a_page_shows_expected_errors(command, tiny_bundle, ct, tmp_path) -> None:
    folder = with_constant_error(tiny_bundle, tmp_path / "model" / "tiny")
    page = tmp_path / "r.html"

    done = command(
        "convert", ct, "--to", "mri", "--bundle", folder, "--device", "cpu", "--report", page
    )

    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    assert "Expected error: the result is expected to lie 25" in text
    assert "expected error 25" in done.out and "cycle error" in done.out


def test_a_model_of_one_direction_has_no_round_trip(one_way, ct, tmp_path) -> None:
    done = one_way(ct, "--to", "mri", "--report", tmp_path / "r.json")

    assert (
        done.code == 0
        and "no cycle error is measured" in done.err
        and "cycle error" not in done.out
    )
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["cycle_error"] is None and "no generator back" in one["warnings"][-1]
    mapped = one_way(ct, "--to", "mri", "--map", "-o", tmp_path / "other.nii")
    assert mapped.code == ModelUnusable.exit_code and "leave out --map" in mapped.err
    assert not (tmp_path / "other.nii").exists()


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--device", "cuda:99", DeviceUnusable.exit_code),
        ("--bundle", "nowhere", ModelUnusable.exit_code),
    ],
)
def test_what_cannot_be_loaded_is_told_once_and_reported_of_each_scan(
    command, ct, tmp_path, option, value, code
) -> None:
    other = tmp_path / "other.nii.gz"
    shutil.copy(ct, other)

    done = command(
        "convert", ct, other, "--to", "mri", option, value, "--report", tmp_path / "r.json"
    )

    assert done.code == code and done.err.count("medtranslate: error:") == 1
    report = reported(tmp_path / "r.json")
    assert report["exit_code"] == code
    assert [one["input"]["path"] for one in report["conversions"]] == [str(ct), str(other)]
    assert {one["error"]["exit_code"] for one in report["conversions"]} == {code}
    assert not list(tmp_path.glob("*_mri*"))


def test_a_model_without_calibration_says_so_in_the_report(convert, ct, tmp_path) -> None:
    convert(ct, "--to", "mri", "--report", tmp_path / "r.json")

    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert (
        one["domain"]["verdict"] == "not checked" and "calibration" in one["domain"]["reasons"][0]
    )


def test_what_the_domain_check_refuses_is_not_translated(convert, ct, judged, listed) -> None:
    judged("refused")

    done = convert(ct, "--to", "mri")

    assert done.code == OutOfDomain.exit_code
    assert done.err.count("\n") == 1 and "it stands on its head" in done.err
    assert "--force" in done.err and listed() == {"scan.nii.gz"}


def test_a_refused_scan_is_judged_in_the_report(convert, ct, judged, tmp_path) -> None:
    judged("refused")
    convert(ct, "--to", "mri", "--report", tmp_path / "r.json", "--report", tmp_path / "r.html")

    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["status"] == "failed" and one["error"]["exit_code"] == OutOfDomain.exit_code
    assert one["domain"]["verdict"] == "refused" and one["domain"]["score"] == 3.0
    assert one["source"]["modality"] == "CT" and one["synthesis"] == {}
    assert one["input"]["files"] == [
        {"path": str(ct), "sha256": hashlib.sha256(ct.read_bytes()).hexdigest()}
    ]
    assert "it stands on its head" in (tmp_path / "r.html").read_text()


def test_force_converts_what_is_refused_and_says_so(convert, ct, judged, tmp_path) -> None:
    judged("refused", (0.1, 3.0, None, 0.2, 2.6))

    done = convert(ct, "--to", "mri", "--force", "--report", tmp_path / "r.json")

    assert done.code == 0 and "translated by --force" in done.err
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["domain"]["forced"] is True
    assert one["unseen"]["unlike_training_slices"] == [1, 4]
    assert any("--force" in note for note in one["warnings"])


def test_a_warning_is_a_note(convert, ct, images, judged, tmp_path) -> None:
    judged("warned")

    done = convert(ct, "--to", "mri", "--report", tmp_path / "r.json")
    assert done.code == 0 and "note" in done.err and "it stands on its head" in done.err
    (one,) = reported(tmp_path / "r.json")["conversions"]
    assert one["domain"]["verdict"] == "warned" and one["domain"]["forced"] is False

    done = convert(images, "--to", "mri", "--from", "ct")
    assert "the domain check warns of 3 of 3 images" in done.err and done.err.count("\n") == 1


def test_every_kind_of_ending_is_in_the_schema(convert, ct, images, tmp_path) -> None:
    (images / "a3.png").write_bytes(b"")

    done = convert(
        ct, tmp_path / "gone.nii", images, "--to", "mri", "--from", "ct", "--report", "-"
    )

    told = json.loads(done.out)
    Draft202012Validator(schema()).validate(told)
    assert [one["status"] for one in told["conversions"]].count("failed") == 2
    assert len(told["conversions"]) == 6
    told["conversions"][0]["status"] = "perhaps"
    assert not Draft202012Validator(schema()).is_valid(told)


def test_the_report_names_the_recipe_by_its_content(convert, ct, mr, tmp_path) -> None:
    convert(ct, "--to", "mri", "--report", tmp_path / "a.json", "--no-cycle")
    convert(mr, "--to", "ct", "--report", tmp_path / "b.json", "--no-cycle")

    (there,), (back,) = (reported(tmp_path / name)["conversions"] for name in ("a.json", "b.json"))
    assert there["recipes"]["source"]["name"] == "CT-volume"
    window = there["recipes"]["source"]["content"]["intensity"]
    assert window["_target_"] == "medtranslate.transforms.ScaleWindowd"
    assert (window["level"], window["width"]) == (40.0, 120.0)
    assert there["recipes"]["source"]["sha256"] == back["recipes"]["target"]["sha256"]
    assert there["recipes"]["source"]["sha256"] != there["recipes"]["target"]["sha256"]


def test_a_page_shows_the_worst_slices_and_needs_no_network(convert, ct, tmp_path) -> None:
    # With a viewer, test_viewer_in_browser.py watches that nothing is fetched.
    done = convert(ct, "--to", "mri", "--report", tmp_path / "r.html", "--no-viewer")

    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert done.code == 0, done.err
    assert page.count("data:image/png;base64,") >= 8
    assert "default-src 'none'" in page
    # Not "http" alone, which the letters of a 2D image may spell.
    assert "://" not in page and "<script" not in page and "<link" not in page
    assert "NOT FOR DIAGNOSIS" in page and "Cycle error" in page and "scan_mri.nii.gz" in page
    again = convert(ct, "--to", "mri", "--report", tmp_path / "r.html", "-o", tmp_path / "b.nii")
    assert again.code == OutputExists.exit_code


def test_a_page_of_many_scans_shows_those_that_lost_most(
    convert, images, tmp_path, monkeypatch
) -> None:
    from medtranslate.conversion import conversions

    monkeypatch.setattr(conversions, "_ON_A_PAGE", 1)
    arguments = ["--report", tmp_path / "r.html", "--report", tmp_path / "r.json"]

    assert convert(images, "--to", "mri", "--from", "ct", *arguments).code == 0

    told = reported(tmp_path / "r.json")["conversions"]
    lost = {Path(one["input"]["path"]).name: one["cycle_error"]["error"] for one in told}
    parts = (tmp_path / "r.html").read_text(encoding="utf-8").split("<h2>")
    shown = [part for part in parts if "data:image/png" in part]
    assert len(shown) == 1 and lost[shown[0].split("<")[0]] == max(lost.values())


def test_a_stack_and_a_jpeg_have_maps_that_can_hold_them(convert, images, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        for name in ("a1.png", "a2.png"):
            packed.write(images / name, name)

    done = convert(
        tmp_path / "packed.zip", images / "a1.png", "--to", "mri", "--from", "ct", "--map",
        "--format", "jpg", "--no-preview",
    )  # fmt: skip
    assert done.code == Unsupported.exit_code and "do not fit into one file" in done.err
    assert Image.open(images / "a1_mri_error.png").size == (96, 96)

    done = convert(tmp_path / "packed.zip", "--to", "mri", "--from", "ct", "--map")
    assert done.code == 0, done.err
    assert len(list((tmp_path / "packed_mri_error").glob("*.png"))) == 2
    done = convert(
        tmp_path / "packed.zip", "--to", "mri", "--from", "ct", "--map", "-o", tmp_path / "s.tif"
    )
    assert done.code == 0 and Image.open(tmp_path / "s_error.tif").n_frames == 2


def test_a_fault_in_a_check_leaves_nothing(convert, ct, listed, monkeypatch) -> None:
    from medtranslate.conversion import scan

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(scan, "cycle_error", fail)

    assert convert(ct, "--to", "mri", "--map", "-o", ct.parent / "new" / "").code == 1
    assert listed() == {"scan.nii.gz"}
