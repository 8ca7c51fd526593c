from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from medtranslate.domain_check.classifier import (
    IMAGE_SIZE,
    SCALARS,
    augmented,
    extract_features,
    half_resolution,
)
from medtranslate.transforms import Prepared


def test_halving_keeps_brightness_and_share_of_head() -> None:
    slices = torch.full((1, 1, 4, 4), 0.5)
    head = torch.zeros(1, 4, 4, dtype=torch.bool)
    head[0, :, 0] = True

    halves = half_resolution(slices, head)

    assert halves.shape == (1, 2, 2, 2)
    assert halves[0, 1].tolist() == [[0.5, 0.0], [0.5, 0.0]]
    assert halves[0, 0].tolist() == [[0.375, 0.0], [0.375, 0.0]]  # 0.75 of white, on half of it


def test_looks_are_finite_and_in_range(halves: torch.Tensor) -> None:
    for modality in ("CT", "MR"):
        features = extract_features(halves, modality)
        assert features.images.shape == (len(halves), 2, IMAGE_SIZE, IMAGE_SIZE)
        assert features.scalars.shape == (len(halves), SCALARS)
        assert features.scalars.isfinite().all()
        assert features.images.min() >= 0 and features.images.max() <= 1.0001


@pytest.mark.parametrize("axis", [2, 3])
def test_mirroring_mirrors_the_image_and_keeps_the_figures(halves: torch.Tensor, axis: int) -> None:
    here, there = extract_features(halves, "CT"), extract_features(halves.flip(axis), "CT")

    assert torch.allclose(here.images, there.images.flip(axis), atol=1e-5)
    assert torch.allclose(here.scalars, there.scalars, atol=1e-4)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.0), (0.3, 0.4)])
def test_the_scale_of_mr_says_nothing(halves: torch.Tensor, gain: float, offset: float) -> None:
    shade, cover = halves.unbind(1)
    other = torch.stack([gain * shade + offset * cover, cover], dim=1)

    here, there = extract_features(halves, "MR"), extract_features(other, "MR")

    assert torch.allclose(here.images, there.images, atol=1e-3)


def test_where_the_head_lies_does_not_enter_the_image(halves: torch.Tensor) -> None:
    here, there = (
        extract_features(halves, "CT"),
        extract_features(halves.roll((4, -6), (2, 3)), "CT"),
    )

    assert torch.allclose(here.images, there.images, atol=1e-4)


def test_moving_and_halving_give_what_the_library_gives(halves: torch.Tensor) -> None:
    turn = math.radians(6)
    theta = torch.tensor(
        [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]]
    )
    grid = F.affine_grid(theta.expand(len(halves), 2, 3), list(halves.shape), align_corners=False)
    tilted = F.grid_sample(halves, grid, align_corners=False)
    head = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5

    torch.testing.assert_close(augmented(halves)[1], tilted, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        half_resolution(torch.ones(2, 1, 8, 8), head)[:, 1:], F.avg_pool2d(head[:, None].float(), 2)
    )


def test_depth_is_counted_from_the_outline_inwards() -> None:
    side = torch.arange(128)
    from_edge = torch.minimum(side, 127 - side) // 2  # in pixels of 64x64
    depth = torch.minimum(from_edge[:, None], from_edge[None]) - 10
    cover = (depth >= 0).float()
    shells = torch.bucketize(depth, torch.tensor([0, 1, 2, 4, 8]), right=True) / 10

    scalars = extract_features(torch.stack([shells * cover, cover])[None], "CT").scalars[0]

    assert scalars[10:15].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-5)


def square(shade: torch.Tensor) -> torch.Tensor:
    """A head of 48x48 pixels in the middle of 64x64, in brightness (48, 48), at half resolution."""
    cover = F.pad(torch.ones(48, 48), (8, 8, 8, 8))
    small = torch.stack([F.pad(shade, (8, 8, 8, 8)), cover])[None]
    return F.interpolate(small, scale_factor=2)


def test_brightness_is_told_by_rank() -> None:
    order = torch.randperm(48 * 48, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0.1, 0.9, 48 * 48)[order].view(48, 48)

    scalars = extract_features(square(ramp), "CT").scalars[0]

    assert scalars[5:10].tolist() == pytest.approx([0.14, 0.3, 0.5, 0.7, 0.86], abs=1e-3)


