"""`medtranslate view` finds the scan and the maps of a result, and writes or opens its page."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import webbrowser
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from scan_fixtures import write_head

from medtranslate import html
from medtranslate.report import viewer

Command = Callable[..., object]


@pytest.fixture(autouse=True)
def any_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page needs NiiVue, which a checkout may lack; no test here runs it."""
    monkeypatch.setattr(html, "niivue", lambda: (b"code", "a license"))


def shown(page: Path) -> list[tuple[str, np.ndarray]]:
    """Names and values of the volumes in a page."""
    text = page.read_text(encoding="utf-8")
    content = json.loads(re.findall(r'class="viewer-content">(.*?)</script>', text)[0])
    packed = re.findall(r'<script type="text/plain" id="view-0-\d">(.*?)</script>', text)
    files = (gzip.decompress(base64.b64decode(one)) for one in packed)
    arrays = [np.asarray(nib.Nifti1Image.from_bytes(one).dataobj) for one in files]
    return list(zip([one["name"] for one in content["volumes"]], arrays, strict=True))


def test_a_result_is_shown_with_the_scan_and_the_map_beside_it(
    convert: Command, command: Command, ct: Path, tmp_path: Path
) -> None:
    convert(ct, "--to", "mri", "--force", "--map", "--no-preview")

    done = command("view", tmp_path / "scan_mri.nii.gz", "-o", tmp_path / "page.html")

    assert (done.code, done.err) == (0, "")
    assert "scan.nii.gz" in done.out and "scan_mri_error.nii.gz" in done.out
    (source, ct_values), (result, mr_values), (error, _) = shown(tmp_path / "page.html")
    assert (source, result, error) == ("CT", "SYNTHETIC MR", "cycle error")
    np.testing.assert_array_equal(ct_values, nib.load(ct).get_fdata())
    written = nib.load(tmp_path / "scan_mri.nii.gz").get_fdata()
    np.testing.assert_array_equal(mr_values, written)


