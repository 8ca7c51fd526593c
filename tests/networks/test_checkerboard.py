"""A generator must not write a grid of its own into the image: a cycle hides its source in it."""

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import Convolution
from torch import nn

from medtranslate.networks import Compact, draw_weights
from medtranslate.networks.architectures import mirrored

GRID = [(r, c) for r in (0, 64, 128) for c in (0, 64, 128) if (r, c) != (0, 0)]
"""Where a grid of period 4 or 2 lies in the spectrum of 256x256."""


def smooth_images(count: int = 4) -> torch.Tensor:
    y, x = torch.meshgrid(*[torch.linspace(0, 1, 256)] * 2, indexing="ij")
    waves = [torch.sin(3 * n * x + n) * torch.cos(2 * n * y - n) for n in range(1, count)]
    return torch.stack([torch.full_like(x, 0.3), *waves])[:, None] * 0.8


def grid_peak(images: torch.Tensor) -> float:
    """The largest power at a grid's frequencies, in units of the power beside it.

    A Hann window keeps borders and slow waves out of the high frequencies. Beside means two to six
    bins away; a floor far below one gray level keeps rounding from counting as a grid.
    """
    window = torch.hann_window(256, periodic=True)
    middle = images[:, 0] - images[:, 0].mean((1, 2), keepdim=True)
    power = torch.fft.fft2(middle.double() * window[:, None] * window).abs().square().mean(0)
    floor = float(power.sum()) * 1e-9
    rolled = [torch.roll(power, (6 - r, 6 - c), (0, 1))[:13, :13] for r, c in GRID]
    beside = torch.ones(13, 13, dtype=torch.bool)
    beside[4:9, 4:9] = False
    return max(float(p[6, 6] / (p[beside].mean() + floor)) for p in rolled)


class Shuffled(nn.Module):
    """Compact with another way up, to hold it against."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        base = Compact(width=32, blocks=2)
        self.path = nn.Sequential(base.fold, base.body, up)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.path(image))


def transposed() -> nn.Module:
    def double(wide: int, narrow: int) -> nn.Module:
        return Convolution(
            2, wide, narrow, strides=2, kernel_size=3, padding=1, output_padding=1,
            is_transposed=True, conv_only=True,
        )  # fmt: skip

    return nn.Sequential(double(32, 8), nn.ReLU(), double(8, 4), nn.ReLU(), *mirrored(4, 1, 3))


def pixel_shuffle() -> nn.Module:
    return nn.Sequential(*mirrored(32, 16, 3), nn.PixelShuffle(4))


def peak(make, seed: int, std: float = 0.1) -> float:
    torch.manual_seed(seed)
    network = draw_weights(make(), std).eval()
    with torch.inference_mode():
        return grid_peak(network(smooth_images()))


@pytest.mark.parametrize("seed", range(4))
def test_compact_writes_no_grid(seed):
    assert peak(lambda: Compact(width=32, blocks=2), seed) < 6


@pytest.mark.parametrize("up", [transposed, pixel_shuffle])
@pytest.mark.parametrize("seed", range(2))
def test_other_ways_up_do_and_the_measure_sees_it(up, seed):
    assert peak(lambda: Shuffled(up()), seed) > 40
