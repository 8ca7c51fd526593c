"""The grain of a head CT: deviation, spectrum, seeds."""

from __future__ import annotations

import math

import pytest
import torch

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
