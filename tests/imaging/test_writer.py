"""Outputs are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medtranslate import files
from medtranslate.errors import OutputExists, OutputFailed, Unsupported
from medtranslate.files import is_temporary, whole_file, whole_folder
from medtranslate.imaging import WRITABLE, read, write
from medtranslate.imaging.folder import walk

VOLUMES = (".nii", ".nii.gz", ".mha", ".nrrd")
IMAGES = (".png", ".jpg", ".tif")


@pytest.fixture
def image_for(nifti_file, voxels, tmp_path):
    """Give an image that may be written under a suffix."""
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "scan.png")
    volume = nifti_file(voxels)
    return lambda suffix: read(volume if suffix in VOLUMES else tmp_path / "scan.png")


@pytest.fixture
def nothing_new(left_over):
    return lambda *expected: left_over("scan.png", "scan.nii.gz", *expected) == []


def test_every_suffix_is_known():
    assert set(VOLUMES + IMAGES) < set(WRITABLE)


@pytest.mark.parametrize("suffix", VOLUMES + IMAGES)
def test_an_output_that_exists(image_for, tmp_path, suffix, nothing_new):
    out = tmp_path / f"out{suffix}"
    out.write_text("precious")

    with pytest.raises(OutputExists, match="exists already") as caught:
        write(image_for(suffix), out)

    assert str(caught.value).startswith(str(out))
    assert out.read_text() == "precious"
    assert write(image_for(suffix), out, overwrite=True) == out
    assert read(out).shape == image_for(suffix).shape
    assert nothing_new(out.name)


@pytest.mark.parametrize("suffix", VOLUMES + IMAGES)
def test_a_disk_that_fills_up(image_for, tmp_path, suffix, nothing_new):
    """RLIMIT_FSIZE makes every write beyond a size fail, as a full disk does."""
    image = image_for(suffix)
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, previous[1]))
        with pytest.raises(OutputFailed, match=r"cannot be written|not written whole") as caught:
            write(image, tmp_path / f"out{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(caught.value).startswith(str(tmp_path / f"out{suffix}"))
    assert "\n" not in str(caught.value)
    assert nothing_new()


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_short_write_that_itk_keeps_to_itself(image_for, tmp_path, suffix, monkeypatch):
    honest = sitk.WriteImage

    def short(image, name, *options, **named):
        honest(image, name, *options, **named)
        Path(name).write_bytes(Path(name).read_bytes()[:-40])

    monkeypatch.setattr(sitk, "WriteImage", short)
    with pytest.raises(OutputFailed, match="was not written whole"):
        write(image_for(suffix), tmp_path / f"out{suffix}")


@pytest.mark.parametrize("suffix", VOLUMES + IMAGES)
def test_an_interrupt(image_for, tmp_path, suffix, nothing_new, monkeypatch):
    image = image_for(suffix)

    def interrupted(source, target, flag):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_renamed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(image, tmp_path / f"out{suffix}")
    assert nothing_new()


def test_a_kill_in_the_middle_never_leaves_a_half_output(tmp_path):
    program = (
        "import sys, time; from medtranslate.files import whole_file\n"
        "with whole_file(sys.argv[1]) as path:\n"
        "    path.write_text('half'); print('here', flush=True); time.sleep(60)\n"
    )
    out = tmp_path / "out.nii.gz"
    command = [sys.executable, "-c", program, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert not out.exists()
    assert [is_temporary(path.name) for path in tmp_path.iterdir()] == [True]
    assert [path.name for path in walk(tmp_path)] == []
    files.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".png"])
def test_folders_that_take_no_output(image_for, tmp_path, suffix, monkeypatch):
    image = image_for(suffix)
    with pytest.raises(OutputFailed, match="its folder does not exist"):
        write(image, tmp_path / "none" / f"out{suffix}")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputFailed, match="no permission"):
        write(image, tmp_path / f"out{suffix}")


def test_permission_that_is_missed_only_when_writing(image_for, tmp_path, monkeypatch):
    image = image_for(".nii")

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(OutputFailed, match=r"out.nii: cannot be written: Permission denied"):
        write(image, tmp_path / "out.nii")


def test_a_folder_where_a_file_is_asked_for(tmp_path):
    (tmp_path / "out.nii").mkdir()
    with pytest.raises(OutputFailed, match="is a folder"), whole_file(tmp_path / "out.nii"):
        pass


def test_an_unknown_suffix(image_for, tmp_path):
    with pytest.raises(Unsupported, match=r"no format is written as .xyz"):
        write(image_for(".nii"), tmp_path / "out.xyz")


@pytest.mark.parametrize("change", ["shape", "affine", "source"])
def test_an_image_that_left_its_source(image_for, tmp_path, change, nothing_new):
    image = image_for(".nii")
    if change == "shape":
        image = image[:, :-1]
        fault = r"shape \[1, 7, 9, 5\] no longer agrees with its source \[1, 8, 9, 5\]"
    elif change == "affine":
        image.affine = image.affine + 0.01
        fault = "the affine no longer agrees"
    else:
        del image.meta["source"]
        fault = "no source"
    with pytest.raises(Unsupported, match=fault):
        write(image, tmp_path / "out.nii")
    assert nothing_new()


def test_a_result_that_does_not_fit_its_type(image_for, tmp_path, translated, nothing_new):
    made = translated(image_for(".nii"))
    made[0, 0, 0, 0] = 40000
    with pytest.raises(Unsupported, match="do not fit int16"):
        write(made, tmp_path / "out.nii")
    made[0, 0, 0, 0] = float("nan")
    with pytest.raises(Unsupported, match="do not fit int16"):
        write(made, tmp_path / "out.mha")
    assert nothing_new()


def test_a_folder_is_whole_or_absent(tmp_path, left_over):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), whole_folder(out) as folder:
        (folder / "1.dcm").write_text("x")
        raise KeyboardInterrupt
    assert left_over() == []
    with whole_folder(out) as folder:
        (folder / "1.dcm").write_text("x")
    with pytest.raises(OutputExists), whole_folder(out):
        pass
    with pytest.raises(OutputFailed), whole_folder(out, overwrite=True) as folder:
        raise OSError(28, "No space left on device")
    assert (out / "1.dcm").read_text() == "x"
    with whole_folder(out, overwrite=True) as folder:
        (folder / "2.dcm").write_text("y")
    assert [path.name for path in out.iterdir()] == ["2.dcm"]
    assert left_over("out") == []


def test_a_folder_where_a_file_lies(tmp_path):
    (tmp_path / "out").write_text("precious")
    with (
        pytest.raises(OutputFailed, match="is a file"),
        whole_folder(tmp_path / "out", overwrite=True),
    ):
        pass


def test_a_large_volume_is_written_at_the_speed_of_gzip_level_1(tmp_path, nifti_file):
    """16 slices of 512x512: a tenth of the volume that the speed target speaks of."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 200, (512, 512, 16), dtype=np.int16)
    image = read(nifti_file(noise, name="big.nii"))
    start = time.perf_counter()
    write(image, tmp_path / "out.nii.gz")
    assert time.perf_counter() - start < 5
