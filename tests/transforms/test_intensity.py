from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from medtranslate.transforms import (
    Limits,
    ScaleGray,
    ScaleHeadPercentiles,
    ScaleWindow,
    ToUnits,
    head_of,
)
from medtranslate.transforms.traced import pack_mask

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


def image(values: list[float], dtype: str = "uint8") -> MetaTensor:
    made = MetaTensor(torch.tensor(values).reshape(1, -1, 1, 1))
    made.meta["source"] = {"dtype": dtype}
    return made


@pytest.mark.parametrize(
    "transform",
    [ScaleWindow(40, 120), ScaleHeadPercentiles(5, 95), ScaleGray(), ToUnits(-20, 100, -1000)],
    ids=lambda t: type(t).__name__,
)
def test_images_are_not_changed_in_place(transform):
    given = image([-50.0, 0.5, 40.0, 90.0])
    before = given.clone()
    back = transform.inverse(transform(given))
    assert torch.equal(given, before)
    assert given.applied_operations == back.applied_operations == []
    assert given.meta.keys() == back.meta.keys() == before.meta.keys()


def test_the_brain_window():
    window = ScaleWindow(40, 120)
    assert window.measure(np.array([5.0]), 255) == Limits(-20, 100)
    scaled = window(image([-1000.0, -20, 40, 100, 3000]))
    assert scaled.flatten().tolist() == [-1, -1, 0, 1, 1]
    assert window.inverse(scaled).flatten().tolist() == [-20, -20, 40, 100, 100]


def test_percentiles():
    values = np.arange(1001, dtype=np.float32)
    assert ScaleHeadPercentiles(0.5, 99.5).measure(values, 255) == Limits(5, 995)


def test_percentiles_of_a_constant_do_not_divide_by_zero():
    limits = ScaleHeadPercentiles(0.5, 99.5).measure(np.full(10, 7.0), 255)
    assert limits == Limits(7, 8)
    assert limits.to_unit(torch.tensor([7.0])) == -1


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255.0), ("uint16", 65535.0)])
def test_gray_is_the_images_own_depth(dtype, white):
    scaled = ScaleGray()(image([0.0, white / 2, white], dtype))
    assert scaled.flatten().tolist() == [-1, 0, 1]
    assert ScaleGray().measure(np.array([3.0]), white) == Limits(0, white)


def test_units_are_whole_and_within_their_range():
    written = ToUnits(0, 4095, background=0)(image([-1.5, -1.0, 0.1234, 1.0, 1.2]))
    assert written.flatten().tolist() == [0, 0, 2300, 4095, 4095]


def test_outside_the_head_is_background_and_minus_one():
    inside = torch.tensor([True, True, False, False]).reshape(4, 1, 1)
    given = image([-1.0, 0.0, 1.0, 0.5])
    given.meta["head"] = pack_mask(inside)
    units = ToUnits(-20, 100, background=-1000)
    written = units(given)
    assert written.flatten().tolist() == [-20, 40, -1000, -1000]
    assert "head" not in written.meta
    back = units.inverse(written)
    assert back.flatten().tolist() == [-1, 0, -1, -1]
    assert torch.equal(head_of(back), inside)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ScaleWindow(40, 0),
        lambda: ScaleHeadPercentiles(99, 1),
        lambda: ScaleHeadPercentiles(-1, 99),
        lambda: ToUnits(0, 0, 0),
    ],
)
def test_what_is_no_scale(wrong):
    with pytest.raises(ValueError):
        wrong()
