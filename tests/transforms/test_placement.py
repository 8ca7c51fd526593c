from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.transforms import AxialSlices
from medtranslate.transforms.placement import cubic, resampling, triangle

kernels = pytest.mark.parametrize("kernel", [triangle, cubic])


@kernels
@given(
    length=st.integers(1, 40),
    step=st.floats(0.1, 5),
    first=st.floats(-60, 60),
    count=st.integers(1, 40),
)
def test_rows_add_up_to_one_inside_and_nothing_outside(kernel, length, step, first, count):
    positions = first + step * np.arange(count)
    weights = resampling(positions, length, step, kernel)
    inside = (positions >= -0.5) & (positions <= length - 0.5)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(1), inside.astype(float), atol=1e-5)
    assert not weights[~inside].any()


@kernels
def test_the_same_grid_is_left_alone(kernel):
    np.testing.assert_array_equal(resampling(np.arange(7.0), 7, 1.0, kernel), np.eye(7))


@kernels
def test_a_ramp_stays_a_ramp_away_from_the_ends(kernel):
    positions = np.linspace(3, 16, 50)
    ramp = resampling(positions, 20, 1.0, kernel) @ np.arange(20.0)
    np.testing.assert_allclose(ramp, positions, atol=1e-5)


def test_triangle_never_overshoots():
    weights = resampling(np.linspace(-0.5, 19.5, 77), 20, 0.26, triangle)
    assert weights.min() >= 0


def test_a_coarser_grid_averages_what_it_cannot_show():
    stripes = np.tile([0.0, 1.0], 50)
    seen = resampling(np.arange(10) * 8.0 + 14, 100, 8.0, triangle) @ stripes
    np.testing.assert_allclose(seen, 0.5, atol=0.01)


@pytest.mark.parametrize(("height", "width"), [(90, 100), (300, 7), (1, 1)])
def test_what_is_left_out_of_the_products_is_zero(height, width):
    """Resampling band by band is the product with the matrices, also beyond the image's ends."""
    placement = (
        AxialSlices(pixel=0.9, size=128)
        .layout((height, width, 2), np.diag([0.5, 0.7, 5.0, 1.0]), (height / 2, width / 3, 0.0))
        .placement()
    )
    volume = torch.rand(height, width, 2, generator=torch.Generator().manual_seed(0))
    stack = volume.permute(placement.axes)[placement.slices.copy()]
    there = placement.to_network(volume, lambda slices: slices)
    expected = placement.rows @ stack @ placement.columns.T
    torch.testing.assert_close(there, expected, rtol=0, atol=1e-6)

    back = placement.empty()
    placement.from_network(there, back, lambda values, chunk: values)
    expected = placement.rows_back @ there @ placement.columns_back.T
    made = back.permute(placement.axes)[placement.slices.copy()]
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)
