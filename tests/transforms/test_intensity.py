from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose

from medtranslate.transforms import (
    CompressHU,
    CompressHUd,
    Limits,
    ScaleGray,
    ScaleHeadPercentiles,
    ScaleWindow,
    ToUnits,
)
from medtranslate.transforms.base import head_of, pack_mask

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


def test_gradients_pass_through_a_scaling():
    given = image([0.0, 10, 20]).requires_grad_()
    ScaleHeadPercentiles(0, 100)(given).sum().backward()
    assert given.grad.flatten().tolist() == pytest.approx([0.1, 0.1, 0.1])


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


WHOLE = ToUnits(-1024, 2000, -1000, window=(-20, 100), share=0.6)
GRAY = ToUnits(0, 255, 0, window=(0, 255), share=0.6)


@given(unit=st.floats(-1, 1), other=st.floats(-1, 1))
def test_units_with_a_window_keep_their_order_and_are_undone(unit, other):
    both = torch.tensor([unit, other], dtype=torch.float64)
    hu = WHOLE.from_unit(both)
    assert (hu[0] <= hu[1]) if unit <= other else (hu[0] >= hu[1])
    torch.testing.assert_close(WHOLE.to_unit(hu), both, rtol=0, atol=1e-9)


def test_the_window_is_what_a_ct_of_the_window_would_be():
    hu = torch.tensor([-1000.0, -20, 10, 40, 100, 900])
    torch.testing.assert_close(WHOLE.in_window(WHOLE.to_unit(hu)), Limits(-20, 100).to_unit(hu))
    assert WHOLE.written(WHOLE.to_unit(hu), None).tolist() == hu.tolist()
    narrow = ToUnits(-20, 100, -1000)
    assert torch.equal(narrow.in_window(torch.tensor([-1.5, 0.5])), torch.tensor([-1.0, 0.5]))


def test_what_is_no_number_stays_none():
    assert WHOLE.from_unit(torch.tensor([float("nan")])).isnan().all()
    assert CompressHU().to_unit(torch.tensor([float("nan")])).isnan().all()


def test_a_2d_image_shows_the_window_alone():
    unit = torch.tensor([-1.0, -0.6, 0.0, 0.6, 1.0])
    assert GRAY.written(unit, None).tolist() == [0, 0, 128, 255, 255]
    torch.testing.assert_close(GRAY.to_unit(torch.tensor([0.0, 255])), torch.tensor([-0.6, 0.6]))


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
        lambda: ScaleHeadPercentiles(50, 50),
        lambda: ScaleHeadPercentiles(1, 101),
        lambda: ToUnits(0, 0, 0),
        lambda: ToUnits(0, 9, 0, window=(5, 5)),
        lambda: ToUnits(0, 9, 0, window=(-1, 5)),
        lambda: ToUnits(0, 9, 0, window=(1, 2, 3)),
        lambda: ToUnits(0, 9, 0, window=(1, 5), share=1.0),
        lambda: ToUnits(0, 9, 0, window=(1, 5), share=0.0),
    ],
)
def test_what_is_no_scale(wrong):
    with pytest.raises(ValueError):
        wrong()


@given(hu=st.floats(-1024, 2000), other=st.floats(-1024, 2000))
def test_compressed_hu_keep_their_order_and_are_undone_to_rounding(hu, other):
    compress, both = CompressHU(), torch.tensor([hu, other])
    unit = compress.to_unit(both)
    assert unit.abs().max() <= 1
    assert (unit[0] <= unit[1]) if hu <= other else (unit[0] >= unit[1])
    torch.testing.assert_close(compress.from_unit(unit), both, rtol=1e-5, atol=0.01)


def test_whole_hu_survive_compression_and_the_brain_takes_most_of_the_range():
    compress = CompressHUd("image")
    whole = torch.arange(-1024.0, 2001.0).reshape(1, -1, 1, 1)
    pipeline = Compose([compress])
    scaled = pipeline({"image": MetaTensor(whole)})
    back = pipeline.inverse(scaled)["image"]

    assert torch.equal(back.as_tensor().round(), whole)
    of_brain = compress.transform.to_unit(torch.tensor([100.0])) - compress.transform.to_unit(
        torch.tensor([-20.0])
    )
    assert float(of_brain) == pytest.approx(1.2)


def test_the_brain_window_of_compressed_hu_is_that_of_a_ct_and_passes_gradients():
    compress, hu = CompressHU(), torch.tensor([-1000.0, -20, 10, 100, 900])
    unit = compress.to_unit(hu).requires_grad_()
    shown = compress.in_window(unit)

    torch.testing.assert_close(shown.detach(), Limits(-20, 100).to_unit(hu), atol=1e-5, rtol=0)
    shown.sum().backward()
    assert unit.grad[2] > 0 and unit.grad[0] == unit.grad[4] == 0


def test_compressed_hu_are_background_outside_the_head():
    image = MetaTensor(torch.full((1, 2, 2, 1), 40.0))
    image.meta["head"] = pack_mask(torch.tensor([[[True], [False]], [[False], [False]]]))
    assert CompressHU()(image).flatten().tolist() == [0, -1, -1, -1]


@pytest.mark.parametrize(
    ("hu", "unit", "fault"),
    [
        ((0, 1), (-1,), "2 HU for 1 values"),
        ((0, 1, 1), (-1, 0, 1), "do not ascend"),
        ((0, 1), (-1, 0.5), "the ends become -1 and 0.5"),
    ],
)
def test_wrong_knots_are_refused(hu, unit, fault):
    with pytest.raises(ValueError, match=fault):
        CompressHU(hu, unit)
