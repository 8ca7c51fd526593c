"""The contrast as an input of a run: codes of slices, and who gets them."""

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
from torch import nn
from training.phantoms import TINY, prepared, same_tensors

from medtranslate.bundle.save import content_of
from medtranslate.errors import InvalidOption, TrainingFailed
from medtranslate.label_synthesis import LabelMaps
from medtranslate.packaging import RunPackager
from medtranslate.training import Cadence, RunFolder, Settings, Training
from medtranslate.training.augmentation import Images
from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.contrasts import ContrastList
from medtranslate.training.models import Models
from medtranslate.training.objective import DiscriminatorObjective, GeneratorObjective
from medtranslate.training.pairs import Pairs
from medtranslate.training.randomness import generator
from medtranslate.training.rendered import RenderedSource
from medtranslate.training.trainer import with_code, without_code

pytestmark = pytest.mark.usefixtures("plots_undrawn")

CPU = torch.device("cpu")
CODED = replace(TINY, contrasts=("t1", "t2"), epochs=1, steps_per_epoch=3)


def test_a_list_says_which_scan_has_which_contrast(tmp_path: Path) -> None:
    file = tmp_path / "contrasts.csv"
    file.write_text("# by eye\nmr/0.png, T1\nmr/2.png,t2\nmr/3.png,unknown\n")
    prepared_slices = prepared("MR", 4)
    names = [record.name for record in prepared_slices.records]

    codes = ContrastList.read(file, CODED.contrasts).codes(names, CODED.contrasts)

    coded = prepared_slices.coded(codes)
    assert coded.codes is not None and coded.codes.tolist() == [1, 0, 2, 0]
    kept = coded.only(names[1:3])
    assert kept.codes is not None and kept.codes.tolist() == [0, 2]
    assert coded.digest() != prepared_slices.digest()
    batch = next(iter(UnpairedBatches(prepared("CT", 4), coded, 4, 0, CPU)))
    assert sorted(batch["mri contrast"].tolist()) == [0, 0, 1, 2]


def test_a_wrong_line_of_the_list_is_named(tmp_path: Path) -> None:
    file = tmp_path / "contrasts.csv"
    file.write_text("mr/0.png,t1\nmr/1.png,flair\n")
    with pytest.raises(TrainingFailed, match=r"line 2 is not NAME,CONTRAST .*t1, t2, unknown"):
        ContrastList.read(file, CODED.contrasts)
    file.write_text("elsewhere.png,t1\n")
    with pytest.raises(InvalidOption, match=r"elsewhere\.png"):
        ContrastList.read(file, CODED.contrasts).codes(["mr/0.png"], CODED.contrasts)
    with pytest.raises(TrainingFailed, match="a list of contrasts is given, but the run has none"):
        Training("ct", "mri", tmp_path / "run", TINY, contrast_list=file)
    with pytest.raises(TrainingFailed, match="contrasts are a setting of their own"):
        Settings(network="compact", network_arguments={"contrasts": ["t1"]})
    with pytest.raises(TrainingFailed, match="'t9'"):
        Settings(network="compact", contrasts=("t9",))


