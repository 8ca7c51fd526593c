"""Compose a model of training runs: weights averaged, and one MRI-to-CT generator taught.

``average`` takes the weighted mean of one generator's weights over checkpoints that were trained on
from one another (Wortsman et al. 2022, "Model soups").

The rest is about MRI to CT. Of earlier generators one turns contrast over, which is right for an
MRI whose fluid is bright (T2), one keeps it, right where fluid is dark (T1, FLAIR), and one makes
what looks like a real CT and is wrong about fluid. ``lessons`` lets all three translate every slice
and composes the CT that it should lead to (`ct_lessons.py`). ``distil`` teaches that to one
generator, which becomes right and smooth. Then ``medtranslate train --hold`` lets it learn to look
real beside its partner, held to what it knows. At last ``close-holes`` teaches the partner to leave
out the ventricles that it makes where a CT shows none (`mri_holes.py`). With that the shipped model
was made. ``keep-lesions``, which came after it, teaches the partner to show lesions as an earlier
generator does, and to change nothing elsewhere (`mri_lesions.py`).

::

    python benchmarks/compose_model.py average mri.safetensors --side mri \
        --of C2=0.25 --of C1=0.5 --of A=0.25
    python benchmarks/compose_model.py lessons lessons.safetensors --mri MRI \
        --turning A --keeping B --real C2
    python benchmarks/compose_model.py distil smooth.safetensors --ct CT \
        --lessons lessons.safetensors --start B --partner mri.safetensors
    medtranslate train CT MRI -o RUN --init-from smooth.safetensors --hold 6 --hold-of ct ...
    python benchmarks/compose_model.py close-holes shipped.safetensors --ct CT \
        --start RUN/checkpoints/last.safetensors
    python benchmarks/compose_model.py keep-lesions next.safetensors --ct CT \
        --start shipped.safetensors --like A

``CT`` and ``MRI`` are slices of ``medtranslate data prepare``; A, B, C1 and C2 are checkpoints of
``medtranslate train`` or bundles with discriminators, such as an earlier version of the shipped
one. What comes out is a checkpoint, but for the lessons. It is written every 100 steps, with all
that the first ``--of``, ``--partner`` or ``--start`` has beside what is new: so ``--of C2`` comes
first, whose discriminators the training goes on with.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ct_lessons import Teachers, with_bright_fluid
from mri_holes import without_holes
from mri_lesions import draw_lesions, laid_over
from safetensors.torch import load_file, save_file
from torch import nn

from medtranslate.bundle.refresh import facts_of
from medtranslate.training.augment import Augmentation, Pictures, draw
from medtranslate.training.checkpoints import Checkpoint, network_state
from medtranslate.training.initial import start_from
from medtranslate.training.models import Models, make_generator
from medtranslate.training.objective import in_head
from medtranslate.training.prepared import PreparedSet, from_grey, to_grey
from medtranslate.training.settings import Settings

WEIGHTS = {"brain": 2.0, "base": 1.0, "teacher": 1.0, "bright fluid": 1.0}
"""How often a lesson is drawn, by its kind."""


def main() -> None:
    """Run the command that was asked for."""
    options = argparse.ArgumentParser()
    commands = options.add_subparsers(dest="command", required=True)
    mean = commands.add_parser("average")
    mean.add_argument("--side", choices=("mri", "ct"), required=True, help="what it makes")
    mean.add_argument("--of", action="append", required=True, metavar="CHECKPOINT=SHARE")
    lesson = commands.add_parser("lessons")
    lesson.add_argument("--turning", type=Path, required=True, help="teacher for bright fluid")
    lesson.add_argument("--keeping", type=Path, required=True, help="teacher for dark fluid")
    lesson.add_argument("--real", type=Path, required=True, help="whose CT looks real")
    teach = commands.add_parser("distil")
    teach.add_argument("--partner", type=Path, required=True, help="makes MRI of CT")
    teach.add_argument("--steps", type=int, default=960)
    holes = commands.add_parser("close-holes")
    holes.add_argument("--steps", type=int, default=240)
    keep = commands.add_parser("keep-lesions")
    keep.add_argument("--like", type=Path, required=True, help="shows lesions as they should be")
    keep.add_argument("--steps", type=int, default=700)
    for command in (mean, lesson, teach, holes, keep):
        command.add_argument("output", type=Path, help="the file to write")
    lesson.add_argument("--mri", type=Path, required=True, help="prepared slices")
    teach.add_argument("--lessons", type=Path, required=True, help="what lessons has written")
    for command in (teach, holes, keep):
        command.add_argument("--ct", type=Path, required=True, help="prepared slices")
        command.add_argument("--start", type=Path, required=True, help="whose weights it starts by")
    chosen = options.parse_args()
    {
        "average": average,
        "lessons": lessons,
        "distil": distil,
        "close-holes": close_holes,
        "keep-lesions": keep_lesions,
    }[chosen.command](chosen)


def average(chosen: argparse.Namespace) -> None:
    """Write the weighted mean of a generator's weights, beside the first checkpoint's others."""
    shares = [share.rsplit("=", 1) for share in chosen.of]
    checkpoints = [(loaded(Path(path)), float(share)) for path, share in shares]
    first, part = checkpoints[0][0], f"averages.{chosen.side}"
    mean = {
        f"{part}.{name}": sum(share * one.part(part)[name] for one, share in checkpoints)
        for name in first.part(part)
    }
    Checkpoint({**first.tensors, **mean}, first.about).save(chosen.output)


def lessons(chosen: argparse.Namespace) -> None:
    """Let three generators translate every slice, and write the CT that it should lead to."""
    teachers = [
        generator(loaded(path), "ct") for path in (chosen.turning, chosen.keeping, chosen.real)
    ]
    mri, ct, kinds = [], [], []
    for grey in PreparedSet.load(chosen.mri).slices:
        image, head = from_grey(grey[None])
        with torch.inference_mode():
            made = (to_grey(teach(image), head[:, 0])[0].numpy() for teach in teachers)
        lesson = Teachers(shown := grey.numpy(), *made).lesson()
        if lesson is None:
            continue
        bright = with_bright_fluid(shown, lesson.ct)
        for slice_, kind in ((shown, lesson.kind), (bright, "bright fluid")):
            if slice_ is not None:
                mri.append(torch.from_numpy(slice_))
                ct.append(torch.from_numpy(lesson.ct))
                kinds.append(kind)
    print(*(f"{kind}: {count}" for kind, count in Counter(kinds).items()), sep=", ", flush=True)
    weight = torch.tensor([WEIGHTS[kind] for kind in kinds], dtype=torch.float64)
    save_file({"mri": torch.stack(mri), "ct": torch.stack(ct), "weight": weight}, chosen.output)


def distil(chosen: argparse.Namespace) -> None:
    """Teach one generator what each slice should lead to, and the way back of a real CT."""
    lesson, slices = load_file(chosen.lessons), PreparedSet.load(chosen.ct).slices
    base, start = loaded(chosen.partner), loaded(chosen.start)
    student, partner = generator(start, "ct"), generator(base, "mri")
    # Sizes vary as they do in a volume, in which heads are small near the vertex.
    augment = Augmentation(replace(settings_of(start), size=0.35))
    drawn, draws = torch.Generator().manual_seed(0), np.random.default_rng(1)
    share = (lesson["weight"] / lesson["weight"].sum()).numpy()
    optimizer = adam(student)
    for step in range(chosen.steps):
        set_rate(optimizer, 3e-4, step, chosen.steps)
        places = torch.as_tensor(draws.choice(len(share), 2, replace=False, p=share))
        changes = draw(2, drawn)
        shown, wanted = (augment(lesson[name][places], changes) for name in ("mri", "ct"))
        real = augment(some(slices, 1, draws), draw(1, drawn))
        made, back = translated(student, shown, generated(partner, real, drawn), real)
        errors = {
            "lessons": F.l1_loss(made, in_head(wanted.image, shown.head)),
            "back": F.l1_loss(back, real.image),
        }
        learn(optimizer, errors["lessons"] + 0.5 * errors["back"])
        tell(step, errors)
        if due(step, chosen.steps):
            save(base, chosen.output, {"averages.ct": student})


def close_holes(chosen: argparse.Namespace) -> None:
    """Teach a CT-to-MRI generator to make what it makes, without holes that no CT shows."""

    def lesson(ct: Pictures, made: torch.Tensor, draws: np.random.Generator) -> Mended:
        return Mended(ct.image, *without_holes(ct.image, made))

    mend(chosen, lesson, rate=1.5e-4, seed=3, named="holes")


def keep_lesions(chosen: argparse.Namespace) -> None:
    """Teach a CT-to-MRI generator to show lesions as another does, and else make what it makes."""
    like = generator(loaded(chosen.like), "mri")

    def lesson(ct: Pictures, made: torch.Tensor, draws: np.random.Generator) -> Mended:
        lesions = draw_lesions(ct.image, draws)
        with_lesions = in_head((ct.image + lesions.contrast).clamp(-1, 1), ct.head)
        change = like(with_lesions) - like(ct.image)
        return Mended(
            with_lesions, in_head(laid_over(made, change, lesions), ct.head), lesions.near
        )

    mend(chosen, lesson, rate=3e-4, seed=4, named="lesions")


@dataclass(frozen=True)
class Mended:
    """CT to show, the MRI to make of it, and where that matters most: (B, 1, rows, columns)."""

    shown: torch.Tensor
    wanted: torch.Tensor
    places: torch.Tensor


def mend(
    chosen: argparse.Namespace,
    lesson: Callable[[Pictures, torch.Tensor, np.random.Generator], Mended],
    *,
    rate: float,
    seed: int,
    named: str,
) -> None:
    """Teach a CT-to-MRI generator what a lesson makes of the MRI that it made at the start."""
    slices, start = PreparedSet.load(chosen.ct).slices, loaded(chosen.start)
    teacher, student = generator(start, "mri"), generator(start, "mri")
    augment, drawn = Augmentation(settings_of(start)), torch.Generator().manual_seed(seed)
    optimizer, draws = adam(student), np.random.default_rng(seed)
    for step in range(chosen.steps):
        set_rate(optimizer, rate, step, chosen.steps)
        ct = augment(some(slices, 2, draws), draw(2, drawn))
        with torch.no_grad():
            task = lesson(ct, in_head(teacher(ct.image), ct.head), draws)
        error = (in_head(student(task.shown), ct.head) - task.wanted).abs()
        learn(optimizer, ((1 + 9 * task.places) * error).mean())
        there = (error * task.places).sum() / task.places.sum().clamp(min=1)
        tell(step, {"all": error.mean(), named: there})
        if due(step, chosen.steps):
            save(start, chosen.output, {"averages.mri": student})


def some(slices: torch.Tensor, count: int, draws: np.random.Generator) -> torch.Tensor:
    """Draw so many slices."""
    return slices[torch.as_tensor(draws.choice(len(slices), count, replace=False))]


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


def loaded(path: Path) -> Checkpoint:
    """Load a checkpoint, or a bundle as what its training would have saved last."""
    if path.is_file():
        return Checkpoint.load(path)
    training = facts_of(path).training
    models = Models(Settings.from_dict(training["settings"]), torch.device("cpu"))
    start_from(models, path)
    recipes = {each.stem: each.read_text() for each in (path / "configs/recipes").glob("*.yaml")}
    about = {**training, "step": training["steps"], "recipes": recipes}
    return Checkpoint(network_state(models), about)


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


def set_rate(optimizer: torch.optim.Adam, rate: float, step: int, steps: int) -> None:
    """Set the learning rate: it rises over 20 steps and falls to 0 along half a cosine."""
    fall = (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1, (step + 1) / 20) * fall


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


def due(step: int, steps: int) -> bool:
    """Say whether what is learnt is to be written: every 100 steps, and at the end."""
    return (step + 1) % 100 == 0 or step + 1 == steps


def save(base: Checkpoint, path: Path, networks: dict[str, nn.Module]) -> None:
    """Write a checkpoint with some of its networks replaced."""
    tensors = dict(base.tensors)
    for part, network in networks.items():
        tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
    Checkpoint(tensors, base.about).save(path)


if __name__ == "__main__":
    main()
