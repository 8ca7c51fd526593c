from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.transforms import Grey, Limits, Percentiles, Window

numbers = st.floats(-5000, 5000)


@given(low=numbers, width=st.floats(1, 5000), share=st.floats(0, 1))
def test_limits_are_undone_within_them(low, width, share):
    limits = Limits(low, low + width)
    value = torch.tensor([low + share * width])
    unit = limits.to_unit(value)
    assert unit.abs() <= 1
    torch.testing.assert_close(
        limits.from_unit(unit), value, rtol=1e-5, atol=1e-5 * (abs(low) + width)
    )


@given(unit=st.floats(-3, 3), low=numbers, width=st.floats(1, 5000))
def test_what_lies_outside_is_clipped_both_ways(unit, low, width):
    limits = Limits(low, low + width)
    value = float(limits.from_unit(torch.tensor([unit])))
    assert np.float32(limits.low) <= value <= np.float32(limits.high)
    assert limits.to_unit(torch.tensor([low - 1e4, low + width + 1e4])).tolist() == [-1, 1]


def test_values_are_not_changed_in_place():
    values = torch.tensor([-50.0, 40.0])
    Window(40, 120).written.to_unit(values)
    Window(40, 120).written.from_unit(values)
    Window(40, 120).clip(values)
    assert values.tolist() == [-50, 40]


def test_the_brain_window():
    window = Window(40, 120)
    assert window.written == Limits(-20, 100)
    assert window.measure(np.array([5.0]), 255) == window.written
    assert window.clip(torch.tensor([-1000.0, -20, 37, 3000])).tolist() == [-20, -20, 37, 100]
    assert window.background == -1000


def test_percentiles():
    values = np.arange(1001, dtype=np.float32)
    assert Percentiles(0.5, 99.5).measure(values, 255) == Limits(5, 995)
    assert Percentiles(0.5, 99.5).written == Limits(0, 4095)


def test_percentiles_of_a_constant_do_not_divide_by_zero():
    limits = Percentiles(0.5, 99.5).measure(np.full(10, 7.0), 255)
    assert limits == Limits(7, 8)
    assert limits.to_unit(torch.tensor([7.0])) == -1


@pytest.mark.parametrize("white", [255.0, 65535.0])
def test_grey_is_the_pictures_own_depth(white):
    limits = Grey().measure(np.array([3.0]), white)
    assert limits.to_unit(torch.tensor([0.0, white / 2, white])).tolist() == [-1, 0, 1]
    assert Grey().written == Limits(0, 255)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Window(40, 0),
        lambda: Percentiles(99, 1),
        lambda: Percentiles(-1, 99),
        lambda: Percentiles(0, 100, high=0),
    ],
)
def test_what_is_no_scale(wrong):
    with pytest.raises(ValueError):
        wrong()
