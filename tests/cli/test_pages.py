"""The scripts of the how-to guides and the code of the report's page do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtranslate.bundle import Bundle
from medtranslate.translation import Translator

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [
    DOCS / "how-to" / "radiology-pipeline.md",
    DOCS / "how-to" / "monai-pipeline.md",
    DOCS / "reference" / "report.md",
]

Desk = Callable[[Path, str], subprocess.CompletedProcess[str]]


def block(heading: str) -> str:
    """Return the first code block of the pages whose fence line or first line has `heading`."""
    text = "".join(page.read_text("utf-8") for page in PAGES)
    fences = re.findall(r"^```(\w+[^\n]*)\n(.*?)^```$", text, re.S | re.M)
    return next(
        code for fence, code in fences if heading in fence or heading in code.splitlines()[0]
    )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Run the page's script in a folder that has its two files, with a program on the path."""
    for name in ("convert-series.sh", "decide.py"):
        (tmp_path / name).write_text(block(f'title="{name}"'), encoding="utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)

    def run(series: Path, program: str) -> subprocess.CompletedProcess[str]:
        (programs / "medtranslate").write_text(f"#!/bin/bash\n{program}\n")
        (programs / "medtranslate").chmod(0o755)
        return subprocess.run(
            ["bash", "convert-series.sh", series, "out"],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )

    return run


def test_the_script_holds_a_result_with_a_large_cycle_error(
    desk, command, ct_series, tiny_bundle, tmp_path, monkeypatch
) -> None:
    desk(ct_series, 'printf "%s\\n" "$@" >arguments.txt')
    given = (tmp_path / "arguments.txt").read_text().splitlines()
    monkeypatch.chdir(tmp_path)
    assert command(*given, "--bundle", tiny_bundle, "--device", "cpu").code == 0

    done = desk(ct_series, "exit 0")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "hold: out/mri"
    assert re.match(r"cycle error: \d+\.\d HU", done.stdout)
    assert len(list((tmp_path / "out" / "mri").iterdir())) == 5
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_script_files_what_its_report_lets_pass(desk, convert, ct_series, tmp_path) -> None:
    path = tmp_path / "out" / "report.json"
    path.parent.mkdir()
    convert(ct_series, "--to", "mri", "--report", path)
    report = json.loads(path.read_text())
    report["conversions"][0]["cycle_error"]["share_of_range"] = 0.05
    path.write_text(json.dumps(report))

    assert desk(ct_series, "exit 0").stdout == "file: out/mri\n"

    report["conversions"][0]["domain"] = {"verdict": "warned", "reasons": ["it is dark"]}
    path.write_text(json.dumps(report))
    assert desk(ct_series, "exit 0").stdout == "domain check: it is dark\nhold: out/mri\n"


def test_the_page_decides_about_a_failed_conversion_too(desk, convert, ct, tmp_path) -> None:
    path = tmp_path / "out" / "report.json"
    path.parent.mkdir()
    convert(tmp_path / "missing.nii.gz", "--to", "mri", "--report", path)

    done = desk(ct, "exit 0")

    assert done.stdout.splitlines()[-1] == "hold: out/mri"
    assert done.stdout.startswith("not converted: ") and "no such file" in done.stdout


@pytest.mark.parametrize(
    ("code", "ended", "said"),
    [
        (6, 0, "hold: the series itself, code 6\n"),
        (7, 0, "hold: not a scan for this model\n"),
        (10, 10, "fault of the installation, code 10\n"),
    ],
)
def test_the_script_tells_a_wrong_series_from_a_broken_installation(
    desk, tmp_path, code, ended, said
) -> None:
    done = desk(tmp_path, f"exit {code}")

    assert (done.returncode, done.stdout) == (ended, said)


def test_the_python_of_the_page(convert, ct, tiny_bundle, monkeypatch) -> None:
    model = Translator.load(tiny_bundle, device="cpu")
    monkeypatch.chdir(ct.parent)
    names: dict[str, object] = {}

    with monkeypatch.context() as patched:
        patched.setattr(Translator, "load", lambda: model)
        exec(block("from medtranslate import Translator, read"), names)

    found: object = names["found"]
    assert convert(ct, "--to", "mri", "--map").code == 0
    exec(block("import nibabel"), names)
    seen, error = names["seen"], names["error"]
    assert isinstance(seen, np.ndarray) and isinstance(error, np.ndarray)
    assert seen.shape == nib.load(ct).shape and not seen.all()
    exact = found.map.as_tensor()[0].numpy()  # type: ignore[attr-defined]
    assert np.abs(error - exact).max() < 0.02


def test_the_monai_pipeline_gives_the_voxels_of_a_translation(
    ct, tiny_bundle, tmp_path, monkeypatch
) -> None:
    for name in ("first", "second"):
        shutil.copy(ct, tmp_path / f"{name}.nii.gz")
    bundle = Bundle.load(tiny_bundle)
    expected = Translator.load(bundle, device="cpu", precision="float32").translate(ct, to="mri")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Bundle, "load", lambda: bundle)
        exec(block('title="pipeline.py"'), {})

    for name in ("first", "second"):
        made = nib.load(tmp_path / "results" / f"{name}_mri.nii.gz")
        assert np.array_equal(made.get_fdata(), expected.as_tensor()[0].numpy())
        assert np.array_equal(made.affine, nib.load(ct).affine)