def test_a_report_says_where_the_scan_of_a_renamed_result_is(
    convert: Command, command: Command, ct: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    report = out / "report.json"
    convert(ct, "--to", "mri", "--force", "--no-cycle", "-o", out / "other.nii.gz", "--report",
            report)  # fmt: skip

    done = command("view", out / "other.nii.gz", "-o", tmp_path / "page.html")

    assert (done.code, done.err) == (0, "")
    assert [name for name, _ in shown(tmp_path / "page.html")] == ["CT", "SYNTHETIC MR"]


def test_a_derived_series_is_shown_with_the_series_that_it_names_and_its_parametric_map(
    convert: Command,
    command: Command,
    ct_series: Path,
    ct_voxels: np.ndarray,
    mr_voxels: np.ndarray,
    tmp_path: Path,
) -> None:
    convert(ct_series, "--to", "mri", "--force", "--map", "--no-preview")
    shutil.move(ct_series, tmp_path / "elsewhere")
    write_head(tmp_path / "another", "MR", mr_voxels, number=7)
    result = tmp_path / "series_mri"

    done = command("view", result, "-o", tmp_path / "page.html")

    assert (done.code, done.err) == (0, "")
    (_, scan), _, (name, error) = shown(tmp_path / "page.html")
    np.testing.assert_array_equal(scan, ct_voxels)
    assert name == "cycle error"
    written = pydicom.dcmread(tmp_path / "series_mri_error.dcm")
    planes = np.frombuffer(written.FloatPixelData, "<f4").reshape(error.T.shape)
    frames = written.PerFrameFunctionalGroupsSequence
    upwards = [one.PlanePositionSequence[0].ImagePositionPatient[2] for one in frames]
    np.testing.assert_array_equal(error.T, planes[np.argsort(upwards)])


def test_without_an_output_the_page_is_opened_and_the_next_one_takes_its_place(
    convert: Command,
    command: Command,
    ct: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or len(opened) < 3)
    convert(ct, "--to", "mri", "--force", "--no-cycle", "--no-preview")
    result = tmp_path / "scan_mri.nii.gz"

    codes = [command("view", result, "--quiet").code for _ in range(2)]
    unopened = command("view", result)

    page = tmp_path / "cache" / "medtranslate" / "view" / "view.html"
    assert codes == [0, 0]
    assert opened[0] == page.as_uri()
    assert list(page.parent.iterdir()) == [page]
    assert page.parent.stat().st_mode & 0o077 == 0
    assert unopened.code == 9 and "write a page with -o" in unopened.err


def test_an_anonymous_page_names_no_file(
    convert: Command, command: Command, ct: Path, tmp_path: Path
) -> None:
    convert(ct, "--to", "mri", "--force", "--no-cycle", "--no-preview")
    named = tmp_path / "Doe_Jane.nii.gz"
    shutil.move(tmp_path / "scan_mri.nii.gz", named)
    page = tmp_path / "page.html"

    command("view", named, "--source", ct, "--anonymous", "-o", page)

    assert "Doe" not in page.read_text() and "scan.nii" not in page.read_text()


@pytest.mark.parametrize(
    ("given", "options", "code", "words"),
    [
        ("scan.nii.gz", [], 5, "no result of medtranslate"),
        ("gone.nii.gz", [], 3, "no such file"),
        ("moved.nii.gz", [], 3, "--source"),
        ("moved.nii.gz", ["--source", "small.nii.gz"], 5, "another grid"),
        ("scan_mri.nii.gz", ["--map", "small.nii.gz"], 5, "another grid"),
        ("scan_mri.nii.gz", ["--map", "gone.nii.gz"], 3, "no such file"),
    ],
)
def test_what_cannot_be_shown_has_one_line_and_writes_no_page(
    convert: Command,
    command: Command,
    ct: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    options: list[str],
    code: int,
    words: str,
) -> None:
    convert(ct, "--to", "mri", "--force", "--no-cycle", "--no-preview")
    shutil.copy(tmp_path / "scan_mri.nii.gz", tmp_path / "moved.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 4), np.int16), np.eye(4)), tmp_path / "small.nii.gz")
    monkeypatch.chdir(tmp_path)

    done = command("view", given, *options, "-o", "page.html")

    assert (done.code, done.out) == (code, "")
    assert words in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_an_output_that_is_no_page_and_an_install_without_niivue_are_refused(
    command: Command, ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = command("view", ct, "-o", tmp_path / "page.pdf")
    monkeypatch.setattr(html, "niivue", lambda: None)
    without = command("view", ct, "-o", tmp_path / "page.html")

    assert (wrong.code, without.code) == (2, 2)
    assert "end it in .html" in wrong.err
    assert "npm" in without.err


def test_a_report_shows_volumes_unless_it_is_told_not_to(
    convert: Command, ct: Path, tmp_path: Path
) -> None:
    pages = {"plain": [], "without": ["--no-viewer"], "anonymous": ["--anonymous"]}
    for name, options in pages.items():
        report = ("--report", tmp_path / f"{name}.html", *options)
        done = convert(ct, "--to", "mri", "--force", "--overwrite", "--no-preview", *report)
        assert done.code == 0

    names = [name for name, _ in shown(tmp_path / "plain.html")]
    assert names == ["CT", "SYNTHETIC MR", "cycle error"]
    for name in ("without", "anonymous"):
        assert "<script" not in (tmp_path / f"{name}.html").read_text()


def test_a_report_with_more_than_a_browser_opens_says_where_its_viewers_are(
    convert: Command, ct: Path, mr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "MOST_BYTES", 10)

    convert(ct, "--to", "mri", "--force", "--no-preview", "--report", tmp_path / "page.html")

    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text and "medtranslate view RESULT" in text


def test_2d_images_and_uneven_series_have_a_page_without_a_viewer(
    convert: Command, images: Path, uneven_series: Path, tmp_path: Path
) -> None:
    convert(images, "--to", "mri", "--force", "--no-preview", "--report", tmp_path / "i.html")
    convert(uneven_series, "--to", "mri", "--force", "--no-preview", "--report",
            tmp_path / "u.html")  # fmt: skip

    assert "<script" not in (tmp_path / "i.html").read_text()
    text = (tmp_path / "u.html").read_text()
    assert "<script" not in text and "not evenly spaced" in text
