"""Reading a file opens nothing outside its folder, in this process and in its children."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from imaging.dicom.compress import compress
from imaging.dicom.factory import save, series
from PIL import Image

import medtranslate

# Runs in every interpreter that is started, because its name is Python's own for that.
WITNESS = """
import os, sys
LOG = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_APPEND)
def witness(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        line = "open " + os.path.realpath(os.fsdecode(arguments[0]))
    elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"):
        if not os.path.isabs(os.fsdecode(arguments[0])):
            return  # relative to an open folder: a temporary one is removed so
        line = "change " + os.path.realpath(os.fsdecode(arguments[0]))
    elif event == "subprocess.Popen":
        line = "start " + " ".join(map(str, arguments[1]))
    elif event in ("socket.connect", "os.system", "os.exec", "os.posix_spawn"):
        line = "start " + event
    else:
        return
    os.write(LOG, line.encode("utf-8", "backslashreplace") + bytes([10]))
sys.addaudithook(witness)
"""

READ = """
import sys
from medtranslate.errors import MedTranslateError
from medtranslate.imaging import read_scan, survey
survey(sys.argv[1])
for path in sys.argv[2:]:
    try:
        read_scan(path)
    except MedTranslateError:
        pass
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Make a file of each format, and some that name files elsewhere."""
    folder = tmp_path_factory.mktemp("scans") / "given"
    folder.mkdir()
    numbers = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    nib.Nifti1Image(numbers, np.eye(4)).to_filename(folder / "a.nii.gz")
    for name in ("a.mha", "b.mhd", "a.nrrd", "b.nhdr"):
        sitk.WriteImage(sitk.GetImageFromArray(numbers), str(folder / name))
    gray = numbers[:, :, 0].astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(gray).save(folder / name)
    Image.fromarray(np.arange(240, dtype=np.uint8).reshape(15, 16)).save(folder / "a.jpg")
    (plain,) = series("CT", count=1)
    save(plain, folder / "plain.dcm")
    for syntax in ("jpeg2000", "jpeg-ls"):
        compress(save(plain, folder / f"{syntax}.dcm"), syntax)
    color = sitk.GetImageFromArray(np.repeat(gray[..., None], 3, axis=2), isVector=True)
    sitk.WriteImage(color, str(folder / "deep.tif"))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(folder / "a.nii.gz", "a.nii.gz")
    (folder.parent / "secret.raw").write_bytes(numbers.tobytes())
    content = (folder / "a.mha").read_bytes()
    for number, name in enumerate(("../secret.raw", "/etc/passwd", "/dev/zero", "-")):
        line = f"ElementDataFile = {name}".encode()
        (folder / f"evil{number}.mha").write_bytes(
            content.replace(b"ElementDataFile = LOCAL", line)
        )
    return folder


def test_reading_opens_nothing_outside_the_folder(scans, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITNESS, encoding="utf-8")
    log = tmp_path / "log"
    log.touch()
    root = Path(medtranslate.__file__).parents[1]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]),
        "WITNESS_LOG": str(log),
        "TMPDIR": str(temporary),
    }
    files = sorted(map(str, scans.iterdir()))
    subprocess.run(
        [sys.executable, "-P", "-c", READ, str(scans), *files],
        env=environment,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    events = [line.split(" ", 1) for line in log.read_text(encoding="utf-8").splitlines()]
    python = (sys.prefix, sys.base_prefix, sys.exec_prefix, root)  # code
    machine = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/etc/", "/usr/", "/lib")
    allowed = [*map(os.path.realpath, (*python, scans, tmp_path)), *map(str, python), *machine]
    settings = f"{Path.home()}/."  # of Python and its libraries
    opened = {path for event, path in events if event == "open"}
    elsewhere = [path for path in sorted(opened) if not path.startswith((*allowed, settings))]
    assert elsewhere == []
    assert not {"/etc/passwd", "/dev/zero", str(scans.parent / "secret.raw")} & opened
    changed = {path for event, path in events if event == "change"}
    within = (str(temporary), settings)
    assert [path for path in sorted(changed) if not path.startswith(within)] == []
    started = [path for event, path in events if event == "start"]
    assert all("child_worker.py" in path for path in started) and started, started
    assert [one for one in temporary.iterdir() if one.name.startswith("medtranslate")] == []
