"""What a command imports: no more than it needs, which is what its user waits for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from imaging.dicom import factory
from PIL import Image

from medtranslate.cli import lean
from medtranslate.networks import generators

TORCH = {"torch", "monai"}
NEVER = {
    *("ignite", "matplotlib", "tensorboard", "tensorboardX", "pandas", "sklearn", "skimage"),
    *("requests", "mlflow", "torchvision", "transformers", "onnx", "onnxscript", "tqdm"),
    *("monai.engines", "monai.handlers", "monai.bundle", "monai.fl", "monai.auto3dseg"),
    *("torch.distributed.tensor", "torch._inductor", "torch._dynamo", "torch.onnx", "sympy"),
    *("medtranslate.training", "medtranslate.evaluation", "medtranslate.packaging"),
}
SHOW = """
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules))
sys.argv = ["medtranslate", *sys.argv[1:]]
from medtranslate.cli import main
main()
"""


def imported(*arguments: object, code: int = 0) -> set[str]:
    """Run a command in a process of its own and give the modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    return factory.write(tmp_path / "series", factory.series())


def test_inspect_needs_no_torch(ct: Path, dicom: Path) -> None:
    volume, series = imported("inspect", ct), imported("inspect", dicom)

    assert volume & (TORCH | NEVER) == set() == series & (TORCH | NEVER)
    assert "pydicom" not in volume and "pydicom" in series


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["-o", "out.nii.gz", "--format", "mha"], 2),
        (["-o", "out.nii.gz", "--device", "gpu"], 11),
        (["-f", "png"], 5),
    ],
)
def test_a_refusal_needs_no_torch(ct: Path, options: list[str], code: int) -> None:
    assert imported("convert", ct, "--to", "mri", *options, code=code) & (TORCH | NEVER) == set()


def test_a_folder_that_is_ambiguous_is_refused_without_torch(ct: Path, dicom: Path) -> None:
    assert dicom.parent == ct.parent

    assert imported("convert", ct.parent, "--to", "mri", code=12) & (TORCH | NEVER) == set()


def test_a_conversion_imports_no_engines_and_no_plots(tmp_path: Path) -> None:
    head = np.zeros((64, 64), np.uint8)
    head[12:52, 16:48] = 90
    Image.fromarray(head).save(tmp_path / "head.png")

    modules = imported("convert", tmp_path / "head.png", "--to", "mri", "--from", "ct", "--force")

    assert modules & NEVER == set() and modules > TORCH
    assert (tmp_path / "head_mri.png").is_file()


def test_a_page_is_drawn_with_what_is_hidden_from_monai(ct: Path, tiny_bundle: Path) -> None:
    page = ct.parent / "page.html"
    model = ("--bundle", tiny_bundle, "--device", "cpu")

    modules = imported("convert", ct, "--to", "mri", "--force", "--map", "--report", page, *model)

    assert {"matplotlib"} == modules & NEVER
    assert page.is_file()


def test_what_a_network_of_a_bundle_computes_with_is_not_hidden() -> None:
    needed = {allowed.needs for allowed in generators._ALLOWED.values()} - {""}

    assert "einops" in needed
    assert needed & lean.HIDDEN == set()


def test_readers_are_monais_wherever_they_come_from() -> None:
    code = """
from medtranslate.imaging import ScanReader
reader = ScanReader()
from medtranslate.imaging.nifti import NiftiReader
from monai.data import ImageReader
print(isinstance(reader, ImageReader), isinstance(NiftiReader(), ImageReader))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.split() == ["True", "True"], done.stderr
