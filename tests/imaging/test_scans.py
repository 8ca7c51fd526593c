"""One rule says which scans a folder holds, for every command."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from imaging.dicom import factory
from PIL import Image

from medtranslate.conversion.inputs import find
from medtranslate.errors import AmbiguousInput, InputMissing, InvalidOption, WrongModality
from medtranslate.evaluation.scans import scans_of
from medtranslate.evaluation.slices import images_in
from medtranslate.imaging import read
from medtranslate.imaging.scans import FileList, find_scans, without_suffix
from medtranslate.training.preparation import scans_of_modality
from medtranslate.translation.workflow import Scans

SYNTHETIC = "SYNTHETIC MR from CT, model 1, NOT FOR DIAGNOSIS"


def save_volume(path: Path, label: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    image = nib.Nifti1Image(np.zeros((8, 9, 4), np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))
    image.header["descrip"] = label.encode()
    nib.save(image, path)


def save_image(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    shade = sum(path.name.encode()) % 256  # each its own
    Image.fromarray(np.full((9, 8), shade, np.uint8)).save(path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A nested folder of volumes with all that lies beside them in practice."""
    folder = tmp_path / "set"
    folder.mkdir()
    save_volume(folder / "b.nii.gz")
    save_volume(folder / "sub" / "a.nii")
    save_volume(folder / "b_mri.nii.gz", SYNTHETIC)
    save_image(folder / "b.png")
    save_image(folder / "sub" / "figure.jpg")
    (folder / "notes.txt").write_text("no scan")
    (folder / ".hidden.nii").write_bytes(b"junk")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.write(folder / "b.nii.gz", "inside.nii.gz")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A nested folder of 2D images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "c.png", "sub/b.tif"):
        save_image(folder / name)
    (folder / "list.txt").write_text("a.png")
    return folder


def seen_by_every_command(folder: Path) -> dict[str, set[str]]:
    return {
        "convert": {str(item.path) for item in find(folder).items},
        "train and data": {str(scan.path) for scan in scans_of_modality(folder, "CT").scans},
        "evaluate": {str(scan.path) for scan in scans_of(folder, "ct", None)},
        "bundle": {scan["image"] for scan in Scans(folder)},
    }


def test_a_folder_of_volumes_is_seen_alike_by_every_command(volumes: Path) -> None:
    expected = {str(volumes / name) for name in ("b.nii.gz", "sub/a.nii", "c.zip")}

    for command, seen in seen_by_every_command(volumes).items():
        assert seen == expected, command


def test_a_nested_folder_of_images_is_seen_alike_by_every_command(images: Path) -> None:
    expected = {str(images / name) for name in ("a.png", "c.png", "sub/b.tif")}

    for command, seen in seen_by_every_command(images).items():
        assert seen == expected, command
    assert sorted(images_in(images)) == ["a.png", "c.png", "sub/b.tif"]


