"""The phantom is a head CT: its values, its place, and the same at each call."""

from __future__ import annotations

import numpy as np
import torch

from medtranslate import phantom
from medtranslate.imaging.guess_modality import guess_image_2d, guess_volume
from medtranslate.imaging.source import check_source
from medtranslate.phantom import Phantom

SMALL = Phantom((56, 56, 14), (4.0, 4.0, 12.0), noise=0.0)


def test_it_holds_the_tissues_of_a_head() -> None:
    values = set(np.unique(SMALL.volume().as_tensor().numpy()))

    assert values == {
        *(phantom.AIR, phantom.FAT, phantom.SKIN, phantom.BONE),
        *(phantom.FLUID, phantom.GRAY, phantom.WHITE, phantom.EYE, phantom.CALCIUM),
    }


def test_it_is_told_as_ct_and_agrees_with_its_source() -> None:
    volume, image = SMALL.volume(), Phantom().image_2d()

    assert guess_volume(volume.as_tensor()[0].numpy())[0] == "CT"
    assert check_source(volume)["kind"] == "volume"
    assert guess_image_2d(image.as_tensor()[0, ..., 0].numpy())[0] == "CT"
    assert check_source(image)["kind"] == "image"
    assert image.min() == 0 and image.max() == 255


def test_it_lies_as_its_affine_says() -> None:
    """The eyes are in front and below the middle; the middle of the grid is the origin."""
    volume = SMALL.volume()
    eyes = torch.nonzero(volume.as_tensor()[0] == phantom.EYE).double().mean(0)
    place = volume.affine @ torch.cat([eyes, torch.ones(1, dtype=torch.float64)])

    assert abs(place[0]) < 2.0
    assert place[1] > 50 and place[2] < -30


def test_its_halves_are_alike_and_its_front_is_narrower_than_its_back() -> None:
    head = SMALL.volume().as_tensor()[0].numpy()
    middle = head[..., 6]
    widths = (middle > phantom.AIR).sum(axis=0)  # a row of the slice each, from front to back
    rows = np.flatnonzero(widths)
    fifth = len(rows) // 5

    assert np.array_equal(middle > 100, middle[::-1] > 100)  # bone and chalk
    assert widths[rows[fifth]] < 0.9 * widths[rows[-1 - fifth]]


def test_noise_follows_its_seed_and_size() -> None:
    same = [Phantom((40, 40, 4), (5, 5, 30)).volume().as_tensor() for _ in range(2)]
    other = Phantom((40, 40, 4), (5, 5, 30), seed=1).volume().as_tensor()
    clean = Phantom((40, 40, 4), (5, 5, 30), noise=0).volume().as_tensor()

    assert torch.equal(*same)
    assert not torch.equal(same[0], other)
    assert abs(float((same[0] - clean).std()) - 3.0) < 0.2
