"""Pairs: prepared on one grid, changed alike, and learned from beside unpaired scans."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from PIL import Image
from torch import nn
from training.phantoms import TINY, phantom, prepared, same_tensors
from training.scaled import Scaled
from typer.testing import CliRunner

from medtranslate.cli.app import app
from medtranslate.errors import InputMissing, TrainingFailed, Unreadable
from medtranslate.training import Cadence, RunFolder, Settings, Training
from medtranslate.training.augmentation import Augmentation, Images, draw
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.models import Models
from medtranslate.training.objective import GeneratorObjective, gradient_difference
from medtranslate.training.pairs import Pairs, PreparedPairs, prepare_pairs
from medtranslate.training.preparation import RecipeBook
from medtranslate.training.prepared import from_gray
from medtranslate.training.randomness import generator

pytestmark = pytest.mark.usefixtures("plots_undrawn")

CPU = torch.device("cpu")
SUPERVISED = replace(TINY, adversarial_weight=0.0, cycle_weight=0.0)


@pytest.fixture(scope="module")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registered") / "pairs"
    for modality, name in (("CT", "ct"), ("MR", "mri")):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(phantom(modality, number))
            image.save(folder / name / f"head{number}.png")
    return folder


@pytest.fixture(scope="module")
def pairs(pairs_folder: Path) -> PreparedPairs:
    return prepare_pairs(pairs_folder, RecipeBook.read())


@pytest.fixture
def pairs_file(pairs: PreparedPairs, tmp_path: Path) -> Path:
    pairs.save(tmp_path / "pairs.safetensors")
    return tmp_path / "pairs.safetensors"


def test_the_command_prepares_pairs_into_one_file(
    pairs_folder: Path, pairs: PreparedPairs, tmp_path: Path
) -> None:
    file = tmp_path / "pairs.safetensors"

    done = CliRunner().invoke(
        app, ["data", "pair", str(pairs_folder), "-o", str(file), "--cache", str(tmp_path)]
    )

    assert done.exit_code == 0, done.output
    assert f"4 pairs of scans, {len(pairs)} slices" in done.output
    assert PreparedPairs.load(file).digest() == pairs.digest()


def test_both_sides_have_the_cts_place_and_head(pairs: PreparedPairs) -> None:
    assert len(pairs) == 4
    assert [record.name for record in pairs.ct.records] == [f"ct/head{n}.png" for n in range(4)]
    assert [record.name for record in pairs.mri.records] == [f"mri/head{n}.png" for n in range(4)]
    (ct, ct_head), (mri, mri_head) = (from_gray(side.slices) for side in (pairs.ct, pairs.mri))
    assert torch.equal(ct_head, mri_head)
    # Bone is bright in CT and dark in MR at the same pixels.
    bone = ct > 0.9
    assert int(bone.sum()) > 1000
    assert float(mri[bone].mean()) < 0 < float(ct[bone].mean())


def test_pairs_are_prepared_once(pairs_folder: Path, tmp_path: Path) -> None:
    told: list[int] = []

    def prepare() -> PreparedPairs:
        return prepare_pairs(
            pairs_folder, RecipeBook.read(), tmp_path, lambda done, total: told.append(done)
        )

    first = prepare()
    assert told == [1, 2, 3, 4]
    assert prepare().digest() == first.digest()
    assert told == [1, 2, 3, 4]


def test_a_file_of_pairs_gives_them_back(pairs: PreparedPairs, pairs_file: Path) -> None:
    again = prepare_pairs(pairs_file, RecipeBook.read())

    assert again.digest() == pairs.digest()
    assert torch.equal(again.mri.slices, pairs.mri.slices)
    prepared("CT", 2).save(pairs_file)
    with pytest.raises(Unreadable, match="not a file of prepared pairs"):
        prepare_pairs(pairs_file, RecipeBook.read())


def test_a_pair_of_which_either_side_is_named_goes(pairs: PreparedPairs) -> None:
    left = pairs.without(["ct/head1.png", "mri/head3.png"])

    assert left.names == ["ct/head0.png", "ct/head2.png", "mri/head0.png", "mri/head2.png"]
    assert torch.equal(left.mri.slices, pairs.mri.slices[[0, 2]])


def test_what_is_no_folder_of_pairs_is_refused(pairs_folder: Path, tmp_path: Path) -> None:
    book = RecipeBook.read()
    with pytest.raises(InputMissing, match="has no folder mri"):
        (tmp_path / "half" / "ct").mkdir(parents=True)
        Image.fromarray(phantom("CT", 0)).save(tmp_path / "half" / "ct" / "a.png")
        prepare_pairs(tmp_path / "half", book)
    (tmp_path / "half" / "mri").mkdir()
    Image.fromarray(phantom("MR", 0)).save(tmp_path / "half" / "mri" / "b.png")
    with pytest.raises(TrainingFailed, match=r"2 scan.* no partner of the same name, the first: a"):
        prepare_pairs(tmp_path / "half", book)


def test_volumes_on_different_grids_are_left_out(tmp_path: Path) -> None:
    gray = np.stack([phantom("CT", 0, 128)] * 3, axis=2).transpose(1, 0, 2).astype(np.int16)
    for name, step in (("ct", 5.0), ("mri", 4.0)):
        (tmp_path / name).mkdir()
        values = np.where(gray == 0, -1000, gray - 75) if name == "ct" else gray
        affine = np.diag([-1.8, -1.8, step, 1.0])
        nib.save(nib.Nifti1Image(values, affine), tmp_path / name / "head.nii.gz")

    with pytest.raises(TrainingFailed, match=r"none of its 1 pairs .* mixed sizes or places"):
        prepare_pairs(tmp_path, RecipeBook.read())


def test_a_pair_is_changed_alike(pairs: PreparedPairs) -> None:
    settings = replace(TINY, downsampling=4, crop=(48, 40), rotation_degrees=20.0, scaling=0.2)
    image, head = from_gray(pairs.ct.slices)
    changed = Augmentation(settings).change(
        torch.cat([image, image], dim=1), head, draw(len(image), generator(0, "augment"))
    )

    assert changed.image.shape == (4, 2, 48, 40)
    assert torch.equal(changed.image[:, :1], changed.image[:, 1:])
    assert bool((changed.image[:, :1][~changed.head] == -1).all())


def test_the_supervised_terms_by_hand() -> None:
    generators = nn.ModuleDict({"mri": Scaled(2.0), "ct": Scaled(-0.5)})
    head = torch.tensor([True, True, True, False]).reshape(1, 1, 2, 2)
    ct, mri = (torch.where(head, value, -1.0) for value in (0.2, 0.3))
    settings = replace(SUPERVISED, paired_weight=5.0, gradient_share=0.4)
    objective = GeneratorObjective(generators, settings)
    images, pair = Images(ct, head), Pairs(ct, mri, head, torch.zeros(1, dtype=torch.int64))

    total, terms, fakes = objective(
        images, images, nn.ModuleDict(), generator(0, "noise"), {"paired": pair}
    )

    # Synthetic MR is 0.4 for 0.3, synthetic CT -0.15 for 0.2; each axis has one edge to the
    # background and one without.
    expected = {
        "paired_mri": 3 / 4 * 0.1, "paired_gradient_mri": 0.1 / 2,
        "paired_ct": 3 / 4 * 0.35, "paired_gradient_ct": 0.35 / 2,
    }  # fmt: skip
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected)
    l1 = expected["paired_mri"] + expected["paired_ct"]
    gradients = expected["paired_gradient_mri"] + expected["paired_gradient_ct"]
    assert total.item() == pytest.approx(5.0 * (l1 + 0.4 * gradients))
    assert fakes == {}


def test_gradients_differ_by_the_strength_of_edges_alone() -> None:
    image = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(0))

    assert float(gradient_difference(image, 1 - image)) == pytest.approx(0, abs=1e-6)
    assert float(gradient_difference(image, image + 0.2)) == pytest.approx(0, abs=1e-6)
    blurred = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    assert float(gradient_difference(blurred, image)) > 0.1


@pytest.fixture
def train(ct_slices: Path, mri_slices: Path, pairs_file: Path, tmp_path: Path) -> Any:
    def run(name: str, settings: Settings = TINY, unpaired: bool = True, **more: Any) -> Any:
        folders = (ct_slices, mri_slices) if unpaired else (None, None)
        more = {"cadence": Cadence(record_steps=2, grid_steps=0), "paired": pairs_file, **more}
        return Training(*folders, tmp_path / name, settings, device="cpu", **more).run()

    return run


class At:
    def __init__(self, step: int, what: Any) -> None:
        self.step, self.what = step, what

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.step), lambda: self.what())


def test_one_run_learns_from_pairs_and_from_unpaired_scans_and_resumes_exactly(
    train: Any, tmp_path: Path
) -> None:
    settings = replace(TINY, rotation_degrees=5.0, paired_batch_size=2)
    train("through", settings)
    stop = At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train("stopped", settings, handlers=[stop]).step == 3
    assert train("stopped", settings, resume=True).finished

    through, resumed = (
        Checkpoint.load(RunFolder(tmp_path / name).last) for name in ("through", "stopped")
    )
    same_tensors(through.tensors, resumed.tensors)
    columns = RunFolder(tmp_path / "through").losses.read_text().splitlines()[0].split(",")
    assert {"paired_mri", "paired_gradient_ct", "adversarial_mri", "cycle_ct"} <= set(columns)


def test_pairs_alone_with_supervised_terms_leave_the_discriminators_as_they_are(
    train: Any, tmp_path: Path
) -> None:
    assert train("run", SUPERVISED, unpaired=False).finished

    last = Checkpoint.load(RunFolder(tmp_path / "run").last)
    fresh = Models(SUPERVISED, CPU)
    same_tensors(last.part("discriminators"), dict(fresh.discriminators.state_dict()))
    before, after = dict(fresh.generators.state_dict()), last.part("generators")
    assert any(not torch.equal(after[name], before[name]) for name in after)
    assert '"mri_paired"' in RunFolder(tmp_path / "run").data.read_text()


def test_supervision_brings_results_near_to_the_truth(train: Any, tmp_path: Path) -> None:
    settings = replace(
        SUPERVISED, network_arguments={"width": 16, "blocks": 2}, steps_per_epoch=40,
        learning_rate=2e-3, paired_batch_size=2, ema_decay=0.0,
    )  # fmt: skip
    train("run", settings, unpaired=False)

    lines = RunFolder(tmp_path / "run").losses.read_text().splitlines()
    column = lines[0].split(",").index("paired_mri")
    errors = [float(line.split(",")[column]) for line in lines[1:]]
    assert np.mean(errors[-5:]) < 0.7 * np.mean(errors[:2])


def test_what_is_held_out_is_in_no_pair(train: Any, tmp_path: Path) -> None:
    held_out = tmp_path / "val.txt"
    held_out.write_text("ct/head1.png\nmri/head1.png\n")
    with pytest.raises(TrainingFailed, match="name 0 of 6 CT scans"):
        train("apart", validate=[held_out], score=lambda *_: 0.0)

    train("run", unpaired=False, validate=[held_out], score=lambda *_: 0.0, max_minutes=0)
    report = RunFolder(tmp_path / "run").data.read_text()
    assert report.count("ct/head1.png") == 1  # held out
    assert report.count("ct/head0.png") == 2  # unpaired and paired


def test_something_has_to_be_learned_from(train: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="give folders of CT and of MRI, or pairs"):
        train("run", unpaired=False, paired=None)
    with pytest.raises(TrainingFailed, match="cannot all be 0"):
        train("run", SUPERVISED, paired=None)
    assert not (tmp_path / "run").exists()
