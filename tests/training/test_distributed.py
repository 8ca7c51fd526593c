"""Two processes give the gradients of one with the doubled batch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import run
from training.one_step import gradients

from medtranslate.training.distributed import World

SCRIPT = Path(__file__).with_name("one_step.py")


@pytest.fixture
def torchrun() -> Iterator[Callable[[list[str]], None]]:
    """Give the function behind the program ``torchrun``; it raises what a process fails with."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield run.main
    for number, handler in before.items():  # torchrun leaves its own
        signal.signal(number, handler)


@pytest.mark.slow
def test_two_gloo_processes_give_the_gradients_of_the_whole_batch(
    torchrun: Callable[[list[str]], None], tmp_path: Path
) -> None:
    torchrun(["--nproc-per-node=2", "--standalone", str(SCRIPT), str(tmp_path / "two.safetensors")])

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
