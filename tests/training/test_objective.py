"""The step's equations, held to MONAI's losses and to figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from torch import nn
from training.phantoms import TINY
from training.scaled import Scaled

from medtranslate.training.augmentation import Images
from medtranslate.training.objective import (
    FAKE,
    REAL,
    DiscriminatorObjective,
    GeneratorObjective,
    least_squares,
    log_likelihood,
)
from medtranslate.training.randomness import generator


def images(value: float) -> Images:
    """Four pixels of which three are head."""
    head = torch.tensor([True, True, True, False]).reshape(1, 1, 2, 2)
    return Images(torch.where(head, value, -1.0), head)


@pytest.mark.parametrize(
    ("ours", "name"), [(least_squares, "least_squares"), (log_likelihood, "bce")]
)
@pytest.mark.parametrize("target", [REAL, FAKE])
def test_adversarial_losses_are_monais(ours, name: str, target: float) -> None:
    scores = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    monai = PatchAdversarialLoss(criterion=name, no_activation_leastsq=True)

    expected = monai(scores, target_is_real=target == REAL, for_discriminator=True)

    torch.testing.assert_close(ours(scores, target), expected)


def test_equation_3_by_hand() -> None:
    """G doubles, F halves its sign: every term has a value that one can work out."""
    settings = replace(TINY, cycle_weight=10.0, identity_share=0.5)
    generators = nn.ModuleDict({"mri": Scaled(2.0), "ct": Scaled(-0.5)})
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    objective = GeneratorObjective(generators, settings)

    total, terms, fakes = objective(images(0.2), images(0.4), judges, generator(0, "noise"))

    # Fakes in the head: 0.4 and -0.2; outside -1, whose distance to REAL is 2.
    torch.testing.assert_close(fakes["mri"], images(0.4).image)
    torch.testing.assert_close(fakes["ct"], images(-0.2).image)
    expected = {
        "adversarial_mri": (3 * 0.6**2 + 4) / 4,
        "adversarial_ct": (3 * 1.2**2 + 4) / 4,
        "cycle_ct": 3 / 4 * abs(0.4 * -0.5 - 0.2),
        "cycle_mri": 3 / 4 * abs(-0.2 * 2 - 0.4),
        "identity_mri": 3 / 4 * abs(0.8 - 0.4),
        "identity_ct": 3 / 4 * abs(-0.1 - 0.2),
    }
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected)
    adversarial = expected["adversarial_mri"] + expected["adversarial_ct"]
    cycle = expected["cycle_ct"] + expected["cycle_mri"]
    identity = expected["identity_mri"] + expected["identity_ct"]
    assert total.item() == pytest.approx(adversarial + 10 * cycle + 5 * identity)


def test_without_identity_there_is_no_such_term() -> None:
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    objective = GeneratorObjective(generators, replace(TINY, identity_share=0.0))

    _, terms, _ = objective(images(0.2), images(0.4), judges, generator(0, "noise"))

    assert set(terms) == {"adversarial_mri", "adversarial_ct", "cycle_ct", "cycle_mri"}


def test_an_mris_reconstruction_can_weigh_less_than_a_cts() -> None:
    generators = nn.ModuleDict({"mri": Scaled(2.0), "ct": Scaled(-0.5)})
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    given = (images(0.2), images(0.4), judges, generator(0, "noise"))
    settings = replace(TINY, cycle_weight=10.0, identity_share=0.0)
    whole, terms, _ = GeneratorObjective(generators, settings)(*given)

    less, same, _ = GeneratorObjective(generators, replace(settings, mri_cycle_share=0.3))(*given)

    assert same == terms
    assert whole.item() - less.item() == pytest.approx(10 * 0.7 * 3 / 4 * abs(-0.2 * 2 - 0.4))


def images_of(values: list[float]) -> Images:
    """A row of blocks of 4x4 pixels, each with its corners darker, and one of background."""
    texture = torch.tensor([-0.05, 0.05, 0.05, -0.05])
    block = (texture[:, None] * texture[None] * 20).tile(1, len(values))
    gray = torch.tensor(values).repeat_interleave(4).expand(4, -1) + block
    image = torch.cat([gray, torch.full((4, 4), -1.0)], 1)[None, None]
    return Images(image, image > -1)


class Mirrored(Scaled):
    """A generator that turns each block's texture round, and scales what is left."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        coarse = F.avg_pool2d(image, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return self.weight * (2 * coarse - image)


def test_a_fake_is_held_to_the_first_generators_seen_coarsely() -> None:
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Mirrored(0.5)})
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    given = (images_of([0.1]), images_of([0.2, -0.4]), judges, generator(0, "noise"))
    settings = replace(TINY, identity_share=0.0, anchor_weight=7.0, anchored_generators="ct")
    free, _, _ = GeneratorObjective(generators, settings)(*given)

    for weight, apart in ((0.5, 0.0), (1.5, 0.2)):  # texture and background are free; gray is not
        anchors = nn.ModuleDict({"ct": Scaled(weight)}).requires_grad_(False)
        total, terms, _ = GeneratorObjective(generators, settings, anchors)(*given)
        assert float(terms["anchor_ct"]) == pytest.approx(apart, abs=1e-6)
        assert total.item() == pytest.approx(free.item() + 7 * apart)
        assert "anchor_mri" not in terms


