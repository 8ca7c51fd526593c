from __future__ import annotations

import pytest
import torch

from medtranslate.domain_check.anomalies import (
    CONTENT_ANOMALIES,
    FUNCTIONAL,
    GENUINE,
    IGNORED,
    ORIENTATION_ANOMALIES,
    OTHER_PLANE,
    VIEW_ANOMALIES,
    AnomalySynthesizer,
)


def synthesizer(modality: str = "CT", seed: int = 0) -> AnomalySynthesizer:
    return AnomalySynthesizer(modality, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_examples_are_slices_with_labels(halves: torch.Tensor, modality: str) -> None:
    own = halves.repeat(12, 1, 1, 1)
    examples = synthesizer(modality).examples(own, own)
    shade, cover = examples.slices.unbind(1)

    assert examples.slices.isfinite().all()
    assert shade.min() >= 0 and bool((shade <= cover + 1e-6).all())
    assert set(examples.orientations.tolist()) <= {IGNORED, *range(1 + len(ORIENTATION_ANOMALIES))}
    assert set(examples.contents.tolist()) <= {IGNORED, *range(1 + len(CONTENT_ANOMALIES))}
    no_head = examples.contents == 1 + list(CONTENT_ANOMALIES).index("no head")
    assert bool((examples.orientations[no_head] == IGNORED).all())


def test_views_are_of_axial_slices_or_of_the_other_planes(halves: torch.Tensor) -> None:
    axial = halves.repeat(6, 1, 1, 1)

    slices, labels = synthesizer().views(axial, torch.zeros_like(axial))

    other_plane = 1 + list(VIEW_ANOMALIES).index(OTHER_PLANE)
    assert set(labels.tolist()) == set(range(1 + len(VIEW_ANOMALIES)))
    assert torch.equal(slices.amax((1, 2, 3)) == 0, labels == other_plane)


def test_activity_lies_in_the_brain_alone_and_is_blurred(halves: torch.Tensor) -> None:
    upright = torch.zeros(len(halves), dtype=torch.int64)
    head, activity = (
        synthesizer("MR").synthesize(kind, halves, upright) for kind in (GENUINE, FUNCTIONAL)
    )

    def roughness(slices: torch.Tensor) -> torch.Tensor:
        shade = slices[:, :1]
        soft = torch.nn.functional.avg_pool2d(shade, 3, 1, 1)
        return (shade - soft).abs().mean((1, 2, 3)) / slices[:, 1].mean((1, 2))

    assert bool((activity[:, 1].mean((1, 2)) < head[:, 1].mean((1, 2))).all())
    assert float(roughness(activity).median()) < 0.5 * float(roughness(head).median())


def test_the_same_seed_makes_the_same_examples(halves: torch.Tensor) -> None:
    one, same = (synthesizer(seed=3).examples(halves, halves) for _ in range(2))
    other = synthesizer(seed=4).examples(halves, halves)

    assert torch.equal(one.slices, same.slices)
    assert not torch.equal(one.slices, other.slices)


def test_upside_down_lies_as_the_head_turned_over(halves: torch.Tensor) -> None:
    upright_labels = torch.zeros(len(halves), dtype=torch.int64)
    upright = synthesizer().synthesize(GENUINE, halves, upright_labels)
    turned = synthesizer().synthesize(GENUINE, halves, upright_labels + 1)

    # The same draws, half a turn apart; some lose another side, or have other noise.
    difference = (turned - upright.flip((2, 3))).abs().mean((1, 2, 3))
    assert int((difference < 1e-4).sum()) >= len(halves) // 4
    assert float((turned - upright).abs().mean((1, 2, 3)).median()) > 1e-3


def test_a_part_of_a_head_is_smaller_than_all_of_it(halves: torch.Tensor) -> None:
    upright_labels = torch.zeros(len(halves), dtype=torch.int64)
    whole, part = (
        synthesizer().synthesize(kind, halves, upright_labels)[:, 1]
        for kind in (GENUINE, "cut off")
    )

    assert float(part.mean()) < 0.75 * float(whole.mean())


def test_a_head_in_mr_may_be_broader_by_a_seventh_and_one_in_ct_is_as_it_is() -> None:
    block = torch.zeros(40, 2, 128, 128)
    block[:, :, 34:94, 44:84] = 1.0  # 60 rows, 40 columns, in the middle

    rows, columns = (
        (synthesizer("MR").broadened(block)[:, 1] >= 0.5).any(axis).sum(1) for axis in (2, 1)
    )

    assert rows.tolist() == [60] * 40
    assert columns.min() >= 40 and 44 <= columns.max() <= 46
    torch.testing.assert_close(synthesizer("CT").broadened(block), block)
