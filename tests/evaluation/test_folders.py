"""From folders and bundles to the table, through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from medtranslate.cli.evaluate import evaluate
from medtranslate.errors import (
    EvaluationFailed,
    InputMissing,
    OutputExists,
    OutputFailed,
    WrongModality,
)
from medtranslate.evaluation import folders
from medtranslate.evaluation.folders import FolderEvaluation


class MadeTranslator:
    """Stands in for medtranslate.translation.Translator."""

    def __init__(self, bundle: str, device: str) -> None:
        generator = SimpleNamespace(network=torch.nn.Conv2d(1, 1, 1), sha256="d" * 64)
        self.bundle = SimpleNamespace(
            name=Path(bundle).name, version=device, generators={"mri": generator, "ct": generator}
        )

    @classmethod
    def load(cls, bundle: str, device: str = "best") -> MadeTranslator:
        return cls(bundle, device)

    def translate_frames(self, frames: torch.Tensor, to: str) -> torch.Tensor:
        return -frames


@pytest.fixture
def data(tmp_path: Path, ct, mri) -> Path:
    """Two folders of pictures with the same names."""
    for folder, pictures in (("testA", ct), ("testB", mri)):
        (tmp_path / folder).mkdir()
        for name, frame in zip(pictures.names, pictures.frames, strict=True):
            Image.fromarray(frame).save(tmp_path / folder / name)
    return tmp_path


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, new_extractor) -> None:
    """No networks: a made translator, and pooled greys for features."""
    translation = ModuleType("medtranslate.translation")
    translation.Translator = MadeTranslator
    monkeypatch.setitem(sys.modules, "medtranslate.translation", translation)
    monkeypatch.setattr(folders, "find_weights", lambda path, cache: None)
    monkeypatch.setattr(
        folders, "FeatureExtractor", lambda weights, device, cache: new_extractor(device=device)
    )


def plan(data: Path, **changes) -> FolderEvaluation:
    given = {"bundles": ("made",), "ct": data / "testA", "mri": data / "testB", "device": "cpu"}
    return FolderEvaluation(**{**given, **changes})


def test_two_bundles_give_one_table(data: Path, ct) -> None:
    found = plan(data, bundles=("first", "second"), paired=True).run()
    assert [(d.model, d.version, d.target) for d in found.directions] == [
        ("first", "cpu", "mri"),
        ("first", "cpu", "ct"),
        ("second", "cpu", "mri"),
        ("second", "cpu", "ct"),
    ]
    assert found.sets[0].sha256 == ct.digest
    assert all(d.paired is not None and d.paired.cases == 8 for d in found.directions)


def test_the_best_device_is_the_translators_choice(data: Path) -> None:
    [candidate] = plan(data, device="").evaluator().candidates
    assert candidate.version == "best"


def test_references_give_floors_of_the_same_size(data: Path) -> None:
    (data / "trainA").mkdir()
    for number in range(9):
        grey = Image.new("L", (256, 256), 255)
        grey.putpixel((number, number), 0)
        grey.save(data / "trainA" / f"{number}.png")
    found = plan(data, ct_reference=data / "trainA").run()
    assert found.baselines["ct"].floor_kind == "reference"
    assert found.baselines["ct"].floor.sizes == (8, 8)
    assert found.baselines["mri"].floor_kind == "halves"
    assert [s.role for s in found.sets] == ["test", "test", "reference"]


def test_the_clean_protocol_reads_its_list(data: Path) -> None:
    (data / "clean-testB.txt").write_text("testB/head001.png\ntestB/head005.png\n")
    found = plan(data, protocol="clean").evaluator()
    assert found.data.mri.names == ("head001.png", "head005.png")
    assert len(found.data.ct) == 8
    assert found.protocol.name == "clean"


def test_exchanged_folders_are_refused_unless_trusted(data: Path) -> None:
    exchanged = {"ct": data / "testB", "mri": data / "testA"}
    with pytest.raises(WrongModality, match="testB: given as CT, but the pictures look like MRI"):
        plan(data, **exchanged).run()
    assert plan(data, **exchanged, trust_modality=True).evaluator().data.ct.modality == "ct"


def test_an_unknown_protocol_is_named(data: Path) -> None:
    with pytest.raises(EvaluationFailed, match=r"no protocol 'dirty' \(one of published, clean\)"):
        plan(data, protocol="dirty").run()


def test_a_missing_folder_is_named(data: Path) -> None:
    with pytest.raises(InputMissing, match="testC: no such folder"):
        plan(data, mri=data / "testC").run()


app = typer.Typer()
app.command()(evaluate)


def command(data: Path, *more: str):
    given = ["made", "--ct", str(data / "testA"), "--mri", str(data / "testB"), "--device", "cpu"]
    return CliRunner().invoke(app, [*given, *more], env={"COLUMNS": "250"})


def test_the_command_prints_the_table_and_writes_the_report(data: Path) -> None:
    done = command(data, "--paired", "--out", str(data / "report"))
    assert done.exit_code == 0, done.output
    assert "FID, paper" in done.output and "MS-SSIM" in done.output
    found = json.loads((data / "report" / "evaluation.json").read_text())
    assert found["directions"][0]["model"] == "made"
    assert isinstance(command(data, "--out", str(data / "report")).exception, OutputExists)
    assert command(data, "--out", str(data / "report"), "--overwrite").exit_code == 0


def test_the_command_asks_for_the_output_folder_first(data: Path) -> None:
    done = command(data, "--ct", "nowhere", "--out", str(data / "no" / "report"))
    assert isinstance(done.exception, OutputFailed)
    assert "its parent folder does not exist" in str(done.exception)


def test_both_folders_are_needed(data: Path) -> None:
    assert CliRunner().invoke(app, ["made"]).exit_code == 2
