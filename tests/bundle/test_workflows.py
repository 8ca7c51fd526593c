"""The bundle as MONAI runs it: the same voxels and the same losses as through our own door."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle.conftest import workflow
from imaging.dicom import factory
from monai.bundle import run as monai_run
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import Compose
from PIL import Image
from tiny_bundles import contrast_networks, tiny_bundle
from training.phantoms import TINY, prepared
from typer.testing import CliRunner

from medtranslate import Translator, read
from medtranslate.bundle import attach
from medtranslate.bundle.metadata import Facts
from medtranslate.bundle.save import workflow_files
from medtranslate.cli.app import app
from medtranslate.errors import (
    InputMissing,
    OutOfDomain,
    TrainingFailed,
    Unreadable,
    Unsupported,
    WrongModality,
)
from medtranslate.evaluation.folders import FolderEvaluation
from medtranslate.imaging import write
from medtranslate.networks import GENERATOR_NAMES
from medtranslate.packaging.reference import phantom_scan
from medtranslate.packaging.training_workflow import TrainingSlices
from medtranslate.training import RunFolder, Settings, Training
from medtranslate.translation.contrast import ContrastClassifier, ToldContrast
from medtranslate.translation.workflow import Scans

pytestmark = pytest.mark.usefixtures("plots_undrawn")


def run(bundle: Path, name: str, **overrides: object) -> None:
    """As `python -m monai.bundle run --config_file ...`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai_run(
            config_file=str(bundle / "configs" / f"{name}.yaml"),
            bundle_root=str(bundle),
            **overrides,
        )


def infer(bundle: Path, given: Path, out: Path, **overrides: object) -> dict[str, np.ndarray]:
    run(bundle, "inference", input=str(given), output_dir=str(out), **overrides)
    return {path.name: read(path).as_tensor()[0].numpy() for path in sorted(out.rglob("*.*"))}


def convert(*arguments: object) -> None:
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("to", "source"), [("mri", "ct"), ("ct", "mr")])
def test_the_voxels_and_the_file_are_those_of_convert(
    complete, scans, tmp_path, to: str, source: str
) -> None:
    given, ours = scans / f"{source}.nii.gz", tmp_path / "ours.nii.gz"
    convert(given, "--to", to, "--bundle", complete, "-o", ours, "--device", "cpu", "--no-preview")

    run(complete, "inference", input=str(given), output_dir=str(tmp_path / "out"), to=to,
        device="$torch.device('cpu')")  # fmt: skip

    made, expected = nib.load(tmp_path / "out" / f"{source}_{to}.nii.gz"), nib.load(ours)
    assert np.unique(expected.dataobj).size > 50
    assert np.array_equal(made.dataobj, expected.dataobj)
    assert made.header == expected.header


def test_the_contrast_of_an_mri_is_told_as_convert_tells_it(scans, tmp_path, monkeypatch) -> None:
    bundle = tiny_bundle(tmp_path / "told", contrast_networks(told=("mri", "ct")))
    attach(bundle, "contrast", ContrastClassifier().to_bytes())
    monkeypatch.setattr(ContrastClassifier, "tell", lambda *given: ToldContrast("flair", 0.9))
    given, ours = scans / "mr.nii.gz", tmp_path / "ours.nii.gz"
    convert(given, "--to", "ct", "--bundle", bundle, "-o", ours, "--device", "cpu", "--no-preview")

    told, t1 = (
        infer(bundle, given, tmp_path / f"out{asked}", to="ct", contrast=asked).popitem()[1]
        for asked in ("", "t1")
    )

    assert np.array_equal(told, nib.load(ours).dataobj) and not np.array_equal(told, t1)


def test_a_dicom_series(complete, scans, tmp_path) -> None:
    voxels = np.asarray(nib.load(scans / "ct.nii.gz").dataobj).astype("<i2")
    columns, rows, count = voxels.shape
    instances = factory.series(
        "CT", count=count, rows=rows, columns=columns, step=(0.0, 0.0, 28.0), spacing=(1.6, 1.6)
    )
    for number, instance in enumerate(instances):
        factory.put_pixels(instance, np.ascontiguousarray(voxels[..., number].T))
    series = factory.write(tmp_path / "series", instances)

    made = infer(complete, series, tmp_path / "out")

    expected = Translator.load(complete).translate(series, to="mri").as_tensor()[0].numpy()
    (got,) = made.values()
    assert np.array_equal(got, expected)
    run(complete, "inference", input=str(series), output_dir=str(tmp_path / "d"), output_ext=".dcm")
    derived = read(tmp_path / "d/series_mri.dcm")
    assert derived.meta["source"]["format"] == "dicom"
    assert np.array_equal(derived.as_tensor()[0].numpy(), expected)


