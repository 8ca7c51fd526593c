"""The BIDS app: derivatives that a validator accepts, and a raw dataset that stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scan_fixtures import *  # noqa: F403

from medtranslate.bids import convert_dataset, result_name
from medtranslate.bids.dataset import find_bids_scans
from medtranslate.cli.app import app
from medtranslate.cli.endings import run
from medtranslate.conversion import Conversion, ConversionOptions
from medtranslate.errors import InputMissing, InvalidOption, OutputExists, Unreadable
from medtranslate.html import png_uri
from medtranslate.report.view import related

pytest.importorskip("bids")

Save = Callable[..., Path]
Convert = Callable[..., list[Conversion]]


@pytest.fixture
def dataset(tmp_path: Path, save: Save, ct_voxels: np.ndarray, mr_voxels: np.ndarray) -> Path:
    """Four subjects: two CT, one with sessions, one damaged; a T1w and a T2w."""
    scans = {
        "sub-01/ct/sub-01_ct.nii.gz": ct_voxels,
        "sub-02/ses-a/ct/sub-02_ses-a_run-1_ct.nii.gz": ct_voxels,
        "sub-03/anat/sub-03_T1w.nii.gz": mr_voxels,
        "sub-03/anat/sub-03_T2w.nii.gz": mr_voxels,
        "sub-04/ct/sub-04_ct.nii.gz": ct_voxels,
    }
    for name, voxels in scans.items():
        path = save(voxels, f"raw/{name}")
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text("{}")
    root = tmp_path / "raw"
    (root / "sub-04/ct/sub-04_ct.nii.gz").write_bytes(b"damaged")
    description = {"Name": "made", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README").write_text("Synthetic head phantoms.")
    (root / ".bidsignore").write_text("*_ct.*\n")
    return root


@pytest.fixture
def converted(dataset: Path, tiny_bundle: Path, loaded_once: None) -> Convert:
    """Run the app on the dataset with the tiny model."""

    def call(to: str = "mri", output: str = "derivatives/medtranslate", **fields: Any) -> Any:
        kept = ("participants", "sessions", "suffixes", "skip_existing")
        own = {key: fields.pop(key) for key in list(fields) if key not in kept}
        options = ConversionOptions(
            to=to, format="nii.gz", force=True, bundle=tiny_bundle,
            device="cpu", modality="ct" if to == "mri" else "mri",
            **{"preview": False, "viewer": False, **own},
        )  # fmt: skip
        return list(convert_dataset(dataset, dataset / output, options=options, **fields))

    return call


def hashes(folder: Path) -> dict[str, str]:
    files = (one for one in folder.rglob("*") if one.is_file())
    raw = (one for one in files if "derivatives" not in one.parts)
    return {str(one): hashlib.sha256(one.read_bytes()).hexdigest() for one in raw}


def test_each_scan_has_a_result_and_a_sidecar_and_the_raw_dataset_stays_as_it_was(
    converted: Convert, dataset: Path
) -> None:
    before = hashes(dataset)

    done = converted()

    assert hashes(dataset) == before
    assert [one.exit_code for one in done] == [0, 0, 4]
    out = dataset / "derivatives" / "medtranslate"
    names = sorted(str(one.relative_to(out)) for one in out.rglob("*") if one.is_file())
    assert names == [
        ".bidsignore",
        "README",
        "dataset_description.json",
        "sub-01.html",
        "sub-01/anat/sub-01_desc-synthetic_MR.json",
        "sub-01/anat/sub-01_desc-synthetic_MR.nii.gz",
        "sub-01/figures/sub-01_desc-synthetic_MR.html",
        "sub-01/figures/sub-01_desc-synthetic_MR.json",
        "sub-02.html",
        "sub-02/figures/sub-02_ses-a_run-1_desc-synthetic_MR.html",
        "sub-02/figures/sub-02_ses-a_run-1_desc-synthetic_MR.json",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-synthetic_MR.json",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_desc-synthetic_MR.nii.gz",
        "sub-04.html",
        "sub-04/figures/sub-04_desc-synthetic_MR.html",
        "sub-04/figures/sub-04_desc-synthetic_MR.json",
    ]
    result = nib.load(out / names[5])
    assert result.shape == (48, 52, 5)


def test_a_sidecar_names_scan_model_weights_and_figures(converted: Convert, dataset: Path) -> None:
    converted("ct", participants=["sub-03"], suffixes=["T2w"])

    out = dataset / "derivatives" / "medtranslate"
    path = out / "sub-03/ct/sub-03_mod-T2w_desc-synthetic_ct.json"
    content = json.loads(path.read_text())
    assert content["Sources"] == ["bids:raw:sub-03/anat/sub-03_T2w.nii.gz"]
    assert content["GeneratedBy"][0]["Name"] == "medtranslate"
    assert content["Units"] == "HU"
    own = content["medtranslate"]
    assert own["Synthetic"] is True and len(own["WeightsSHA256"]) == 64
    assert own["CycleError"]["units"] == "scanner units" and own["CycleError"]["error"] > 0
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    link = out / description["DatasetLinks"]["raw"]
    assert link.resolve() == dataset.resolve()
    source = related(path.with_name(f"{path.stem}.nii.gz")).source  # as `medtranslate view` does
    assert source.resolve() == (dataset / "sub-03/anat/sub-03_T2w.nii.gz").resolve()


def test_the_page_of_a_participant_shows_each_scan_with_its_figures_and_leads_to_its_report(
    converted: Convert, dataset: Path
) -> None:
    (dataset / "sub-03/anat/sub-03_T2w.nii.gz").write_bytes(b"damaged")

    converted("ct", preview=True)

    out = dataset / "derivatives" / "medtranslate"
    page = (out / "sub-03.html").read_text(encoding="utf-8")
    assert "<h1>medtranslate: sub-03, 1 of 2 converted</h1>" in page
    preview = out / "sub-03/ct/sub-03_mod-T1w_desc-synthetic_ct_preview.png"
    assert re.findall(r'src="([^"]+)"', page) == [png_uri(preview.read_bytes())]
    (link,) = re.findall(r'href="([^"]+)"', page)
    assert "data:image/png" in (out / link).read_text(encoding="utf-8")  # the worst slices
    report = json.loads((out / link).with_suffix(".json").read_text())
    error = report["conversions"][0]["cycle_error"]["error"]
    assert f"differs from the scan by {error:.1f} scanner units" in page
    assert "Cycle error by slice" in page and "sub-03_T2w.nii.gz" in page
    assert re.search(r'<p class="bad">.*sub-03_T2w.nii.gz.*</p>', page)


def test_a_page_keeps_what_an_earlier_run_converted_and_takes_up_what_a_later_one_does(
    converted: Convert, dataset: Path
) -> None:
    page = dataset / "derivatives" / "medtranslate" / "sub-03.html"
    whole = (dataset / "sub-03/anat/sub-03_T2w.nii.gz").read_bytes()
    (dataset / "sub-03/anat/sub-03_T2w.nii.gz").write_bytes(b"damaged")
    converted("ct")
    report = page.parent / "sub-03/figures/sub-03_mod-T1w_desc-synthetic_ct.json"
    before = report.read_bytes()

    converted("ct", cycle=False)  # refused: the result exists
    assert report.read_bytes() == before
    assert "sub-03, 1 of 2 converted" in page.read_text(encoding="utf-8")

    (dataset / "sub-03/anat/sub-03_T2w.nii.gz").write_bytes(whole)
    (report.parent / "notes.json").write_text("{}")
    converted("ct", skip_existing=True)

    assert report.read_bytes() == before
    assert "sub-03, 2 of 2 converted" in page.read_text(encoding="utf-8")


def test_an_anonymous_run_names_no_source_or_folder_and_its_pages_no_participant(
    converted: Convert, dataset: Path
) -> None:
    done = converted("ct", preview=True, viewer=True, anonymous=True)

    out = dataset / "derivatives" / "medtranslate"
    sidecar = json.loads((out / "sub-03/ct/sub-03_mod-T1w_desc-synthetic_ct.json").read_text())
    assert "Sources" not in sidecar and sidecar["medtranslate"]["CycleError"]["error"] > 0
    description = json.loads((out / "dataset_description.json").read_text())
    assert not {"DatasetLinks", "SourceDatasets"} & set(description)
    pages = [out / "sub-03.html", *out.rglob("figures/*")]
    assert len(pages) == 5 and len(done) == 2
    for path in (*pages, *out.rglob("ct/*.json")):
        text = path.read_text(encoding="utf-8")
        assert not [one for one in ("sub-03", "anat", str(dataset.parent)) if one in text], path
    page = pages[0].read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2 and "<h2>scan 2</h2>" in page and "href=" not in page


def test_t1w_and_t2w_of_one_session_become_two_ct(dataset: Path, tmp_path: Path) -> None:
    found = find_bids_scans(dataset, tmp_path / "out", to="ct")

    assert [one.output.name for one in found] == [
        "sub-03_mod-T1w_desc-synthetic_ct.nii.gz",
        "sub-03_mod-T2w_desc-synthetic_ct.nii.gz",
    ]


def test_a_contrast_that_is_stated_is_the_suffix_of_the_mri() -> None:
    made = result_name("sub-01_acq-bone_ct.nii.gz", "ct", to="mri", contrast="flair")

    assert made == "sub-01_acq-bone_desc-synthetic_FLAIR.nii.gz"


def test_participants_and_sessions_are_chosen_with_or_without_their_prefix(
    dataset: Path, tmp_path: Path
) -> None:
    def chosen(**labels: list[str]) -> list[str]:
        return [one.subject for one in find_bids_scans(dataset, tmp_path, to="mri", **labels)]

    assert chosen(participants=["sub-01", "02"]) == ["01", "02"]
    assert chosen(sessions=["ses-a"]) == ["02"]
    with pytest.raises(InvalidOption, match=r"no participant 09.*it has 01, 02, 03, 04"):
        chosen(participants=["09"])
    with pytest.raises(InputMissing, match="--suffix"):
        chosen(participants=["03"])


def test_a_second_run_does_nothing_but_what_was_cut_off(converted: Convert, dataset: Path) -> None:
    converted(participants=["01", "02"])
    out = dataset / "derivatives" / "medtranslate"
    cut_off = out / "sub-01/anat/sub-01_desc-synthetic_MR.json"
    cut_off.unlink()

    again = converted(participants=["01", "02"], skip_existing=True)
    refused = converted(participants=["01"])

    assert [one.path.name for one in again] == ["sub-01_ct.nii.gz"]
    assert again[0].exit_code == 0 and cut_off.exists()
    assert isinstance(refused[0].error, OutputExists)


@pytest.mark.parametrize("place", ["", "sub-01", "derivatives", "out", "derivatives/../sub-01/x"])
def test_the_raw_dataset_is_no_place_for_results(
    converted: Convert, dataset: Path, place: str
) -> None:
    before = hashes(dataset)

    with pytest.raises(OutputExists, match="never written to"):
        converted(output=place)

    assert hashes(dataset) == before


def test_a_folder_of_something_else_is_no_place_for_results(
    converted: Convert, dataset: Path
) -> None:
    other = dataset / "derivatives" / "other"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="not empty"):
        converted(output="derivatives/other")

    (other / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "fmriprep"}]}')
    with pytest.raises(OutputExists, match="did not make"):
        converted(output="derivatives/other")

    assert sorted(one.name for one in other.iterdir()) == ["dataset_description.json", "notes.txt"]


@pytest.mark.parametrize("text", ["{", "[]", "", "{'Name': 1}"])
def test_a_damaged_description_has_one_line_and_writes_nothing(
    converted: Convert, dataset: Path, text: str
) -> None:
    (dataset / "dataset_description.json").write_text(text)

    with pytest.raises(Unreadable) as caught:
        converted()

    assert "\n" not in str(caught.value)
    assert not (dataset / "derivatives").exists()


def test_a_damaged_sidecar_of_a_scan_does_not_matter(dataset: Path, tmp_path: Path) -> None:
    for sidecar in dataset.rglob("*_ct.json"):
        sidecar.write_text("{ broken")

    assert len(find_bids_scans(dataset, tmp_path / "out", to="mri")) == 3


def test_the_command_has_exit_codes_and_a_line_for_each_scan(
    dataset: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = run(app, ["bids", *map(str, arguments), "--to", "mri"])
        said = capsys.readouterr()
        return code, said.out, said.err

    more = ("--bundle", tiny_bundle, "--device", "cpu", "--force")
    out = dataset.parent / "out"

    code, said, errors = call(dataset, out, "participant", "--participant-label", "01", *more)
    assert (code, errors) == (0, "") and "sub-01_desc-synthetic_MR.nii.gz" in said
    assert "data:image/png" in (out / "sub-01.html").read_text(encoding="utf-8")
    code, said, errors = call(dataset, out, "participant", "--participant-label", "04", *more)
    assert (code, said) == (4, "") and errors.count("\n") == 1
    code, said, errors = call(dataset, out, "group", *more)
    assert code == 2 and "say participant" in errors
    code, said, errors = call(out / "sub-01", out, "participant", *more)
    assert code == 3 and "no BIDS dataset" in errors


def test_a_validator_accepts_the_derivatives(converted: Convert, dataset: Path) -> None:
    name = "bids-validator-deno"
    program = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if program is None:
        if os.environ.get("MEDTRANSLATE_REQUIRE_TOOLS") == "1":
            pytest.fail(f"{name} is missing")
        pytest.skip(f"{name} is missing")
    converted(participants=["01", "02"])
    converted("ct", map=True)

    done = subprocess.run(
        [program, dataset / "derivatives" / "medtranslate", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )

    found = json.loads(done.stdout)
    errors = [one for one in found["issues"]["issues"] if one["severity"] == "error"]
    assert errors == []
    assert done.returncode == 0