def test_texture_tells_fine_from_coarse() -> None:
    rows = torch.arange(128)[:, None].expand(128, 128)
    cover = square(torch.ones(48, 48))[0, 1]
    fine, coarse = (torch.where(rows // width % 2 == 0, 0.6, 0.4) * cover for width in (1, 4))

    pixels, blocks = (
        extract_features(torch.stack([shade, cover])[None], "CT").scalars[0, 15:18]
        for shade in (fine, coarse)
    )

    assert pixels.tolist() == pytest.approx([0.1, 0.0, 0.0], abs=1e-5)
    assert blocks.tolist() == pytest.approx([0.0, 0.1, 0.1], abs=1e-5)


def test_slow_texture_is_told_from_the_mean_of_a_block_not_of_the_head() -> None:
    halves_of_the_head = torch.where(torch.arange(48) < 24, 0.3, 0.7).expand(48, 48)

    slow, spread = extract_features(square(halves_of_the_head), "CT").scalars[0, 16:18].tolist()

    assert (slow, spread) == pytest.approx((0.0, 0.2), abs=1e-5)


def test_white_is_told_of_the_head_and_of_its_depth_and_black_of_the_head() -> None:
    shade = torch.full((48, 48), 0.5)
    shade[0] = 0.98  # the outermost pixels, not deep
    shade[10, :24] = 0.99
    shade[20:22] = 0.02
    shade[30:34] = 0.9  # bright and dark, not white and black
    shade[40:44] = 0.1

    whites, deep_whites, blacks = extract_features(square(shade), "CT").scalars[0, 18:21].tolist()

    assert whites == pytest.approx((48 + 24) / 48**2, abs=1e-6)
    assert deep_whites == pytest.approx(22 / 44**2, abs=1e-6)  # without two pixels at the rim
    assert blacks == pytest.approx(2 / 48, abs=1e-6)


def test_moves_begin_with_none_and_tilt_and_broaden_the_head() -> None:
    block = torch.zeros(1, 2, 128, 128)
    block[:, :, 34:94, 44:84] = 1.0  # 60 rows, 40 columns, in the middle

    none, *tilted, broader, narrower = augmented(block)

    assert torch.equal(none, block)
    for each in tilted:  # a corner is turned away, the area stays
        assert each[0, 1, 35, 45] < 0.5 and each[0, 1, 64, 64] == 1
        assert each.sum().item() == pytest.approx(block.sum().item(), rel=0.01)
    assert broader[0, 1, 64].sum().item() == pytest.approx(40 * 1.07, abs=0.2)
    assert narrower[0, 1, 64].sum().item() == pytest.approx(40 / 1.07, abs=0.2)
    assert broader[0, 1, :, 64].sum().item() == pytest.approx(60, abs=0.2)


def test_mirrored_slices_give_mirrored_moves(halves: torch.Tensor) -> None:
    none, left, right, broader, narrower = augmented(halves)

    there = augmented(halves.flip(3)).flip(4)

    assert torch.allclose(there, torch.stack([none, right, left, broader, narrower]), atol=1e-4)


def test_figures_tell_size_and_what_is_cut(head: Prepared) -> None:
    disc = torch.zeros(2, 256, 256, dtype=torch.bool)
    disc[0, 64:192, 96:160] = True  # 128 rows, 64 columns
    disc[1, :, :] = True
    features = extract_features(half_resolution(torch.zeros(2, 1, 256, 256), disc), "CT")
    height, width, proportion, share, edge = features.scalars[:, :5].exp().T.tolist()[0:5]

    assert [round(v, 3) for v in height] == [1.0, 2.0]  # of the field from -1 to 1
    assert [round(v, 3) for v in width] == [0.5, 2.0]
    assert [round(v, 3) for v in proportion] == [2.0, 1.0]
    assert [round(v, 3) for v in torch.tensor(share).log().tolist()] == [1.0, 1.0]
    assert [round(v, 3) for v in torch.tensor(edge).log().tolist()] == [0.0, 1.0]
