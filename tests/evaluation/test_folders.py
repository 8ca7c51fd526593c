"""From folders and bundles to the table, through the command line."""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from faults.injection import KINDS, Faults, injected
from faults.test_files import check_order
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
from medtranslate.evaluation import folders, report
from medtranslate.evaluation.folders import FolderEvaluation
from medtranslate.evaluation.report import write_report
from medtranslate.evaluation.scans import read_scans
from medtranslate.files import shipped
from medtranslate.phantom import Phantom
from medtranslate.transforms import Recipe, load_recipe

PAPER = {
    modality: load_recipe(shipped(f"transforms/whole-image/{modality.lower()}-image.yaml"))
    for modality in ("CT", "MR")
}

PAPER_CT_VOLUME = load_recipe(shipped("transforms/ct-volume.yaml"))


class MadeBundle:
    version = "1.0"
    recipes = PAPER

    def __init__(self, bundle: str) -> None:
        self.folder = Path(bundle)
        self.name = bundle.split("/")[0]

    def generator(self, to: str) -> SimpleNamespace:
        return SimpleNamespace(network=torch.nn.Conv2d(1, 1, 1), sha256="d" * 64)

    def recipe(self, modality: str, kind: str) -> Recipe:
        if kind == "volume":
            part = f"transforms/{modality.lower()}-volume.yaml"
            return load_recipe(shipped(part))
        return self.recipes[modality]


class MadeTranslator:
    """Stands in for medtranslate.translation.Translator."""

    contrast_classifier = None

    def __init__(self, bundle: str) -> None:
        self.bundle = MadeBundle(bundle)

    @classmethod
    def load(cls, bundle: str, *, device: str, contrast: str) -> MadeTranslator:
        made = cls(bundle)
        made.contrast = contrast
        return made

    def translate_slices(
        self, slices: torch.Tensor, *, to: str, in_window: bool = False
    ) -> torch.Tensor:
        return -slices


@pytest.fixture
def data(tmp_path: Path, ct, mri) -> Path:
    """Two folders of images with the same names."""
    for folder, images in (("testA", ct), ("testB", mri)):
        (tmp_path / folder).mkdir()
        for name, image in zip(images.names, images.slices, strict=True):
            Image.fromarray(image).save(tmp_path / folder / name)
    return tmp_path


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, new_extractor, plots_undrawn) -> None:
    """No networks: a made translator, and pooled grays for features."""
    monkeypatch.setattr(folders, "Translator", MadeTranslator)
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
        ("first", "1.0", "mri"),
        ("first", "1.0", "ct"),
        ("second", "1.0", "mri"),
        ("second", "1.0", "ct"),
    ]
    assert found.sets[0].sha256 == ct.digest
    assert all(d.paired is not None and d.paired.cases == 8 for d in found.directions)


def test_bundles_of_one_name_are_told_apart_by_their_folders(data: Path) -> None:
    found = plan(data, bundles=("made/resnet", "made/unet")).evaluator()
    assert [c.name for c in found.candidates] == ["made (resnet)", "made (unet)"]


def test_a_contrast_that_is_asked_for_goes_to_every_model(data: Path) -> None:
    found = plan(data, bundles=("first", "second"), contrast="flair").evaluator()
    translators = [each.translate_slices.args[0] for each in found.candidates]
    assert [each.contrast for each in translators] == ["flair", "flair"]


def test_images_of_the_papers_models_are_sized_as_the_floors_were(data: Path, mri) -> None:
    found = plan(data).evaluator()
    assert found.data.mri.digest == mri.digest
    assert found.data.mri.heads is None
    assert "Pillow BOX" in found.protocol.sizing


@pytest.fixture
def own_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the made models the recipes for images that training takes, not the paper's sizing."""
    own = {
        modality: load_recipe(shipped(f"transforms/{modality.lower()}-image.yaml"))
        for modality in ("CT", "MR")
    }
    monkeypatch.setattr(MadeBundle, "recipes", own)


