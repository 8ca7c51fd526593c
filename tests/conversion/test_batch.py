"""All scans of a call: those that are done are skipped, and parts share no scan."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtranslate import ConversionOptions, convert, convert_many
from medtranslate.conversion import Batch
from medtranslate.conversion.batch import _part
from medtranslate.conversion.inputs import Input, Item
from medtranslate.conversion.plan import place
from medtranslate.errors import InvalidOption, OutputExists
from medtranslate.translation import Translator

QUICK = {"cycle": False, "preview": False}


@pytest.fixture
def without_model(monkeypatch) -> None:
    """Let no model be loaded."""
    monkeypatch.setattr(Translator, "load", lambda *a, **k: pytest.fail("the model was loaded"))


@pytest.mark.parametrize("fields", [{}, {"output": "OUT/"}, {"format": "mha"}])
def test_a_scan_whose_result_exists_is_skipped_and_its_result_kept(
    tiny, ct, tmp_path, fields, monkeypatch
) -> None:
    fields = {key: value.replace("OUT", str(tmp_path / "out")) for key, value in fields.items()}
    first = convert(ct, **tiny, **fields, cycle=False)
    before = first.output.read_bytes(), first.output.stat().st_mtime_ns
    monkeypatch.setattr(Translator, "load", lambda *a, **k: pytest.fail("the model was loaded"))

    again = convert(ct, **tiny, **fields, cycle=False, skip_existing=True)

    assert again.skipped and again.output == first.output and again.exit_code == 0
    assert (again.output.read_bytes(), again.output.stat().st_mtime_ns) == before
    assert again.notes == () and "skipped, exists" in repr(again)
    assert again.as_builtins()["status"] == "skipped"


@pytest.mark.usefixtures("without_model")
def test_a_derived_series_is_skipped_and_an_empty_folder_is_no_result(
    tiny, ct_series, tmp_path
) -> None:
    result = tmp_path / "series_mri"
    result.mkdir()
    asked = ConversionOptions(**tiny, skip_existing=True)
    batch = Batch.find([ct_series], asked)

    ((_, todo, settled),) = batch.checked(asked)
    assert len(todo) == 1 and settled == []

    shutil.copy(next(ct_series.iterdir()), result)
    ((_, todo, settled),) = batch.checked(asked)
    assert todo == [] and settled[0].output == result and settled[0].skipped


@pytest.mark.usefixtures("without_model")
def test_what_is_missing_beside_a_result_that_is_kept_is_noted(tiny, ct, tmp_path) -> None:
    (tmp_path / "scan_mri.nii.gz").write_bytes(b"as it was")

    done = convert(ct, **tiny, skip_existing=True)

    assert done.notes == (
        "scan_mri_preview.png is missing beside the result; --overwrite converts the scan again",
    )


@pytest.mark.usefixtures("without_model")
def test_a_source_in_the_place_of_a_result_is_no_result(tiny, save, ct_voxels) -> None:
    scan, other = save(ct_voxels, "scan.nii.gz"), save(ct_voxels, "scan_mri.nii.gz")
    scan.with_name("scan_mri_mri.nii.gz").write_bytes(b"the result of the other")

    done = {one.path: one for one in convert_many([scan, other], **tiny, skip_existing=True)}

    assert isinstance(done[scan].error, OutputExists) and "source itself" in str(done[scan].error)
    assert done[other].skipped


def test_only_what_is_missing_of_a_folder_of_2d_images_is_converted(tiny, images, tmp_path) -> None:
    results = tmp_path / "slices_mri"
    list(convert_many(images, **tiny, **QUICK))
    (results / "a2.png").unlink()
    kept = {path: path.stat().st_mtime_ns for path in results.iterdir()}

    done = list(convert_many(images, **tiny, **QUICK, skip_existing=True))

    assert sorted((one.path.name, one.skipped) for one in done) == [
        *(("a1.png", True), ("a10.jpg", True), ("a2.png", False)),
    ]
    assert {path: path.stat().st_mtime_ns for path in results.iterdir() if path in kept} == kept
    assert (results / "a2.png").is_file()


def test_skipping_and_overwriting_contradict_each_other(tiny, ct) -> None:
    with pytest.raises(InvalidOption, match="--skip-existing contradicts --overwrite"):
        convert(ct, **tiny, skip_existing=True, overwrite=True)


@given(
    names=st.lists(st.from_regex(r"[a-z]{1,3}/[a-z]{1,3}", fullmatch=True), unique=True),
    count=st.integers(1, 7),
    shuffled=st.randoms(use_true_random=False),
)
def test_parts_hold_every_scan_once_in_equal_shares_whatever_the_order(
    names: list[str], count: int, shuffled
) -> None:
    def parts(names: list[str]) -> list[set[Path]]:
        options = ConversionOptions(to="mri", output="out/")
        sources = [
            Input(Path(name), (Item(Path(name), Path(name), "nii.gz", "volume"),)) for name in names
        ]
        plans = [place(source, options, alone=False, below=Path()) for source in sources]
        return [
            {job.item.path for plan in _part(plans, [], f"{i}/{count}")[0] for job in plan.jobs}
            for i in range(1, count + 1)
        ]

    divided = parts(names)
    again = list(names)
    shuffled.shuffle(again)

    assert sum(map(len, divided)) == len(names) == len(set().union(*divided))
    sizes = [len(part) for part in divided]
    assert max(sizes) - min(sizes) <= 1
    assert parts(again) == divided


def test_parts_of_a_folder_of_2d_images_judge_the_folder_as_one(tiny, images, tmp_path) -> None:
    done = [
        one
        for part in ("1/2", "2/2")
        for one in convert_many(images, **tiny, cycle=False, part=part, skip_existing=True)
    ]

    assert [one.of for one in done] == [2, 2, 1] and not any(one.skipped for one in done)
    assert len({one.source["modality_basis"] for one in done}) == 1
    assert "of 3 images" in done[0].source["modality_basis"]
    sheets = sorted(path.name for path in tmp_path.glob("*.png"))
    assert sheets == ["slices_mri_preview_1of2.png", "slices_mri_preview_2of2.png"]


@pytest.mark.usefixtures("without_model")
def test_an_input_that_is_missing_is_reported_by_one_part_alone(tiny, tmp_path) -> None:
    gone = [tmp_path / "gone.nii"]

    reported = [list(convert_many(gone, **tiny, part=f"{i}/3")) for i in (1, 2, 3)]

    assert [len(one) for one in reported] == [1, 0, 0]


def test_two_scans_for_one_place_clash_also_from_different_parts(tiny, save, ct_voxels) -> None:
    first, second = save(ct_voxels, "head.nii.gz"), save(ct_voxels, "head.nii")
    options = ConversionOptions(**tiny, format="nii.gz", part="1/2")

    batches = [
        Batch.find([first, second], options),
        Batch.find([second, first], options),
    ]

    assert [batch.jobs[0].item.path for batch in batches] == [second, second]
    assert sum(len(batch.clashes) for batch in batches) >= 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_a_part_that_there_is_not_is_refused(part: str) -> None:
    with pytest.raises(InvalidOption, match="part"):
        ConversionOptions(to="mri", part=part)


def test_one_scan_has_no_parts(tiny, ct) -> None:
    with pytest.raises(InvalidOption, match="convert_many"):
        convert(ct, **tiny, part="1/2")


def test_threads_are_limited_while_scans_are_converted(tiny, ct) -> None:
    before = torch.get_num_threads()
    conversions = convert_many([ct], **tiny, **QUICK, threads=before + 1)

    list(conversions)

    assert conversions.report["device"]["threads"] == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(InvalidOption, match="0 threads"):
        ConversionOptions(to="mri", threads=0)


def test_a_batch_is_split_for_workers_that_convert_one_scan_each(tiny, images, tmp_path) -> None:
    options = ConversionOptions(**tiny, **QUICK, output=str(tmp_path / "apart"))
    whole = list(convert_many(images, **tiny, **QUICK, output=str(tmp_path / "together")))

    batch = Batch.find([images], options)
    pieces = [pickle.loads(pickle.dumps(one)) for one in batch.split(options)]
    done = [convert(one, options=options) for one in pieces]

    assert [one.path for one in done] == [one.path for one in whole]
    assert [one.source["modality_basis"] for one in done] == [
        one.source["modality_basis"] for one in whole
    ]
    for one, other in zip(done, whole, strict=True):
        assert one.output.name == other.output.name
        assert one.output.read_bytes() == other.output.read_bytes()


def test_each_series_of_a_folder_is_a_scan_beside_its_volumes(two_series, save, ct_voxels) -> None:
    save(ct_voxels, "both/c/scan.nii.gz")
    (two_series / "broken.nii").write_bytes(b"no header")
    options = ConversionOptions(to="mri", output="out/")

    batch = Batch.find([two_series], options, each=True)

    assert {str(job.output) for job in batch.jobs} == {
        *("out/a_mri", "out/b_mri", "out/c/scan_mri.nii.gz", "out/broken_mri.nii.gz"),
    }
    assert {job.item.path for job in batch.jobs if job.format == "dicom"} == {
        *(two_series / "a", two_series / "b"),
    }


def test_the_only_series_of_a_folder_keeps_its_name_where_each_is_taken(ct_series) -> None:
    options = ConversionOptions(to="mri", output="out/")

    (itself,) = Batch.find([ct_series], options, each=True).jobs
    (inside,) = Batch.find([ct_series.parent], options, each=True).jobs

    assert str(itself.output) == str(inside.output) == "out/series_mri"
