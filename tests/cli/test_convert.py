"""convert: what goes in, what comes out, and where."""

from __future__ import annotations

import json
import zipfile
from hashlib import sha256
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from medtranslate import read, write
from medtranslate.errors import OutputExists, SomeFailed, WrongModality
from medtranslate.translation import Translator


def test_a_volume_keeps_its_grid_and_says_what_it_is(convert, ct, affine) -> None:
    done = convert(ct, "--to", "mri")

    made = nib.load(ct.parent / "scan_mri.nii.gz")
    assert done.code == 0, done.err
    assert np.array_equal(made.affine, nib.load(ct).affine)
    assert made.shape == nib.load(ct).shape
    assert made.get_data_dtype() == np.int16
    assert made.header["descrip"].item().startswith(b"SYNTHETIC MR from CT, tiny 0.0")
    assert done.out.count("\n") == 1 and "scan_mri.nii.gz" in done.out and "guess" in done.out


def test_a_ct_holds_hu_in_the_window_and_air_outside(convert, mr) -> None:
    assert convert(mr, "--to", "ct").code == 0

    values = np.unique(np.asarray(nib.load(mr.parent / "mr_ct.nii.gz").dataobj))
    assert values[0] == -1000
    assert np.all((values == -1000) | ((values >= -20) & (values <= 100)))


def test_the_preview_lies_beside_the_result_and_is_labeled(convert, ct, listed) -> None:
    convert(ct, "--to", "mri")

    preview = Image.open(ct.parent / "scan_mri_preview.png")
    assert preview.info["Description"].startswith("SYNTHETIC MR from CT, tiny 0.0, NOT FOR")
    assert listed() == {"scan.nii.gz", "scan_mri.nii.gz", "scan_mri_preview.png"}


def test_no_preview_is_written_where_none_is_wanted(convert, ct, listed) -> None:
    convert(ct, "--to", "mri", "--no-preview")

    assert listed() == {"scan.nii.gz", "scan_mri.nii.gz"}


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        (["--format", "nii"], "scan_mri.nii"),
        (["--format", "mha"], "scan_mri.mha"),
        (["-o", "OUT/result.nrrd"], "result.nrrd"),
        (["-o", "OUT/new folder"], "new folder/scan_mri.nii.gz"),
        (["-o", "OUT/v1.2/"], "v1.2/scan_mri.nii.gz"),
    ],
)
def test_format_and_place_are_as_asked(convert, ct, asked, made) -> None:
    asked = [one.replace("OUT", str(ct.parent)) for one in asked]

    done = convert(ct, "--to", "mri", "--no-preview", *asked)

    assert done.code == 0, done.err
    assert np.allclose(np.asarray(read(ct.parent / made).affine), nib.load(ct).affine)


def test_several_inputs_load_one_model_and_one_failure_stops_nothing(
    convert, ct, mr, tmp_path, monkeypatch
) -> None:
    from medtranslate.translation import Translator

    loads = []
    load = Translator.load
    monkeypatch.setattr(Translator, "load", lambda *a, **k: loads.append(1) or load(*a, **k))

    done = convert(ct, tmp_path / "gone.nii", mr, "--to", "mri", "--report", tmp_path / "r.json")

    assert (tmp_path / "scan_mri.nii.gz").is_file()
    assert loads == [1]
    assert "gone.nii: no such file" in done.err and "is MR already" in done.err
    assert done.out.splitlines()[-1] == "1 of 3 converted, 2 failed"
    assert done.code == SomeFailed.exit_code
    report = json.loads((tmp_path / "r.json").read_text())
    assert sorted(one["status"] for one in report["conversions"]) == [
        "converted", "failed", "failed",
    ]  # fmt: skip
    assert report["exit_code"] == SomeFailed.exit_code


def test_failures_of_one_kind_give_their_own_code(convert, mr, save, mr_voxels) -> None:
    done = convert(mr, save(mr_voxels, "mr2.nii.gz"), "--to", "mri")

    assert done.code == WrongModality.exit_code


def test_a_folder_of_volumes_is_converted_one_by_one(convert, save, ct_voxels, tmp_path) -> None:
    for name in ("in/a.nii.gz", "in/sub/b.nii"):
        save(ct_voxels, name)
    for name in ("notes.txt", "README", "sub/CHANGES", "run.sh"):
        (tmp_path / "in" / name).write_text("not a scan")

    done = convert(tmp_path / "in", "--to", "mri", "-o", tmp_path / "out", "--no-preview")

    assert done.code == 0, done.err
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nii*")}
    assert made == {"a_mri.nii.gz", "sub/b_mri.nii"}


