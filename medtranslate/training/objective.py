"""The CycleGAN step: what each network is asked for, with the paper's equations and their numbers.

Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks".
``G["mri"]`` makes an MRI of a CT (the paper's G: X to Y), ``G["ct"]`` a CT of an MRI (F: Y to X);
``D["mri"]`` and ``D["ct"]`` judge what the generator of the same name makes.

Added to the paper: outside the head of the source everything is background, for the discriminator
and on the way back, as it is in a conversion; and, by setting, noise laid over a fake before the
way back, so that no source can hide in patterns finer than the noise; an MRI's way back weighed
less; and a fake held to what the run's first generators make of the same source.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from medtranslate.training.augmentation import Pictures
from medtranslate.training.settings import WHICH, Settings

REAL, FAKE = 1.0, 0.0
COARSE = 4
"""Rows and columns of the blocks over which what is held is averaged."""

Losses = dict[str, torch.Tensor]


def least_squares(scores: torch.Tensor, target: float) -> torch.Tensor:
    """Equation 1 as the paper trains it (section 4): squared distance to `REAL` or `FAKE`."""
    return (scores - target).square().mean()


def log_likelihood(scores: torch.Tensor, target: float) -> torch.Tensor:
    """Equation 1 as the paper writes it: -log D for `REAL`, -log(1 - D) for `FAKE`.

    The generator maximises log D(G(x)) and does not minimise log(1 - D(G(x))), whose gradient
    vanishes where it is needed (Goodfellow et al. 2014, section 3).
    """
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


ADVERSARIAL: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "least-squares": least_squares,
    "log": log_likelihood,
}


class GeneratorObjective(nn.Module):
    """Both generators, and what equation 3 asks of them.

    Parameters
    ----------
    generators : torch.nn.ModuleDict
        ``"mri"`` and ``"ct"``: (B, 1, H, W) in [-1, 1] to the same.
    settings : Settings
        `adversarial`, `cycle` (lambda, 10), `cycle_of_mri`, `identity` (0.5 of
        lambda), `identity_of`, `hold`, `hiding_noise`.
    held : torch.nn.ModuleDict, optional
        The generators that the run started with, those that `settings` hold.
    """

    def __init__(
        self, generators: nn.ModuleDict, settings: Settings, held: nn.ModuleDict | None = None
    ) -> None:
        super().__init__()
        self.generators = generators
        self.settings = settings
        self.held = held or nn.ModuleDict()

    def forward(
        self, ct: Pictures, mri: Pictures, discriminators: nn.ModuleDict, noise: torch.Generator
    ) -> tuple[torch.Tensor, Losses, dict[str, torch.Tensor]]:
        """Return what to minimise, its terms, and the fakes (detached) by modality."""
        G, D, s = self.generators, discriminators, self.settings
        adversarial = ADVERSARIAL[s.adversarial]

        fake_mri, same_mri = self._translate("mri", ct, mri)
        fake_ct, same_ct = self._translate("ct", mri, ct)
        back_ct = in_head(G["ct"](self._noisy(fake_mri, ct.head, noise)), ct.head)
        back_mri = in_head(G["mri"](self._noisy(fake_ct, mri.head, noise)), mri.head)

        terms = {
            # Equation 1: L_GAN(G, D_Y) and L_GAN(F, D_X), the generators' side.
            "adversarial_mri": adversarial(D["mri"](fake_mri), REAL),
            "adversarial_ct": adversarial(D["ct"](fake_ct), REAL),
            # Equation 2: L_cyc = |F(G(x)) - x|_1 + |G(F(y)) - y|_1.
            "cycle_ct": F.l1_loss(back_ct, ct.image),
            "cycle_mri": F.l1_loss(back_mri, mri.image),
        }
        # Equation 3: L = L_GAN(G) + L_GAN(F) + lambda L_cyc.
        total = terms["adversarial_mri"] + terms["adversarial_ct"]
        cycles = terms["cycle_ct"] + s.cycle_of_mri * terms["cycle_mri"]
        total = total + s.cycle * cycles
        # Section 5.2: L_identity = |G(y) - y|_1 + |F(x) - x|_1, weighted by 0.5 lambda.
        for name, same, own in (("mri", same_mri, mri.image), ("ct", same_ct, ct.image)):
            if same is not None:
                terms[f"identity_{name}"] = F.l1_loss(same, own)
                total = total + s.identity * s.cycle * terms[f"identity_{name}"]
        for name, fake, source in (("mri", fake_mri, ct), ("ct", fake_ct, mri)):
            if name in self.held:
                terms[f"hold_{name}"] = self._distance(name, fake, source)
                total = total + s.hold * terms[f"hold_{name}"]
        return total, _detached(terms), _detached({"mri": fake_mri, "ct": fake_ct})

    def _translate(
        self, to: str, source: Pictures, own: Pictures
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the fake, and what an own picture becomes where identity is asked of it."""
        generate, s = self.generators[to], self.settings
        if not s.identity or to not in WHICH[s.identity_of]:
            return in_head(generate(source.image), source.head), None
        # One call for both: every picture is normalised by itself, so they do not mix.
        made = generate(torch.cat([source.image, own.image]))
        made = in_head(made, torch.cat([source.head, own.head]))
        return made[: len(source)], made[len(source) :]

    def _distance(self, name: str, fake: torch.Tensor, source: Pictures) -> torch.Tensor:
        """Return how far a fake is from what the first generator makes, seen coarsely."""
        with torch.no_grad():
            first = in_head(self.held[name](source.image), source.head)
        return F.l1_loss(F.avg_pool2d(fake, COARSE), F.avg_pool2d(first, COARSE))

    def _noisy(
        self, fake: torch.Tensor, head: torch.Tensor, noise: torch.Generator
    ) -> torch.Tensor:
        if not self.settings.hiding_noise:
            return fake
        drawn = torch.randn(fake.shape, generator=noise, device=fake.device)
        return fake + self.settings.hiding_noise * drawn * head


class DiscriminatorObjective(nn.Module):
    """Both discriminators, and what equation 1 asks of them.

    Parameters
    ----------
    discriminators : torch.nn.ModuleDict
        ``"mri"`` and ``"ct"``: (B, 1, H, W) to scores (B, 1, h, w).
    settings : Settings
        `adversarial`.
    """

    def __init__(self, discriminators: nn.ModuleDict, settings: Settings) -> None:
        super().__init__()
        self.discriminators = discriminators
        self.adversarial = ADVERSARIAL[settings.adversarial]

    def forward(
        self, real: dict[str, torch.Tensor], fake: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, Losses]:
        """Return what to minimise and its terms; `fake` comes from the image pool."""
        terms = {}
        for name in ("mri", "ct"):
            # One call for both: the discriminator normalises every picture by itself.
            scores = self.discriminators[name](torch.cat([real[name], fake[name]]))
            on_real, on_fake = scores.split([len(real[name]), len(fake[name])])
            # Equation 1, halved, which slows the discriminator down (appendix 7.1).
            terms[f"discriminator_{name}"] = 0.5 * (
                self.adversarial(on_real, REAL) + self.adversarial(on_fake, FAKE)
            )
        return terms["discriminator_mri"] + terms["discriminator_ct"], _detached(terms)


def in_head(image: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Return the image with background, -1, outside the head; no gradient comes from there."""
    return torch.where(head, image, -1.0)


def _detached(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}
