"""A run as a whole: what it leaves, what it refuses, that it learns."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointSaver, StatsHandler, TensorBoardStatsHandler
from training.phantoms import TINY, phantom, prepared, same_tensors

from medtranslate.bundle import Bundle
from medtranslate.errors import InputMissing, OutputFailed, TrainingFailed, Unreadable
from medtranslate.packaging import RunPackager
from medtranslate.training import Cadence, RunFolder, Settings, Training, run
from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.checkpoints import Checkpoint, start_from
from medtranslate.training.handlers import open_board
from medtranslate.training.models import Models, make_generator
from medtranslate.training.prepared import from_gray
from medtranslate.training.run_page import _CURVES
from medtranslate.training.trainer import CycleGANTrainer

CPU = torch.device("cpu")
QUIET = Cadence(record_steps=2, grid_steps=0)


@pytest.fixture
def order(ct_slices: Path, mri_slices: Path, tmp_path: Path, plots_undrawn: None) -> Any:
    def make(name: str = "run", settings: Settings = TINY, **more: Any) -> Training:
        more = {"cadence": QUIET, "device": "cpu", "on_finished": RunPackager(), **more}
        return Training(ct_slices, mri_slices, tmp_path / name, settings, **more)

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a finished run of TINY, with its bundle; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    ct, mri = folder / "ct.safetensors", folder / "mri.safetensors"
    prepared("CT", 6).save(ct)
    prepared("MR", 5).save(mri)
    more = {"cadence": QUIET, "device": "cpu", "on_finished": RunPackager()}
    Training(ct, mri, folder / "run", TINY, **more).run()
    return folder / "run"


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """Give a copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_two_folders_become_a_run_and_a_bundle(
    ct_folder: Path, mri_folder: Path, cache: Path, tmp_path: Path
) -> None:
    held_out = tmp_path / "val.txt"
    held_out.write_text("trainA/ct1.png\ntrainA/ct3.png\ntrainB/mr0.png\ntrainB/mr2.png\n")
    scored: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def score(judged: np.ndarray, real: np.ndarray) -> float:
        scored.append((judged.shape, real.shape))
        return float(len(scored))  # the first is the best

    outcome = Training(
        ct_folder, mri_folder, tmp_path / "run", TINY, validate=[held_out], cache=cache,
        score=score, cadence=Cadence(record_steps=2, grid_steps=4), device="cpu",
        on_finished=RunPackager("tiny"),
    ).run()  # fmt: skip

    run = RunFolder(tmp_path / "run")
    assert (outcome.step, outcome.steps, outcome.finished) == (8, 8, True)
    assert scored == [((2, 256, 256), (2, 256, 256))] * 4
    assert Checkpoint.load(run.best).step == 4
    assert len(run.losses.read_text().splitlines()) == 5
    assert run.validation.read_text().splitlines()[1] == "4,1,1.000000,2.000000,1.500000"
    assert {path.name for path in run.samples.iterdir()} == {
        "step-0000004.png",
        "step-0000008.png",
    }
    assert list(run.tensorboard.iterdir())
    page = run.page.read_text()
    assert "data:image/png;base64" in page and "Step 8, epoch 2" in page
    report = json.loads(run.data.read_text())
    assert report["ct"]["used"] == [f"trainA/ct{n}.png" for n in (0, 2, 4, 5)]
    assert report["mri_held_out"]["used"] == ["trainB/mr0.png", "trainB/mr2.png"]

    bundle = Bundle.load(run.bundle)
    best = Checkpoint.load(run.best).part("averages.mri")
    made = {k: v.float() for k, v in bundle.generator("mri").network.state_dict().items()}
    torch.testing.assert_close(made, best, atol=1e-4, rtol=1e-3)
    assert {path.stem for path in (run.bundle / "configs" / "recipes").iterdir()} == {
        "ct-image", "ct-volume", "mr-image", "mr-volume",
    }  # fmt: skip


