"""Two processes give the gradients of one with the doubled batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.one_step import gradients

from medtranslate.training.distributed import World

SCRIPT = Path(__file__).with_name("one_step.py")


@pytest.mark.slow
def test_two_gloo_processes_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
        str(SCRIPT), str(tmp_path / "two.safetensors"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(torchrun, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr

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
