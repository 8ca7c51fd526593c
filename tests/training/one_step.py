"""One training step under torchrun's environment: prints the gradients' file (test_distributed)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined("cpu") as this:
        found = gradients(this)
        if this.leads:
            save_file(found, sys.argv[1])