def test_earlier_results_in_a_folder_are_skipped(convert, save, ct_voxels, tmp_path) -> None:
    save(ct_voxels, "in/a.nii.gz")
    convert(tmp_path / "in", "--to", "mri")

    again = convert(tmp_path / "in", "--to", "mri", "--overwrite")

    assert again.code == 0, again.err
    assert "1 file labeled as synthetic is skipped" in again.err
    assert not list((tmp_path / "in").glob("*_mri_mri*"))


@pytest.mark.parametrize("format", ["mha", "nrrd"])
def test_earlier_results_of_other_formats_are_skipped(
    convert, save, ct_voxels, tmp_path, format
) -> None:
    import SimpleITK as sitk

    source = tmp_path / "in" / f"a.{format}"
    source.parent.mkdir()
    image = sitk.ReadImage(str(save(ct_voxels)))
    for key in image.GetMetaDataKeys():  # a NIfTI's
        image.EraseMetaData(key)
    sitk.WriteImage(image, str(source))
    convert(tmp_path / "in", "--to", "mri", "--no-cycle")

    again = convert(tmp_path / "in", "--to", "mri", "--no-cycle", "--overwrite")

    assert again.code == 0, again.err
    assert "1 file labeled as synthetic is skipped" in again.err


@pytest.mark.parametrize("format", ["jpg", "tif"])
def test_earlier_images_of_other_formats_are_skipped(convert, images, tmp_path, format) -> None:
    made = convert(images / "a1.png", "--to", "mri", "--format", format, "--no-cycle")
    assert (images / f"a1_mri.{format}").is_file(), made.err

    again = convert(images, "--to", "mri", "-o", tmp_path / "out", "--no-cycle")

    assert again.code == 0, again.err
    assert "2 files labeled as synthetic are skipped" in again.err  # and its preview


def test_an_earlier_series_is_skipped_unless_it_is_chosen(convert, ct_series) -> None:
    convert(ct_series, "--to", "mri", "-o", ct_series / "made", "--no-cycle")

    for chosen in ([], ["--series", "all"]):
        again = convert(
            ct_series, "--to", "mri", "-o", ct_series.parent / f"again{len(chosen)}", *chosen
        )
        assert again.code == 0, again.err
        assert "1 series labeled as synthetic is skipped" in again.err
    itself = convert(ct_series, "--to", "mri", "-o", ct_series.parent / "no", "--series", "2")
    assert itself.code == WrongModality.exit_code


def test_what_is_given_twice_is_converted_once(convert, ct) -> None:
    done = convert(ct, ct.parent / "." / ct.name, "--to", "mri", "--no-cycle")

    assert done.code == 0, done.err
    assert done.out.count("scan_mri.nii.gz") == 1


def test_a_folder_of_2d_images_keeps_names_and_sizes(convert, images, tmp_path) -> None:
    done = convert(images, "--to", "mri", "--from", "ct")

    out = tmp_path / "slices_mri"
    assert done.code == 0, done.err
    assert {path.name for path in out.iterdir()} == {"a1.png", "a2.png", "a10.png"}
    for source in images.iterdir():
        made = Image.open(out / f"{source.stem}.png")
        assert made.size == Image.open(source).size and made.mode == "L"
        assert made.info["Description"].startswith("SYNTHETIC MR from CT")
    assert Image.open(tmp_path / "slices_mri_preview.png").info["Description"].startswith("SYNTH")
    assert "3 of 3 images" in done.out


def test_a_folder_of_2d_images_has_one_modality(convert, images, tmp_path, monkeypatch) -> None:
    from medtranslate.imaging import scans

    votes = {"a1.png": "CT", "a2.png": "CT", "a10.jpg": ""}
    monkeypatch.setattr(scans, "_look", lambda path: votes[path.name])
    assert convert(images, "--to", "mri").code == 0

    monkeypatch.setattr(scans, "_look", lambda path: "MR")
    done = convert(images, "--to", "mri", "--overwrite")
    assert done.code == WrongModality.exit_code
    assert done.err.count("\n") == 1 and "slices: is MR already" in done.err

    votes = {"a1.png": "CT", "a2.png": "MR", "a10.jpg": "CT"}
    monkeypatch.setattr(scans, "_look", lambda path: votes[path.name])
    done = convert(images, "--to", "mri", "--overwrite")
    assert done.code == WrongModality.exit_code
    assert "of 3 images 2 look like CT and 1 like MR" in done.err


