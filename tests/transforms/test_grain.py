"""The grain of a head CT: deviation, spectrum, seeds."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

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


def test_small_pixels_have_the_same_grain_in_mm() -> None:
    """Half as large pixels: half the frequency, and neighbors more alike."""
    draws = torch.Generator().manual_seed(0)
    fine = ct_grain(torch.zeros(40, 1, 96, 128), draws, pixel=0.45)
    assert float(fine.std()) == pytest.approx(1, abs=0.03)

    def alike(noise: torch.Tensor, steps: int) -> float:
        return float((noise[..., steps:] * noise[..., :-steps]).mean() / noise.square().mean())

    assert alike(fine, 2) == pytest.approx(alike(drawn(), 1), abs=0.05)
    assert alike(fine, 1) > alike(drawn(), 1) + 0.1


def a_ct(*, axis: int = 2, dtype: torch.dtype = torch.float32) -> MetaTensor:
    """Brain of 37 HU within air that was set, sliced along an axis."""
    hu = torch.full((1, 40, 40, 40), -1000.0)
    hu[:, 8:32, 8:32, 8:32] = 37.0
    order = [0, 1, 2]
    order[axis], order[2] = 2, axis
    affine = torch.diag(torch.tensor([0.0, 0, 0, 1], dtype=torch.float64))
    for column, row in enumerate(order):
        affine[row, column] = 5.0 if row == 2 else 0.9
    return MetaTensor(hu.to(dtype), affine=affine)


@pytest.mark.parametrize("axis", [0, 2])
def test_grain_lies_on_what_was_measured_slice_by_slice(axis: int) -> None:
    ct = a_ct(axis=axis)
    before = ct.clone()
    grainy = AddCTGrain(4.0)(ct)
    inside = ct > 0
    noise = (grainy - ct).as_tensor()
    assert torch.equal(ct, before) and torch.equal(grainy.affine, ct.affine)
    assert float(noise[inside].std()) == pytest.approx(4, rel=0.1)
    assert not noise[~inside].any()
    slices = noise[0].movedim(axis, 0)[8:32]
    plane = slices[:, 8:32, 8:32].flatten(1)
    assert float(torch.corrcoef(plane[:2])[0, 1].abs()) < 0.2  # each its own
    assert torch.equal(AddCTGrain(4.0)(ct).as_tensor(), grainy.as_tensor())
    assert not torch.equal(AddCTGrain(4.0, seed=1)(ct).as_tensor(), grainy.as_tensor())


def test_integers_stay_integers_and_the_ends_of_the_range_stay() -> None:
    ct = a_ct(dtype=torch.int16)
    ct[:, 10:20] = torch.where(ct[:, 10:20] > 0, 2000, ct[:, 10:20])
    grainy = AddCTGraind("ct", 30.0, ends=(-1000.0, 2000.0))({"ct": ct})["ct"]
    assert grainy.dtype == torch.int16
    assert (grainy[ct == 2000] == 2000).all() and (grainy[ct == -1000] == -1000).all()
    assert float(grainy[ct == 37].float().std()) == pytest.approx(30, rel=0.1)


def test_a_2d_image_gets_grain_in_gray_levels_of_its_window() -> None:
    gray = torch.full((1, 64, 64, 1), 121.0)
    gray[:, :8], gray[:, 8:16] = 0, 255
    image = MetaTensor(gray, meta={"source": {"kind": "image"}})
    grainy = AddCTGrain(4.0)(image)
    assert float(grainy[:, 16:].std()) == pytest.approx(4 * 255 / 120, rel=0.1)
    assert (grainy[:, :8] == 0).all() and (grainy[:, 8:16] == 255).all()


def test_a_deviation_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 HU"):
        AddCTGrain(-1)
