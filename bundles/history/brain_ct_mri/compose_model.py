"""Compose version 0.4.0 of `brain_ct_mri` from training runs.

``average`` takes the weighted mean of one generator's weights over checkpoints that were trained
from one another (Wortsman et al. 2022, "Model soups").

The other commands concern MRI to CT. Of three earlier generators one inverts contrast, which is
right where fluid is bright in the MRI (T2); one keeps it, right where fluid is dark (T1, FLAIR);
and one looks like a real CT but is wrong about fluid. ``pseudo-labels`` translates every slice with
all three and composes the CT to learn (`ct_pseudo_labels.py`). ``distill`` trains one generator on
the pseudo-labels; it becomes right, but smooth. ``medtranslate train`` with an anchor then makes it
look real beside its partner. Finally ``fill-ventricles`` trains the partner to omit ventricles that
the CT does not show (`spurious_ventricles.py`). This gave version 0.4.0. ``keep-lesions`` was a
later trial: it trains the partner to show lesions as an earlier generator does (`mri_lesions.py`).

::

    cd bundles/history/brain_ct_mri
    python compose_model.py average mri.safetensors --side mri --of C2=0.25 --of C1=0.5 --of A=0.25
    python compose_model.py pseudo-labels labels.safetensors --mri MRI \
        --turning A --keeping B --real C2
    python compose_model.py distill smooth.safetensors --ct CT \
        --labels labels.safetensors --start B --partner mri.safetensors
    medtranslate train CT MRI -o RUN --init-from smooth.safetensors ...  # README.md has the rest
    python compose_model.py fill-ventricles shipped.safetensors --ct CT \
        --start RUN/checkpoints/last.safetensors
    python compose_model.py keep-lesions next.safetensors --ct CT \
        --start shipped.safetensors --like A

``CT`` and ``MRI`` are files of ``medtranslate data prepare``; A, B, C1 and C2 are checkpoints of
``medtranslate train`` or bundles with discriminators, such as an earlier version of the shipped
one. All commands but ``pseudo-labels`` write a checkpoint, every 100 steps. It takes everything
but the new weights from the first ``--of``, ``--partner`` or ``--start``; hence ``--of C2`` comes
first, because training continues with its discriminators.
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
from ct_pseudo_labels import Teachers, with_bright_fluid
from mri_lesions import add_change, draw_lesions
from safetensors.torch import load_file, save_file
from spurious_ventricles import fill_spurious_ventricles
from torch import nn

from medtranslate.bundle.save import facts_of
from medtranslate.training.augmentation import Augmentation, Images, draw
from medtranslate.training.checkpoints import Checkpoint, network_state, start_from
from medtranslate.training.models import Models, make_generator
from medtranslate.training.objective import in_head
from medtranslate.training.prepared import PreparedSet, from_gray, to_gray
from medtranslate.training.settings import Settings

WEIGHTS = {"brain": 2.0, "base": 1.0, "teacher": 1.0, "bright fluid": 1.0}
"""Relative frequency of each kind of pseudo-label in training."""


def main() -> None:
    """Run the command that was asked for."""
    options = argparse.ArgumentParser()
    commands = options.add_subparsers(dest="command", required=True)
    mean = commands.add_parser("average")
    mean.add_argument("--side", choices=("mri", "ct"), required=True, help="target modality")
    mean.add_argument("--of", action="append", required=True, metavar="CHECKPOINT=SHARE")
    labels = commands.add_parser("pseudo-labels")
    labels.add_argument("--turning", type=Path, required=True, help="teacher for bright fluid")
    labels.add_argument("--keeping", type=Path, required=True, help="teacher for dark fluid")
    labels.add_argument("--real", type=Path, required=True, help="teacher whose CT looks real")
    teach = commands.add_parser("distill")
    teach.add_argument("--partner", type=Path, required=True, help="CT-to-MRI generator")
    teach.add_argument("--steps", type=int, default=960)
    fill = commands.add_parser("fill-ventricles")
    fill.add_argument("--steps", type=int, default=240)
    keep = commands.add_parser("keep-lesions")
    keep.add_argument("--like", type=Path, required=True, help="reference for lesions")
    keep.add_argument("--steps", type=int, default=700)
    for command in (mean, labels, teach, fill, keep):
        command.add_argument("output", type=Path, help="the file to write")
    labels.add_argument("--mri", type=Path, required=True, help="prepared slices")
    teach.add_argument("--labels", type=Path, required=True, help="output of pseudo-labels")
    for command in (teach, fill, keep):
        command.add_argument("--ct", type=Path, required=True, help="prepared slices")
        command.add_argument("--start", type=Path, required=True, help="initial weights")
    chosen = options.parse_args()
    {
        "average": average,
        "pseudo-labels": pseudo_labels,
        "distill": distill,
        "fill-ventricles": fill_ventricles,
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


def pseudo_labels(chosen: argparse.Namespace) -> None:
    """Translate every slice with three generators and write the composed pseudo-labels."""
    teachers = [
        generator(loaded(path), "ct") for path in (chosen.turning, chosen.keeping, chosen.real)
    ]
    mri, ct, kinds = [], [], []
    for gray in PreparedSet.load(chosen.mri).slices:
        image, head = from_gray(gray[None])
        with torch.inference_mode():
            made = (to_gray(teach(image), head[:, 0])[0].numpy() for teach in teachers)
        label = Teachers(shown := gray.numpy(), *made).pseudo_label()
        if label is None:
            continue
        bright = with_bright_fluid(shown, label.ct)
        for slice_, kind in ((shown, label.kind), (bright, "bright fluid")):
            if slice_ is not None:
                mri.append(torch.from_numpy(slice_))
                ct.append(torch.from_numpy(label.ct))
                kinds.append(kind)
    print(*(f"{kind}: {count}" for kind, count in Counter(kinds).items()), sep=", ", flush=True)
    weight = torch.tensor([WEIGHTS[kind] for kind in kinds], dtype=torch.float64)
    save_file({"mri": torch.stack(mri), "ct": torch.stack(ct), "weight": weight}, chosen.output)


def distill(chosen: argparse.Namespace) -> None:
    """Train one generator on pseudo-labels and on the cycle reconstruction of real CT."""
    labels, slices = load_file(chosen.labels), PreparedSet.load(chosen.ct).slices
    base, start = loaded(chosen.partner), loaded(chosen.start)
    student, partner = generator(start, "ct"), generator(base, "mri")
    # Sizes vary as they do in a volume, in which heads are small near the vertex.
    augment = Augmentation(replace(settings_of(start), scaling=0.35))
    drawn, draws = torch.Generator().manual_seed(0), np.random.default_rng(1)
    share = (labels["weight"] / labels["weight"].sum()).numpy()
    optimizer = adam(student)
    for step in range(chosen.steps):
        set_rate(optimizer, 3e-4, step, chosen.steps)
        places = torch.as_tensor(draws.choice(len(share), 2, replace=False, p=share))
        changes = draw(2, drawn)
        shown, wanted = (augment(labels[name][places], changes) for name in ("mri", "ct"))
        real = augment(sample(slices, 1, draws), draw(1, drawn))
        made, back = translated(student, shown, generated(partner, real, drawn), real)
        errors = {
            "labels": F.l1_loss(made, in_head(wanted.image, shown.head)),
            "cycle": F.l1_loss(back, real.image),
        }
        learn(optimizer, errors["labels"] + 0.5 * errors["cycle"])
        log(step, errors)
        if due(step, chosen.steps):
            save(base, chosen.output, {"averages.ct": student})


def fill_ventricles(chosen: argparse.Namespace) -> None:
    """Train a CT-to-MRI generator to omit ventricles that the CT does not show."""

    def target(ct: Images, made: torch.Tensor, draws: np.random.Generator) -> Target:
        return Target(ct.image, *fill_spurious_ventricles(ct.image, made))

    train_mri(chosen, target, rate=1.5e-4, seed=3, named="ventricles")


def keep_lesions(chosen: argparse.Namespace) -> None:
    """Train a CT-to-MRI generator to show lesions as another does, and change nothing else."""
    like = generator(loaded(chosen.like), "mri")

    def target(ct: Images, made: torch.Tensor, draws: np.random.Generator) -> Target:
        lesions = draw_lesions(ct.image, draws)
        with_lesions = in_head((ct.image + lesions.contrast).clamp(-1, 1), ct.head)
        change = like(with_lesions) - like(ct.image)
        return Target(
            with_lesions, in_head(add_change(made, change, lesions), ct.head), lesions.near
        )

    train_mri(chosen, target, rate=3e-4, seed=4, named="lesions")


@dataclass(frozen=True)
class Target:
    """Input CT, target MRI and the places that weigh ten times: (B, 1, rows, columns) each."""

    shown: torch.Tensor
    wanted: torch.Tensor
    places: torch.Tensor


def train_mri(
    chosen: argparse.Namespace,
    target: Callable[[Images, torch.Tensor, np.random.Generator], Target],
    *,
    rate: float,
    seed: int,
    named: str,
) -> None:
    """Train a CT-to-MRI generator on targets derived from its own initial MRI."""
    slices, start = PreparedSet.load(chosen.ct).slices, loaded(chosen.start)
    teacher, student = generator(start, "mri"), generator(start, "mri")
    augment, drawn = Augmentation(settings_of(start)), torch.Generator().manual_seed(seed)
    optimizer, draws = adam(student), np.random.default_rng(seed)
    for step in range(chosen.steps):
        set_rate(optimizer, rate, step, chosen.steps)
        ct = augment(sample(slices, 2, draws), draw(2, drawn))
        with torch.no_grad():
            task = target(ct, in_head(teacher(ct.image), ct.head), draws)
        error = (in_head(student(task.shown), ct.head) - task.wanted).abs()
        learn(optimizer, ((1 + 9 * task.places) * error).mean())
        there = (error * task.places).sum() / task.places.sum().clamp(min=1)
        log(step, {"all": error.mean(), named: there})
        if due(step, chosen.steps):
            save(start, chosen.output, {"averages.mri": student})


def sample(slices: torch.Tensor, count: int, draws: np.random.Generator) -> torch.Tensor:
    """Draw `count` different slices."""
    return slices[torch.as_tensor(draws.choice(len(slices), count, replace=False))]


def generated(partner: nn.Module, real: Images, drawn: torch.Generator) -> torch.Tensor:
    """Return the MRI of a CT, with the noise that training adds against steganography."""
    with torch.no_grad():
        fake = in_head(partner(real.image), real.head)
    return fake + 0.04 * torch.randn(fake.shape, generator=drawn) * real.head


def translated(
    student: nn.Module, shown: Images, fake: torch.Tensor, real: Images
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the CT of real MRI, and of the MRI that was made of a CT."""
    heads = torch.cat([shown.head, real.head])
    made = in_head(student(torch.cat([shown.image, fake])), heads)
    return made[: len(shown)], made[len(shown) :]


def loaded(path: Path) -> Checkpoint:
    """Load a checkpoint, or a bundle as the last checkpoint of its training."""
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


def log(step: int, terms: dict[str, torch.Tensor]) -> None:
    """Print the terms of every 25th step."""
    if (step + 1) % 25 == 0:
        shown_terms = {name: round(value.item(), 4) for name, value in terms.items()}
        print(json.dumps({"step": step + 1, **shown_terms}), flush=True)


def due(step: int, steps: int) -> bool:
    """Tell whether to save: every 100 steps, and at the end."""
    return (step + 1) % 100 == 0 or step + 1 == steps


def save(base: Checkpoint, path: Path, networks: dict[str, nn.Module]) -> None:
    """Write a checkpoint with some of its networks replaced."""
    tensors = dict(base.tensors)
    for part, network in networks.items():
        tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
    Checkpoint(tensors, base.about).save(path)


if __name__ == "__main__":
    main()