def test_2d_images_and_a_volume_share_a_folder_of_results(convert, images, ct, tmp_path) -> None:
    done = convert(images, ct, "--to", "mri", "--from", "ct", "-o", tmp_path / "new" / "out")

    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == {
        *("slices_mri", "slices_mri_preview.png", "scan_mri.nii.gz", "scan_mri_preview.png"),
    }
    again = convert(images, "--to", "mri", "--from", "ct", "-o", tmp_path / "new" / "out")
    assert again.code == 0, again.err
    (tmp_path / "new" / "out" / "a1.png").unlink()
    third = convert(images, "--to", "mri", "--from", "ct", "-o", tmp_path / "new" / "out")
    assert third.code == 8 and third.err.count("\n") == 1 and "out_preview.png" in third.err


def test_a_stranger_among_2d_images_is_refused(convert, images, monkeypatch) -> None:
    from medtranslate.conversion import scan
    from medtranslate.imaging import scans

    def stranger(path: Path, **options: object) -> object:
        image = read(path)
        seems = {"modality": "MR" if path.name == "a2.png" else "CT"}
        basis = {"modality_basis": "guess: as it seems"}
        image.meta["source"] = dict(image.meta["source"]) | seems | basis
        return image

    monkeypatch.setattr(scans, "_look", lambda path: "CT")
    monkeypatch.setattr(scan, "read", stranger)

    done = convert(images, "--to", "mri")

    assert done.code == WrongModality.exit_code
    assert "a2.png: looks like MR among 2D images that look like CT" in done.err
    assert "2 of 3 images" in done.out
    assert convert(images, "--to", "mri", "--from", "ct", "--overwrite").code == 0


def test_one_bad_image_leaves_the_others(convert, images, tmp_path) -> None:
    (images / "a3.png").write_bytes(b"")

    done = convert(images, "--to", "mri", "--from", "ct", "-o", tmp_path / "out")

    assert done.code == 4 and "a3.png: the file is empty" in done.err
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_zip_of_a_series_is_one_conversion(convert, ct_series, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        for path in ct_series.iterdir():
            packed.write(path, f"study/{path.name}")

    done = convert(tmp_path / "packed.zip", "--to", "mri", "--format", "nii.gz", "--no-preview")

    assert done.code == 0, done.err
    assert read(tmp_path / "packed_mri.nii.gz").shape == (1, 48, 52, 5)


def test_dicom_in_is_dicom_out(convert, ct_series, tmp_path) -> None:
    done = convert(ct_series, "--to", "mri")

    made = [pydicom.dcmread(path) for path in sorted((tmp_path / "series_mri").iterdir())]
    assert done.code == 0, done.err
    assert len(made) == 5
    assert {(one.Modality, one.PatientID) for one in made} == {("MR", "P1")}
    assert (tmp_path / "series_mri_preview.png").is_file()


def test_a_uid_seed_gives_the_same_series_again(convert, ct_series, tmp_path) -> None:
    for out in ("one", "two"):
        done = convert(ct_series, "--to", "mri", "-o", tmp_path / out, "--uid-seed", "study 7")
        assert done.code == 0, done.err

    uids = [
        [pydicom.dcmread(path).SOPInstanceUID for path in sorted((tmp_path / out).iterdir())]
        for out in ("one", "two")
    ]
    assert uids[0] == uids[1]


def test_one_series_of_several_must_be_chosen(convert, two_series, tmp_path) -> None:
    done = convert(two_series, "--to", "mri")
    assert done.code == 12
    assert "1: CT 'made CT' 48x52x5" in done.err and "2: MR 'made MR' 48x52x5" in done.err
    assert not (tmp_path / "both_mri").exists()

    done = convert(two_series, "--to", "mri", "--series", 1)
    assert done.code == 0, done.err
    assert len(list((tmp_path / "both_mri").iterdir())) == 5

    done = convert(two_series, "--to", "ct", "--series", "1.2.826.0.1.3680043.8.498.1.2")
    assert done.code == 0, done.err
    assert pydicom.dcmread(next((tmp_path / "both_ct").iterdir())).Modality == "CT"


def test_all_series_are_converted_where_all_are_asked_for(convert, two_series, tmp_path) -> None:
    done = convert(two_series, "--to", "mri", "--series", "all", "-o", tmp_path / "out")

    assert done.code == WrongModality.exit_code
    assert "is MR already" in done.err
    assert len(list((tmp_path / "out" / "both_1_mri").iterdir())) == 5


def test_a_folder_that_is_no_series_is_refused_before_the_network_runs(
    convert, ct_series, tmp_path, monkeypatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("translated")

    monkeypatch.setattr(Translator, "translate_prepared", never)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")

    done = convert(ct_series, "--to", "mri", "-o", tmp_path / "out", "--overwrite")
    assert done.code == OutputExists.exit_code and "notes.txt, which is no part" in done.err
    write(read(ct_series), tmp_path / "copy.nii.gz")
    borrowed = ("--template", ct_series, "-o", ct_series, "--overwrite")
    done = convert(tmp_path / "copy.nii.gz", "--to", "mri", *borrowed)
    assert done.code == OutputExists.exit_code and "holds the source series" in done.err


def test_uneven_slices_need_dicom_or_a_regrid(convert, uneven_series, tmp_path) -> None:
    refused = convert(uneven_series, "--to", "mri", "--format", "nii.gz")
    assert refused.code == 5 and "not evenly spaced" in refused.err
    assert "--regrid" in refused.err

    done = convert(uneven_series, "--to", "mri", "--regrid")
    assert done.code == 0, done.err
    assert read(tmp_path / "uneven_mri.nii.gz").shape == (1, 48, 52, 5)
    assert convert(uneven_series, "--to", "mri", "--no-preview").code == 0
    assert len(list((tmp_path / "uneven_mri").iterdir())) == 4


def test_a_template_lends_its_headers_to_a_nifti(convert, ct_series, tmp_path) -> None:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(ct_series)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "copy.nii.gz"))

    done = convert(tmp_path / "copy.nii.gz", "--to", "mri", "--template", ct_series)

    assert done.code == 0, done.err
    made = pydicom.dcmread(next((tmp_path / "copy_mri").iterdir()))
    assert (made.Modality, made.PatientID) == ("MR", "P1")


