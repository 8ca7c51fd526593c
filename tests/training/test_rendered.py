"""Pairs rendered from label maps: the same for a seed, and learnt from alone or in a mix."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from label_maps import write_labels
from tiny_bundles import all_hu_bundle
from torch import nn
from training.phantoms import TINY, same_tensors
from training.scaled import Scaled
from typer.testing import CliRunner

from medtranslate.bundle import Bundle
from medtranslate.cli.app import app
from medtranslate.errors import TrainingFailed, Unreadable
from medtranslate.label_synthesis import LabelMaps
from medtranslate.packaging import RunPackager
from medtranslate.training import Cadence, RunFolder, Settings, Training
from medtranslate.training.augmentation import Augmentation, Images
from medtranslate.training.checkpoints import Checkpoint, start_from
from medtranslate.training.models import Models
from medtranslate.training.objective import GeneratorObjective, through_window
from medtranslate.training.pairs import Pairs
from medtranslate.training.randomness import generator
from medtranslate.training.rendered import RenderedSource, mr_settings
from medtranslate.transforms import CompressHU, Limits

pytestmark = pytest.mark.usefixtures("plots_undrawn")

CPU = torch.device("cpu")
RENDERED = replace(TINY, rendered_block_size=2, adversarial_weight=0.0, cycle_weight=0.0)


@pytest.fixture(scope="module")
def maps_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    (folder / "maps").mkdir()
    write_labels(folder / "maps" / "head.nii.gz")
    LabelMaps.read(folder / "maps").save(folder / "labels.npz")
    return folder / "labels.npz"


@pytest.fixture(scope="module")
def maps(maps_file: Path) -> LabelMaps:
    return LabelMaps.read(maps_file)


@pytest.fixture(scope="module")
def four(maps: LabelMaps) -> Pairs:
    return RenderedSource(maps, RENDERED, CPU).pairs(0, 4)


def test_pairs_are_a_sequence_whatever_the_batches(maps: LabelMaps, four: Pairs) -> None:
    later = RenderedSource(maps, RENDERED, CPU).pairs(1, 2)  # as a resumed run asks for them

    assert torch.equal(later.ct, four.ct[1:3])
    assert torch.equal(later.mri, four.mri[1:3])
    assert later.source_ct is not None and four.source_ct is not None
    assert torch.equal(later.source_ct, four.source_ct[1:3])
    assert not torch.equal(four.ct[0], four.ct[1])
    other = RenderedSource(maps, replace(RENDERED, seed=1), CPU).pairs(0, 2)
    assert not torch.equal(other.ct, four.ct[:2])


def test_a_ct_that_is_translated_has_its_own_hu_and_grain_and_the_one_that_is_taught_neither(
    maps: LabelMaps, four: Pairs
) -> None:
    assert four.source_ct is not None
    white = (sum(maps.table["white_matter"].hu) / 2 + 20) / 60 - 1  # in the brain window
    shows = [(each - white).abs().flatten(1) < 1e-4 for each in (four.ct, four.source_ct)]
    taught, translated = (each.float().mean(1) for each in shows)
    shown = taught > 0  # one slice lies above the white matter
    assert shown.sum() == 3 and (taught > 20 * translated)[shown].all()
    assert not (four.source_ct - four.ct)[~four.head].any()


def test_fluid_has_its_weight_and_the_rest_one(four: Pairs) -> None:
    assert four.weight is not None
    assert set(four.weight.unique().tolist()) == {1.0, RENDERED.fluid_weight}


def test_lesions_have_their_weight_where_they_show(maps: LabelMaps) -> None:
    settings = replace(RENDERED, fluid_weight=1.0, lesion_weight=8.0, rendered_block_size=8)
    pairs = RenderedSource(maps, settings, CPU).pairs(0, 8)
    plain = RenderedSource(maps, replace(settings, lesion_weight=1.0), CPU).pairs(0, 8)
    assert pairs.weight is not None and plain.weight is not None
    assert torch.equal(pairs.ct, plain.ct) and set(plain.weight.unique().tolist()) == {1.0}
    both = RenderedSource(maps, replace(settings, fluid_weight=9.0), CPU).pairs(0, 8).weight
    assert both is not None and (both >= pairs.weight).all()  # a cyst is fluid, too
    heavy = pairs.weight == 8.0
    assert set(pairs.weight.unique().tolist()) == {1.0, 8.0}
    assert 0 < heavy.float().mean() < 0.1 and not heavy[~pairs.head].any()


def test_only_the_contrasts_asked_for_are_rendered(maps: LabelMaps) -> None:
    drawn = replace(RENDERED, rendered_contrasts={"random": 1.0})
    follows = RenderedSource(maps, drawn, CPU).pairs(0, 2).mri_follows
    assert follows is not None and not follows.any()
    known = replace(RENDERED, rendered_contrasts={"t1": 1.0, "t2": 2.0})
    assert mr_settings(known, ("T1", "T2")).weights == (("T1", 1.0), ("T2", 2.0))
    for wrong, match in (({"t9": 1.0}, "no contrast 't9'"), ({"t1": 0.0}, "all weights are 0")):
        with pytest.raises(TrainingFailed, match=match):
            RenderedSource(maps, replace(RENDERED, rendered_contrasts=wrong), CPU)


def test_the_rendered_terms_by_hand() -> None:
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    full = torch.ones(2, 1, 2, 2)
    head = full > 0
    pairs = Pairs(
        0.2 * full, 0.5 * full, head, torch.zeros(2, dtype=torch.int64), source_ct=0.4 * full,
        weight=torch.tensor([3.0, 1.0]).expand(2, 1, 2, 2), mri_follows=torch.tensor([True, False]),
    )  # fmt: skip
    settings = replace(RENDERED, rendered_weight=2.0, gradient_share=0.0)
    images = Images(full, head)

    total, terms, _ = GeneratorObjective(generators, settings)(
        images, images, nn.ModuleDict(), generator(0, "noise"), {"rendered": pairs}
    )

    # Weights 3 and 1; the second MRI cannot be told from its CT.
    assert float(terms["rendered_mri"]) == pytest.approx(0.1 * (3 + 1) / 2 / 2)
    assert float(terms["rendered_ct"]) == pytest.approx(0.3 * (3 + 1) / 2)
    assert total.item() == pytest.approx(2 * (0.1 + 0.6))


FULL = replace(RENDERED, ct_range="full", gradient_share=0.0)


def test_a_ct_of_all_hu_is_rendered_beside_that_of_the_window(maps: LabelMaps, four: Pairs) -> None:
    made = RenderedSource(maps, FULL, CPU).pairs(0, 4)
    compress = CompressHU()
    assert made.whole_ct is not None and four.whole_ct is None
    assert torch.equal(made.ct, four.ct)
    torch.testing.assert_close(compress.in_window(made.whole_ct)[made.head], made.ct[made.head])
    hu = compress.from_unit(made.whole_ct)[made.head]
    assert hu.max() > 1000 and hu.min() < -900
    assert bool((made.whole_ct[~made.head] == -1).all())


def test_the_term_of_all_hu_by_hand_and_real_ct_in_their_window() -> None:
    """0.8 is bone: half way to 2000 HU, and white as a real CT shows it."""
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    full = torch.ones(1, 1, 2, 2)
    head, code = full > 0, torch.zeros(1, dtype=torch.int64)
    rendered = Pairs(0.5 * full, 0.8 * full, head, code, whole_ct=0.9 * full)
    real = Pairs(0.5 * full, 0.8 * full, head, code)
    images = Images(full, head)
    objective = GeneratorObjective(generators, FULL)

    total, terms, _ = objective(
        images, images, nn.ModuleDict(), generator(0, "noise"),
        {"rendered": rendered, "paired": real},
    )  # fmt: skip
    assert float(terms["rendered_whole_ct"]) == pytest.approx(0.9 - 0.8)
    assert float(terms["rendered_ct"]) == float(terms["paired_ct"]) == pytest.approx(1 - 0.5)
    mri = float(terms["rendered_mri"] + terms["paired_mri"])
    assert "paired_whole_ct" not in terms
    assert total.item() == pytest.approx(10 * (mri + 0.5 + 0.5 + 0.5 * 0.1))

    # What is white and should be gray is drawn back to the window.
    made = torch.full((1,), 0.8, requires_grad=True)
    through_window(made, 0.6).sum().backward()
    assert made.grad is not None and made.grad.item() == pytest.approx(1 / 0.6)
    assert torch.equal(through_window(full, 1.0), full)


def test_a_run_for_all_hu_gives_a_bundle_that_writes_them_and_goes_on_for_them(
    train: Any, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    settings = replace(FULL, epochs=1, steps_per_epoch=1)
    train("run", settings, on_finished=RunPackager("mine"), cadence=Cadence(grid_steps=1))
    bundle = Bundle.load(run.bundle)
    volume, image = bundle.recipe("CT", "volume"), bundle.recipe("CT", "image")

    assert (volume.written, volume.shown) == (Limits(-1024, 2000), Limits(-20, 100))
    assert (image.written, image.shown, image.share) == (Limits(0, 255), Limits(0, 255), 0.6)
    assert train("on", settings, init_from=run.bundle).finished
    narrow = replace(settings, ct_range="window")
    for path in (run.bundle, run.last):
        with pytest.raises(TrainingFailed, match=r"makes all HU.*ct_range=full"):
            train("narrow", narrow, init_from=path, overwrite=True)
    with pytest.raises(TrainingFailed, match="nothing teaches HU beyond the window"):
        train("real", replace(TINY, ct_range="full"), ct_slices, mri_slices, labels=None)
    with pytest.raises(TrainingFailed, match="nothing teaches HU beyond the window"):
        train("untaught", replace(settings, rendered_weight=0.0), ct_slices, mri_slices)


def test_the_setting_says_what_a_bundle_writes_not_the_recipes_that_were_given(
    train: Any, tmp_path: Path
) -> None:
    run, settings = RunFolder(tmp_path / "run"), replace(RENDERED, epochs=1, steps_per_epoch=1)
    wide = all_hu_bundle(tmp_path / "wide") / "configs/recipes"
    train("run", settings, on_finished=RunPackager("mine"), recipes=wide)

    assert Bundle.load(run.bundle).recipe("CT", "volume").written == Limits(-20, 100)
    for kept, said in (
        ({"trained_generators": "mri"}, "kept as it is"),
        ({"anchor_weight": 1.0}, "the anchor of one that makes all HU"),
    ):
        wrong = replace(settings, ct_range="full", **kept)
        with pytest.raises(TrainingFailed, match=f"window alone, and is to be {said}"):
            start_from(Models(wrong, CPU), run.bundle)


def test_rendered_pairs_are_whole_slices_at_the_size_of_the_run(four: Pairs) -> None:
    settings = replace(TINY, downsampling=4, crop=(48, 40))
    small = Augmentation(settings).reduced(four)

    assert small.ct.shape == small.mri.shape == (4, 1, 64, 64)
    assert float(small.ct[small.head].mean()) == pytest.approx(
        float(four.ct[four.head].mean()), abs=0.05
    )
    assert bool((small.mri[~small.head] == -1).all())


@pytest.fixture
def train(maps_file: Path, tmp_path: Path) -> Callable[..., Any]:
    def run(name: str, settings: Settings = RENDERED, *folders: Path, **more: Any) -> Any:
        more = {"cadence": Cadence(record_steps=2, grid_steps=0), "labels": maps_file, **more}
        scans = folders or (None, None)
        return Training(*scans, tmp_path / name, settings, device="cpu", **more).run()

    return run


class At:
    def __init__(self, step: int, what: Callable[[], None]) -> None:
        self.step, self.what = step, what

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.step), lambda: self.what())


def test_one_run_learns_from_label_maps_and_from_unpaired_scans_and_resumes_exactly(
    train: Any, ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    settings = replace(TINY, rendered_block_size=2, epochs=1, steps_per_epoch=3)
    folders = (ct_slices, mri_slices)
    train("through", settings, *folders)
    stop = At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train("stopped", settings, *folders, handlers=[stop]).step == 2
    assert train("stopped", settings, *folders, resume=True).finished

    through, resumed = (
        Checkpoint.load(RunFolder(tmp_path / name).last) for name in ("through", "stopped")
    )
    same_tensors(through.tensors, resumed.tensors)
    columns = RunFolder(tmp_path / "through").losses.read_text().splitlines()[0].split(",")
    assert {"rendered_mri", "rendered_gradient_ct", "adversarial_mri", "cycle_ct"} <= set(columns)
    page = RunFolder(tmp_path / "through").page.read_text()
    assert "1 label maps, rendered while training" in page


def test_label_maps_alone_train_both_generators_and_make_a_bundle(
    train: Any, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    settings = replace(RENDERED, epochs=1, steps_per_epoch=4)
    assert train("run", settings, on_finished=RunPackager("mine")).finished

    assert set(Bundle.load(run.bundle).recipes) >= {"CT-volume", "MR-volume"}
    before = Models(settings, CPU).generators.state_dict()
    after = Checkpoint.load(run.last).part("generators")
    for side in ("mri", "ct"):
        name = f"{side}.fold.2.conv.weight"
        assert not torch.equal(before[name], after[name])
    assert '"label_maps": 1' in run.data.read_text()


def test_label_maps_alone_have_nothing_for_the_papers_terms(
    train: Any, maps_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=r"no real scans .*set adversarial_weight=0"):
        train("run", TINY)
    assert not (tmp_path / "run").exists()
    alone = replace(RENDERED, steps_per_epoch=0)
    assert Training(None, None, tmp_path / "run", alone, labels=maps_file).settings == replace(
        alone, steps_per_epoch=1000
    )


def test_the_command_reads_label_maps_into_one_file(maps: LabelMaps, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    write_labels(tmp_path / "maps" / "head.nii.gz")
    command = ["data", "labels", str(tmp_path / "maps"), "-o", str(tmp_path / "labels.npz")]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert "label maps: 1, " in done.output
    assert LabelMaps.read(tmp_path / "labels.npz").digest() == maps.digest()


def test_label_maps_are_read_once(tmp_path: Path, maps: LabelMaps) -> None:
    told: list[int] = []
    (tmp_path / "maps").mkdir()
    write_labels(tmp_path / "maps" / "head.nii.gz")

    def read() -> LabelMaps:
        return LabelMaps.read(
            tmp_path / "maps", cache=tmp_path, progress=lambda done, of: told.append(done)
        )

    assert read().digest() == read().digest() == maps.digest()
    assert told == [1]


def test_what_is_no_file_of_label_maps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(Unreadable, match="not a file of label maps"):
        LabelMaps.read(tmp_path / "labels.npz")