@pytest.mark.usefixtures("own_recipes")
def test_other_models_images_go_through_their_recipes(data: Path) -> None:
    found = plan(data).run()
    assert "by the model's recipes" in found.protocol["sizing"]
    pair = plan(data, paired=True).evaluator().data
    assert pair.mri.heads is not None
    assert (pair.mri.heads == pair.ct.heads).all()
    assert (pair.mri.slices[~pair.mri.heads] == 0).all()
    assert pair.mri.names == pair.ct.names == tuple(f"head{n:03}" for n in range(8))


def test_models_that_prepare_images_differently_are_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = load_recipe(shipped("transforms/mr-image.yaml"))
    load = MadeTranslator.load.__func__

    def load_another(cls, bundle: str, **options: str) -> MadeTranslator:
        made = load(cls, bundle, **options)
        if bundle == "second":
            made.bundle.recipes = {**PAPER, "MR": other}
        return made

    monkeypatch.setattr(MadeTranslator, "load", classmethod(load_another))
    with pytest.raises(EvaluationFailed, match="'first' and 'second' prepare MR 2D images differ"):
        plan(data, bundles=("first", "second")).run()


def volumes(folder: Path, values: np.ndarray, count: int, spacing: float = 1.0) -> Path:
    folder.mkdir()
    for number in range(count):
        moved = np.roll(values, 3 * number, axis=0)
        affine = np.diag([-spacing, -spacing, 4.0, 1.0])
        nib.save(nib.Nifti1Image(moved.astype(np.int16), affine), folder / f"p{number}.nii.gz")
    return folder


@pytest.fixture
def paired_volumes(tmp_path: Path) -> Path:
    """Two heads of three slices and one of air, in HU and in scanner units."""
    rows, columns = np.mgrid[:220, :200]
    distance = ((rows - 110) / 90) ** 2 + ((columns - 100) / 70) ** 2
    ct = np.where(distance < 0.8, 35, np.where(distance < 1, 900, -1000))
    mri = np.where(distance < 0.8, 600 + rows, np.where(distance < 1, 90, 0))
    stacked = [np.stack([x, x, x, np.full_like(x, x[0, 0])], axis=-1) for x in (ct, mri)]
    volumes(tmp_path / "ct", stacked[0], 2)
    volumes(tmp_path / "mri", stacked[1], 2)
    return tmp_path


def test_paired_volumes_are_measured_in_hounsfield_units_a_case(paired_volumes: Path) -> None:
    found = plan(
        paired_volumes,
        ct=paired_volumes / "ct",
        mri=paired_volumes / "mri",
        paired=True,
        trust_modality=True,
    ).run()
    to_mri, to_ct = found.directions
    assert (to_ct.paired.scale.unit, to_ct.paired.scale.low, to_ct.paired.scale.high) == (
        "HU", -20, 100,
    )  # fmt: skip
    assert to_mri.paired.scale.unit == "gray"
    assert to_ct.paired.cases == 2
    names = [case.name for case in to_ct.cases]
    assert names == ["p0#000", "p0#001", "p0#002", "p1#000", "p1#001", "p1#002"]


def test_a_pair_on_two_grids_is_named(paired_volumes: Path) -> None:
    other = nib.Nifti1Image(np.zeros((100, 200, 4), np.int16), np.diag([-1, -1, 4, 1]))
    nib.save(other, paired_volumes / "mri" / "p1.nii.gz")
    with pytest.raises(EvaluationFailed, match="'p1' has mixed sizes or places: CT 220x200x4"):
        plan(
            paired_volumes, ct=paired_volumes / "ct", mri=paired_volumes / "mri", paired=True
        ).run()


def test_a_volume_without_partner_is_named(paired_volumes: Path) -> None:
    (paired_volumes / "mri" / "p1.nii.gz").unlink()
    with pytest.raises(EvaluationFailed, match=r"mri: 1 scan\(s\) lack a partner.*'p1' first"):
        plan(
            paired_volumes, ct=paired_volumes / "ct", mri=paired_volumes / "mri", paired=True
        ).run()


def test_references_give_floors_of_the_same_size(data: Path) -> None:
    (data / "trainA").mkdir()
    for number in range(9):
        gray = Image.new("L", (256, 256), 255)
        gray.putpixel((number, number), 0)
        gray.save(data / "trainA" / f"{number}.png")
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