def test_from_settles_a_guess_and_force_a_tag(convert, ct, ct_series, tmp_path) -> None:
    assert convert(ct, "--to", "ct", "--from", "mri", "--no-preview").code == 0

    refused = convert(ct_series, "--to", "ct", "--from", "mri", "--format", "nii.gz")
    assert refused.code == WrongModality.exit_code
    assert "DICOM (0008,0060) says CT, --from says MR" in refused.err
    forced = convert(ct_series, "--to", "ct", "--from", "mri", "--format", "nii.gz", "--force")
    assert forced.code == 0, forced.err
    assert "which is believed (--force)" in forced.err


def test_an_existing_output_is_refused_before_any_work(convert, ct, monkeypatch) -> None:
    from medtranslate.translation import Translator

    output = ct.parent / "scan_mri.nii.gz"
    output.write_bytes(b"precious")
    monkeypatch.setattr(Translator, "load", lambda *a, **k: pytest.fail("the model was loaded"))

    done = convert(ct, "--to", "mri")

    assert done.code == OutputExists.exit_code
    assert done.err.count("\n") == 1 and "scan_mri.nii.gz: exists already" in done.err
    assert "--overwrite" in done.err and output.read_bytes() == b"precious"


def test_overwrite_replaces_and_never_the_source(convert, ct) -> None:
    content = ct.read_bytes()
    (ct.parent / "scan_mri.nii.gz").write_bytes(b"old")

    assert convert(ct, "--to", "mri", "--overwrite").code == 0
    done = convert(ct, "--to", "mri", "-o", ct, "--overwrite")

    assert done.code == OutputExists.exit_code and "is a source itself" in done.err
    assert ct.read_bytes() == content


def test_two_inputs_with_one_name_do_not_overwrite_each_other(convert, save, ct_voxels, tmp_path):
    first, second = save(ct_voxels, "a/scan.nii.gz"), save(ct_voxels, "b/scan.nii.gz")

    done = convert(first, second, "--to", "mri", "-o", tmp_path / "out")

    assert done.code == 0
    for parent in ("a", "b"):
        names = {path.name for path in (tmp_path / "out" / parent).iterdir()}
        assert names == {"scan_mri.nii.gz", "scan_mri_preview.png"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "pet"], "'pet' is not one of"),
        ([], "Missing option '--to'"),
        (["--to", "mri", "--batch-size", "0"], "'--batch-size'"),
        (["--to", "mri", "-o", "a.nii", "--format", "mha"], "contradicts"),
        (["--to", "mri", "--format", "nii", "--keep-private"], "is for results in DICOM"),
        (["--to", "mri", "--format", "dicom", "--regrid"], "no DICOM slice has"),
        (["--to", "mri", "--no-such-option"], "No such option"),
    ],
)
def test_a_wrong_command_line_is_code_2_and_one_line(convert, ct, options, said, listed) -> None:
    done = convert(ct, *options)

    assert done.code == 2
    assert said in done.err and done.err.count("\n") == 1
    assert listed() == {"scan.nii.gz"}


def test_one_name_for_several_scans_is_a_wrong_command_line(convert, ct, mr) -> None:
    done = convert(ct, mr, "--to", "mri", "-o", "one.nii.gz")

    assert done.code == 2 and "names one file, but there are several scans" in done.err


