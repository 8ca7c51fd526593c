"""Where results go: each to a place of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtranslate.conversion.batch import check_collisions
from medtranslate.conversion.inputs import Input, Item
from medtranslate.conversion.interface import ConversionOptions
from medtranslate.conversion.plan import (
    files_apart,
    parents_apart,
    place,
)
from medtranslate.errors import InvalidOption


def planned(tmp_path: Path, *names: str, **fields: object) -> list[list[str]]:
    """Plan inputs of one scan each; give the targets of each, relative to the folder of results."""
    sources = []
    for name in names:
        path = tmp_path / name
        stem = Path(path.name.split(".")[0])
        format = path.name.partition(".")[2] or "dicom"
        sources.append(Input(path, (Item(path, stem, format, "volume"),)))
    options = ConversionOptions(to="mri", output=str(tmp_path / "out"), **fields)
    folders = parents_apart(sources)
    plans = files_apart(
        [
            place(source, options, alone=len(sources) == 1, below=folder)
            for source, folder in zip(sources, folders, strict=True)
        ]
    )
    assert check_collisions(plans) == {}
    targets = [path for plan in plans for job in plan.jobs for path in job.targets]
    assert len(set(targets)) == len(targets)
    out = tmp_path / "out"
    return [
        [path.relative_to(out).as_posix() for path in job.targets]
        for plan in plans
        for job in plan.jobs
    ]


def test_series_of_one_name_go_to_folders_named_after_their_parents(tmp_path: Path) -> None:
    places = planned(tmp_path, "P1/CT", "P2/CT", "P2/other")

    assert places == [
        ["P1/CT_mri", "P1/CT_mri_preview.png"],
        ["P2/CT_mri", "P2/CT_mri_preview.png"],
        ["other_mri", "other_mri_preview.png"],
    ]


def test_as_many_parents_are_named_as_it_takes(tmp_path: Path) -> None:
    first, second = planned(tmp_path, "P1/day/CT", "P2/day/CT")

    assert (first[0], second[0]) == ("P1/day/CT_mri", "P2/day/CT_mri")


def test_previews_of_one_name_are_told_apart_by_format(tmp_path: Path) -> None:
    first, second, third = planned(tmp_path, "a/scan.nii.gz", "a/scan.mha", "b/scan.mha")

    assert first == ["a/scan_mri.nii.gz", "a/scan_mri_preview.png"]
    assert second == ["a/scan_mri.mha", "a/scan_mri_mha_preview.png"]
    assert third == ["b/scan_mri.mha", "b/scan_mri_preview.png"]


@pytest.mark.parametrize("map", [True, False])
def test_maps_beside_results_are_told_apart_as_well(tmp_path: Path, map: bool) -> None:
    _, second = planned(tmp_path, "a/scan", "a/scan.nii.gz", map=map)

    assert second[0] == "scan_mri.nii.gz"
    assert second[1] == "scan_mri_nii_gz_preview.png"
    maps = ["scan_mri_nii_gz_expected_error.nii.gz", "scan_mri_nii_gz_error.nii.gz"]
    assert second[2:] == (maps if map else [])


def test_results_are_not_written_into_a_bids_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    scan = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    dataset = Input(tmp_path, (Item(scan, Path("sub-01/anat/sub-01_T1w"), "nii.gz", "volume"),))

    with pytest.raises(InvalidOption, match="medtranslate bids"):
        place(dataset, ConversionOptions(to="ct"), alone=True)

    out = tmp_path.parent / "out"
    plan = place(dataset, ConversionOptions(to="ct", output=f"{out}/"), alone=True)
    assert plan.jobs[0].output == out / "sub-01" / "anat" / "sub-01_T1w_ct.nii.gz"