def test_lists_choose_the_test_images_and_no_reference(data: Path) -> None:
    (data / "val.txt").write_text(
        "testA/head001.png\ntestA/head003.png\ntestB/head002.png\ntestB/head004.png\n"
    )
    found = plan(data, include=[data / "val.txt"]).evaluator()
    assert found.data.ct.names == ("head001.png", "head003.png")
    assert found.data.mri.names == ("head002.png", "head004.png")
    assert plan(data, include=[data / "val.txt"]).run().protocol["include"] == "val.txt"


def test_lists_choose_volumes(paired_volumes: Path) -> None:
    (paired_volumes / "val.txt").write_text("ct/p1.nii.gz\nmri/p1.nii.gz\n")
    found = plan(
        paired_volumes,
        ct=paired_volumes / "ct",
        mri=paired_volumes / "mri",
        include=[paired_volumes / "val.txt"],
        paired=True,
        trust_modality=True,
    ).evaluator()
    assert found.data.ct.names == found.data.mri.names == ("p1#000", "p1#001", "p1#002")


@pytest.mark.usefixtures("own_recipes")
def test_images_that_the_models_recipes_refuse_are_left_out_and_named(data: Path) -> None:
    marked = Image.open(data / "testB" / "head003.png").convert("RGB")
    marked.paste((255, 0, 0), (100, 100, 140, 140))
    marked.save(data / "testB" / "head003.png")
    found = plan(data).evaluator().data
    assert len(found.mri) == 7 and "head003" not in found.mri.names
    assert found.mri.left_out[0].startswith("head003.png: color")
    assert found.records()[1].left_out == found.mri.left_out
    assert "1 MRI scan(s)" in found.warnings()[-1] and "head003.png" in found.warnings()[-1]


def test_exchanged_folders_are_refused_unless_trusted(data: Path) -> None:
    exchanged = {"ct": data / "testB", "mri": data / "testA"}
    with pytest.raises(WrongModality, match="testB: given as CT, but the images look like MRI"):
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
    done = command(data, "--paired", "--output", str(data / "report"))
    assert done.exit_code == 0, done.output
    assert "FID, paper" in done.output and "MS-SSIM" in done.output
    found = json.loads((data / "report" / "evaluation.json").read_text())
    assert found["directions"][0]["model"] == "made"
    assert isinstance(command(data, "--output", str(data / "report")).exception, OutputExists)
    assert command(data, "--output", str(data / "report"), "--overwrite").exit_code == 0


def test_the_command_tests_lesions_and_takes_lists(data: Path) -> None:
    (data / "val.txt").write_text(
        "".join(f"test{side}/head00{n}.png\n" for side in "AB" for n in range(3))
    )
    done = command(
        data, "--lesions", "1", "--include", str(data / "val.txt"), "--output", str(data / "report")
    )
    assert done.exit_code == 0, done.output
    assert "Lesions put into real slices" in done.output and "lesions.csv" in done.output
    found = json.loads((data / "report" / "evaluation.json").read_text())
    assert [d["lesions"]["slices"] for d in found["directions"]] == [1, 1]
    # The made translator gives the negative: all is kept, and turned over.
    everything = found["directions"][0]["lesions"]["groups"][0]
    assert everything["lesions"] == 40
    assert everything["survival"]["mean"] == pytest.approx(1)
    assert everything["inverted"]["mean"] == 1
    assert found["seconds"]["lesions"] > 0
    page = (data / "report" / "evaluation.html").read_text()
    assert "Survival by size" in page and "source with a lesion" in page
    with (data / "report" / "lesions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    assert {row["contrast"] for row in rows if row["source"] == "ct"} == {
        "+35 HU", "+15 HU", "-12 HU", "-22 HU",
    }  # fmt: skip
    assert all(float(row["survival"]) == pytest.approx(-1) for row in rows)


def test_without_lesions_nothing_speaks_of_them(data: Path) -> None:
    done = command(data, "--output", str(data / "report"))
    assert done.exit_code == 0 and "Lesions" not in done.output
    assert not (data / "report" / "lesions.csv").exists()
    found = json.loads((data / "report" / "evaluation.json").read_text())
    assert found["directions"][0]["lesions"] is None