class Told(nn.Module):
    """A generator or discriminator that keeps the codes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: list[list[int] | None] = []

    def forward(self, image: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        self.codes.append(None if code is None else code.tolist())
        return image


@pytest.mark.parametrize("told", ["mri", "both"])
def test_each_network_gets_the_code_of_the_mri_that_it_makes_takes_or_judges(told: str) -> None:
    generators = nn.ModuleDict({"mri": Told(), "ct": Told()})
    judges = nn.ModuleDict({"mri": Told(), "ct": Told()})
    code, image = torch.tensor([2, 0]), torch.zeros(2, 1, 4, 4)
    head = image == 0
    ct, mri = Images(image, head), Images(image, head, code)
    pairs = {"rendered": Pairs(image, image, head, torch.tensor([1, 2]))}
    settings = replace(CODED, identity_share=0.5, contrast_generators=told)

    GeneratorObjective(generators, settings)(ct, mri, judges, generator(0, "noise"), pairs)
    DiscriminatorObjective(judges, settings)(
        {"mri": image, "ct": image}, {"mri": image, "ct": image}, torch.tensor([2, 0, 1, 1])
    )

    # A synthetic MRI and the identity, the reconstruction of the MRI, the pairs.
    assert generators["mri"].codes == [[2, 0, 2, 0], [2, 0], [1, 2]]
    assert judges["mri"].codes == [[2, 0], [2, 0, 1, 1]]
    assert set(map(str, judges["ct"].codes)) == {"None"}
    # A CT of the MRI and the identity of a CT, the reconstruction of the CT, the pairs.
    given = [[2, 0, 0, 0], [2, 0], [1, 2]]
    assert generators["ct"].codes == (given if told == "both" else [None] * 3)


def test_a_fake_of_an_earlier_step_keeps_its_code() -> None:
    fakes, codes = torch.rand(3, 1, 4, 4), torch.tensor([0, 5, 2])
    images, again = without_code(with_code(fakes, codes))
    assert torch.equal(images, fakes) and torch.equal(again, codes)


def test_a_rendered_pair_has_the_code_of_its_contrast(tmp_path: Path) -> None:
    maps = LabelMaps.read(write_labels(tmp_path / "head.nii.gz"))
    shares = {"rendered_block_size": 3, "rendered_contrasts": {"t1": 1.0, "pd": 1.0, "t2": 1.0}}
    settings = replace(CODED, **shares)
    source = RenderedSource(maps, settings, CPU)
    pairs = source.pairs(0, 3)

    known = {"T1": 1, "T2": 2, "PD": 0}  # the run has no code for PD
    names = [
        name for name, code in known.items() for _ in range(int((pairs.contrast == code).sum()))
    ]
    assert len(names) == 3 and pairs.mri_follows is not None
    assert torch.equal(pairs.mri_follows, pairs.contrast > 0)


class At:
    def __init__(self, step: int, what: Callable[[], None]) -> None:
        self.step, self.what = step, what

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.step), lambda: self.what())


def test_a_run_with_contrasts_resumes_exactly_starts_from_one_without_and_makes_a_bundle(
    ct_slices: Path, mri_slices: Path, tmp_path: Path
) -> None:
    def run(name: str, settings: Settings = CODED, **more: Any) -> Any:
        more = {"cadence": Cadence(record_steps=2, grid_steps=3), **more}
        return Training(
            ct_slices, mri_slices, tmp_path / name, settings, device="cpu", **more
        ).run()

    names = tmp_path / "contrasts.csv"
    names.write_text("mr/0.png,t1\nmr/1.png,t2\nmr/2.png,t2\n")
    both = replace(CODED, contrast_generators="both")
    coded: dict[str, Any] = {"contrast_list": names, "on_finished": RunPackager("mine")}
    coded["settings"] = both
    run("plain", replace(TINY, epochs=1, steps_per_epoch=1))
    run("through", init_from=tmp_path / "plain", **coded)
    stop = At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run("stopped", init_from=tmp_path / "plain", handlers=[stop], **coded).step == 2
    assert run("stopped", resume=True, **coded).finished

    through, resumed = (
        Checkpoint.load(RunFolder(tmp_path / name).last) for name in ("through", "stopped")
    )
    same_tensors(through.tensors, resumed.tensors)
    name = "fold.3.contrast.differences.weight"
    assert all(through.part(f"generators.{made}")[name].any() for made in ("mri", "ct"))
    content = content_of(RunFolder(tmp_path / "through").bundle)
    for made in ("mri", "ct"):
        assert content["generators"][made]["network"]["contrasts"] == ["t1", "t2"]
    assert "contrasts" not in CODED.generator("ct")
    with pytest.raises(TrainingFailed, match="the scans, lists or recipes are not those"):
        run("through", resume=True)


def test_a_checkpoint_with_contrasts_is_of_another_network_than_one_with_others() -> None:
    two, three = (
        Models(replace(CODED, contrasts=names), CPU) for names in (("t1", "t2"), ("t1", "t2", "pd"))
    )
    shapes = [m.discriminators["mri"].contrast.weight.shape for m in (two, three)]
    assert shapes == [torch.Size([2, 32]), torch.Size([3, 32])]
    assert two.discriminators["ct"].contrast is None