@pytest.mark.slow
def test_it_learns_to_cycle_and_takes_on_the_other_sides_contrast(tmp_path: Path) -> None:
    """A hundred and twenty steps on 32x32 heads: bone turns dark in MRI, ventricles bright."""
    settings = replace(
        TINY,
        network_arguments={"width": 32, "blocks": 2},
        discriminator_width=16,
        scaling=0.0,
        shift_pixels=0.0,
        flip=True,
        learning_rate=3e-3,
        discriminator_learning_rate=1.5e-3,
        epochs=2,
        steps_per_epoch=60,
        batch_size=2,
        ema_decay=0.9,
        pool_size=50,
    )
    ct, mri = prepared("CT", 24), prepared("MR", 24, start=100)
    models = Models(settings, CPU)
    trainer = CycleGANTrainer(models, UnpairedBatches(ct, mri, 2, 0, CPU))
    trainer.state.epoch_length = 60
    cycles: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: cycles.append(float(engine.state.output["cycle_ct"])),
    )

    trainer.run()

    assert np.mean(cycles[-20:]) < 0.06 < np.mean(cycles[:5])
    image, head = from_gray(prepared("CT", 4, start=200).slices)
    image, head = (torch.nn.functional.avg_pool2d(x.float(), 8) for x in (image, head))
    image = torch.where(head >= 0.5, image, -1.0)
    with torch.no_grad():
        fake = models.averages["mri"](image)
    bone = (image > 0.6) & (head >= 0.9)
    tissue = (image > -0.3) & (image < 0.1) & (head >= 0.9)
    assert float(image[bone].mean() - image[tissue].mean()) > 0.5
    assert float(fake[bone].mean() - fake[tissue].mean()) < -0.2


def test_monais_handlers_attach(tmp_path: Path, capsys: Any) -> None:
    models = Models(TINY, CPU)
    batches = UnpairedBatches(prepared("CT", 3), prepared("MR", 3), 1, 0, CPU)
    trainer = CycleGANTrainer(models, batches)
    first = lambda output: float(output["cycle_ct"])  # noqa: E731
    handlers = [
        StatsHandler(name="stats", tag_name="cycle", output_transform=first),
        TensorBoardStatsHandler(log_dir=str(tmp_path / "tb"), output_transform=first),
        CheckpointSaver(str(tmp_path / "ck"), {"net": models.generators}, save_final=True),
    ]
    for handler in handlers:
        handler.attach(trainer)
    logging.getLogger("stats").setLevel(logging.INFO)
    trainer.run()

    assert (trainer.state.epoch, trainer.state.iteration) == (2, 6)
    assert capsys.readouterr().out.count("cycle") == 6
    assert list((tmp_path / "tb").iterdir())
    assert (tmp_path / "ck" / "net_final_iteration=6.pt").is_file()