def test_the_command_asks_for_the_output_folder_first(data: Path) -> None:
    done = command(data, "--ct", "nowhere", "--output", str(data / "no" / "report"))
    assert isinstance(done.exception, OutputFailed)
    assert "its parent folder does not exist" in str(done.exception)


def test_both_folders_are_needed(data: Path) -> None:
    assert CliRunner().invoke(app, ["made"]).exit_code == 2


def test_nested_images_are_measured_as_the_same_images_lying_flat(data: Path) -> None:
    flat = plan(data).evaluator().data
    for name in ("testA", "testB"):
        for number, file in enumerate(sorted((data / name).iterdir())):
            patient = data / "nested" / name / f"p{number % 2}"
            patient.mkdir(parents=True, exist_ok=True)
            file.rename(patient / file.name)

    nested = plan(data / "nested").evaluator().data

    assert (nested.ct.scale, len(nested.ct)) == (flat.ct.scale, len(flat.ct))
    assert sorted(one.tobytes() for one in nested.ct.slices) == sorted(
        one.tobytes() for one in flat.ct.slices
    )


def write_volumes(folder: Path, low: float, high: float) -> None:
    head = Phantom((48, 52, 4), (4.5, 4.25, 13.0)).volume()
    hu = head.as_tensor()[0].numpy()
    values = hu if low < 0 else np.interp(hu, [-300, -60, 30, 900], [low, high, high / 2, 40])
    for number in range(2):
        image = nib.Nifti1Image(values.astype(np.int16), np.asarray(head.affine))
        nib.save(image, folder / f"p{number}.nii.gz")


def test_images_beside_volumes_are_left_out_and_said_so(data: Path) -> None:
    write_volumes(data / "testA", -1000, 1000)
    write_volumes(data / "testB", 0, 900)

    found = plan(data, trust_modality=True).evaluator().data

    assert found.ct.scale.unit == "HU" and set(found.ct.cases) == {"p0", "p1"}
    assert len(found.ct.left_out) == 8 and "is a 2D image beside volumes" in found.ct.left_out[0]
    assert any("8 CT scan(s)" in one and "left out" in one for one in found.warnings())


def test_images_in_one_folder_and_volumes_in_the_other_are_refused(data: Path) -> None:
    for file in (data / "testB").iterdir():
        file.unlink()
    write_volumes(data / "testB", 0, 900)
    with pytest.raises(EvaluationFailed, match=r"holds 2D images, but .*testB holds volumes"):
        plan(data, trust_modality=True).evaluator()


def test_ct_volumes_that_are_not_in_hu_are_left_out_unless_trusted(data: Path) -> None:
    for file in (*(data / "testA").iterdir(), *(data / "testB").iterdir()):
        file.unlink()
    write_volumes(data / "testA", -1000, 1000)
    write_volumes(data / "testB", 0, 900)
    image = nib.load(data / "testA" / "p1.nii.gz")
    shifted = (image.get_fdata() + 1024).astype(np.uint16)
    nib.save(nib.Nifti1Image(shifted, image.affine), data / "testA" / "shifted.nii.gz")

    given = (data / "testA", "ct", PAPER_CT_VOLUME)
    assert "shifted.nii.gz: not in HU" in read_scans(*given).left_out[0]
    assert "shifted" in read_scans(*given, trusted=True).cases


def test_whichever_operation_fails_the_old_or_the_new_evaluation_is_there_whole(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = plan(data).run(), data / "out"
    monkeypatch.setattr(report, "page", lambda evaluation: "<html>a page</html>")

    def written() -> set[str]:
        write_report(found, out, overwrite=True)
        return {path.name for path in out.iterdir()}

    with injected(Faults(data), monkeypatch) as counted:
        names = written()
    check_order(counted.seen)
    old = {name: (out / name).read_bytes() for name in names}
    for nth, operation in enumerate(counted.seen):
        error = list(KINDS)[nth % len(KINDS)]
        with injected(Faults(data, nth, error), monkeypatch), suppress(OutputFailed):
            written()
        assert {path.name for path in out.iterdir()} == names, operation
        assert all((out / name).read_bytes() == old[name] for name in names), operation
