"""What a command imports: no more than it needs, which is what its user waits for."""

from __future__ import annotations

import json
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
    *("requests", "mlflow", "torchvision", "transformers", "onnx", "onnxscript", "tqdm", "scipy"),
    *("monai.engines", "monai.handlers", "monai.bundle", "monai.fl", "monai.auto3dseg"),
    *("torch.distributed.tensor", "torch._inductor", "torch._dynamo", "torch.onnx", "sympy"),
    *("medtranslate.training", "medtranslate.evaluation", "medtranslate.packaging"),
}
SHOW = """
import json, sys
from medtranslate.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["medtranslate", *command]
    try:
        main()
    except SystemExit as ended:
        print()
        print("MODULES", ended.code, *sys.modules)
"""


def imported_in_turn(*commands: tuple[object, ...], code: int = 0) -> list[set[str]]:
    """Run commands in one process of their own; give what was imported by the end of each."""
    given = json.dumps([[str(one) for one in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", SHOW, given], capture_output=True, text=True)
    ends = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("MODULES")]
    assert [int(end[0]) for end in ends] == [code] * len(commands), done.stderr
    return [set(end[1:]) for end in ends]


def imported(*arguments: object, code: int = 0) -> set[str]:
    """Run a command in a process of its own and give the modules that it imported."""
    (modules,) = imported_in_turn(arguments, code=code)
    return modules


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    return factory.write(tmp_path / "series", factory.series())


def test_inspect_needs_no_torch(ct: Path, dicom: Path) -> None:
    volume, series = imported_in_turn(("inspect", ct), ("inspect", dicom))

    assert volume & (TORCH | NEVER) == set() == series & (TORCH | NEVER)
    assert "pydicom" not in volume and "pydicom" in series
    assert "PIL" not in volume


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["-o", "out.nii.gz", "--format", "mha"], 2),
        (["-o", "out.nii.gz", "--device", "gpu"], 11),
        (["-f", "png", "--report", "-"], 5),
    ],
)
def test_a_refusal_needs_no_torch(ct: Path, options: list[str], code: int) -> None:
    assert imported("convert", ct, "--to", "mri", *options, code=code) & (TORCH | NEVER) == set()


def test_a_folder_that_is_ambiguous_is_refused_without_torch(ct: Path, dicom: Path) -> None:
    assert dicom.parent == ct.parent

    assert imported("convert", ct.parent, "--to", "mri", code=12) & (TORCH | NEVER) == set()


def test_a_conversion_imports_no_engines_and_draws_its_page_with_what_is_hidden_from_monai(
    ct: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    head = np.zeros((64, 64), np.uint8)
    head[12:52, 16:48] = 90
    Image.fromarray(head).save(tmp_path / "head.png")
    page = tmp_path / "page.html"
    model = ("--bundle", tiny_bundle, "--device", "cpu")

    plain, with_page = imported_in_turn(
        ("convert", tmp_path / "head.png", "--to", "mri", "--from", "ct", "--force", *model),
        ("convert", ct, "--to", "mri", "--force", "--map", "--report", page, *model),
    )

    assert plain & NEVER == set() and plain > TORCH
    assert (tmp_path / "head_mri.png").is_file()
    assert with_page & NEVER == {"matplotlib"}
    assert page.is_file()


def test_what_a_network_of_a_bundle_computes_with_is_not_hidden() -> None:
    needed = {allowed.needs for allowed in generators._ALLOWED.values()} - {""}

    assert "einops" in needed
    assert needed & lean.HIDDEN == set()


def test_readers_are_monais_wherever_they_come_from() -> None:
    code = """
from medtranslate.cli.lean import lean_imports
lean_imports()  # for speed
from medtranslate.imaging import ScanReader
reader = ScanReader()
from medtranslate.imaging.nifti import NiftiReader
from monai.data import ImageReader
print(isinstance(reader, ImageReader), isinstance(NiftiReader(), ImageReader))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.split() == ["True", "True"], done.stderr
