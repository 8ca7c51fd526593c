"""Compose a model of training runs: weights averaged, and one MRI-to-CT generator taught.

``average`` takes the weighted mean of one generator's weights over checkpoints that were trained on
from one another (Wortsman et al. 2022, "Model soups").

The rest is about MRI to CT. Of earlier generators one turns contrast over, which is right for an
MRI whose fluid is bright (T2), one keeps it, right where fluid is dark (T1, FLAIR), and one makes
what looks like a real CT and is wrong about fluid. ``lessons`` lets all three translate every slice
and composes the CT that it should lead to (`ct_lessons.py`). ``distil`` teaches that to one
generator, which becomes right and smooth. Then ``medtranslate train --hold`` lets it learn to look
real beside its partner, held to what it knows.

::

    python benchmarks/compose_model.py average mri.safetensors --side mri \
        --of C1=0.5 --of C2=0.25 --of A=0.25
    python benchmarks/compose_model.py lessons lessons.safetensors --mri MRI \
        --turning A --keeping B --real C2
    python benchmarks/compose_model.py distil smooth.safetensors --ct CT --mri MRI \
        --lessons lessons.safetensors --start B --partner mri.safetensors
    medtranslate train CT MRI -o RUN --init-from smooth.safetensors --hold 6 --hold-of ct ...

``CT`` and ``MRI`` are slices of ``medtranslate data prepare``; A, B, C1 and C2 are checkpoints of
``medtranslate train``, and so is what comes out, but for the lessons; it is written every 100
steps, with the partner's discriminators if it has any.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ct_lessons import Teachers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from medtranslate.training.augment import Augmentation, Pictures, draw
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.models import make_generator
from medtranslate.training.objective import in_head
from medtranslate.training.prepared import PreparedSet, from_grey
from medtranslate.training.settings import Settings


def main() -> None:
    """Run the command that was asked for."""
    options = argparse.ArgumentParser()
    commands = options.add_subparsers(dest="command", required=True)
    mean = commands.add_parser("average")
    mean.add_argument("--side", choices=("mri", "ct"), required=True, help="what it makes")
    mean.add_argument("--of", action="append", required=True, metavar="CHECKPOINT=SHARE")
    all_three = commands.add_parser("lessons")
    all_three.add_argument("--turning", type=Path, required=True, help="teacher for bright fluid")
    all_three.add_argument("--keeping", type=Path, required=True, help="teacher for dark fluid")
    all_three.add_argument("--real", type=Path, required=True, help="whose CT looks real")
    teach = commands.add_parser("distil")
    teach.add_argument("--partner", type=Path, required=True, help="makes MRI of CT")
    teach.add_argument("--steps", type=int, default=800)
    for command in (mean, all_three, teach):
        command.add_argument("output", type=Path, help="the file to write")
    for command in (all_three, teach):
        command.add_argument("--mri", type=Path, required=True, help="prepared slices")
    teach.add_argument("--ct", type=Path, required=True, help="prepared slices")
    teach.add_argument("--lessons", type=Path, required=True, help="what lessons has written")
    teach.add_argument("--start", type=Path, required=True, help="whose weights it starts by")
    chosen = options.parse_args()
    {"average": average, "lessons": lessons, "distil": distil}[chosen.command](chosen)


def average(chosen: argparse.Namespace) -> None:
    """Write the weighted mean of a generator's weights, beside the first checkpoint's others."""
    shares = [share.rsplit("=", 1) for share in chosen.of]
    checkpoints = [(Checkpoint.load(Path(path)), float(share)) for path, share in shares]
    first, part = checkpoints[0][0], f"averages.{chosen.side}"
    mean = {
        f"{part}.{name}": sum(share * one.part(part)[name] for one, share in checkpoints)
        for name in first.part(part)
    }
    Checkpoint({**first.tensors, **mean}, first.about).save(chosen.output)


def lessons(chosen: argparse.Namespace) -> None:
    """Let three generators translate every slice, and write the CT that it should lead to."""
    teachers = [
        generator(Checkpoint.load(path), "ct")
        for path in (chosen.turning, chosen.keeping, chosen.real)
    ]
    found = []
    for grey in PreparedSet.load(chosen.mri).slices:
        image, head = from_grey(grey[None])
        with torch.inference_mode():
            cts = [in_head(teach(image), head)[0, 0] for teach in teachers]
        planes = (((ct + 1) * 127.5).round().byte().numpy() for ct in cts)
        found.append(Teachers(grey.numpy(), head[0, 0].numpy(), *planes).lesson())
    composed, usable = (
        torch.tensor([getattr(lesson, name) for lesson in found]) for name in ("composed", "usable")
    )
    print(f"{composed.sum()} of {len(found)} composed, {(~usable).sum()} left out", flush=True)
    cts = torch.from_numpy(np.stack([lesson.ct for lesson in found]))
    save_file({"ct": cts, "composed": composed, "usable": usable}, chosen.output)


def distil(chosen: argparse.Namespace) -> None:
    """Teach one generator what suits each slice; the rate falls to 0 along half a cosine."""
    slices, lesson = Slices.load(chosen), load_file(chosen.lessons)
    base, start = Checkpoint.load(chosen.partner), Checkpoint.load(chosen.start)
    student, partner = generator(start, "ct"), generator(base, "mri")
    optimizer = adam(student)
    augment, drawn = Augmentation(settings_of(start)), torch.Generator().manual_seed(0)
    weights = (1.0 + lesson["composed"].numpy()) * lesson["usable"].numpy()
    for step in range(chosen.steps):
        set_rate(optimizer, 3e-4 * (1 + math.cos(math.pi * step / chosen.steps)) / 2, step)
        places, changes = slices.places(2, weights), draw(2, drawn)
        shown, wanted = augment(slices.mri[places], changes), augment(lesson["ct"][places], changes)
        real = augment(slices.some_ct(1), draw(1, drawn))
        made, back = translated(student, shown, generated(partner, real, drawn), real)
        errors = {"lessons": F.l1_loss(made, wanted.image), "back": F.l1_loss(back, real.image)}
        learn(optimizer, errors["lessons"] + 0.5 * errors["back"])
        tell(step, errors)
        if (step + 1) % 100 == 0 or step + 1 == chosen.steps:
            save(base, chosen.output, {"averages.ct": student})


@dataclass(frozen=True)
class Slices:
    """Prepared slices, uint8 (N, 256, 256), and draws from them."""

    ct: torch.Tensor
    mri: torch.Tensor
    draws: np.random.Generator

    @classmethod
    def load(cls, chosen: argparse.Namespace) -> Slices:
        """Read both files."""
        ct, mri = (PreparedSet.load(path).slices for path in (chosen.ct, chosen.mri))
        return cls(ct, mri, np.random.default_rng(1))

    def some_ct(self, count: int) -> torch.Tensor:
        """Draw CT slices."""
        return self.ct[torch.as_tensor(self.draws.choice(len(self.ct), count, replace=False))]

    def places(self, count: int, weights: NDArray[np.float64]) -> torch.Tensor:
        """Draw places of MR slices."""
        share = weights / weights.sum()
        return torch.as_tensor(self.draws.choice(len(share), count, replace=False, p=share))


def generated(partner: nn.Module, real: Pictures, drawn: torch.Generator) -> torch.Tensor:
    """Return the MRI of a CT, with the noise that training lays over it against hiding."""
    with torch.no_grad():
        fake = in_head(partner(real.image), real.head)
    return fake + 0.04 * torch.randn(fake.shape, generator=drawn) * real.head


def translated(
    student: nn.Module, shown: Pictures, fake: torch.Tensor, real: Pictures
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the CT of real MRI, and of the MRI that was made of a CT."""
    heads = torch.cat([shown.head, real.head])
    made = in_head(student(torch.cat([shown.image, fake])), heads)
    return made[: len(shown)], made[len(shown) :]