def test_the_report_names_files_model_and_times(convert, ct, tmp_path, tiny_bundle) -> None:
    done = convert(ct, "--to", "mri", "--report", tmp_path / "report.json")
    assert done.code == 0, done.err

    report = json.loads((tmp_path / "report.json").read_text())
    (one,) = report["conversions"]
    digest = sha256(ct.read_bytes()).hexdigest()
    weights = sha256((tiny_bundle / "models/ct_to_mri.safetensors").read_bytes()).hexdigest()
    assert report["schema"] == 1 and report["exit_code"] == 0
    assert one["input"]["files"] == [{"path": str(ct), "sha256": digest}]
    made = sha256((tmp_path / "scan_mri.nii.gz").read_bytes()).hexdigest()
    assert one["output"]["files"][0]["sha256"] == made
    assert report["model"]["weights_sha256"]["mri"] == weights
    assert one["synthesis"]["weights_sha256"] == weights
    assert list(one["seconds"]) == [
        *("read", "prepare", "check", "translate", "cycle", "write", "preview"),
    ]
    assert one["source"]["modality"] == "CT" and one["source"]["modality_basis"].startswith("guess")
    assert one["source"]["shape"] == [48, 52, 5] and one["source"]["orientation"] == "LPS"
    assert report["device"]["processor"] == "cpu"
    assert report["peak_memory_bytes"]["host"] > 10**8


def test_a_report_on_stdout_is_all_there_is_on_stdout(convert, ct) -> None:
    done = convert(ct, "--to", "mri", "--report", "-")

    assert json.loads(done.out)["conversions"][0]["status"] == "converted"
    assert "scan_mri.nii.gz" in done.err


def test_quiet_says_nothing_but_errors(convert, ct, tmp_path) -> None:
    done = convert(ct, tmp_path / "gone.nii", "--to", "mri", "--quiet")

    assert done.out == "" and done.err.count("\n") == 1 and "gone.nii" in done.err


def test_a_bug_is_one_line_and_with_verbose_a_traceback(convert, ct, monkeypatch) -> None:
    from medtranslate.translation import Translator

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Translator, "translate_prepared", fail)

    done = convert(ct, "--to", "mri")
    assert done.code == 1
    assert done.err == (
        "medtranslate: error: unexpected error: ZeroDivisionError: by zero; "
        "run with --verbose for the traceback\n"
    )
    assert "Traceback" in convert(ct, "--to", "mri", "--verbose").err


def test_without_a_model_it_says_how_to_make_one(command, ct, tmp_path) -> None:
    done = command("convert", ct, "--to", "mri", "--bundle", tmp_path / "none")

    assert done.code == 10 and "medtranslate train" in done.err


@pytest.mark.data
@pytest.mark.slow
def test_a_real_mr_keeps_its_grid(convert, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "nifti" / "mr-brain-t2w.nii.gz"

    assert convert(source, "--to", "ct", "-o", tmp_path / "ct.nii.gz").code == 0

    before, after = nib.load(source), nib.load(tmp_path / "ct.nii.gz")
    assert after.shape == before.shape and np.array_equal(after.affine, before.affine)
    assert after.get_data_dtype() == np.int16


def test_a_second_call_skips_what_is_done_and_says_so(convert, save, ct_voxels, tmp_path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        save(ct_voxels, f"scans/{name}")
    quick = ["--to", "mri", "--no-cycle", "--no-preview", "-o", tmp_path / "out"]
    first = convert(tmp_path / "scans", *quick, "--part", "1/2")
    assert first.code == 0 and first.out.count("\n") == 1 and "a.nii.gz ->" in first.out

    report = tmp_path / "r.json"
    second = convert(tmp_path / "scans", *quick, "--skip-existing", "--report", report)

    said = second.out.splitlines()
    assert second.code == 0, second.err
    assert said[0] == f"{tmp_path}/scans/a.nii.gz: skipped, {tmp_path}/out/a_mri.nii.gz exists"
    assert "b.nii.gz ->" in said[1] and said[2] == "1 of 2 converted, 1 skipped"
    statuses = [one["status"] for one in json.loads(report.read_text())["conversions"]]
    assert statuses == ["skipped", "converted"]


def test_a_page_says_what_was_skipped(convert, ct, tmp_path) -> None:
    (tmp_path / "scan_mri.nii.gz").write_bytes(b"as it was")

    done = convert(ct, "--to", "mri", "--skip-existing", "--report", tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert done.code == 0 and "0 of 1 converted" in page and "Skipped: its result exists." in page
