"""Several processes, as ``torchrun`` starts them: one a GPU, or several on CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

# Preparing scans may take hours, in which the other processes wait for the first.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class World:
    """A process among all.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all processes.
    local_rank : int
        Number on this machine: which GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Return the objective with its gradients averaged over all processes."""
        return objective if self.size == 1 else DistributedDataParallel(objective)

    def agree(self, wish: bool, device: torch.device) -> bool:
        """Say whether any process wishes so: the same answer in all of them."""
        if self.size == 1:
            return wish
        wishes = torch.tensor([float(wish)], device=device)
        distributed.all_reduce(wishes, op=distributed.ReduceOp.MAX)
        return bool(wishes.item())

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
            values = values / self.size
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value by rank in the leading process, nothing in the others."""
        if self.size == 1:
            return [value]
        found = [None] * self.size if self.leads else None
        distributed.gather_object(value, found)
        return found or []

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the first process of each machine run the block before the others do."""
        if self.size > 1 and self.local_rank > 0:
            distributed.barrier()
        yield
        if self.size > 1 and self.local_rank == 0:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, and leave them at the end; alone without it.

    Parameters
    ----------
    device : str
        ``"cpu"`` joins over gloo, all else over NCCL where there is a GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    on_gpu = torch.cuda.is_available() and device != "cpu"
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu:
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), local)
    finally:
        distributed.destroy_process_group()