def generator(checkpoint: Checkpoint, side: str) -> nn.Module:
    """Return a checkpoint's averaged generator."""
    network = make_generator(settings_of(checkpoint))
    network.load_state_dict(checkpoint.part(f"averages.{side}"))
    return network


def settings_of(checkpoint: Checkpoint) -> Settings:
    """Return the settings of the training that a checkpoint is of."""
    return Settings.from_dict(checkpoint.about["settings"])


def adam(network: nn.Module) -> torch.optim.Adam:
    """Return the CycleGAN paper's optimizer."""
    return torch.optim.Adam(network.parameters(), betas=(0.5, 0.999), fused=True)


def set_rate(optimizer: torch.optim.Adam, rate: float, step: int) -> None:
    """Set the learning rate, lower over the first 20 steps."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1, (step + 1) / 20)


def learn(optimizer: torch.optim.Adam, loss: torch.Tensor) -> None:
    """Take one step against a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def tell(step: int, terms: dict[str, torch.Tensor]) -> None:
    """Print the terms of every 25th step."""
    if (step + 1) % 25 == 0:
        told = {name: round(value.item(), 4) for name, value in terms.items()}
        print(json.dumps({"step": step + 1, **told}), flush=True)


def save(base: Checkpoint, path: Path, networks: dict[str, nn.Module]) -> None:
    """Write a checkpoint with some of its networks replaced."""
    tensors = dict(base.tensors)
    for part, network in networks.items():
        tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
    Checkpoint(tensors, base.about).save(path)


if __name__ == "__main__":
    main()
