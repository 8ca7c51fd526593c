"""The grain of a head CT: deviation, spectrum, seeds."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

from medtranslate.errors import InvalidOption
from medtranslate.transforms import AddCTGrain, AddCTGraind
from medtranslate.transforms.grain import ct_grain


def drawn(seed: int = 0, count: int = 40) -> torch.Tensor:
    return ct_grain(torch.zeros(count, 1, 96, 128), torch.Generator().manual_seed(seed))


def test_it_has_mean_0_and_deviation_1_and_is_a_function_of_the_seed() -> None:
    noise = drawn()
    assert noise.shape == (40, 1, 96, 128)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(noise, drawn())
    assert not torch.equal(noise, drawn(1))


def test_its_power_falls_with_frequency_as_measured_in_real_ct() -> None:
    """Real: 100 at 0.10 cycles per pixel, 25 at 0.22, 7 at 0.34, in patches of even brain."""
    window = torch.hann_window(96)[:, None] * torch.hann_window(128)
    power = torch.fft.fft2(drawn() * window).abs().square().mean((0, 1))
    frequency = torch.hypot(torch.fft.fftfreq(96)[:, None], torch.fft.fftfreq(128))

    def near(wanted: float) -> float:
        return float(power[(frequency - wanted).abs() < 0.01].mean())

    for higher, measured in ((0.22, 0.25), (0.34, 0.07)):
        share = near(higher) / near(0.10)
        assert share == pytest.approx(math.exp(-10.6 * (higher - 0.10)), rel=0.15)
        assert share == pytest.approx(measured, rel=0.25)


def test_it_stays_float32_where_networks_compute_in_bf16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(drawn(count=1), drawn(count=1).float())
        assert drawn(count=1).dtype == torch.float32


def a_ct(*, axis: int = 2, dtype: torch.dtype = torch.float32) -> MetaTensor:
    """Brain of 37 HU within air that was set, sliced along an axis."""
    hu = torch.full((1, 80, 80, 80), -1000.0)
    hu[:, 8:72, 8:72, 8:72] = 37.0
    order = [0, 1, 2]
    order[axis], order[2] = 2, axis
    affine = torch.diag(torch.tensor([0.0, 0, 0, 1], dtype=torch.float64))
    for column, row in enumerate(order):
        affine[row, column] = 5.0 if row == 2 else 0.9
    return MetaTensor(hu.to(dtype), affine=affine)


def noise_of(ct: MetaTensor, seed: int | None = None) -> torch.Tensor:
    return (AddCTGrain(4.0, seed)(ct) - ct).as_tensor()


def alike(noise: torch.Tensor, steps: int, axis: int) -> float:
    """Return how far pixels so many steps apart go together."""
    size = noise.shape[axis] - steps
    product = noise.narrow(axis, steps, size) * noise.narrow(axis, 0, size)
    return float(product.mean() / noise.square().mean())


@pytest.mark.parametrize("axis", [0, 2])
def test_grain_lies_on_what_was_measured_slice_by_slice(axis: int) -> None:
    ct = a_ct(axis=axis)
    before = ct.clone()
    noise, inside = noise_of(ct), ct.as_tensor() > 0
    assert torch.equal(ct, before)
    assert float(noise[inside].std()) == pytest.approx(4, rel=0.03)
    assert not noise[~inside].any()
    within = noise[0, 8:72, 8:72, 8:72].movedim(axis, 0)
    assert abs(alike(within, 1, 0)) < 0.02  # each slice its own
    for plane_axis in (1, 2):
        assert alike(within, 1, plane_axis) == pytest.approx(alike(drawn(), 1, 3), abs=0.03)


def test_grain_is_as_coarse_in_mm_whatever_the_pixels() -> None:
    ct = a_ct()
    ct.affine[0, 0] = 0.45
    noise = noise_of(ct)[0, 8:72, 8:72, 8:72]
    assert alike(noise, 2, 0) == pytest.approx(alike(drawn(), 1, 3), abs=0.03)
    assert alike(noise, 1, 1) == pytest.approx(alike(drawn(), 1, 3), abs=0.03)


def test_a_ct_gets_the_same_grain_again_and_another_one_other_grain() -> None:
    ct, another = a_ct(), a_ct()
    another[0, 10, 10, 10] = 38.0
    assert torch.equal(noise_of(ct), noise_of(ct))
    assert not torch.equal(noise_of(ct)[0, 20:], noise_of(another)[0, 20:])
    assert torch.equal(noise_of(ct, seed=3)[0, 20:], noise_of(another, seed=3)[0, 20:])


def test_integers_stay_integers_and_the_ends_of_a_range_stay() -> None:
    ct = a_ct(dtype=torch.int16)
    ct[:, 10:20][ct[:, 10:20] > 0] = 100
    ct.meta["synthesis"] = {"range": [-20.0, 100.0], "background": -1000.0, "grain": 0.0}
    grainy = AddCTGraind("ct", 30.0)({"ct": ct})["ct"]
    assert grainy.dtype == torch.int16
    assert (grainy[ct == 100] == 100).all() and (grainy[ct == -1000] == -1000).all()
    assert (grainy[ct == 37].min(), grainy[ct == 37].max()) == (-20, 100)
    assert grainy.meta["synthesis"]["grain"] == 30.0 and ct.meta["synthesis"]["grain"] == 0.0


def test_a_2d_image_gets_grain_in_gray_levels_of_its_window() -> None:
    gray = torch.full((1, 128, 128, 1), 121.0)
    gray[:, :8], gray[:, 8:16] = 0, 255
    image = MetaTensor(gray, meta={"source": {"kind": "image"}})
    grainy = AddCTGrain(4.0)(image)
    assert float(grainy[:, 16:].std()) == pytest.approx(4 * 255 / 120, rel=0.05)
    assert (grainy[:, :8] == 0).all() and (grainy[:, 8:16] == 255).all()


@pytest.mark.parametrize("deviation", [-1.0, 101.0, math.nan])
def test_a_deviation_that_no_ct_has_is_refused(deviation: float) -> None:
    with pytest.raises(InvalidOption, match="grain must be 0 to 100 HU"):
        AddCTGrain(deviation)
