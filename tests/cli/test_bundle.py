"""bundle: info, verify, export and refresh from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medtranslate.errors import InputMissing, ModelUnusable, OutputExists
from medtranslate.packaging.reference import write_reference


@pytest.fixture
def model(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "model"))
    write_reference(folder)
    return folder


def test_info_says_what_it_is(command, model) -> None:
    done = command("bundle", "info", model)

    lines = {line[:18].strip(): line[18:] for line in done.out.splitlines()}
    assert done.code == 0
    assert lines["model"] == "tiny 0.0"
    assert lines["ct_to_mri"].startswith(
        "Compact (width 16, blocks 1), 0.01 M parameters, 0.1 GFLOP"
    )
    assert lines["recipe MR-volume"] == "FindTissue, AxialSlices, HeadMask, ScaleHeadPercentiles"
    assert lines["training"] == "not stated"
    assert "models/mri_to_ct.safetensors, SHA-256 " in done.out


def test_verify_tells_each_check(command, model) -> None:
    done = command("bundle", "verify", model)

    assert done.code == 0, done.err
    assert done.out.count("ok  ") == 5 and "not checked  state dicts" in done.out
    assert "reference: mri equal to the last voxel; ct equal to the last voxel" in done.out


def test_verify_ends_with_the_code_of_a_model_that_is_no_good(command, model) -> None:
    weights = model / "models/ct_to_mri.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")

    done = command("bundle", "verify", model)

    assert done.code == ModelUnusable.exit_code
    assert done.out.startswith("fault        networks, recipes and weights: ")
    assert "states in line 13" in done.out
    assert done.err == f"medtranslate: error: {model}: 1 of its checks failed\n"


def test_verify_runs_code_only_when_told(command, model) -> None:
    path, mark = model / "configs/inference.yaml", model.parent / "ran"
    run = f"run:\n- $open({str(mark)!r}, 'w').close()\n"
    path.write_text(path.read_text().replace("run:\n", run))

    assert "configs/inference.yaml: not as medtranslate writes them" in (
        command("bundle", "verify", model).out
    )
    assert not mark.exists()
    done = command("bundle", "verify", model, "--trust-code")
    assert "ok           inference.yaml, run by MONAI: properties complete" in done.out
    assert mark.exists()


def test_export_and_refresh(command, model, tmp_path) -> None:
    out = tmp_path / "out"
    license = tmp_path / "LICENSE"
    license.write_text("MIT License\n")
    done = command(
        "bundle", "export", model, "-o", out, "--model-zoo", "--license", license,
        "--name", "other", "--model-version", "1.1", "--to", "ct",
    )  # fmt: skip
    assert (done.code, done.out) == (0, f"{out}: written\n"), done.err
    said = command("bundle", "info", out).out
    assert "other 1.1" in said and "MIT License" in said
    assert said.index("mri_to_ct") < said.index("ct_to_mri")
    assert command("bundle", "export", model, "-o", out).code == OutputExists.exit_code

    (out / "models/model.pt").unlink()
    (out / "configs/logging.conf").write_text("old\n")
    assert command("bundle", "refresh", out, "--note", "again").code == 0
    assert command("bundle", "verify", out).code == 0
    assert "again" in (out / "configs/metadata.json").read_text()


def test_the_shipped_bundle_is_the_default(command) -> None:
    assert "brain_ct_mri" in command("bundle", "info").out


def test_what_is_no_model(command, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (["info", tmp_path / "empty"], ["verify", tmp_path / "empty"]):
        assert command("bundle", *arguments).code == ModelUnusable.exit_code
    done = command("bundle", "export", tmp_path / "empty", "-o", tmp_path / "out")
    assert done.code == InputMissing.exit_code
    assert "empty: no run, checkpoint or bundle there" in done.err
