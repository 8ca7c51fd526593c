"""One CycleGAN step: the generators learn, then the discriminators, on slices and draws given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from medtranslate.training.augment import Augmentation
from medtranslate.training.models import SIDES, Models
from medtranslate.training.objective import Losses
from medtranslate.training.precision import autocast

Given = dict[str, torch.Tensor]
"""``"ct"``, ``"mri"``: uint8 (B, 256, 256); ``"ct changes"``, ``"mri changes"``: float32 (B, 5)."""


@dataclass(frozen=True)
class Step:
    """The step, as a function of tensors on the device and of generators of random numbers.

    Nothing in it waits for the device or depends on a value there, so it can be captured
    (`graph.py`).

    Parameters
    ----------
    models : Models
    generate, judge : torch.nn.Module
        `GeneratorObjective` and `DiscriminatorObjective`, wrapped where there are many processes.
    augment : Augmentation
    precision : {"float32", "bf16"}
    draws : dict of str to torch.Generator
        ``"noise"`` and ``"pool"``, on the device, seeded by the caller.
    """

    models: Models
    generate: nn.Module
    judge: nn.Module
    augment: Augmentation
    precision: str
    draws: dict[str, torch.Generator]

    def __call__(self, given: Given) -> Losses:
        """Take the step; return its losses, on the device."""
        models, optimizers = self.models, self.models.optimizers
        ct, mri = (self.augment(given[name], given[f"{name} changes"]) for name in ("ct", "mri"))

        models.discriminators.requires_grad_(False)
        optimizers["generators"].zero_grad(set_to_none=True)
        with autocast(self.precision, models.device):
            total, losses, fakes = self.generate(
                ct, mri, models.discriminators, self.draws["noise"]
            )
        total.backward()
        optimizers["generators"].step()

        models.discriminators.requires_grad_(True)
        optimizers["discriminators"].zero_grad(set_to_none=True)
        shown = {
            name: models.pools[name].exchange(fakes[name], self.draws["pool"]) for name in SIDES
        }
        with autocast(self.precision, models.device):
            total, judged = self.judge({"mri": mri.image, "ct": ct.image}, shown)
        total.backward()
        optimizers["discriminators"].step()
        return {**losses, **judged}
