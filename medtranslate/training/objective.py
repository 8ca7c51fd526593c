"""The objectives of the CycleGAN step: the paper's equations with their numbers.

Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks".
``G["mri"]`` translates CT to MRI (the paper's G: X to Y), ``G["ct"]`` MRI to CT (F: Y to X);
``D["mri"]`` and ``D["ct"]`` score real images and the output of the generator of the same name.

Added to the paper: outside the head of the source everything is background, for the discriminator
and in the cycle reconstruction, as in a conversion; and, by setting: noise on the intermediate
image of a cycle, so that no source can hide in patterns finer than the noise; grain on a CT before
it is judged, so that it need not be made; a smaller weight of
the cycle that starts from an MRI; an anchor to the output of the run's initial generators; and,
where a run has pairs, supervised terms on these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from medtranslate.training.augmentation import Images
from medtranslate.training.pairs import Pairs
from medtranslate.training.settings import WHICH, Settings
from medtranslate.transforms.grain import SPREAD, ct_grain
from medtranslate.transforms.units import BRAIN_WINDOW

REAL, FAKE = 1.0, 0.0
COARSE = 4
"""Rows and columns of the blocks over which the anchor penalty averages."""

WHOLE = 0.5
"""Weight of the distance in all HU, beside that in the window."""

FULL = 0.98
"""Distance from the middle of [-1, 1] from which a CT counts as full white or black."""

Losses = dict[str, torch.Tensor]


def least_squares(scores: torch.Tensor, target: float) -> torch.Tensor:
    """Equation 1 as the paper trains it (section 4): squared distance to `REAL` or `FAKE`."""
    return (scores - target).square().mean()


def log_likelihood(scores: torch.Tensor, target: float) -> torch.Tensor:
    """Equation 1 as the paper writes it: -log D for `REAL`, -log(1 - D) for `FAKE`.

    The generator maximizes log D(G(x)) and does not minimize log(1 - D(G(x))), whose gradient
    vanishes where it is needed (Goodfellow et al. 2014, section 3).
    """
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


ADVERSARIAL: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "least-squares": least_squares,
    "log": log_likelihood,
}


class GeneratorObjective(nn.Module):
    """Both generators, and their side of equation 3.

    Parameters
    ----------
    generators : torch.nn.ModuleDict
        ``"mri"`` and ``"ct"``: (B, 1, H, W) in [-1, 1] to the same.
    settings : Settings
        `adversarial_loss`, `cycle_weight` (lambda, 10), `mri_cycle_share`, `identity_share` (0.5
        of lambda), `identity_generators`, `anchor_weight`, `intermediate_noise`,
        `adversarial_weight` (1), `judged_ct_grain`, `paired_weight`, `rendered_weight`,
        `gradient_share`.
    anchors : torch.nn.ModuleDict, optional
        The anchored generators, with the run's initial weights.
    """

    def __init__(
        self, generators: nn.ModuleDict, settings: Settings, anchors: nn.ModuleDict | None = None
    ) -> None:
        super().__init__()
        self.generators = generators
        self.settings = settings
        self.anchors = anchors or nn.ModuleDict()

    def forward(
        self,
        ct: Images,
        mri: Images,
        discriminators: nn.ModuleDict,
        noise: torch.Generator,
        pairs: Mapping[str, Pairs] | None = None,
    ) -> tuple[torch.Tensor, Losses, dict[str, torch.Tensor]]:
        """Return the loss, its terms, and the synthetic images as judged (detached) by modality.

        Parameters
        ----------
        ct, mri : Images
            Unpaired.
        discriminators : torch.nn.ModuleDict
        noise : torch.Generator
            Of the intermediate images' noise and of grain, on the device.
        pairs : mapping of str to Pairs, optional
            ``"paired"``: registered scans; ``"rendered"``: pairs rendered from label maps.
        """
        total = ct.image.new_zeros(())
        terms: Losses = {}
        fakes: dict[str, torch.Tensor] = {}
        if self.settings.unpaired:
            total, terms, fakes = self._unpaired(ct, mri, discriminators, noise)
        for name, each in (pairs or {}).items():
            supervised, more = self._supervised(name, each)
            total, terms = total + supervised, terms | more
        return total, _detached(terms), _detached(fakes)

    def _unpaired(
        self, ct: Images, mri: Images, discriminators: nn.ModuleDict, noise: torch.Generator
    ) -> tuple[torch.Tensor, Losses, dict[str, torch.Tensor]]:
        """Return the paper's loss, its terms, and the synthetic images."""
        D, s = discriminators, self.settings
        adversarial = ADVERSARIAL[s.adversarial_loss]

        code = mri.contrast
        fake_mri, same_mri = self._translate("mri", ct, mri)
        fake_ct, same_ct = self._translate("ct", mri, ct)
        judged_ct = self._with_grain(fake_ct, mri.head, noise)
        # Equation 1: L_GAN(G, D_Y) and L_GAN(F, D_X), the generators' side.
        terms = {
            "adversarial_mri": adversarial(coded(D["mri"], fake_mri, code), REAL),
            "adversarial_ct": adversarial(D["ct"](judged_ct), REAL),
        }
        total = s.adversarial_weight * (terms["adversarial_mri"] + terms["adversarial_ct"])
        if s.cycle_weight:
            noisy_mri = self._noisy(fake_mri, ct.head, noise)
            cycled_ct = self._made("ct", noisy_mri, self._code("ct", code), ct.head)
            noisy_ct = self._noisy(fake_ct, mri.head, noise)
            cycled_mri = self._made("mri", noisy_ct, code, mri.head)
            # Equation 2: L_cyc = |F(G(x)) - x|_1 + |G(F(y)) - y|_1.
            terms["cycle_ct"] = F.l1_loss(cycled_ct, ct.image)
            terms["cycle_mri"] = F.l1_loss(cycled_mri, mri.image)
            # Equation 3: L = L_GAN(G) + L_GAN(F) + lambda L_cyc.
            cycles = terms["cycle_ct"] + s.mri_cycle_share * terms["cycle_mri"]
            total = total + s.cycle_weight * cycles
        # Section 5.2: L_identity = |G(y) - y|_1 + |F(x) - x|_1, weighted by 0.5 lambda.
        for name, same, own in (("mri", same_mri, mri.image), ("ct", same_ct, ct.image)):
            if same is not None:
                terms[f"identity_{name}"] = F.l1_loss(same, own)
                total = total + s.identity_share * s.cycle_weight * terms[f"identity_{name}"]
        # Not in the paper: stay close to the initial generators' output at low resolution.
        for name, fake, source in (("mri", fake_mri, ct), ("ct", fake_ct, mri)):
            if name in self.anchors:
                terms[f"anchor_{name}"] = self._distance(name, fake, source, self._code(name, code))
                total = total + s.anchor_weight * terms[f"anchor_{name}"]
        return total, terms, {"mri": fake_mri, "ct": judged_ct}

    def _supervised(self, kind: str, pairs: Pairs) -> tuple[torch.Tensor, Losses]:
        """Return the supervised loss on pairs of a kind, which is not in the paper, and its terms.

        Terms have the kind and the side in their names: ``paired_mri``, ``paired_gradient_mri``;
        ``rendered_whole_ct`` is the distance in all HU.
        """
        s, total = self.settings, pairs.ct.new_zeros(())
        weight = {"paired": s.paired_weight, "rendered": s.rendered_weight}[kind]
        source_ct = pairs.ct if pairs.source_ct is None else pairs.source_ct
        terms: Losses = {}
        for name, source, truth in (("mri", source_ct, pairs.mri), ("ct", pairs.mri, pairs.ct)):
            if name not in WHICH[s.trained_generators]:
                continue
            code = self._code(name, pairs.contrast)
            whole = in_head(coded(self.generators[name], source, code), pairs.head)
            fake = in_head(through_window(whole, s.window_share(name)), pairs.head)
            if name == "mri" and pairs.mri_follows is not None:
                # What cannot be told from the source is left as it is made: no distance there.
                follows = pairs.mri_follows[:, None, None, None]
                truth = torch.where(follows, truth, fake.detach().to(truth.dtype))
            terms[f"{kind}_{name}"] = weighted_l1(fake, truth, pairs.weight)
            terms[f"{kind}_gradient_{name}"] = gradient_difference(fake, truth)
            both = terms[f"{kind}_{name}"] + s.gradient_share * terms[f"{kind}_gradient_{name}"]
            if name == "ct" and pairs.whole_ct is not None:
                # HU beyond the window come beside it: alone, they leave the edges of bone soft.
                terms[f"{kind}_whole_ct"] = weighted_l1(whole, pairs.whole_ct, pairs.weight)
                both = both + WHOLE * terms[f"{kind}_whole_ct"]
            total = total + weight * both
        return total, terms

    def _translate(
        self, to: str, source: Images, own: Images
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the synthetic image, and the identity term's output for the own image, if any."""
        s = self.settings
        # The code is that of the MRI, be it made or given.
        code = self._code(to, own.contrast if to == "mri" else source.contrast)
        if not s.identity_share or to not in WHICH[s.identity_generators]:
            return self._made(to, source.image, code, source.head), None
        # One call for both: instance normalization keeps images apart.
        # A CT that is to stay as it is has no contrast.
        both = None if code is None else torch.cat([code, code if to == "mri" else 0 * code])
        images = torch.cat([source.image, own.image])
        made = self._made(to, images, both, torch.cat([source.head, own.head]))
        return made[: len(source)], made[len(source) :]

    def _made(
        self,
        to: str,
        image: torch.Tensor,
        code: torch.Tensor | None,
        head: torch.Tensor,
        by: nn.ModuleDict | None = None,
    ) -> torch.Tensor:
        """Translate an image; background outside the head, a CT of all HU in its window."""
        share = self.settings.window_share(to)
        return translated((by or self.generators)[to], image, code, head, share)

    def _code(self, to: str, contrast: torch.Tensor | None) -> torch.Tensor | None:
        """Return the contrast code of the MRI where the generator takes one."""
        return contrast if to in self.settings.coded else None

    def _distance(
        self, name: str, fake: torch.Tensor, source: Images, code: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the L1 distance to the initial generator's output, both averaged over blocks."""
        with torch.no_grad():
            initial = self._made(name, source.image, code, source.head, self.anchors)
        return F.l1_loss(F.avg_pool2d(fake, COARSE), F.avg_pool2d(initial, COARSE))

    def _noisy(
        self, fake: torch.Tensor, head: torch.Tensor, noise: torch.Generator
    ) -> torch.Tensor:
        if not self.settings.intermediate_noise:
            return fake
        drawn = torch.randn(fake.shape, generator=noise, device=fake.device)
        return fake + self.settings.intermediate_noise * drawn * head

    def _with_grain(
        self, fake: torch.Tensor, head: torch.Tensor, draws: torch.Generator
    ) -> torch.Tensor:
        """Return a CT in the brain window as its discriminator sees it.

        What is full white or black has no grain, as in a real CT, whose bone is far above.
        """
        if not self.settings.judged_ct_grain:
            return fake
        low, high = BRAIN_WINDOW
        drawn = torch.rand(len(fake), 1, 1, 1, generator=draws, device=fake.device)
        strength = 1 + SPREAD * (2 * drawn - 1)
        deviation = self.settings.judged_ct_grain * 2 / (high - low)
        grain = deviation * strength * ct_grain(fake, draws)
        shown = torch.where(fake.detach().abs() < FULL, fake + grain, fake)
        return in_head(clipped(shown), head)


def weighted_l1(
    fake: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean absolute difference of images, each pixel as often as its weight says."""
    if weight is None:
        return F.l1_loss(fake, truth)
    return (weight * (fake - truth).abs()).mean()


def gradient_difference(fake: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return how much the edges of images (B, 1, H, W) differ in strength.

    Mathieu et al. 2016, equation 6 with exponent 1: the mean distance of absolute differences of
    neighbors, along rows and along columns.
    """
    rows, columns = (
        F.l1_loss(fake.diff(dim=dim).abs(), truth.diff(dim=dim).abs()) for dim in (2, 3)
    )
    return (rows + columns) / 2


class DiscriminatorObjective(nn.Module):
    """Both discriminators, and their side of equation 1.

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
        self.adversarial = ADVERSARIAL[settings.adversarial_loss]

    def forward(
        self,
        real: dict[str, torch.Tensor],
        fake: dict[str, torch.Tensor],
        codes: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Losses]:
        """Return the loss and its terms; `fake` comes from the image pool.

        `codes` are the contrasts of all MRI, the real ones first.
        """
        terms = {}
        for name in ("mri", "ct"):
            # One call for both: instance normalization keeps images apart.
            both = torch.cat([real[name], fake[name]])
            scores = coded(self.discriminators[name], both, codes if name == "mri" else None)
            on_real, on_fake = scores.split([len(real[name]), len(fake[name])])
            # Equation 1, halved, which slows the discriminator down (appendix 7.1).
            terms[f"discriminator_{name}"] = 0.5 * (
                self.adversarial(on_real, REAL) + self.adversarial(on_fake, FAKE)
            )
        return terms["discriminator_mri"] + terms["discriminator_ct"], _detached(terms)


def coded(network: nn.Module, image: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
    """Return what a network gives for an image and its contrast code, where it takes any."""
    given: torch.Tensor = network(image) if code is None else network(image, code)
    return given


def in_head(image: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Return the image with background, -1, outside the head; no gradient comes from there."""
    return torch.where(head, image, -1.0)


def translated(
    network: nn.Module,
    image: torch.Tensor,
    code: torch.Tensor | None,
    head: torch.Tensor,
    share: float,
) -> torch.Tensor:
    """Return an image as a network translates it, `through_window` and with background."""
    return in_head(through_window(coded(network, image, code), share), head)


def through_window(image: torch.Tensor, share: float) -> torch.Tensor:
    """Return an image of which the window takes a share of [-1, 1] as the window shows it.

    What lies beyond becomes the window's end, as in a real CT, and keeps its gradient: it may have
    to come back.
    """
    return image if share == 1 else clipped(image / share)


def clipped(image: torch.Tensor) -> torch.Tensor:
    """Return an image within [-1, 1] whose gradient is that of the image as it is."""
    return image + (image.clamp(-1, 1) - image).detach()


def _detached(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}
