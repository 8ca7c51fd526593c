"""Finish one generator adversarially, as 0.9.0 was: near what pairs taught, on one CPU core.

What `medtranslate train` has no setting for: discriminators that are taught on results lying still
before the generator moves, soft tissue of a CT that is held to that of the weights before, and
pairs of one direction each. Unlike there, a real MRI that is to become a CT is given as of unknown
contrast; 0.9.0 knew those of ``contrast-classes.csv``. Files of slices are those of
``medtranslate data prepare``; pairs are a safetensors file with ``ct``, ``mri`` (uint8 slices) and
``code`` (contrast, from 1)::

    medtranslate data labels LABELS -o labels.npz
    medtranslate data prepare DATA/trainA -m ct --include DATA/fit-A.txt -o ct.safetensors
    medtranslate data prepare DATA/trainB -m mri --include DATA/fit-B.txt -o mri.safetensors
    python adversarial_finish.py ct mri_to_ct.safetensors finished.safetensors \
        --ct ct.safetensors --mri mri.safetensors --labels labels.npz --pairs pairs.safetensors
    python adversarial_finish.py ct mri_to_ct.safetensors shipped.safetensors \
        --mix finished.safetensors
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from medtranslate.label_synthesis import LabelMaps
from medtranslate.modality import CONTRASTS
from medtranslate.networks import PatchGAN, build_generator, draw_weights
from medtranslate.training.augmentation import Augmentation, draw
from medtranslate.training.objective import (
    clipped,
    gradient_difference,
    in_head,
    least_squares,
    through_window,
    weighted_l1,
)
from medtranslate.training.prepared import PreparedSet, from_gray
from medtranslate.training.rendered import RenderedSource
from medtranslate.training.settings import Settings
from medtranslate.transforms.grain import SPREAD, ct_grain

HELD_OUT = 2  # label maps, the last ones
POOL = 150
GRAIN = 4 / 60  # of the window's half
L1, ANCHOR, SOFT = 40.0, 30.0, 14.0  # weights beside the adversarial term
BRIGHTER = 0.25  # of the window's half: what may become brighter for little
RATE, DISCRIMINATOR_RATE = 1e-4, 4e-4
SHARE = 0.6  # of the finished weights in the shipped ones

Slices = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # images, heads, codes


@dataclass
class Finish:
    """A generator, its discriminator, and where both learn from."""

    to: str
    weights: Path
    data: argparse.Namespace
    pool: list[Slices] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = Settings(
            network="compact", network_arguments={"blocks": 9}, contrasts=CONTRASTS,
            contrast_generators="both", ct_range="full", scaling=0.15, rotation_degrees=6.0,
            fluid_weight=9.0 if self.to == "ct" else 2.0, rendered_ct_grain=4.0,
        )  # fmt: skip
        self.share = self.settings.window_share(self.to)
        self.generator, self.average, self.before = (self._network() for _ in range(3))
        judge = PatchGAN(width=48, contrasts=len(CONTRASTS) if self.to == "mri" else 0)
        self.judge = draw_weights(judge)
        self.draws = torch.Generator().manual_seed(0)
        self.augment = Augmentation(self.settings)
        maps = LabelMaps.read(self.data.labels)
        fitted = LabelMaps(maps.maps[:-HELD_OUT], maps.table)
        self.rendered = RenderedSource(fitted, self.settings, torch.device("cpu"))
        self.real = {m: PreparedSet.load(getattr(self.data, m)).slices for m in ("ct", "mri")}
        self.pairs = load_file(self.data.pairs)
        optimizers = ((self.generator, RATE), (self.judge, DISCRIMINATOR_RATE))
        self.generator_steps, self.judge_steps = (
            torch.optim.Adam(network.parameters(), rate, betas=(0.5, 0.99), fused=True)
            for network, rate in optimizers
        )

    def run(self, minutes: float, warm: int = 900, judged: int = 2) -> None:
        """Fill the pool, teach the discriminator on it, then train for some minutes."""
        while len(self.pool) < POOL:
            with torch.no_grad():
                images, heads, codes = self.unpaired()
                self.keep(self.made(self.generator, images, heads, codes), heads, codes)
        for _ in range(warm):
            self.teach_judge()
        start, step = time.monotonic(), 0
        while (gone := (time.monotonic() - start) / 60 / minutes) < 1:
            rate = min(1.0, (step + 1) / 30, max(0.02, 2 * (1 - gone)))
            for group in self.generator_steps.param_groups:
                group["lr"] = RATE * rate
            self.step(step)
            for _ in range(judged):
                self.teach_judge()
            step += 1
        print(f"{step} steps")

    def step(self, number: int) -> None:
        """One step: a real scan for the discriminator, and a pair, rendered or real in turn."""
        images, heads, codes = self.unpaired()
        made = self.made(self.generator, images, heads, codes)
        self.judge.requires_grad_(False)
        loss = least_squares(self.score(self.shown(made, heads), codes), 1.0)
        with torch.no_grad():
            before = self.made(self.before, images, heads, codes)
        loss = loss + ANCHOR * F.l1_loss(F.avg_pool2d(made, 4), F.avg_pool2d(before, 4))
        if self.to == "ct":
            loss = loss + SOFT * self.soft_tissue(made, before)
        loss = loss + L1 * (self.of_rendered(number) if number % 3 else self.of_real())
        self.generator_steps.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_steps.step()
        self.judge.requires_grad_(True)
        self.keep(made.detach(), heads, codes)
        with torch.no_grad():
            for kept, now in zip(
                self.average.parameters(), self.generator.parameters(), strict=True
            ):
                kept.lerp_(now, 0.01)

    def soft_tissue(self, made: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Return how far soft tissue moved in means of 4x4 pixels, and became brighter."""
        now, then = (through_window(each, self.share) for each in (made, before))
        soft = (F.avg_pool2d((then.abs() < 0.8).float(), 9, 1, 4) > 0.85).float()
        cover = F.avg_pool2d(soft, 4)
        moved = (F.avg_pool2d((now - then) * soft, 4) / cover.clamp(min=0.2)).abs()
        inside = cover > 0.5
        brighter = ((now - then - BRIGHTER).clamp(min=0) * soft).sum() / soft.sum().clamp(min=1)
        return (moved * inside).sum() / inside.sum().clamp(min=1) + 4 * brighter

    def of_rendered(self, number: int) -> torch.Tensor:
        """Return the distance on a rendered pair, as `training.objective` has it."""
        pairs = self.rendered.pairs(number, 1)
        assert pairs.mri_follows is not None and pairs.source_ct is not None
        source = pairs.mri if self.to == "ct" else pairs.source_ct
        whole = self.made(self.generator, source, pairs.head, pairs.contrast)
        fake = in_head(through_window(whole, self.share), pairs.head)
        if self.to == "mri":
            if not bool(pairs.mri_follows.all()):
                return 0 * fake.sum()
            return weighted_l1(fake, pairs.mri, pairs.weight) + 0.5 * gradient_difference(
                fake, pairs.mri
            )
        assert pairs.weight is not None and pairs.whole_ct is not None
        weight = pairs.weight * torch.where(pairs.ct > 0.9, 2.0, 1.0)  # bone
        close = weighted_l1(fake, pairs.ct, weight) + 0.5 * gradient_difference(fake, pairs.ct)
        return close + 0.5 * weighted_l1(whole, pairs.whole_ct, weight)

    def of_real(self) -> torch.Tensor:
        """Return the distance on a pair of which this direction's target is the real side."""
        place = self.places(len(self.pairs["code"]))
        (ct, head), (mri, _) = (from_gray(self.pairs[name][place]) for name in ("ct", "mri"))
        both = self.augment.change(torch.cat([ct, mri], 1), head, draw(1, self.draws))
        ct, mri, head = both.image[:, :1], both.image[:, 1:], both.head
        if self.to == "mri":
            ct = in_head((ct + GRAIN * ct_grain(ct, self.draws)).clamp(-1, 1), head)
        source, truth = (mri, ct) if self.to == "ct" else (ct, mri)
        made = self.made(self.generator, source, head, self.pairs["code"][place])
        fake = in_head(through_window(made, self.share), head)
        return F.l1_loss(fake, truth) + 0.5 * gradient_difference(fake, truth)

    def teach_judge(self) -> None:
        """One step of the discriminator: two real images, two results of the pool."""
        chosen = [self.pool[place] for place in self.places(len(self.pool), 2)]
        made, heads, codes = (torch.cat(each) for each in zip(*chosen, strict=True))
        real, real_codes = self.images(self.to, 2)
        both = torch.cat([real.image, self.shown(made, heads)])
        scores = self.score(both, torch.cat([real_codes, codes]))
        loss = 0.5 * (least_squares(scores[:2], 1.0) + least_squares(scores[2:], 0.0))
        self.judge_steps.zero_grad(set_to_none=True)
        loss.backward()
        self.judge_steps.step()

    def shown(self, made: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
        """Return results as the discriminator sees them: a CT with grain, then in the window."""
        if self.to == "mri":
            return made
        strength = 1 + SPREAD * (2 * torch.rand(len(made), 1, 1, 1, generator=self.draws) - 1)
        grain = GRAIN * strength * ct_grain(made, self.draws)
        return in_head(clipped(made / self.share + grain), heads)

    def unpaired(self) -> Slices:
        """Draw a real scan of the source; a CT is to become an MRI of a real one's contrast."""
        found, codes = self.images("mri" if self.to == "ct" else "ct", 1)
        if self.to == "mri":
            codes = self.pairs["code"][self.places(len(self.pairs["code"]))]
        return found.image, found.head, codes

    def images(self, modality: str, count: int):
        """Draw slices: of CT the prepared ones, of MRI those of the pairs, whose code is known."""
        if modality == "mri" and self.to == "mri":
            place = self.places(len(self.pairs["code"]), count)
            slices, codes = self.pairs["mri"][place], self.pairs["code"][place]
        else:
            place = self.places(len(self.real[modality]), count)
            slices, codes = self.real[modality][place], torch.zeros(count, dtype=torch.int64)
        return self.augment(slices, draw(count, self.draws)), codes

    def keep(self, made: torch.Tensor, heads: torch.Tensor, codes: torch.Tensor) -> None:
        """Put a result into the pool, in the place of another where that is full."""
        if len(self.pool) < POOL:
            self.pool.append((made, heads, codes))
        else:
            self.pool[int(self.places(POOL))] = (made, heads, codes)

    def made(
        self, network: torch.nn.Module, image: torch.Tensor, head: torch.Tensor, code: torch.Tensor
    ) -> torch.Tensor:
        """Translate images, in the generator's range, with background."""
        with torch.autocast("cpu", torch.bfloat16):
            made = network(image, code)
        return in_head(made.float(), head)

    def score(self, images: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Score images, MRI by their contrast."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.judge(images, codes) if self.to == "mri" else self.judge(images)

    def places(self, size: int, count: int = 1) -> torch.Tensor:
        """Draw places in a list of this size."""
        return torch.randint(size, (count,), generator=self.draws)

    def _network(self) -> torch.nn.Module:
        network = build_generator(self.settings.generator(self.to))
        network.load_state_dict({k: w.float() for k, w in load_file(self.weights).items()})
        return network


def mixed(before: Path, finished: Path) -> dict[str, torch.Tensor]:
    """Return weights that lie `SHARE` of the way from one file's to another's."""
    first, second = load_file(before), load_file(finished)
    return {name: first[name].float().lerp(second[name].float(), SHARE) for name in first}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("to", choices=("ct", "mri"))
    options.add_argument("weights", type=Path)
    options.add_argument("output", type=Path)
    for name in ("ct", "mri", "labels", "pairs", "mix"):
        options.add_argument(f"--{name}", type=Path)
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--warm", type=int, default=900)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    if chosen.mix:
        save_file(mixed(chosen.weights, chosen.mix), chosen.output)
        return
    finish = Finish(chosen.to, chosen.weights, chosen)
    finish.run(chosen.minutes, chosen.warm)
    save_file(dict(finish.average.state_dict()), chosen.output)


if __name__ == "__main__":
    main()
