"""Errors inside the head: hand-computed values, and MONAI's own where the head is everything."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import MultiScaleSSIMMetric, SSIMMetric

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.paired import (
    PairedErrors,
    bootstrap,
    check_pairs,
    mean_by_case,
    paired_errors,
    summarize,
)
from medtranslate.evaluation.slices import GRAY, SliceSet, ValueRange

WINDOW = ValueRange("HU", -20.0, 100.0)
EVERYWHERE = torch.ones(256, 256, dtype=torch.bool)


def slices(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    truth = torch.rand(256, 256, generator=rng) * 255
    return (truth + 20 * torch.randn(256, 256, generator=rng)).clamp(0, 255), truth


def test_mae_and_psnr_by_hand() -> None:
    truth = torch.full((256, 256), 40.0)
    translated = truth.clone()
    head = torch.zeros(256, 256, dtype=torch.bool)
    head[100:150, 100:150] = True
    translated[head] += 6
    translated[~head] -= 50  # outside the head nothing counts
    found = paired_errors(translated, truth, head, WINDOW)
    assert found.mae == pytest.approx(6)
    assert found.psnr == pytest.approx(20 * math.log10(120 / 6))


def test_values_are_clipped_to_the_stated_range() -> None:
    truth, translated = torch.full((256, 256), 300.0), torch.full((256, 256), 90.0)
    assert paired_errors(translated, truth, EVERYWHERE, WINDOW).mae == pytest.approx(10)


def test_ssim_is_monais_where_the_head_is_everything() -> None:
    translated, truth = slices(0)
    found = paired_errors(translated, truth, EVERYWHERE, GRAY)
    batches = translated[None, None], truth[None, None]
    assert found.ssim == pytest.approx(float(SSIMMetric(2, data_range=255)(*batches)), abs=1e-5)
    expected = float(MultiScaleSSIMMetric(2, data_range=255)(*batches))
    assert found.ms_ssim == pytest.approx(expected, abs=1e-5)


def test_the_unit_changes_mae_and_nothing_else() -> None:
    translated, truth = slices(1)
    gray = paired_errors(translated, truth, EVERYWHERE, GRAY)
    hu = paired_errors(WINDOW.of_gray(translated), WINDOW.of_gray(truth), EVERYWHERE, WINDOW)
    assert hu.mae == pytest.approx(gray.mae * 120 / 255, rel=1e-5)
    assert (hu.psnr, hu.ssim) == pytest.approx((gray.psnr, gray.ssim), rel=1e-4)
    assert hu.ms_ssim == pytest.approx(gray.ms_ssim, rel=1e-4)


@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_a_perfect_translation(seed: int) -> None:
    _, truth = slices(seed)
    found = paired_errors(truth, truth, EVERYWHERE, GRAY)
    assert found.mae == 0
    assert found.psnr == pytest.approx(20 * math.log10(510))
    assert (found.ssim, found.ms_ssim) == pytest.approx((1, 1), abs=1e-5)


def test_black_around_the_head_is_no_agreement() -> None:
    translated, truth = slices(2)
    head = torch.zeros(256, 256, dtype=torch.bool)
    head[90:170, 90:170] = True
    inside = paired_errors(translated * head, truth * head, head, GRAY)
    everywhere = paired_errors(translated * head, truth * head, EVERYWHERE, GRAY)
    assert inside.ssim < everywhere.ssim - 0.02


def test_sizes_that_differ_and_empty_heads_are_refused() -> None:
    translated, truth = slices(3)
    with pytest.raises(EvaluationFailed, match="differ in size"):
        paired_errors(translated[:100], truth, EVERYWHERE, GRAY)
    with pytest.raises(EvaluationFailed, match="no head"):
        paired_errors(translated, truth, ~EVERYWHERE, GRAY)


def test_bootstrap_interval_of_a_known_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap(values.tolist(), seed=1)
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.high - found.mean == pytest.approx(half, rel=0.15)
    assert found.mean - found.low == pytest.approx(half, rel=0.15)
    assert found == bootstrap(values.tolist(), seed=1)


def test_slices_of_one_head_are_one_witness() -> None:
    assert mean_by_case([1, 3, 10], ["a", "a", "b"]) == [2, 10]
    errors = [PairedErrors(x, x, x, x) for x in (1.0, 3.0, 10.0)]
    found = summarize(errors, ["a", "a", "b"], GRAY, seed=0)
    assert (found.cases, found.mae.mean, found.scale) == (2, 6, GRAY)


def pair(modality: str, names: tuple[str, ...], sizes: tuple[tuple[int, int], ...]) -> SliceSet:
    return SliceSet(
        modality, names, np.zeros((len(names), 256, 256), np.uint8), sizes=sizes, folder=modality
    )


def test_pairs_are_by_name_without_suffix() -> None:
    square = ((256, 256), (256, 256))
    check_pairs(pair("ct", ("a.png", "b.png"), square), pair("mri", ("a.jpg", "b.jpg"), square))


def test_an_image_without_partner_is_named() -> None:
    square = ((256, 256), (256, 256))
    with pytest.raises(EvaluationFailed, match=r"mri: 2 image\(s\) lack a partner.*'b' first"):
        check_pairs(pair("ct", ("a.png", "b.png"), square), pair("mri", ("a.png", "c.png"), square))


def test_a_pair_of_mixed_sizes_is_named() -> None:
    with pytest.raises(EvaluationFailed, match="'b' has mixed sizes: CT 256x256, MRI 200x300"):
        check_pairs(
            pair("ct", ("a.png", "b.png"), ((256, 256), (256, 256))),
            pair("mri", ("a.png", "b.png"), ((256, 256), (300, 200))),
        )
