"""Two processes give the gradients of one with the doubled batch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from training.phantoms import TINY, prepared

from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.distributed import World, joined
from medtranslate.training.models import Models
from medtranslate.training.trainer import CycleGANTrainer

WHOLE = replace(TINY, pool_size=0, batch_size=4, epochs=1, steps_per_epoch=1, rotation_degrees=10.0)


def gradients(world: World) -> dict[str, torch.Tensor]:
    """Take one step with this process's share of four pairs; augmentation is on, the pool off."""
    settings = replace(WHOLE, batch_size=WHOLE.batch_size // world.size)
    cpu = torch.device("cpu")
    models = Models(settings, cpu)
    batches = UnpairedBatches(
        prepared("CT", 6), prepared("MR", 5), settings.batch_size, 0, cpu, 1, world.rank, world.size
    )
    trainer = CycleGANTrainer(models, batches, world=world)
    trainer.run()
    return {
        f"{part}.{name}": weight.grad.contiguous()
        for part in ("generators", "discriminators")
        for name, weight in getattr(models, part).named_parameters()
    }


def save_gradients(path: Path) -> None:
    """Let the first of the processes that ``torchrun`` started save what all of them found."""
    with joined("cpu") as this:
        found = gradients(this)
        if this.leads:
            save_file(found, path)


@pytest.fixture
def torchrun() -> Iterator[Callable[..., Any]]:
    """Give what the program ``torchrun`` calls; it raises what a process fails with.

    The processes are forked, which spares each the seconds that its imports take, unless this
    process uses a GPU.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="spawn" if torch.cuda.is_initialized() else "fork",
    )
    yield lambda function, *arguments: elastic_launch(config, function)(*arguments)
    for number, handler in before.items():  # torchrun leaves its own
        signal.signal(number, handler)


@pytest.mark.slow
def test_two_gloo_processes_give_the_gradients_of_the_whole_batch(
    torchrun: Callable[..., Any], tmp_path: Path
) -> None:
    torchrun(save_gradients, tmp_path / "two.safetensors")

    two, one = load_file(tmp_path / "two.safetensors"), gradients(World())

    assert two.keys() == one.keys() and len(one) == 40
    for name in one:
        largest = float(one[name].abs().max())
        torch.testing.assert_close(two[name], one[name], atol=1e-4 * largest + 1e-7, rtol=1e-3)


def test_alone_everything_stays_as_it_is() -> None:
    world = World()

    assert world.leads and world.agree(True, torch.device("cpu"))
    assert not world.agree(False, torch.device("cpu"))
    assert world.gather({"a": 1}) == [{"a": 1}]
    with world.leader_first():
        pass