def test_a_dicom_series_with_a_thumbnail_is_seen_alike_by_every_command(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    factory.write(folder, factory.series())
    save_image(folder / "thumbnail.png")

    for command, seen in seen_by_every_command(folder).items():
        assert seen == {str(folder)}, command


def test_results_beside_a_series_are_passed_over_by_every_command(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    factory.write(folder, factory.series())
    save_volume(folder / "series_mri.nii.gz", SYNTHETIC)

    for command, seen in seen_by_every_command(folder).items():
        assert seen == {str(folder)}, command
    assert read(folder).shape == (1, 12, 16, 4)
    assert find(folder).notes == ("1 file labeled as synthetic is skipped",)


def test_a_synthetic_series_beside_its_volume_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made = factory.series("MR")
    for one in made:
        one.SeriesDescription, one.SyntheticData = SYNTHETIC, "YES"
    factory.write(folder / "result", made)
    save_volume(folder / "scan.nii.gz")

    for command, seen in seen_by_every_command(folder).items():
        assert seen == {str(folder / "scan.nii.gz")}, command
    assert read(folder).shape == (1, 8, 9, 4)


def test_a_series_beside_its_results_as_a_series_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made = factory.series("MR", number=2)
    for one in made:
        one.SeriesDescription, one.SyntheticData = SYNTHETIC, "YES"
    factory.write(folder / "result", made)
    factory.write(folder, factory.series("CT"))

    assert read(folder).meta["source"]["modality"] == "CT"


def test_a_series_is_chosen_among_volumes_by_its_number_or_uid(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    factory.write(folder, factory.series())
    save_volume(folder / "from_converter.nii.gz")
    uid = f"{factory.ROOT}1.1"

    with pytest.raises(AmbiguousInput, match="1 DICOM series beside 1 volume"):
        find(folder)
    with pytest.raises(AmbiguousInput, match="several scans"):
        read(folder)
    for wanted in ("1", uid, "all"):
        (item,) = find(folder, wanted).items
        assert (item.path, item.series) == (folder, uid)
    assert find(folder, "1").notes == ("1 volume beside the series is skipped",)
    assert read(folder, series=uid).shape == (1, 12, 16, 4)


def test_dicom_objects_that_are_no_series_do_not_stop_a_folder_of_volumes(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    factory.write(folder, [factory.dose_report()])
    save_volume(folder / "scan.nii.gz")

    found = find(folder)

    assert [item.path.name for item in found.items] == ["scan.nii.gz"]
    assert found.notes == ("1 DICOM object without a series of slices is skipped",)
    assert read(folder).shape == (1, 8, 9, 4)


def test_what_is_left_out_has_its_reason(volumes: Path) -> None:
    (volumes / "broken.nii").write_bytes(b"")
    found = find_scans(volumes)

    assert found.kind == "volume"
    assert {each.name: each.reason for each in found.left_out} == {
        "set/b.png": "is a 2D image beside volumes",
        "set/sub/figure.jpg": "is a 2D image beside volumes",
        "set/b_mri.nii.gz": "is labeled as synthetic",
        "set/broken.nii": found.unreadable[0].error,
    }


def test_synthetic_volumes_alone_are_scans(tmp_path: Path) -> None:
    save_volume(tmp_path / "s" / "a.nii", SYNTHETIC)

    assert [scan.name for scan in find_scans(tmp_path / "s").scans] == ["s/a.nii"]


def test_a_list_takes_what_it_names_whatever_lies_beside_it(volumes: Path) -> None:
    found = find_scans(volumes, FileList(("set/b.png", "sub/a.nii")))

    assert {scan.name for scan in found.scans} == {"set/b.png", "set/sub/a.nii"}
    assert {each.reason for each in found.left_out} == {"not in the list"}
    assert find_scans(volumes, FileList(("elsewhere/x.png",))) == find_scans(volumes)


def test_a_zip_is_one_scan(volumes: Path) -> None:
    with zipfile.ZipFile(volumes / "stack.zip", "w") as archive:
        for name in ("1.png", "2.png"):
            archive.write(volumes / "b.png", name)
    (scan,) = find_scans(volumes / "stack.zip").scans

    assert (scan.path, scan.kind, len(scan.findings)) == (volumes / "stack.zip", "image", 2)
    assert scan.name == "stack.zip"


def test_a_digest_follows_what_the_files_hold(images: Path) -> None:
    first, second, _ = find_scans(images).scans
    before = first.digest()
    shutil.copy(second.path, first.path)

    assert first.digest() != before
    assert first.digest() == second.digest()


def test_scans_of_the_other_modality_are_left_out_or_refused(volumes: Path) -> None:
    save_volume(volumes / "s.nii", SYNTHETIC)

    some = scans_of_modality(volumes, "CT", FileList(("s.nii", "b.nii.gz")))
    assert some.left_out[-1].reason.startswith("is MR by")
    with pytest.raises(WrongModality, match="given as CT, but its scans are MR"):
        scans_of_modality(volumes, "CT", FileList(("s.nii",)))
    with pytest.raises(InputMissing):
        scans_of_modality(volumes / "nowhere", "CT")


def test_lists_name_files_of_a_folder_by_its_name_or_by_their_path_in_it(images: Path) -> None:
    lines = ("data/images/a.png", "images\\gone.png", "sub/b.tif", "b.tif", "other/c.png")

    assert FileList(lines).inside(images) == ("a.png", "gone.png", "sub/b.tif")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("A.PNG", "A"), ("a.b.mha", "a.b"), ("a.txt", "a.txt"), (".nii", ".nii")],
)
def test_a_name_without_the_suffix_of_its_format(name: str, stem: str) -> None:
    assert without_suffix(name) == stem


def test_a_line_names_a_scan_where_one_ends_with_the_other() -> None:
    names = ["trainB/a.png", "trainB/sub/b.png", "trainB/c.png"]

    def named(*lines: str) -> set[str]:
        return set(FileList(lines).named(names))

    assert named("trainB/a.png") == {"trainB/a.png"}
    assert named("/data/set/trainB/a.png", "b.png") == {"trainB/a.png", "trainB/sub/b.png"}
    assert named("other/a.png", "B/c.png") == set()
    with pytest.raises(InvalidOption, match=r"1 of 2 lines name no scan, the first: x\.png"):
        FileList(("a.png", "x.png"), "list.txt").check_all_found(names)


def test_a_list_that_is_missing_or_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="not readable"):
        FileList.read([tmp_path / "none.txt"])
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(InvalidOption, match="names no file"):
        FileList.read([tmp_path / "empty.txt"])