def test_a_folder_of_volumes_keeps_its_layout(complete, scans, tmp_path) -> None:
    for name in ("a/scan.nii.gz", "b/scan.nii.gz"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes((scans / "ct.nii.gz").read_bytes())

    run(complete, "inference", input=str(tmp_path / "in"), output_dir=str(tmp_path / "out"))

    made = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.nii.gz"))
    assert [str(path) for path in made] == ["a/scan_mri.nii.gz", "b/scan_mri.nii.gz"]


def test_a_folder_of_2d_images(complete, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    image = phantom_scan("CT", "image")
    for name in ("one", "two"):
        write(image, tmp_path / "in" / f"{name}.png")

    made = infer(complete, tmp_path / "in", tmp_path / "out", source="CT")

    assert sorted(made) == ["one_mri.png", "two_mri.png"]
    with Image.open(tmp_path / "out/one_mri.png") as opened:
        assert opened.size == (144, 144)
    expected = Translator.load(complete).translate(tmp_path / "in/one.png", to="mri", modality="CT")
    assert np.array_equal(made["one_mri.png"], expected.as_tensor()[0].numpy())


def test_refusals_keep_their_words(complete, scans, tmp_path) -> None:
    with pytest.raises(Exception) as raised:
        infer(complete, scans / "mr.nii.gz", tmp_path / "out", source="MR")
    causes = [raised.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert any(isinstance(cause, WrongModality) for cause in causes)
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_is_told_before_any_work(tmp_path, scans) -> None:
    (tmp_path / "a.nii.gz").write_bytes((scans / "ct.nii.gz").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(b"")
    with pytest.raises(Unreadable, match=r"b\.nii\.gz: the file is empty"):
        Scans(tmp_path).check()
    with pytest.raises(InputMissing, match="no such file"):
        Scans(tmp_path / "none").check()


@pytest.mark.parametrize(
    ("name", "kind"), [("inference", "inference"), ("evaluate", "evaluation"), ("train", "train")]
)
def test_the_properties_that_monai_asks_for_are_there(complete, name: str, kind: str) -> None:
    assert workflow(complete, name, kind).check_properties() == []


def test_the_properties_are_what_they_are_called(complete, scans) -> None:
    found = workflow(complete, "inference", "inference", input=str(scans / "ct.nii.gz"), to="mri")

    assert isinstance(found.device, torch.device)
    assert isinstance(found.preprocessing, Compose) and isinstance(found.postprocessing, Compose)
    assert isinstance(found.dataset, Dataset) and isinstance(found.inferer, Inferer)
    assert isinstance(found.evaluator, SupervisedEvaluator)
    assert found.version == "0.7"
    assert found.network_def.state_dict().keys() == (
        Translator.load(complete).bundle.generator("mri").network.state_dict().keys()
    )


def test_the_parts_work_without_the_engine(complete, scans) -> None:
    """What MONAI Label and Deploy do: transforms, a batch of one, the inferer, transforms."""
    found = workflow(complete, "inference", "inference", precision="float32", batch_size=4,
                     device="$torch.device('cpu')")  # fmt: skip
    restore = Compose(found.postprocessing.transforms[:-1])  # all but SaveImaged
    dataset = Dataset([{"image": str(scans / "ct.nii.gz")}], found.preprocessing)
    (batch,) = DataLoader(dataset, batch_size=1)
    with torch.no_grad():
        batch["pred"] = found.inferer(batch["image"], found.network_def)

    (made,) = (restore(item)["pred"] for item in decollate_batch(batch))

    expected = Translator.load(complete, precision="float32", device="cpu").translate(
        scans / "ct.nii.gz", to="mri"
    )
    assert isinstance(made, MetaTensor)
    assert batch["image"].shape[:4] == (1, 1, 256, 256)
    assert torch.equal(made.as_tensor(), expected.as_tensor())
    assert made.meta["synthesis"] == expected.meta["synthesis"]


def test_no_head_is_refused(complete) -> None:
    found = workflow(complete, "inference", "inference")
    prepare = Compose(found.preprocessing.transforms[2:])  # all but loading
    empty = phantom_scan("CT", "volume")
    empty.as_tensor().fill_(-1000)
    with pytest.raises(RuntimeError) as raised:
        prepare({"image": empty})
    assert isinstance(raised.value.__cause__, OutOfDomain)
    with pytest.raises(RuntimeError) as raised:
        prepare({"image": phantom_scan("CT", "volume") * float("nan")})
    assert isinstance(raised.value.__cause__, Unsupported)


def losses(folder: Path) -> list[list[str]]:
    lines = RunFolder(folder).losses.read_text().splitlines()
    return [line.split(",")[4:] for line in lines]  # without the clock


def test_the_same_steps_through_both_doors_give_the_same_losses(complete, tmp_path) -> None:
    prepared("CT", 6).save(tmp_path / "ct.safetensors")
    prepared("MR", 5).save(tmp_path / "mri.safetensors")
    ct, mri = tmp_path / "ct.safetensors", tmp_path / "mri.safetensors"
    changed = {
        name: value
        for name, value in TINY.as_dict().items()
        if value != getattr(Settings(), name) and name not in ("epochs", "network_arguments")
    }
    changed["discriminator_layers"] = 3
    run(
        complete, "train", ct=str(ct), mri=str(mri), output_dir=str(tmp_path / "monai"),
        epochs=TINY.epochs, device="$torch.device('cpu')",
        **{f"settings::{name}": value for name, value in changed.items()},
        **{"training::cadence::record_steps": 2, "training::cadence::grid_steps": 0},
    )  # fmt: skip
    options = [
        "--network", "compact", "--epochs", "2", "--device", "cpu",
        "--set", "network_arguments={width: 16, blocks: 1}", "--set", "discriminator_width=8",
        "--set", "steps_per_epoch=4", "--set", "pool_size=3", "--set", "downsampling=8",
        "--set", "shift_pixels=4", "--set", "precision=float32", "--set", "cadence.record_steps=2",
        "--set", "cadence.grid_steps=0",
    ]  # fmt: skip
    done = CliRunner().invoke(
        app, ["train", str(ct), str(mri), "-o", str(tmp_path / "ours"), *options]
    )
    assert done.exit_code == 0, done.output

    assert len(losses(tmp_path / "ours")) == 5
    assert losses(tmp_path / "monai") == losses(tmp_path / "ours")
    assert RunFolder(tmp_path / "monai").bundle.is_dir()


def test_the_training_dataset_holds_what_is_trained_on(tmp_path) -> None:
    sets = {"ct": prepared("CT", 3), "mri": prepared("MR", 2)}
    for name, slices in sets.items():
        slices.save(tmp_path / f"{name}.safetensors")
    dataset = TrainingSlices(
        Training(tmp_path / "ct.safetensors", tmp_path / "mri.safetensors", tmp_path / "run")
    )

    assert len(dataset) == 3
    assert dataset[2]["mri"].shape == (1, 256, 256) and dataset[2]["mri"].dtype == torch.uint8
    assert torch.equal(dataset[2]["mri"][0], sets["mri"].slices[0])
    assert torch.equal(dataset[2]["ct"][0], sets["ct"].slices[2])
    with pytest.raises(IndexError):
        dataset[3]


def test_epochs_are_said_once(complete, tmp_path) -> None:
    made = workflow(complete, "train", "train", output_dir=str(tmp_path / "run"), epochs=7)
    assert made.trainer.training.settings.epochs == made.max_epochs == 7
    twice = workflow(complete, "train", "train", **{"settings::epochs": 3})
    with pytest.raises(Exception) as raised:
        twice.run()
    assert isinstance(raised.value.__cause__.__cause__ or raised.value.__cause__, TrainingFailed)


def test_a_network_is_called_in_train_yaml_as_training_calls_it(complete) -> None:
    settings = workflow(complete, "train", "train").parser.get_parsed_content("settings")
    assert settings.network in GENERATOR_NAMES
    assert settings == Settings(network="compact", network_arguments=settings.network_arguments)
    assert settings.network_arguments == {"width": 16, "blocks": 1}


def test_train_yaml_of_a_held_and_captured_training_starts_anywhere() -> None:
    spec = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}
    content = {
        "name": "tiny", "version": "1.0.0",
        "generators": {to: {"network": spec, "sha256": ""} for to in ("mri", "ct")},
    }  # fmt: skip
    known = {
        "anchor_weight": 6.0, "anchored_generators": "ct", "trained_generators": "ct",
        "cuda_graph": True, "cycle_weight": 5.0,
    }  # fmt: skip

    text = workflow_files(content, Facts(training={"settings": known}))[Path("configs/train.yaml")]

    settings = yaml.safe_load(text)["settings"]
    assert settings["cycle_weight"] == 5.0
    assert not set(settings) & {
        "anchor_weight", "anchored_generators", "trained_generators", "cuda_graph",
    }  # fmt: skip


def test_several_gpus_take_their_own(complete, monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("RANK", "0")
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([complete / "configs" / f"{n}.yaml" for n in ("train", "multi_gpu_train")])
    assert parser.get_parsed_content("training").device == "cuda:2"


def test_evaluation_is_the_commands(complete, tmp_path) -> None:
    made = workflow(
        complete, "evaluate", "evaluation", ct="scans/ct", mri="scans/mri", protocol="clean",
        device="$torch.device('cpu')", output_dir=str(tmp_path / "report"),
    )  # fmt: skip
    assert made.evaluator == FolderEvaluation(
        [str(complete)], "scans/ct", "scans/mri", protocol="clean", include=[], device="cpu"
    )