@pytest.mark.parametrize("name", ["mri", "ct"])
def test_identity_can_be_asked_of_one_generator_alone(name: str) -> None:
    generators = nn.ModuleDict({"mri": Scaled(2.0), "ct": Scaled(-0.5)})
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    given = (images(0.2), images(0.4), judges, generator(0, "noise"))
    without, _, _ = GeneratorObjective(generators, replace(TINY, identity_share=0.0))(*given)

    settings = replace(TINY, cycle_weight=10.0, identity_share=0.2, identity_generators=name)
    total, terms, _ = GeneratorObjective(generators, settings)(*given)

    by_hand = {"mri": 3 / 4 * abs(0.8 - 0.4), "ct": 3 / 4 * abs(-0.1 - 0.2)}[name]
    assert {n for n in terms if n.startswith("identity")} == {f"identity_{name}"}
    assert float(terms[f"identity_{name}"]) == pytest.approx(by_hand)
    assert total.item() == pytest.approx(without.item() + 10 * 0.2 * by_hand)


def test_noise_against_hiding_is_laid_over_the_head_alone_and_not_over_what_is_judged() -> None:
    settings = replace(TINY, identity_share=0.0, intermediate_noise=0.1)
    seen = []
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    generators["ct"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    ct, mri = images(0.2), images(0.4)

    _, _, fakes = GeneratorObjective(generators, settings)(ct, mri, judges, generator(0, "noise"))

    torch.testing.assert_close(fakes["mri"], ct.image)
    second_input = seen[1] - ct.image
    assert bool((second_input[~ct.head] == 0).all())
    assert bool((second_input[ct.head] != 0).all())


def test_grain_is_laid_over_a_ct_that_is_judged_and_over_nothing_else() -> None:
    settings = replace(TINY, identity_share=0.0, judged_ct_grain=6.0, downsampling=1)
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    seen: dict[str, torch.Tensor] = {}
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    for name, judge in judges.items():
        judge.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    wide = torch.ones(8, 1, 128, 128, dtype=torch.bool)
    wide[..., :8] = False
    mri = Images(torch.where(wide, 0.4, -1.0), wide)
    ct = Images(torch.where(wide, 0.99, -1.0), wide)

    _, terms, fakes = GeneratorObjective(generators, settings)(
        ct, mri, judges, generator(0, "noise")
    )

    grain = (seen["ct"].detach() - mri.image)[..., 8:]
    assert float(grain.std()) == pytest.approx(0.1, rel=0.1)  # 6 of the 60 HU that are 1
    strengths = grain.flatten(1).std(1)
    assert strengths.min() > 0.07 and strengths.max() < 0.13
    assert strengths.std() > 0.003
    assert torch.equal(seen["mri"], ct.image)
    assert torch.equal(fakes["ct"], seen["ct"])  # as the discriminator is to learn from
    assert bool((fakes["ct"][..., :8] == -1).all())
    assert float(terms["cycle_mri"]) == 0  # a reconstruction is made of the CT without it


def test_full_white_has_no_grain_and_may_become_gray_again() -> None:
    settings = replace(
        TINY, identity_share=0.0, cycle_weight=0.0, judged_ct_grain=6.0, downsampling=1
    )
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    white = images(1.0)
    image = white.image.requires_grad_()

    objective = GeneratorObjective(generators, settings)
    judged = objective._with_grain(image, white.head, generator(0, "noise"))
    judged[white.head].sum().backward()

    assert torch.equal(judged, white.image)  # bone is far above the window, and no grain shows
    assert bool((image.grad[white.head] == 1).all())


def test_grain_is_clipped_to_the_window_and_keeps_the_gradient() -> None:
    settings = replace(
        TINY, identity_share=0.0, cycle_weight=0.0, judged_ct_grain=30.0, downsampling=1
    )
    generators = nn.ModuleDict({"mri": Scaled(1.0), "ct": Scaled(1.0)})
    image = torch.full((1, 1, 64, 64), 0.9, requires_grad=True)

    head = torch.ones_like(image, dtype=torch.bool)
    judged = GeneratorObjective(generators, settings)._with_grain(
        image, head, generator(0, "noise")
    )
    judged.sum().backward()

    assert bool((judged == 1).any()) and bool((judged < 0.9).any()) and bool((judged <= 1).all())
    assert bool((image.grad == 1).all())


def test_the_discriminators_loss_is_halved_and_sees_real_and_fake_apart() -> None:
    judges = nn.ModuleDict({"mri": nn.Identity(), "ct": nn.Identity()})
    real = {"mri": torch.full((2, 1, 2, 2), 0.5), "ct": torch.full((2, 1, 2, 2), 1.0)}
    fake = {"mri": torch.full((2, 1, 2, 2), 0.2), "ct": torch.full((2, 1, 2, 2), 0.0)}

    total, terms = DiscriminatorObjective(judges, TINY)(real, fake)

    assert float(terms["discriminator_mri"]) == pytest.approx(0.5 * (0.5**2 + 0.2**2))
    assert float(terms["discriminator_ct"]) == 0.0
    assert float(total) == pytest.approx(0.145)