def test_a_start_from_a_checkpoint_a_run_or_a_bundle(
    order: Any, trained: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    last = Checkpoint.load(run.last)

    for path in (run.folder, run.last):
        models = Models(TINY, CPU)
        assert start_from(models, path) == "generators and discriminators of step 8"
        same_tensors(dict(models.generators.state_dict()), last.part("averages"))
        same_tensors(dict(models.averages.state_dict()), last.part("averages"))
        same_tensors(dict(models.discriminators.state_dict()), last.part("discriminators"))
    models = Models(TINY, CPU)
    assert start_from(models, run.bundle) == "generators and discriminators"
    torch.testing.assert_close(
        dict(models.generators.state_dict()), last.part("averages"), atol=1e-4, rtol=1e-3
    )
    for judge in (run.bundle / "discriminators").iterdir():
        judge.unlink()
    fresh = dict(Models(TINY, CPU).discriminators.state_dict())
    models = Models(TINY, CPU)
    assert "no discriminators" in start_from(models, run.bundle)
    same_tensors(dict(models.discriminators.state_dict()), fresh)
    assert order("next", init_from=run.bundle).run().finished


@pytest.mark.parametrize("learns", ["ct", "mri"])
def test_one_generator_can_learn_beside_the_other_as_it_was_given(
    order: Any, trained: Path, tmp_path: Path, learns: str
) -> None:
    before = Checkpoint.load(RunFolder(tmp_path / "run").last).part("averages")

    settings = replace(TINY, trained_generators=learns)
    order("on", settings, init_from=tmp_path / "run").run()

    after = Checkpoint.load(RunFolder(tmp_path / "on").last)
    for part in ("generators", "averages"):
        made = after.part(part)
        changed = {name for name in made if not torch.equal(made[name], before[name])}
        assert changed == {name for name in made if name.startswith(f"{learns}.")}


@pytest.mark.parametrize("settings", [{"trained_generators": "ct"}, {"anchor_weight": 1.0}])
def test_generators_that_stay_need_initial_weights(order: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(
        TrainingFailed, match=r"initial weights.*--init-from|needs weights \(--init-from\)"
    ):
        order(settings=replace(TINY, **settings))


def test_a_checkpoint_has_the_anchors(order: Any, trained: Path, tmp_path: Path) -> None:
    first = Checkpoint.load(RunFolder(tmp_path / "run").last)

    order(
        "anchored",
        replace(TINY, anchor_weight=1.0, anchored_generators="ct"),
        init_from=tmp_path / "run",
    ).run()

    anchored = Checkpoint.load(RunFolder(tmp_path / "anchored").last)
    assert not anchored.part("anchors.mri")
    same_tensors(anchored.part("anchors.ct"), first.part("averages.ct"))
    assert not first.part("anchors")


def test_an_anchored_generator_stays_nearer_to_its_initial_output(
    order: Any, trained: Path, tmp_path: Path
) -> None:
    first = Checkpoint.load(RunFolder(tmp_path / "run").last).part("averages.ct")
    shown = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def moved(hold: float) -> float:
        settings = replace(TINY, anchor_weight=hold, anchored_generators="ct", learning_rate=2e-3)
        order(f"hold-{hold}", settings, init_from=tmp_path / "run").run()
        last = Checkpoint.load(RunFolder(tmp_path / f"hold-{hold}").last).part("generators.ct")
        made = []
        for weights in (first, last):
            network = make_generator(settings, "ct")
            network.load_state_dict(weights)
            made.append(network(shown).detach())
        return float((made[0] - made[1]).abs().mean())

    assert moved(1000.0) < 0.5 * moved(0.0)


def test_only_trained_generators_are_anchored() -> None:
    assert Settings(anchor_weight=1.0).anchored == ("mri", "ct")
    assert Settings(anchor_weight=1.0, trained_generators="ct").anchored == ("ct",)
    assert Settings(anchored_generators="ct").anchored == ()
    with pytest.raises(TrainingFailed, match="anchored_generators is mri, but only ct is trained"):
        Settings(anchor_weight=1.0, anchored_generators="mri", trained_generators="ct")


def test_the_page_has_a_curve_of_every_loss(order: Any, trained: Path, tmp_path: Path) -> None:
    order("all", replace(TINY, anchor_weight=1.0), init_from=tmp_path / "run").run()

    named = RunFolder(tmp_path / "all").losses.read_text().splitlines()[0].split(",")[4:]
    assert {"anchor_ct", "anchor_mri", "identity_ct"} <= set(named)
    starts = [start for each in _CURVES.values() for start in each]
    assert all(name.startswith(tuple(starts)) for name in named)


def test_weights_of_another_network_are_refused(order: Any, trained: Path, tmp_path: Path) -> None:
    wider = replace(TINY, network_arguments={"width": 24, "blocks": 1})
    with pytest.raises(TrainingFailed, match="of another network: mri"):
        order("wider", wider, init_from=tmp_path / "run").run()
    with pytest.raises(InputMissing, match="no bundle, run or checkpoint"):
        order("none", init_from=tmp_path / "nothing").run()
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Unreadable, match="not a checkpoint"):
        order("bad", init_from=tmp_path / "bad.safetensors").run()


class After:
    """Does something with the engine after a step."""

    def __init__(self, step: int, what: Any) -> None:
        self.step, self.what = step, what

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.step), self.what)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    order: Any, tmp_path: Path
) -> None:
    def poison(engine: Any) -> None:
        with torch.no_grad():
            next(engine.models.generators["ct"].parameters()).fill_(torch.nan)

    often = Cadence(record_steps=2, grid_steps=0, checkpoint_minutes=0)
    with pytest.raises(TrainingFailed, match="no longer a finite number") as refused:
        order(cadence=often, handlers=[After(5, poison)]).run()

    assert "last good checkpoint is kept" in str(refused.value)
    kept = Checkpoint.load(RunFolder(tmp_path / "run").last)
    assert kept.step == 4
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.tensors.values())


def test_a_full_disk_loses_nothing_saved(order: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(engine: Any) -> None:
        monkeypatch.setattr("medtranslate.training.checkpoints.save_file", full)

    often = Cadence(record_steps=2, grid_steps=0, checkpoint_minutes=0)
    with pytest.raises(OutputFailed, match="No space left on device"):
        order(cadence=often, handlers=[After(5, fill)]).run()
    monkeypatch.undo()

    run = RunFolder(tmp_path / "run")
    assert Checkpoint.load(run.last).step == 4
    assert [path.name for path in run.last.parent.iterdir()] == ["last.safetensors"]
    assert order(cadence=often, resume=True).run().finished


def test_a_folder_in_use_is_left_alone(order: Any, tmp_path: Path) -> None:
    order(max_minutes=0).run()
    with (
        RunFolder(tmp_path / "run").claimed(),
        pytest.raises(TrainingFailed, match="in use: another training writes"),
    ):
        order(resume=True).run()
    assert order(resume=True).run().finished


def test_validation_lists_must_leave_something(order: Any, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("ct/0.png\n")
    with pytest.raises(TrainingFailed, match="name 0 of 5 MR scans"):
        order(validate=[tmp_path / "val.txt"], score=lambda *_: 0.0).run()
    with pytest.raises(TrainingFailed, match="nothing to score by"):
        order(validate=[tmp_path / "val.txt"])


def test_the_log_form_and_no_average_train_too(order: Any) -> None:
    settings = replace(
        TINY, adversarial_loss="log", ema_decay=0.0, identity_share=0.0, pool_size=0, epochs=1
    )

    assert order(settings=settings).run().finished


def test_bf16_keeps_weights_in_float32(order: Any, tmp_path: Path) -> None:
    order(settings=replace(TINY, precision="bf16", epochs=1)).run()

    checkpoint = Checkpoint.load(RunFolder(tmp_path / "run").last)
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {torch.float32}


def test_winograds_convolutions_have_the_losses_of_direct_ones() -> None:
    wide = replace(
        TINY,
        network_arguments={"width": 64, "blocks": 1},
        discriminator_width=64,
        discriminator_layers=1,
        downsampling=4,
    )
    losses = {}
    for winograd in (False, True):
        settings = replace(wide, winograd=winograd)
        batches = UnpairedBatches(prepared("CT", 3), prepared("MR", 3), 1, 0, CPU)
        trainer = CycleGANTrainer(Models(settings, CPU), batches)
        stream, trainer.state.epoch = iter(batches), 1
        steps = []
        for trainer.state.iteration in (1, 2, 3):
            steps.append(trainer._iteration(trainer, next(stream)))
        losses[winograd] = [{name: float(value) for name, value in each.items()} for each in steps]

    first, *later = zip(losses[True], losses[False], strict=True)
    assert first[0] == pytest.approx(first[1], rel=1e-4)
    assert all(fast == pytest.approx(direct, rel=1e-2) for fast, direct in later)
    assert losses[True] != losses[False]


def test_a_run_on_the_cpu_does_not_spend_minutes_on_compiling(order: Any, monkeypatch: Any) -> None:
    def compile(self: Models) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(Models, "compile", compile)
    settings = replace(TINY, compile=True, epochs=1, steps_per_epoch=1)
    assert order(settings=settings, on_finished=lambda *finished: None).run().finished

    monkeypatch.setattr(run, "worth_compiling", lambda device: True)
    with pytest.raises(AssertionError, match="compiled"):
        order("other", settings=settings, on_finished=lambda *finished: None).run()


def test_phantoms_tell_the_modalities_apart() -> None:
    """What the learning test rests on."""
    ct, mri = phantom("CT", 1).astype(int), phantom("MR", 1).astype(int)
    assert np.percentile(ct, 99) > 250 and 60 < np.median(ct[ct > 0]) < 150 < np.percentile(mri, 99)


def test_without_tensorboard_a_run_says_which_extra_it_lacks(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    assert open_board(tmp_path / "board", 0) is None
    assert "medtranslate[train]" in caplog.text
    assert not (tmp_path / "board").exists()
